"""Reads a model directory: config.json, and how large its weights are, without reading the weights themselves."""

import json
import struct
from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path

from vllm_operator.fit.values import WeightsSummary

LARGEST_HEADER = 100_000_000
"""The safetensors format's own limit for its header, in bytes."""

BITS = {"F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
BITS |= {"F16": 16, "BF16": 16, "I16": 16, "U16": 16}


class UnreadableModel(ValueError):
    """A model directory that cannot be judged; the message names the file and what to do."""


def read_model(directory: Path) -> tuple[Mapping[str, object], WeightsSummary | None]:
    """(config, summary) of a directory; the summary is None when no safetensors and no index lie there.

    Headers of *.safetensors tell most and win, then metadata.total_size of the index.
    Raises UnreadableModel for a missing or broken config.json, index or header.
    """
    config = _with_modelopt(directory, _json(directory / "config.json"))
    shards = sorted(path for path in directory.glob("*.safetensors") if path.is_file())
    index = directory / "model.safetensors.index.json"
    if shards and (not index.is_file() or _complete(shards, _json(index))):
        return config, _from_headers(_without_consolidated(shards))
    return config, _from_index(_json(index)) if index.is_file() else None


def _json(path: Path) -> Mapping[str, object]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UnreadableModel(f"{path}: {error.strerror}; --config takes the directory with config.json") from error
    except ValueError as error:
        raise UnreadableModel(f"{path}: not JSON ({error})") from error
    if not isinstance(data, dict):
        raise UnreadableModel(f"{path}: not a JSON object")
    return data


def _with_modelopt(directory: Path, config: Mapping[str, object]) -> Mapping[str, object]:
    """Older checkpoints of ModelOpt tell their quantization in a file of its own; vLLM reads it as part of the other."""
    own = directory / "hf_quant_config.json"
    if config.get("quantization_config") is not None or not own.is_file():
        return config
    return {**config, "quantization_config": _json(own)}


def _complete(shards: list[Path], index: Mapping[str, object]) -> bool:
    named = index.get("weight_map")
    wanted = set(named.values()) if isinstance(named, dict) else set()
    return wanted <= {path.name for path in shards}


def _without_consolidated(shards: list[Path]) -> list[Path]:
    """Mistral repositories hold the same weights twice; vLLM loads one of the two."""
    ours = [path for path in shards if not path.name.startswith("consolidated")]
    return ours or shards


def _from_index(index: Mapping[str, object]) -> WeightsSummary | None:
    metadata = index.get("metadata")
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    if isinstance(total, int | float) and not isinstance(total, bool) and total > 0:
        return WeightsSummary(int(total))
    return None


def _from_headers(shards: list[Path]) -> WeightsSummary:
    counts: Counter[str] = Counter()
    for path in shards:
        for tensor in _header(path).values():
            if isinstance(tensor, dict) and isinstance(tensor.get("dtype"), str):
                counts[tensor["dtype"]] += prod(tensor.get("shape") or [1])
    total = sum(BITS.get(dtype, 8) * count // 8 for dtype, count in counts.items())
    return WeightsSummary(total, dict(counts))


def _header(path: Path) -> Mapping[str, object]:
    """The JSON header of a safetensors file: 8 bytes of length, then that many bytes."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > LARGEST_HEADER:
                raise UnreadableModel(f"{path}: not a safetensors file; download it again")
            data = json.loads(file.read(length))
    except (OSError, ValueError, struct.error) as error:
        raise UnreadableModel(f"{path}: its safetensors header cannot be read ({error}); download it again") from error
    if not isinstance(data, dict):
        raise UnreadableModel(f"{path}: not a safetensors file; download it again")
    return {name: value for name, value in data.items() if name != "__metadata__"}
