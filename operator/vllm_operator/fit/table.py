"""Prints verdicts for people (a small table) and for programs (JSON)."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from vllm_operator.fit.judge import judge
from vllm_operator.fit.values import GIB, Accelerator, Arguments, Verdict, WeightsSummary

Output = Literal["table", "json"]
HEADINGS = ("ACCELERATOR", "FITS", "TP NEEDED", "LARGEST LENGTH", "WEIGHTS", "KV TOKENS")


def report(
    spec_arguments: Arguments,
    config: Mapping[str, object],
    weights: WeightsSummary | None,
    profiles: Iterable[Accelerator],
    output: Output = "table",
) -> str:
    """The verdict for each profile, without a newline at the end.

    `json`: a list with one object a profile, in the order given (see Verdict.as_json). `table`: one line a profile,
    and below it a line for each that says why not or what is not known.
    """
    verdicts = [judge(config, weights, spec_arguments, profile) for profile in profiles]
    if output == "json":
        return json.dumps([verdict.as_json() for verdict in verdicts], indent=2)
    return _table(verdicts)


def _table(verdicts: Sequence[Verdict]) -> str:
    rows = [HEADINGS, *(_row(verdict) for verdict in verdicts)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    said = [f"{verdict.accelerator}: {_words(verdict)}" for verdict in verdicts if _words(verdict)]
    return "\n".join([*lines, *([""] if said else []), *said])


def _row(verdict: Verdict) -> tuple[str, ...]:
    fits = {True: "yes", False: "no", None: "unknown"}[verdict.fits]
    weights = "-" if verdict.weights_bytes is None else f"{verdict.weights_bytes / GIB:.1f} GiB"
    numbers = (verdict.smallest_tensor_parallel_size, verdict.largest_max_model_len)
    shown = tuple("-" if number is None else str(number) for number in numbers)
    tokens = "-" if verdict.kv_cache_tokens is None else str(verdict.kv_cache_tokens)
    return (verdict.accelerator, fits, *shown, weights, tokens)


def _words(verdict: Verdict) -> str:
    return "; ".join(text for text in (verdict.message, verdict.note) if text)
