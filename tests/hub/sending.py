"""Sends a file, or the asked range of it, and breaks it on the way as a fault says."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tests.hub.faults import Fault, Faults

SLICE = 1 << 20


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `start` up to, not including, `end`."""

    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start


def asked_span(header: str | None, size: int) -> Span | None:
    """The span of a Range header; the whole file without one; None when it lies outside the file."""
    if header is None:
        return Span(0, size)
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip())
    if match is None or match.groups() == ("", ""):
        return Span(0, size)
    first, last = match.groups()
    if first == "":
        return Span(max(0, size - int(last)), size)
    start, end = int(first), min(size, int(last) + 1 if last else size)
    return Span(start, end) if start < end else None


@dataclass(slots=True)
class Line:
    """What all connections together may send, as a network line does; None is no limit."""

    bytes_per_second: float | None = None
    _free_at: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait_for(self, count: int) -> None:
        """Returns when it is the turn of the next `count` bytes."""
        if self.bytes_per_second is None:
            return
        with self._lock:
            start = max(time.monotonic(), self._free_at)
            self._free_at = start + count / self.bytes_per_second
        time.sleep(max(0.0, start - time.monotonic()))


def send_file(
    connection: socket.socket, path: Path, span: Span, fault: Fault | None, faults: Faults, line: Line
) -> bool:
    """Sends the span. True when the connection may serve another request."""
    with path.open("rb") as file:
        if fault is None:
            return _send_plain(connection, file, span, str(path), faults, line)
        return _send_broken(connection, file, span, fault, faults)


def _send_plain(connection: socket.socket, file: BinaryIO, span: Span, label: str, faults: Faults, line: Line) -> bool:
    at = span.start
    slice_bytes = SLICE if line.bytes_per_second is None else SLICE // 8
    while at < span.end:  # In slices, so that what was served is counted when the client goes away.
        wanted, sent = min(slice_bytes, span.end - at), 0
        line.wait_for(wanted)
        faults.served(label, wanted)  # Before: the client may ask for the count as soon as it has the bytes.
        try:
            sent = connection.sendfile(file, at, wanted)
        finally:
            faults.served(label, sent - wanted)
        if not sent:
            return False
        at += sent
    return True


def _send_broken(connection: socket.socket, file: BinaryIO, span: Span, fault: Fault, faults: Faults) -> bool:
    done = 0
    revoked = fault.kind != "revoke"
    for piece in _pieces(file, span, fault):
        faults.served(file.name, len(piece))
        connection.sendall(piece)
        done += len(piece)
        if not revoked and done >= fault.afterBytes:
            faults.revoke(fault)
            revoked = True
    if fault.kind == "stall":
        _wait_for_the_end(connection, fault.seconds)
    if fault.kind == "cut":
        reset(connection)
    return fault.kind not in ("stall", "cut", "truncate")


def _pieces(file: BinaryIO, span: Span, fault: Fault) -> Iterator[bytes]:
    ends_early = fault.kind in ("truncate", "cut", "stall")
    end = min(span.end, span.start + fault.afterBytes) if ends_early else span.end
    slow = fault.kind == "slow"
    size = max(1, fault.bytesPerSecond // 20) if slow else 64 * 1024
    at = span.start
    while at < end:
        piece = os.pread(file.fileno(), min(size, end - at), at)
        wrong = span.start + fault.afterBytes
        if fault.kind == "corrupt" and at <= wrong < at + len(piece):
            piece = _flipped(piece, wrong - at)
        yield piece
        at += len(piece)
        if slow:
            time.sleep(len(piece) / fault.bytesPerSecond)


def _flipped(piece: bytes, at: int) -> bytes:
    changed = bytearray(piece)
    changed[at] ^= 0xFF
    return bytes(changed)


def _wait_for_the_end(connection: socket.socket, seconds: float) -> None:
    connection.settimeout(seconds)
    with contextlib.suppress(OSError):
        connection.recv(1)  # Returns when the client gives up.


def reset(connection: socket.socket) -> None:
    """Closes with RST instead of an orderly end, as a broken network does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        connection.close()
