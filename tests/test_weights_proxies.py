"""A proxy on the way to a source is told from the source, and what cannot be one is told before anything is sent."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.hub.running import Ended, run
from tests.stores.host import Host
from tests.stores.local import LocalServer
from tests.stores.mirror import Mirror
from tests.stores.tls import Authority
from vllm_weights.proxies import on_the_way

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


def ended_by(tmp_path: Path, environment: dict[str, str], source: str = "org/model") -> Ended:
    """An inspection, in whose answer and log nothing of a password stands."""
    ended = run("inspect", {"source": source, "backoffSeconds": 0}, tmp_path / "work", HOSTS | environment)
    said = ended.output + json.dumps(ended.answer)
    assert not any(word in said for word in ("pr0xyPASS", "pr0xy%50ASS", "urlPASSword")), said
    return ended


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("source", ["org/model", "modelscope://org/model"])
@pytest.mark.parametrize(
    "value",
    [
        "http://svc:pr0xyPASS#1@proxy.example:3128",
        "http://svc:pr0xyPASS/1@proxy.example:3128",
        "svc:pr0xyPASS?@proxy.example:3128",
        "http://svc:pr0xyPASS",
        "http://[svc:pr0xyPASS@proxy.example:3128",
        "http://proxy.example:port",
        "http://proxy.example:99999",
        "http://",
        "http://wpad.example/proxy.pac",
    ],
)
def test_what_is_no_address_of_a_proxy_is_told_by_its_variable(
    tmp_path: Path, variable: str, source: str, value: str
) -> None:
    ended = ended_by(tmp_path, {variable: value}, source)

    assert (ended.code, ended.answer["reason"]) == (3, "InvalidArgument"), ended.output
    assert f"{variable} is no address of a proxy" in ended.answer["message"]
    assert ("%23" in ended.answer["remedy"]) is ("@" in value)


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks4", "ftp"])
@pytest.mark.parametrize("source", ["org/model", "modelscope://org/model"])
def test_a_proxy_that_is_not_spoken_to_in_http_is_told(tmp_path: Path, source: str, scheme: str) -> None:
    ended = ended_by(tmp_path, {"ALL_PROXY": f"{scheme}://svc:pr0xyPASS@proxy.example:1080"}, source)

    assert (ended.code, ended.answer["reason"]) == (3, "InvalidArgument"), ended.output
    assert "ALL_PROXY" in ended.answer["message"] and "http://HOST:PORT" in ended.answer["remedy"]


@pytest.mark.parametrize("environment", [{"HTTP_PROXY": "PROXY"}, {"NO_PROXY": "hub.example"}])
def test_a_proxy_that_nobody_needs_is_in_nobodys_way(tmp_path: Path, environment: dict[str, str]) -> None:
    with Mirror({}) as proxy:
        host = "hub.example" if "HTTP_PROXY" in environment else proxy.address
        given = {
            name: value.replace("PROXY", proxy.url).replace("hub.example", "127.0.0.1")
            for name, value in environment.items()
        }
        ended = ended_by(tmp_path, {**given, "ALL_PROXY": "socks5://127.0.0.1:9", "HF_ENDPOINT": f"http://{host}"})

    assert ended.answer["reason"] == "WeightsMissing" and proxy.asked, ended.output


@pytest.mark.parametrize("source", ["org/model", "modelscope://org/model"])
@pytest.mark.parametrize("host", ["127.0.0.1:9", "proxy.invalid:3128"])
def test_a_proxy_that_cannot_be_reached_is_named(tmp_path: Path, source: str, host: str) -> None:
    ended = ended_by(tmp_path, {"HTTPS_PROXY": f"http://svc:pr0xyPASS@{host}"}, source)

    assert ended.answer["reason"] == "HubUnreachable"
    assert f"The proxy {host} (HTTPS_PROXY), on the way to" in ended.answer["message"]
    assert "Correct HTTPS_PROXY" in ended.answer["remedy"]


def test_a_plain_proxy_that_is_asked_for_tls_is_told(tmp_path: Path) -> None:
    with Proxy(200) as proxy:
        ended = ended_by(tmp_path, {"HTTPS_PROXY": f"https://svc:pr0xyPASS@{proxy.address}"})

    assert (ended.code, ended.answer["reason"]) == (3, "InvalidArgument"), ended.output
    assert f"The proxy {proxy.address} (HTTPS_PROXY) does not speak TLS" in ended.answer["message"]
    assert "HTTPS_PROXY begin with http://" in ended.answer["remedy"]


@pytest.mark.parametrize("source", ["org/model", "modelscope://org/model"])
def test_a_proxy_that_speaks_tls_and_is_asked_in_plain_is_told(tmp_path: Path, source: str) -> None:
    with Proxy(200) as proxy:
        Authority(tmp_path / "authority").encrypt(proxy.tcp)
        ended = ended_by(tmp_path, {"HTTPS_PROXY": f"http://{proxy.address}"}, source)

    assert (ended.code, ended.answer["reason"]) == (3, "InvalidArgument"), ended.output
    assert "HTTPS_PROXY begin with https://" in ended.answer["remedy"]


def test_a_certificate_of_the_proxy_is_the_proxys(tmp_path: Path) -> None:
    with Proxy(200) as proxy:
        Authority(tmp_path / "authority").encrypt(proxy.tcp)
        ended = ended_by(tmp_path, {"HTTPS_PROXY": f"https://{proxy.address}"})

    assert f"The proxy {proxy.address} (HTTPS_PROXY) shows a certificate" in ended.answer["message"], ended.output
    assert "sources.trustedCertificates" in ended.answer["remedy"]


def test_a_proxy_that_answers_for_a_mirror_is_told(tmp_path: Path) -> None:
    with Host(503, b"<html><title>ERROR: not found</title></html>", {"Content-Type": "text/html"}) as proxy:
        ended = ended_by(tmp_path, {"HTTP_PROXY": proxy.url, "HF_ENDPOINT": "http://hf-mirror.mirror.svc:8080"})

    assert f"by way of the proxy {proxy.address} (HTTP_PROXY)" in ended.answer["message"]
    assert "have NO_PROXY name it" in ended.answer["remedy"]


def test_a_login_that_the_proxy_refuses_is_told_by_its_variable(tmp_path: Path) -> None:
    with Proxy(407) as proxy:
        ended = ended_by(tmp_path, {"HTTPS_PROXY": f"http://svc:pr0xy%50ASS@{proxy.address}"})

    assert ended.answer["remedy"].startswith("Correct the user and password in HTTPS_PROXY")


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://user:urlPASSword#1@hub.example",
        "https://user:urlPASSword/1@hub.example",
        "https://user:urlPASSword",
        "https://[hub.example",
        "https://hub.example?x=urlPASSword",
        "https://hub.example:99999",
        "https://hub .example",
    ],
)
@pytest.mark.parametrize(
    ("variable", "source"), [("HF_ENDPOINT", "org/model"), ("MODELSCOPE_ENDPOINT", "modelscope://org/model")]
)
def test_what_is_no_address_of_a_hub_is_told_by_its_setting(
    tmp_path: Path, variable: str, source: str, endpoint: str
) -> None:
    ended = ended_by(tmp_path, {variable: endpoint}, source)

    assert (ended.code, ended.answer["reason"]) == (3, "InvalidArgument"), ended.output
    assert f"{variable} is no whole address" in ended.answer["message"]
    assert "endpoint" in ended.answer["remedy"]


@pytest.mark.parametrize("listed", ["127.0.0.0/8", "10.0.0.0/8, 127.0.0.1", "*", "LOCAL.example,127.0.0.1"])
def test_a_source_that_no_proxy_names_is_to_blame_itself(tmp_path: Path, listed: str) -> None:
    environment = {"HTTP_PROXY": "http://127.0.0.1:7", "NO_PROXY": listed, "HF_ENDPOINT": "http://127.0.0.1:9"}
    ended = ended_by(tmp_path, environment)

    assert ended.answer["message"].startswith("127.0.0.1:9 cannot be reached or breaks off"), ended.output


@pytest.mark.parametrize("listed", [".mirror.svc", "*.mirror.svc", "mirror.svc", "hf.mirror.svc:8080", "HF.mirror.svc"])
def test_names_in_no_proxy_are_read_as_the_clients_read_them(monkeypatch: pytest.MonkeyPatch, listed: str) -> None:
    for variable in ("http_proxy", "no_proxy", "HTTP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    assert str(on_the_way("http://hf.mirror.svc:8080/x")) == "the proxy proxy.example:3128 (HTTP_PROXY)"
    monkeypatch.setenv("NO_PROXY", listed)

    assert on_the_way("http://hf.mirror.svc:8080/x") is None
    assert on_the_way("http://another.svc:8080/x") is not None


def test_a_connection_that_breaks_behind_the_proxy_is_not_laid_on_it(tmp_path: Path) -> None:
    """It connects, and what it connects to says nothing that is TLS."""
    with Proxy(200) as proxy:
        ended = ended_by(tmp_path, {"HTTPS_PROXY": f"http://{proxy.address}"})

    assert ended.answer["reason"] == "HubUnreachable"
    assert "The proxy" not in ended.answer["message"], ended.answer
