"""A proxy that leads every CONNECT to one server, whatever host is asked for: as poisoned DNS does, or what answers in a hub's place."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar

from tests.stores.local import LocalServer


class Tunnel(LocalServer):
    """`leads_to` is host and port."""

    def __init__(self, leads_to: str) -> None:
        self.leads_to = leads_to
        super().__init__(_Leading, fake=self)


class _Leading(BaseHTTPRequestHandler):
    fake: ClassVar[Tunnel]

    def do_CONNECT(self) -> None:
        host, _, port = self.fake.leads_to.partition(":")
        with socket.create_connection((host, int(port)), 10) as there:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=_carry, args=(there, self.connection), daemon=True)
            back.start()
            _carry(self.connection, there)
            back.join(10)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


def _carry(source: socket.socket, target: socket.socket) -> None:
    try:
        while piece := source.recv(1 << 16):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:  # One of the ends is gone.
        return
