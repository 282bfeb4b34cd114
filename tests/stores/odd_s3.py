"""A store that speaks S3 as some gateways do: one page only, pages without end, ETags that are no MD5, no ranges, other sizes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.stores.local import LocalServer

BUCKET = "models"
PAGE = 1000


class OddS3(LocalServer):
    """Gives the files of a folder below `prefix`, without asking for a signature. `oddity` says what it does otherwise."""

    def __init__(self, folder: Path, oddity: str, prefix: str = "llama") -> None:
        self.objects = {
            f"{prefix}/{path.relative_to(folder).as_posix()}": path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        self.oddity = oddity
        odd = hashlib.sha256 if oddity == "etags are no md5" else hashlib.md5
        self.tags = {key: odd(content).hexdigest()[:32] for key, content in self.objects.items()}
        if oddity == "etags say nothing":
            self.tags = dict.fromkeys(self.objects, "0" * 32 + "-1")
        super().__init__(_Odd, fake=self)
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://{self.address}",
            "AWS_ACCESS_KEY_ID": "keykey",
            "AWS_SECRET_ACCESS_KEY": "secretsecret",
            "AWS_REGION": "us-east-1",
        }


class _Odd(BaseHTTPRequestHandler):
    fake: ClassVar[OddS3]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        key = unquote(parts.path).removeprefix(f"/{BUCKET}").lstrip("/")
        if not key:
            self._answer(200, self._listing(parse_qs(parts.query)), {"Content-Type": "application/xml"})
        elif key in self.fake.objects:
            self._give(key)
        else:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>", {"Content-Type": "application/xml"})

    do_HEAD = do_GET

    def _listing(self, asked: Mapping[str, list[str]]) -> bytes:
        odd = self.fake.oddity
        after = asked.get("start-after", asked.get("continuation-token", [""]))[0]
        keys = sorted(self.fake.objects)
        keys = [key for key in keys if key > after] if odd not in ("first version", "one page for ever") else keys
        page = keys[:PAGE]
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>&quot;{self.fake.tags[key]}&quot;</ETag><Size>{len(self.fake.objects[key])}</Size></Contents>"
            for key in page
        )
        more = len(keys) > PAGE or odd == "one page for ever"
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        token = f"<NextMarker>{escape(page[-1])}</NextMarker>" if more and odd == "first version" else token
        return f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}{entries}</ListBucketResult>".encode()

    def _give(self, key: str) -> None:
        whole = self.fake.objects[key]
        if self.fake.oddity == "etags say nothing" and key.endswith(".safetensors"):
            whole += bytes(1000)
        if self.fake.oddity == "refuses if-match" and "If-Match" in self.headers:
            self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>", {"Content-Type": "application/xml"})
            return
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        headers = {"ETag": f'"{self.fake.tags[key]}"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        if found is None or self.fake.oddity == "no ranges":
            self._answer(200, whole, headers)
            return
        start, end = int(found[1]), min(int(found[2]) + 1, len(whole))
        self._answer(206, whole[start:end], headers | {"Content-Range": f"bytes {start}-{end - 1}/{len(whole)}"})

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""
