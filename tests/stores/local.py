"""A server of a test's own: it listens while the `with` lasts."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class LocalServer:
    """A server on a free port. `address` is host and port, `tcp` what listens; the handler's class gets `attributes` of its own."""

    def __init__(self, handler: type[BaseHTTPRequestHandler], host: str = "127.0.0.1", **attributes: object) -> None:
        self.tcp = ThreadingHTTPServer((host, 0), type("Bound", (handler,), attributes))
        self.tcp.daemon_threads = True
        self.address = f"{host}:{self.tcp.server_address[1]}"
        self._thread = threading.Thread(target=self.tcp.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.tcp.shutdown()
        self.tcp.server_close()
