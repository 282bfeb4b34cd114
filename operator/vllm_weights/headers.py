"""Safetensors headers, read by range requests: how many parameters of which dtype, without the tensors."""

from __future__ import annotations

import json
import math
import re
import struct
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from vllm_weights.failure import Reason, WeightsError
from vllm_weights.listing import RemoteFile, Source
from vllm_weights.whole import is_pointer, pointer_in_place_of, read_range, read_start

FIRST_READ_BYTES = 256 * 1024
"""Holds the header of almost every shard (a dense 70B's has 10 KiB), so that one request is enough."""
LONGEST_HEADER_BYTES = 100 * 1000 * 1000
"""The safetensors library's own limit."""
LONGEST_READ_BYTES = 16 * 1024 * 1024
"""Of a longer header nothing is read: taken apart it would need ten times its size in memory. The longest known has 6 MiB."""
MOST_DTYPES = 32
DTYPE = re.compile(r"[A-Za-z0-9_]{1,16}")
MOST = 1 << 60
"""Of bytes and of parameters: more is no model."""
MOST_HEADERS = 16
"""Shards whose header is read; of more shards an even sample is, to stay within the five seconds of an inspection."""

_ONE_LONG_HEADER = threading.Lock()
"""Several at once would need more memory than the pod has."""


@dataclass(frozen=True, slots=True)
class Weights:
    """`total_bytes` of tensors; `parameters` as stored, by safetensors dtype; `sampled`: scaled up from some shards."""

    total_bytes: int
    parameters: dict[str, int]
    sampled: bool = False


def weights_of(
    source: Source, commit: str, shards: Sequence[RemoteFile], known: dict[str, int], index_bytes: int | None
) -> Weights:
    """Sizes from the headers, or from what hub (`known`) and index say where there are more shards than requests."""
    file_bytes = sum(file.size for file in shards)
    if len(shards) > MOST_HEADERS and known:
        return Weights(index_bytes or file_bytes, known)
    chosen = _evenly(shards, MOST_HEADERS)
    counts, tensor_bytes = _read_all(source, commit, chosen)
    if len(chosen) == len(shards):
        return Weights(tensor_bytes, counts)
    scale = file_bytes / sum(file.size for file in chosen)
    return Weights(index_bytes or file_bytes, {dtype: round(n * scale) for dtype, n in counts.items()}, sampled=True)


def read_header(source: Source, commit: str, file: RemoteFile) -> tuple[dict[str, int], int]:
    """Parameters by dtype and bytes of tensors in one shard. Raises WeightsCorrupt for what is not safetensors."""
    start = read_start(source, commit, file, FIRST_READ_BYTES)
    if is_pointer(start):
        raise pointer_in_place_of(file)
    if len(start) < 8:
        raise _not_safetensors(file, "it is too short")
    (length,) = struct.unpack("<Q", start[:8])
    if length > min(LONGEST_HEADER_BYTES, file.size - 8):
        raise _not_safetensors(file, "it has no header, or ends within it")
    if length > LONGEST_READ_BYTES:
        return {}, file.size - 8 - length
    if len(start) >= 8 + length:
        return _counted(start[8 : 8 + length], file)
    with _ONE_LONG_HEADER:
        rest = read_range(source, commit, file, len(start), 8 + length)
        return _counted(start[8:] + rest, file)


def _counted(header: bytes, file: RemoteFile) -> tuple[dict[str, int], int]:
    counts: Counter[str] = Counter()
    end = 0
    try:
        for name, tensor in json.loads(header).items():
            if name != "__metadata__":
                counts[_dtype(tensor["dtype"])] += _whole(math.prod(map(_whole, tensor["shape"])))
                end = max(end, _whole(tensor["data_offsets"][1]))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise _not_safetensors(file, "its header is damaged") from error
    if len(counts) > MOST_DTYPES:
        raise _not_safetensors(file, "its header is damaged")
    lacking = 8 + len(header) + end - file.size
    if lacking > 0:
        raise _not_safetensors(file, f"{lacking} bytes are missing at its end")
    return dict(counts), end


def _dtype(said: object) -> str:
    if not isinstance(said, str) or not DTYPE.fullmatch(said):
        raise ValueError(said)
    return said


def _whole(said: object) -> int:
    if not isinstance(said, int) or not 0 <= said <= MOST:
        raise ValueError(said)
    return said


def _read_all(source: Source, commit: str, shards: Sequence[RemoteFile]) -> tuple[dict[str, int], int]:
    counts: Counter[str] = Counter()
    total = 0
    with ThreadPoolExecutor(max_workers=8) as pool:
        for found, size in pool.map(lambda file: read_header(source, commit, file), shards):
            counts.update(found)
            total += size
    return dict(counts), total


def _evenly(shards: Sequence[RemoteFile], most: int) -> Sequence[RemoteFile]:
    if len(shards) <= most:
        return shards
    return [shards[at * (len(shards) - 1) // (most - 1)] for at in range(most)]


def _not_safetensors(file: RemoteFile, why: str) -> WeightsError:
    return WeightsError(
        Reason.WEIGHTS_CORRUPT,
        f"{file.path} is not a safetensors file: {why}.",
        "Upload the file again, or name another revision.",
    )
