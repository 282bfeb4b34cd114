"""The measured rows and the published models that the fit is held against, and the table of them in docs/fit.md."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from vllm_operator.fit import Arguments, Verdict, accelerators, judge

HERE = Path(__file__).parent
GIB = 1 << 30


@dataclass(frozen=True)
class Row:
    """One run of the real engine."""

    name: str
    config: Mapping[str, Any]
    arguments: Arguments
    weights: float
    available: float
    tokens: int

    def judged(self) -> Verdict:
        return judge(self.config, None, self.arguments, accelerators()["nvidia-h200"])


@cache
def files() -> tuple[Mapping[str, Any], ...]:
    names = ("", "_parallel", "_encoders", "_trials", "_wider")
    return tuple(yaml.safe_load((HERE / f"fit_ground_truth{name}.yaml").read_text("utf-8")) for name in names)


def measured() -> Mapping[str, Mapping[str, Any]]:
    """The configs of the models that were run, by name."""
    return {name: config for part in files() for name, config in part["configs"].items()}


@cache
def rows() -> tuple[Row, ...]:
    """The runs of the engine."""
    configs = measured()
    return tuple(
        Row(
            row["row"],
            configs[row["config"]],
            Arguments(**row["arguments"]),
            row["weights_gib"] * GIB,
            row["available_gib"] * GIB,
            row["tokens"],
        )
        for part in files()
        for row in part["rows"]
    )


@cache
def models() -> Mapping[str, Mapping[str, Any]]:
    """Published models by name: `config`, `billions` of parameters, `within`."""
    data = yaml.safe_load((HERE / "fit_ground_truth_models.yaml").read_text("utf-8"))
    return {model["name"]: model for model in data}


@cache
def shapes() -> Mapping[str, Mapping[str, Any]]:
    """Models as transformers builds them, by name: `config`, `parameters`, `kv_bytes` a token in 16 bits."""
    data = yaml.safe_load((HERE / "fit_ground_truth_shapes.yaml").read_text("utf-8"))
    return {model["name"]: model for model in data}


@cache
def built() -> Mapping[str, Mapping[str, Any]]:
    """Models as vLLM builds them, by name: `config`, `parameters`, and what it makes of `memory` bytes of KV cache."""
    data = yaml.safe_load((HERE / "fit_ground_truth_vllm.yaml").read_text("utf-8"))
    return {model["name"]: model for model in data}


def configs() -> tuple[Mapping[str, Any], ...]:
    """Every config of the measured, the published and the built models."""
    return (
        *{row.config["model_type"]: row.config for row in rows()}.values(),
        *(m["config"] for m in (*models().values(), *built().values())),
    )


def accuracy_table() -> str:
    """The table of docs/fit.md, as the code computes it now."""
    lines = ["| run | weights GiB | said | KV tokens | said | off |", "|---|---|---|---|---|---|"]
    for row in rows():
        said = row.judged()
        assert said.weights_bytes is not None and said.kv_cache_tokens is not None
        lines.append(
            f"| {row.name} | {row.weights / GIB:.2f} | {said.weights_bytes / GIB:.2f} | {row.tokens} "
            f"| {said.kv_cache_tokens} | {100 * (said.kv_cache_tokens / row.tokens - 1):+.1f} % |"
        )
    return "\n".join(lines)
