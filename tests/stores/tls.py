"""A certificate authority of a test's own, and servers that it vouches for. By openssl."""

from __future__ import annotations

import socketserver
import ssl
import subprocess
from pathlib import Path

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")


class Authority:
    """`file` is its certificate, as a client is given it; `subject` is whose the servers' are, `is_its_own`: they show its own."""

    def __init__(self, folder: Path, subject: str = "/CN=server", *, is_its_own: bool = False) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self.file = folder / "ca.crt"
        names = ("-addext", "subjectAltName=IP:127.0.0.1")
        own = names if is_its_own else ()
        _openssl("-subj", "/CN=authority of a test", *own, "-keyout", folder / "ca.key", "-out", self.file)
        self._shown = "ca" if is_its_own else "server"
        signed = ("-CA", self.file, "-CAkey", folder / "ca.key", "-addext", "basicConstraints=critical,CA:FALSE")
        _openssl(*signed, "-subj", subject, *names, "-keyout", folder / "server.key", "-out", folder / "server.crt")

    def encrypt(self, server: socketserver.TCPServer) -> None:
        """Has a server that does not serve yet speak TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._folder / f"{self._shown}.crt", self._folder / f"{self._shown}.key")
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", "req", "-x509", *KEY, *words], check=True, capture_output=True, timeout=60)
