"""A tiny HTTP server over a folder: what the fakes of Google Cloud Storage and ModelScope have in common."""

from __future__ import annotations

from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.hub.sending import asked_span
from tests.stores.local import LocalServer


class Answer(Exception):
    """What to answer instead: status and body."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


class FolderServer(LocalServer):
    """A running fake over `root`; `fail_next` statuses are answered before anything else, one a request.

    `host` is the address that it listens at: this machine's own, or one that pods reach.
    """

    handler: type[FolderHandler]

    def __init__(self, root: Path, token: str | None = None, host: str = "127.0.0.1") -> None:
        self.root = root
        self.token = token
        self.fail_next: list[int] = []
        self.refusal = b"busy"
        self.asked: list[str] = []
        self.askers: set[str] = set()
        super().__init__(self.handler, host, fake=self)
        self.url = f"http://{self.address}"


class FolderHandler(BaseHTTPRequestHandler):
    fake: FolderServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.fake.asked.append(self.path)
        self.fake.askers.add(self.headers.get("User-Agent", ""))
        try:
            if self.fake.fail_next:
                raise Answer(self.fake.fail_next.pop(0), self.fake.refusal)
            self.check_token()
            self.answer()
        except Answer as answer:
            self.send(answer.status, answer.body)

    do_HEAD = do_GET

    def check_token(self) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.fake.token is not None and token != self.fake.token:
            raise Answer(401 if token else 403, b"no")

    def answer(self) -> None:
        """Answers the request; each store's own."""
        raise Answer(501, b"not of this store")

    def send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_file(self, path: Path, headers: Mapping[str, str]) -> None:
        body = path.read_bytes()
        asked = self.headers.get("Range")
        span = asked_span(asked, len(body))
        if span is None:
            raise Answer(416, b"")
        ranged = {"Content-Range": f"bytes {span.start}-{span.end - 1}/{len(body)}"} if asked else {}
        self.send(206 if asked else 200, body[span.start : span.end], {**headers, **ranged})

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""
