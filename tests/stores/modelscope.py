"""ModelScope's API, as far as its own client needs it to list and fetch a model."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.stores.folder import Answer, FolderHandler, FolderServer

PREFIX = "/api/v1/models/"


class _Handler(FolderHandler):
    def answer(self) -> None:
        address = urlsplit(self.path)
        if not address.path.startswith(PREFIX):
            raise Answer(404, b"{}")
        parts = address.path.removeprefix(PREFIX).split("/")
        folder = self.fake.root / "/".join(parts[:2])
        query = {key: values[0] for key, values in parse_qs(address.query).items()}
        if not folder.is_dir() or query.get("Revision", "master") != "master":
            raise Answer(404, _body(None, code=10010205001, message="the model or revision does not exist"))
        verb = "/".join(parts[2:])
        if verb == "repo/files":
            self.send(200, _body({"Files": _entries(folder)}))
        elif verb == "repo":
            self._file(folder, query["FilePath"])
        elif verb == "revisions":
            revisions = {"Branches": [{"Revision": "master", "CreatedAt": 1767225600}], "Tags": []}
            self.send(200, _body({"RevisionMap": revisions}))
        else:
            self.send(200, _body({"Name": parts[1], "Path": parts[0]}))

    def _file(self, folder: Path, name: str) -> None:
        if not (folder / name).is_file():
            raise Answer(404, _body(None, code=404, message="no such file"))
        self.send_file(folder / name, {"Content-Type": "application/octet-stream"})


class FakeModelScope(FolderServer):
    """`<root>/<org>/<name>/` is a model with the one revision `master`; point MODELSCOPE_ENDPOINT at `url`."""

    handler = _Handler


def _body(data: Any, code: int = 200, message: str = "success") -> bytes:
    return json.dumps({"Code": code, "Data": data, "Message": message, "Success": code == 200}).encode()


def _entries(folder: Path) -> list[dict[str, Any]]:
    return [
        {"Type": "tree", "Name": path.name, "Path": path.relative_to(folder).as_posix(), "Size": 0}
        if path.is_dir()
        else {
            "Type": "blob",
            "Name": path.name,
            "Path": path.relative_to(folder).as_posix(),
            "Size": path.stat().st_size,
            "Sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "Revision": "master",
            "IsLFS": path.suffix == ".safetensors",
        }
        for path in sorted(folder.rglob("*"))
    ]
