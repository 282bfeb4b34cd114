"""A mirror of the hub, or the hub, that lists one model and answers each of its requests as a test says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from tests.hub.models import write_model
from tests.hub.running import Ended, run
from tests.stores.local import LocalServer

COMMIT = "a1b2c3d4e5" * 4
LISTING = "/api/models/"


@dataclass(frozen=True, slots=True)
class Answer:
    """What stands in a file's or the listing's place."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    phrase: str | None = None
    """The reason phrase, where it is none of the usual."""


def in_words(status: int, message: str) -> Answer:
    """As Artifactory and others say it."""
    body = json.dumps({"errors": [{"status": status, "message": message}]}).encode()
    return Answer(status, body, {"Content-Type": "application/json"})


def by_the_hub(status: int, code: str, message: str) -> Answer:
    """As the hub says it, by headers."""
    return Answer(status, b"", {"X-Error-Code": code, "X-Error-Message": message})


def as_page(status: int, title: str) -> Answer:
    body = f"<!doctype html><html><title>{title}</title><body>{'x' * 50}</body></html>".encode()
    return Answer(status, body, {"Content-Type": "text/html"})


class Mirror(LocalServer):
    """Lists `files` under any name. `answers` goes by pattern of path; one of its own is the file's whole, other content."""

    def __init__(self, files: dict[str, bytes], answers: dict[str, Answer | bytes] | None = None) -> None:
        self.files, self.answers = files, answers or {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        super().__init__(_Answering, fake=self)
        self.url = f"http://{self.address}"

    def listed(self) -> bytes:
        siblings = [_entry(name, content) for name, content in self.files.items()]
        return json.dumps({"id": "acme/tiny", "sha": COMMIT, "siblings": siblings}).encode()


def _entry(name: str, content: bytes) -> dict[str, Any]:
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": git}
    if name.endswith(".safetensors"):
        entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry


def _leading(headers: dict[str, str], path: str) -> dict[str, str]:
    """A `Location` gets the path that was asked for, as a store names its objects."""
    return {
        name: value + path.replace("/resolve/", "/objects/") if name == "Location" else value
        for name, value in headers.items()
    }


class _Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: ClassVar[Mirror]

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)  # A proxy is asked by the whole address.
        self.fake.asked.append((path, {name.lower(): value for name, value in self.headers.items()}))
        found = next((said for form, said in self.fake.answers.items() if fnmatch(path, form)), None)
        if isinstance(found, Answer):
            self._send(found.status, found.body, _leading(found.headers, path), found.phrase)
        elif path.startswith(LISTING):
            self._send(200, self.fake.listed(), {"Content-Type": "application/json"})
        else:
            self._serve(self.fake.files[path.rpartition("/")[2]] if found is None else found)

    def _serve(self, content: bytes) -> None:
        asked = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
        start, end = int(asked[0] or 0), int(asked[2] or len(content) - 1) + 1
        part = content[start:end]
        if not part:
            self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            return
        self._send(206, part, {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{len(content)}"})

    def _send(self, status: int, body: bytes, headers: dict[str, str], phrase: str | None = None) -> None:
        self.send_response_only(status, phrase)  # Whose server it is, a test says.
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


def files_of(tmp_path: Path) -> dict[str, bytes]:
    """A small model of two shards."""
    folder = tmp_path / "model"
    write_model(folder, shards=2)
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def asked(
    command: str, tmp_path: Path, mirror: Mirror, environment: Mapping[str, str] | None = None, **request: Any
) -> Ended:
    """The program from start to end, with a mirror in the hub's place."""
    whole = {
        "source": "acme/tiny",
        "destination": str(tmp_path / "to/m"),
        "backoffSeconds": 0,
        "tries": 2,
        **request,
    }
    return run(command, whole, tmp_path / "work", {"HF_ENDPOINT": mirror.url, **(environment or {})})
