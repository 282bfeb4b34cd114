"""`vllm-operator fit`: does the model fit the accelerator, before anything is downloaded by the cluster."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vllm_operator.api import VLLMModel
from vllm_operator.commands.models import read_models
from vllm_operator.commands.rendering import settings_of
from vllm_operator.commands.wrong import WrongInput
from vllm_operator.decide.question import answer_to, overridden, question_of, without_draft
from vllm_operator.fit import Verdict, WeightsSummary
from vllm_operator.fit.files import UnreadableModel, read_model
from vllm_operator.plan.draft import draft_of
from vllm_operator.plan.flags import extra_args_problems
from vllm_operator.settings import Settings

GIB = 1 << 30
FEW = 4  # accelerators that are told in full
COLUMNS = ("accelerator", "fits", "weights", "KV tokens", "largest maxModelLen", "smallest tensorParallelSize")
_FITS = {True: "yes", False: "no", None: "nobody can tell"}


def fit_command(file: str, config: str | None, accelerator: str | None, settings: str | None, output: str) -> int:
    """Prints the verdicts for each model: on the accelerator named, the model's own, or every one that is known.

    Exit code 0 when each model fits on one of its accelerators or nobody can tell, 1 for a misfit, 2 for wrong input.
    """
    models, loaded = read_models(file), settings_of(settings)
    named = [_profiles(model, accelerator, loaded) for model in models]
    files = _read(Path(config)) if config is not None else None
    judged = [
        (model, [_verdict(model, *files, loaded, name) if files else _unasked(name) for name in names])
        for model, names in zip(models, named, strict=True)
    ]
    if output == "json":
        answers = [{"model": model.metadata.name, **v.as_json()} for model, verdicts in judged for v in verdicts]
        print(json.dumps(answers, indent=2))
    else:
        print("\n\n".join(_told(model.metadata.name, verdicts) for model, verdicts in judged))
    return 1 if any(all(v.fits is False for v in verdicts) for _, verdicts in judged) else 0


def _profiles(model: VLLMModel, named: str | None, settings: Settings) -> tuple[str, ...]:
    spec = model.spec
    flag = "--accelerator" if named else "spec.accelerators" if spec.accelerators else "spec.accelerator"
    wished = (named,) if named else spec.accelerators or ((spec.accelerator,) if spec.accelerator else ())
    for name in wished:
        if name not in settings.accelerators:
            known = ", ".join(sorted(settings.accelerators))
            raise WrongInput(f"{flag}: there is no accelerator {name}; known are {known}")
    return wished or tuple(sorted(settings.accelerators))


def _verdict(
    model: VLLMModel, config: Mapping[str, Any], weights: WeightsSummary | None, settings: Settings, name: str
) -> Verdict:
    refused = extra_args_problems(model.spec.extra_args, model.spec.image or "")
    if refused:
        raise WrongInput(f"spec.{refused[0].message} {refused[0].remedy}")
    question = question_of(model.spec, settings, name, settings.accelerators[name])
    if model.spec.image is None:
        # No release is named, so the figures are those that were measured; newer ones set 1 to 2 GiB aside for graphs.
        question = replace(question, arguments=replace(question.arguments, estimates_cuda_graphs=False))
    verdict = answer_to(question, overridden(config, model.spec.hf_overrides or {}), weights)
    return without_draft(verdict) if _has_draft(model) else verdict


def _unasked(accelerator: str) -> Verdict:
    """Without config.json nothing is known of a model."""
    note = "missing: the model's config.json; name its folder (and the weights', to know their size) with --config"
    return Verdict(accelerator, fits=None, note=note)


def _has_draft(model: VLLMModel) -> bool:
    try:
        return draft_of(model.spec) is not None
    except ValueError as error:
        raise WrongInput(f"spec.{error}") from error


def _read(folder: Path) -> tuple[Mapping[str, Any], WeightsSummary | None]:
    """The model's config, and its weights as index or safetensors headers tell; None: the size follows from the config."""
    try:
        return read_model(folder)
    except UnreadableModel as error:
        raise WrongInput(f"--config: {error}") from error


def _told(model: str, verdicts: Sequence[Verdict]) -> str:
    """A block for each of a few accelerators; a line for each of many."""
    if len(verdicts) <= FEW:
        return "\n\n".join(_block(model, verdict) for verdict in verdicts)
    rows = [COLUMNS, *(_row(verdict) for verdict in verdicts)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([f"model {model}", *lines, *_common(verdicts)])


def _common(verdicts: Sequence[Verdict]) -> list[str]:
    """What is said of several accelerators alike: memory differs, an argument that is wrong is wrong on each."""
    whys = Counter(verdict.message.partition(": use ")[0] for verdict in verdicts if verdict.fits is False)
    alike = [f"why not, on {count} of them: {why}" for why, count in whys.items() if why and count > 1]
    notes = {verdict.note for verdict in verdicts}
    alike += [f"note: {note}" for note in notes if note and len(notes) == 1]
    return ["", *alike] if alike else []


def _row(verdict: Verdict) -> tuple[str, ...]:
    kv, length, fewest = (
        verdict.kv_cache_tokens,
        verdict.largest_max_model_len,
        verdict.smallest_tensor_parallel_size,
    )
    numbers = (_gib(verdict.weights_bytes), kv, length, fewest)
    return (verdict.accelerator, _FITS[verdict.fits], *("-" if n is None else str(n) for n in numbers))


def _block(model: str, verdict: Verdict) -> str:
    rows = [
        ("model", model),
        ("accelerator", verdict.accelerator),
        ("fits", _FITS[verdict.fits]),
        ("weights per device", _gib(verdict.weights_bytes)),
        ("KV cache per token", f"{verdict.kv_bytes_per_token} bytes" if verdict.kv_bytes_per_token else None),
        ("KV cache", f"{verdict.kv_cache_tokens} tokens" if verdict.kv_cache_tokens else None),
        ("maxModelLen", verdict.max_model_len),
        ("largest maxModelLen", verdict.largest_max_model_len),
        ("smallest tensorParallelSize", verdict.smallest_tensor_parallel_size),
        ("why", verdict.message or None),
        ("note", verdict.note or None),
    ]
    lines = [f"{name:<28}{value}" for name, value in rows if value is not None]
    return "\n".join([*lines, *(f"{'remedy':<28}{remedy}" for remedy in verdict.remedies)])


def _gib(size: int | None) -> str | None:
    return f"{size / GIB:.2f} GiB" if size is not None else None
