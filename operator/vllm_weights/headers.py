"""Safetensors headers, read by range requests: how many parameters of which dtype, without the tensors."""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from vllm_weights.failure import Reason, WeightsError
from vllm_weights.listing import RemoteFile, Source, read_whole

FIRST_READ_BYTES = 256 * 1024
"""Holds the header of almost every shard (a dense 70B's has 10 KiB), so that one request is enough."""
LONGEST_HEADER_BYTES = 100 * 1024 * 1024
"""The safetensors library's own limit."""
MOST_HEADERS = 16
"""Shards whose header is read; of more shards an even sample is, to stay within the five seconds of an inspection."""


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
        return Weights(index_bytes or file_bytes, dict(known))
    chosen = _evenly(shards, MOST_HEADERS)
    counts, tensor_bytes = _read_all(source, commit, chosen)
    if len(chosen) == len(shards):
        return Weights(tensor_bytes, counts)
    scale = file_bytes / sum(file.size for file in chosen)
    return Weights(index_bytes or file_bytes, {dtype: round(n * scale) for dtype, n in counts.items()}, sampled=True)


def read_header(source: Source, commit: str, file: RemoteFile) -> tuple[dict[str, int], int]:
    """Parameters by dtype and bytes of tensors in one shard. Raises WeightsCorrupt for what is not safetensors."""
    start = read_whole(source, commit, file, FIRST_READ_BYTES)
    if len(start) < 8:
        raise _not_safetensors(file, "it is too short")
    (length,) = struct.unpack("<Q", start[:8])
    if start.startswith(b"version ") or length > min(LONGEST_HEADER_BYTES, file.size - 8):
        raise _not_safetensors(file, "it has no header (a Git LFS pointer that was uploaded as the file?)")
    if len(start) < 8 + length:
        with source.stream(commit, file, len(start), 8 + length) as pieces:
            start += b"".join(bytes(piece) for piece in pieces)
    return _counted(start[8 : 8 + length], file)


def _counted(header: bytes, file: RemoteFile) -> tuple[dict[str, int], int]:
    counts: Counter[str] = Counter()
    end = 0
    try:
        for name, tensor in json.loads(header).items():
            if name != "__metadata__":
                counts[str(tensor["dtype"])] += math.prod(tensor["shape"])
                end = max(end, int(tensor["data_offsets"][1]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _not_safetensors(file, "its header is damaged") from error
    return dict(counts), end


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
