"""The bytes of an HTTP answer, with as little between them and the disk as there can be.

An HTTP library hands a body out in pieces of 64 KiB at most (16 KiB under TLS), and each passes through its parser: a
third of what a pull cost. A body of known length has nothing to parse, so all of it but its beginning is received
from the library's socket straight into one buffer.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator

import httpx2

PIECE_BYTES = 1 << 20
"""A system call for the disk and one for the counter a megabyte; eight workers hold 8 MiB."""
PIECE_SECONDS = 1.0
"""After which less than a piece is handed on, too: a slow line is no silent one, and a killed pod loses little."""


def pieces(response: httpx2.Response, skip: int, wanted: int, *, is_packed: bool = False) -> Iterator[memoryview]:
    """The `wanted` bytes after the first `skip`, or fewer where the other side ends early.

    Each piece is good until the next one is asked for. Raises httpx2.TransportError, after what came before.
    `is_packed`: the body has a Content-Encoding that nobody asked for, and the bytes are those behind it.
    """
    body = _Body(response, skip, wanted, is_packed)
    buffer = memoryview(bytearray(min(PIECE_BYTES, wanted)))
    left, filled, since = wanted, 0, time.monotonic()
    try:
        while left > 0 and (count := body.read_into(buffer[filled : filled + left])):
            filled, left = filled + count, left - count
            if filled == len(buffer) or time.monotonic() - since >= PIECE_SECONDS:
                yield buffer[:filled]
                filled, since = 0, time.monotonic()
    except httpx2.TransportError:
        if filled:
            yield buffer[:filled]
        raise
    if filled:
        yield buffer[:filled]
    if not left:
        body.end()


class _Body:
    """Reads from the library as long as it holds bytes back, then from its socket where that is possible."""

    def __init__(self, response: httpx2.Response, skip: int, wanted: int, is_packed: bool) -> None:
        self._response = response
        self._from_library = response.iter_bytes() if is_packed else response.iter_raw()
        self._skip = skip
        self._rest = memoryview(b"")
        length = response.headers.get("content-length", "")
        self._is_exact = not is_packed and length.isdecimal() and int(length) == skip + wanted
        # A short body ends before its connection would have to be given up for it.
        self._socket = _socket_of(response) if self._is_exact and not skip and wanted > PIECE_BYTES else None
        self._library_is_empty = False

    def read_into(self, room: memoryview) -> int:
        """The number of bytes put into `room`; 0 at the end."""
        if not self._rest and self._socket is not None and self._library_is_empty:
            return self._receive(self._socket, room)
        while not self._rest:
            piece = next(self._from_library, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)[self._skip :]
            self._skip = max(0, self._skip - len(piece))
            self._library_is_empty = True  # Its first piece is all that it had received with the headers.
        count = min(len(room), len(self._rest))
        room[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def end(self) -> None:
        """Has the library notice the end of the body, so that the connection serves the next request."""
        if self._socket is None and self._is_exact:
            next(self._from_library, None)

    def _receive(self, connection: socket.socket, room: memoryview) -> int:
        try:
            return connection.recv_into(room)
        except TimeoutError as error:
            raise httpx2.ReadTimeout("no byte came", request=self._response.request) from error
        except OSError as error:
            raise httpx2.ReadError(str(error), request=self._response.request) from error


def _socket_of(response: httpx2.Response) -> socket.socket | None:
    """The connection's socket, ready to be read from; None where something stands between it and the body."""
    stream = response.extensions.get("network_stream")
    if stream is None or "transfer-encoding" in response.headers or response.http_version == "HTTP/2":
        return None
    # TLS within TLS, by way of a proxy, has its own machinery; every other TLS is the socket's.
    if isinstance(stream.get_extra_info("ssl_object"), ssl.SSLObject):
        return None
    found = stream.get_extra_info("socket")
    if not isinstance(found, socket.socket):
        return None
    found.settimeout(response.request.extensions.get("timeout", {}).get("read"))
    return found
