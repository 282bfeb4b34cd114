"""ModelScope's API, as far as its own client needs it to list and fetch a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.stores.folder import Answer, FolderHandler, FolderServer

PREFIX = "/api/v1/models/"
REVISIONS = ".revisions"
MOST_LISTED = 3000
"""The server cuts a longer list without a word."""


class _Handler(FolderHandler):
    def answer(self) -> None:
        address = urlsplit(self.path)
        if not address.path.startswith(PREFIX):
            raise Answer(404, b"{}")
        parts = address.path.removeprefix(PREFIX).split("/")
        folder = self.fake.root / "/".join(parts[:2])
        query = {key: values[0] for key, values in parse_qs(address.query).items()}
        if (revision := query.get("Revision", "master")) != "master":
            folder = folder / REVISIONS / revision
        if not folder.is_dir():
            raise Answer(404, _body(None, code=10010205001, message="the model or revision does not exist"))
        verb = "/".join(parts[2:])
        if verb == "repo/files":
            self._files(folder, query)
        elif verb == "repo":
            self._file(folder, query["FilePath"])
        elif verb == "revisions":
            revisions = {"Branches": [{"Revision": "master", "CreatedAt": 1767225600}], "Tags": []}
            self.send(200, _body({"RevisionMap": revisions}))
        else:
            self.send(200, _body({"Name": parts[1], "Path": parts[0]}))

    def _files(self, folder: Path, query: dict[str, str]) -> None:
        entries = _entries(folder, folder / query.get("Root", "").strip("/"), query.get("Recursive") == "True")
        self.send(200, _body({"Files": [entry for entry, _ in zip(entries, range(MOST_LISTED), strict=False)]}))

    def _file(self, folder: Path, name: str) -> None:
        if not (folder / name).is_file():
            raise Answer(404, _body(None, code=404, message="no such file"))
        self.send_file(folder / name, {"Content-Type": "application/octet-stream"})


class FakeModelScope(FolderServer):
    """`<root>/<org>/<name>/` is a model at the revision `master`, `.revisions/<tag>/` in it at others.

    Point MODELSCOPE_ENDPOINT at `url`.
    """

    handler = _Handler


def _body(data: Any, code: int = 200, message: str = "success") -> bytes:
    return json.dumps({"Code": code, "Data": data, "Message": message, "Success": code == 200}).encode()


def _entries(folder: Path, root: Path, recursive: bool) -> Iterator[dict[str, Any]]:
    for path in sorted(root.rglob("*") if recursive else root.iterdir()):
        name = path.relative_to(folder)
        if name.parts[0] == REVISIONS:
            continue
        entry = {"Name": path.name, "Path": name.as_posix(), "Revision": "master"}
        yield entry | ({"Type": "tree", "Size": 0} if path.is_dir() else _blob(path))


def _blob(path: Path) -> dict[str, Any]:
    return {
        "Type": "blob",
        "Size": path.stat().st_size,
        "Sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "IsLFS": path.suffix == ".safetensors",
    }
