"""`vllm-operator fit`: does the model fit the accelerator, before anything is downloaded by the cluster."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vllm_operator.api import VLLMModel
from vllm_operator.commands.models import read_models
from vllm_operator.commands.wrong import WrongInput
from vllm_operator.decide.fit import arguments_of
from vllm_operator.fit import Accelerator, Verdict, WeightsSummary, accelerators, judge

GIB = 1 << 30
HEADER_LIMIT = 100 * 1024 * 1024  # safetensors' own bound of its header


def fit_command(file: str, config: str | None, accelerator: str | None, output: str) -> int:
    """Prints the verdict for each model. Exit code 0 when all fit or nobody can tell, 1 for a misfit, 2 for wrong input."""
    verdicts = [_verdict(model, config, accelerator) for model in read_models(file)]
    if output == "json":
        print(json.dumps([verdict.as_json() for verdict in verdicts], indent=2))
    else:
        print("\n\n".join(_table(verdict) for verdict in verdicts))
    return 1 if any(verdict.fits is False for verdict in verdicts) else 0


def _verdict(model: VLLMModel, folder: str | None, name: str | None) -> Verdict:
    device = _accelerator(model, name)
    if folder is None:
        raise WrongInput("--config: name the folder with the model's config.json (and its weights, to know their size)")
    return judge(_config(Path(folder)), _weights(Path(folder)), arguments_of(model.spec), device)


def _accelerator(model: VLLMModel, name: str | None) -> Accelerator:
    wished = name or model.spec.accelerator or next(iter(model.spec.accelerators or ()), None)
    if wished is None:
        raise WrongInput("--accelerator: the model names none; give one of " + ", ".join(sorted(accelerators())))
    found = accelerators().get(wished)
    if found is None:
        raise WrongInput(f"--accelerator: {wished} is not known; use one of " + ", ".join(sorted(accelerators())))
    return replace(found, name=wished)


def _config(folder: Path) -> Mapping[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WrongInput(f"--config: {path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise WrongInput(f"--config: {path} is no JSON: {error}") from error
    if not isinstance(config, dict):
        raise WrongInput(f"--config: {path} is not a JSON object")
    return config


def _weights(folder: Path) -> WeightsSummary | None:
    """What the safetensors files in the folder hold; None when there are none, and the size follows from config.json."""
    files = sorted(folder.glob("*.safetensors"))
    parameters: Counter[str] = Counter()
    total = 0
    for path in files:
        for dtype, numbers, size in _tensors(path):
            parameters[dtype] += numbers
            total += size
    return WeightsSummary(total, dict(parameters)) if total else None


def _tensors(path: Path) -> Iterator[tuple[str, int, int]]:
    """(dtype, parameters, bytes) of each tensor, from the file's header: 8 bytes of length, then JSON."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= HEADER_LIMIT:
            raise WrongInput(f"--config: {path} is no safetensors file")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise WrongInput(f"--config: {path} is no safetensors file") from error
    for name, tensor in header.items():
        if name != "__metadata__":
            begin, end = tensor["data_offsets"]
            yield str(tensor["dtype"]), math.prod(tensor["shape"]), end - begin


def _table(verdict: Verdict) -> str:
    fits = {True: "yes", False: "no", None: "nobody can tell"}[verdict.fits]
    rows = [
        ("accelerator", verdict.accelerator),
        ("fits", fits),
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
