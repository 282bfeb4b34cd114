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
ACCOUNT = "/openapi/v1/users/me"
REVISIONS = ".revisions"
MOST_LISTED = 3000
"""The server cuts a longer list without a word."""


class _Handler(FolderHandler):
    def check_token(self) -> None:
        """A token that is not good is taken for none, as the real one does; only the account's page refuses it."""

    def answer(self) -> None:
        address = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(address.query).items()}
        if address.path == ACCOUNT:
            self._account()
        elif address.path.startswith(PREFIX):
            self._model(address.path.removeprefix(PREFIX).split("/"), query)
        else:
            raise Answer(404, b"{}")

    def _model(self, parts: list[str], query: dict[str, str]) -> None:
        folder = self.fake.root / "/".join(parts[:2])
        if not folder.is_dir() or (self.fake.token is not None and not self._has_token()):
            raise Answer(404, _body(None, code=10010205001, message="the model does not exist"))
        if (revision := query.get("Revision", "master")) != "master":
            folder = folder / REVISIONS / revision
        match parts[2:]:
            case ["repo", "files"]:
                self._files(folder, query)
            case ["repo"]:
                self._file(folder, query["FilePath"])
            case _:
                self.send(200, _body({"Name": parts[1], "Path": parts[0]}))

    def _account(self) -> None:
        if not self._has_token():
            raise Answer(401, b'{"success": false, "code": "InvalidAuthentication", "message": "bad token"}')
        self.send(200, b'{"success": true, "data": {"username": "ann"}}')

    def _has_token(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.fake.token}"

    def _files(self, folder: Path, query: dict[str, str]) -> None:
        if not folder.is_dir():  # A revision that there is not is no error to the real one.
            raise Answer(200, _body({"Files": None}))
        entries = _entries(folder, folder / query.get("Root", "").strip("/"), query.get("Recursive") == "True")
        self.send(200, _body({"Files": [entry for entry, _ in zip(entries, range(MOST_LISTED), strict=False)]}))

    def _file(self, folder: Path, name: str) -> None:
        if not (folder / name).is_file():
            raise Answer(404, _body(None, code=404, message="no such file"))
        self.send_file(folder / name, {"Content-Type": "application/octet-stream"})


class FakeModelScope(FolderServer):
    """`<root>/<org>/<name>/` is a model at the revision `master`, `.revisions/<tag>/` in it at others.

    With a `token` all of them are private: who comes without it is told that there is none. Point MODELSCOPE_ENDPOINT at `url`.
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
