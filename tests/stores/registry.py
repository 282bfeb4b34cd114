"""A container registry for tests: folders as images of one layer, read by digest; what is below `private/` wants a login."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tests.stores.local import LocalServer

USER, PASSWORD = "puller", "pull-secret-1"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


class Registry(LocalServer):
    """A running registry. `host` is what stands before the repository in an image's name."""

    def __init__(self) -> None:
        self.blobs: dict[str, tuple[str, bytes]] = {}  # by digest: media type and content
        super().__init__(_Handler, registry=self)
        self.host = self.address

    def add(self, folder: Path) -> str:
        """Takes a folder in as an image, its files at the image's root; returns the manifest's digest."""
        tar = _tar(folder)
        config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers"}}
        config["rootfs"] = {"type": "layers", "diff_ids": [_digest(tar)]}
        parts = (self._keep(_CONFIG, json.dumps(config).encode()), self._keep(_LAYER, tar))
        manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": parts[0], "layers": [parts[1]]}
        return str(self._keep(_MANIFEST, json.dumps(manifest).encode())["digest"])

    def _keep(self, kind: str, content: bytes) -> dict[str, object]:
        digest = _digest(content)
        self.blobs[digest] = (kind, content)
        return {"mediaType": kind, "digest": digest, "size": len(content)}


class _Handler(BaseHTTPRequestHandler):
    registry: Registry
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.path.startswith("/v2/private/") and self.headers.get("Authorization") != f"Basic {login}":
            self._send(401, "application/json", b'{"errors": [{"code": "UNAUTHORIZED"}]}')
            return
        found = self.registry.blobs.get(self.path.rpartition("/")[2])
        if found is None:
            self._send(404, "application/json", b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}')
            return
        self._send(200, *found)

    do_HEAD = do_GET

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if status == 200:
            self.send_header("Docker-Content-Digest", _digest(content))
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="models"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _tar(folder: Path) -> bytes:
    """The same bytes for the same files: no times, no owners."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for path in sorted(folder.rglob("*")):
            entry = tarfile.TarInfo(str(path.relative_to(folder)))
            entry.mode = 0o755 if path.is_dir() else 0o644
            entry.type = tarfile.DIRTYPE if path.is_dir() else tarfile.REGTYPE
            content = b"" if path.is_dir() else path.read_bytes()
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return written.getvalue()
