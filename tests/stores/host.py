"""A server that answers everything alike: what a client makes of one answer, and what it sends."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar

from tests.stores.local import LocalServer


class Host(LocalServer):
    """Keeps the headers of what it was asked, by lower-case name. A `Location` gets the path that was asked for."""

    def __init__(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.status, self.body, self.headers = status, body, headers or {}
        super().__init__(_Answering, fake=self)
        self.url = f"http://{self.address}"


class _Answering(BaseHTTPRequestHandler):
    fake: ClassVar[Host]

    def do_HEAD(self) -> None:
        self._begin()

    def do_GET(self) -> None:
        self._begin()
        self.wfile.write(self.fake.body)

    do_PUT = do_GET

    def _begin(self) -> None:
        self.fake.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        self.send_response(self.fake.status)
        location = {key: value + self.path for key, value in self.fake.headers.items() if key == "Location"}
        for name, value in {"Content-Length": str(len(self.fake.body)), **self.fake.headers, **location}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""
