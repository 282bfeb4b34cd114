"""Reads a model directory: config.json, and how large its weights are, without reading the weights themselves."""

import json
import re
import struct
from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path

from vllm_operator.fit.values import WeightsSummary

LARGEST_HEADER = 100_000_000
"""The safetensors format's own limit for its header, in bytes."""

LARGEST_TENSOR = 10**15
"""Values in one tensor beyond which a header is taken for damage."""

_NUMBERED = re.compile(r"(?P<stem>.+)-\d+-of-0*(?P<all>\d{1,6})\.safetensors")

BITS = {"F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
BITS |= {"F16": 16, "BF16": 16, "I16": 16, "U16": 16}


class UnreadableModel(ValueError):
    """A model directory that cannot be judged; the message names the file and what to do."""


def read_model(directory: Path) -> tuple[Mapping[str, object], WeightsSummary | None]:
    """(config, summary) of a directory; the summary is None when neither all safetensors nor an index lie there.

    Headers of *.safetensors tell most and win, then metadata.total_size of the index. Of files beside an index those
    that it names count, as vLLM loads no others.
    Raises UnreadableModel for a missing or broken config.json, index or header.
    """
    config = _with_modelopt(directory, _json(directory / "config.json"))
    shards = sorted(path for path in directory.glob("*.safetensors") if path.is_file())
    path = directory / "model.safetensors.index.json"
    if not path.is_file():
        shards = _of_the_model(shards)
        return config, _from_headers(shards) if shards and _all_there(shards) else None
    index = _json(path)
    named = _named(index)
    if named <= {shard.name for shard in shards}:
        shards = [shard for shard in shards if shard.name in named] if named else _of_the_model(shards)
        if shards:
            return config, _from_headers(shards)
    return config, _from_index(index)


def _json(path: Path) -> Mapping[str, object]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UnreadableModel(f"{path}: {error.strerror}; --config takes the directory with config.json") from error
    except (ValueError, RecursionError) as error:
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


def _named(index: Mapping[str, object]) -> set[str]:
    """The files that an index names; empty where it names none."""
    named = index.get("weight_map")
    return {name for name in named.values() if isinstance(name, str)} if isinstance(named, dict) else set()


def _of_the_model(shards: list[Path]) -> list[Path]:
    """Without adapters, and without the copy that Mistral's repositories hold; vLLM loads one of the two."""
    own = [path for path in shards if not path.name.startswith("adapter_")]
    return [path for path in own if not path.name.startswith("consolidated")] or own


def _all_there(shards: list[Path]) -> bool:
    """Whether files that say how many they are (`-00001-of-00004`) are that many."""
    found = Counter((m["stem"], int(m["all"])) for path in shards if (m := _NUMBERED.fullmatch(path.name)))
    return all(count == number for (_, number), count in found.items())


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
                counts[tensor["dtype"]] += _values(path, tensor.get("shape"))
    total = sum(BITS.get(dtype, 8) * count // 8 for dtype, count in counts.items())
    return WeightsSummary(total, dict(counts))


def _values(path: Path, shape: object) -> int:
    """Values in a tensor of this shape; one where it has no dimensions."""
    sides = shape if isinstance(shape, list) else None
    if sides is not None and all(type(side) is int and side >= 0 for side in sides):
        found = prod(sides)
        if found <= LARGEST_TENSOR:
            return found
    raise UnreadableModel(f"{path}: its header names a tensor of shape {str(shape)[:40]}; download it again")


def _header(path: Path) -> Mapping[str, object]:
    """The JSON header of a safetensors file: 8 bytes of length, then that many bytes."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            data = json.loads(file.read(length)) if length <= LARGEST_HEADER else None
    except (OSError, ValueError, RecursionError, struct.error) as error:
        raise UnreadableModel(f"{path}: its safetensors header cannot be read ({error}); download it again") from error
    if not isinstance(data, dict):
        raise UnreadableModel(f"{path}: not a safetensors file; download it again")
    return {name: value for name, value in data.items() if name != "__metadata__"}
