"""The checksum of a file while it grows: each byte once, in order.

What arrives in order is taken from memory; the rest is read from the disk, where it mostly still is in the page cache.
"""

from __future__ import annotations

import hashlib
import os
import threading
from typing import Protocol

from vllm_weights.listing import Digest, DigestKind

READ_BYTES = 512 * 1024


def is_of(content: bytes, expected: Digest) -> bool:
    """Whether the content has this digest; True where there is none to compare with."""
    found = _new(expected.kind, len(content))
    if found is None:
        return True
    found.update(content)
    return found.hexdigest() == expected.value


class _Hash(Protocol):
    def update(self, data: bytes | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


class RunningChecksum:
    """Of the file `descriptor` with its final `size`; threads may call advance at any time."""

    def __init__(self, descriptor: int, size: int, expected: Digest) -> None:
        self._descriptor = descriptor
        self._expected = expected
        self._hash = _new(expected.kind, size)
        self._at = 0
        self._lock = threading.Lock()

    def take(self, at: int, piece: bytes | memoryview) -> None:
        """Takes in a piece that lies at the offset `at`, if it is its turn and no other thread is at it."""
        if self._hash is None or not self._lock.acquire(blocking=False):
            return
        try:
            if self._at == at:
                self._hash.update(piece)
                self._at += len(piece)
        finally:
            self._lock.release()

    def advance(self, available: int, most: int) -> None:
        """Takes in up to `most` bytes of the first `available` ones, unless another thread is at it."""
        if self._lock.acquire(blocking=False):
            try:
                self._read_up_to(min(available, self._at + most))
            finally:
                self._lock.release()

    def matches(self, size: int) -> bool:
        """Whether the whole file is what the source said; reads what is left of it."""
        with self._lock:
            self._read_up_to(size)
            return self._hash is None or self._hash.hexdigest() == self._expected.value

    def _read_up_to(self, end: int) -> None:
        if self._hash is None or self._at >= end:
            return
        view = memoryview(bytearray(READ_BYTES))  # Not kept: a model may have hundreds of files.
        while self._at < end:
            count = os.preadv(self._descriptor, [view[: min(READ_BYTES, end - self._at)]], self._at)
            if count == 0:
                return  # Shorter than said; the digest will tell.
            self._hash.update(view[:count])
            self._at += count


def _new(kind: DigestKind, size: int) -> _Hash | None:
    if kind is DigestKind.SHA256:
        return hashlib.sha256()
    if kind is DigestKind.MD5:
        return hashlib.md5(usedforsecurity=False)
    if kind is DigestKind.GIT_BLOB:
        return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    return None
