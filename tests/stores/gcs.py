"""Google Cloud Storage's XML API, as obstore uses it: list a prefix, get a range of an object."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.stores.folder import Answer, FolderHandler, FolderServer

MODIFIED = "Thu, 01 Jan 2026 00:00:00 GMT"


class _Handler(FolderHandler):
    def answer(self) -> None:
        address = urlsplit(self.path)
        bucket, _, key = unquote(address.path).lstrip("/").partition("/")
        folder = self.fake.root / bucket
        if not folder.is_dir():
            raise Answer(404, b"<Error><Code>NoSuchBucket</Code></Error>")
        if not key:
            self._list(folder, parse_qs(address.query))
            return
        if not (folder / key).is_file():
            raise Answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        tag = _tag(folder / key)
        if self.headers.get("If-Match", tag) != tag:
            raise Answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        self.send_file(folder / key, {"ETag": tag, "Last-Modified": MODIFIED})

    def _list(self, folder: Path, query: dict[str, list[str]]) -> None:
        prefix = query.get("prefix", [""])[0]
        keys = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        contents = "".join(_entry(folder / key, key) for key in keys if key.startswith(prefix))
        body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
        self.send(200, body.encode(), {"Content-Type": "application/xml"})


class FakeGoogleStorage(FolderServer):
    """`<root>/<bucket>/<key>`; point GOOGLE_BASE_URL at `url`."""

    handler = _Handler


def _tag(path: Path) -> str:
    return f'"{hashlib.md5(path.read_bytes()).hexdigest()}"'


def _entry(path: Path, key: str) -> str:
    size = path.stat().st_size
    return (
        f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size><ETag>{escape(_tag(path))}</ETag>"
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
    )
