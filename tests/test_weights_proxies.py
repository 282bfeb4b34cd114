"""A proxy on the way to a source that refuses to connect is told from the source."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.hub.running import run
from tests.stores.local import LocalServer

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]

SOURCES = ["org/model", "s3://models/llama", "gs://models/llama", "modelscope://org/model"]
HOSTS = {
    "HF_ENDPOINT": "https://hub.example",
    "MODELSCOPE_ENDPOINT": "https://scope.example",
    "AWS_ENDPOINT_URL": "https://s3.example",
    "AWS_ACCESS_KEY_ID": "keykey",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "us-east-1",
    "GOOGLE_BASE_URL": "https://gcs.example",
    "GOOGLE_SKIP_SIGNATURE": "true",
}


class Proxy(LocalServer):
    """Answers each CONNECT with one status."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(_Refusing, fake=self)


class _Refusing(BaseHTTPRequestHandler):
    fake: ClassVar[Proxy]

    def do_CONNECT(self) -> None:
        self.send_response(self.fake.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("status", [407, 403, 502])
def test_what_a_proxy_answers_is_laid_on_the_proxy(tmp_path: Path, source: str, status: int) -> None:
    """The buckets' library does not tell the status, so theirs is always tried again."""
    with Proxy(status) as proxy:
        environment = HOSTS | {"HTTPS_PROXY": f"http://{proxy.address}"}
        ended = run("inspect", {"source": source, "backoffSeconds": 0}, tmp_path / "work", environment)

    is_final = status < 500 and "://models/" not in source
    assert ended.answer["reason"] == ("HubRefused" if is_final else "HubUnreachable"), ended.output
    assert "proxy" in ended.answer["message"].lower()
    assert "proxy" in ended.answer["remedy"]
