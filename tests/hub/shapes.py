"""Answers in other shapes than a hub's: what a proxy, a mirror or a login page makes of a file."""

from __future__ import annotations

import gzip
from http.server import BaseHTTPRequestHandler

KINDS = ("page", "packed", "multipart", "unsized")


def answer_otherwise(handler: BaseHTTPRequestHandler, kind: str, content: bytes, start: int, end: int) -> None:
    """Answers in the shape of that kind.

    `page`: a web page; `packed`: the whole file, gzip'ed though nobody asked for it; `multipart`: the range as a list of
    one; `unsized`: half of the range, without a length, and the end of the connection.
    """
    asked = content[start:end]
    match kind:
        case "page":
            _send(handler, 200, b"<html>Sign in</html>", {"Content-Type": "text/html; charset=utf-8"})
        case "packed":
            _send(handler, 200, gzip.compress(content, 1), {"Content-Encoding": "gzip"})
        case "multipart":
            _send(handler, 206, b"--X\r\n\r\n" + asked, {"Content-Type": "multipart/byteranges; boundary=X"})
        case _:
            handler.close_connection = True
            _send(handler, 206, asked[: len(asked) // 2], {"Connection": "close"}, sized=False)


def _send(
    handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str], *, sized: bool = True
) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    if sized:
        handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
