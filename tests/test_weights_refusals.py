"""What stands in the hub's place or on the way to it and refuses: told in its own words, with what would help."""

from __future__ import annotations

import pytest

from tests.stores.host import Host
from vllm_weights import wire
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.huggingface import HuggingFace
from vllm_weights.listing import Digest, DigestKind, Listing, RemoteFile
from vllm_weights.modelscope import ModelScope
from vllm_weights.whole import read_start

pytestmark = pytest.mark.weights

FILE = RemoteFile("model.safetensors", 400130, Digest(DigestKind.NONE))
PLAIN_TO_TLS = b"<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>"
"""nginx's words."""


def listed(host: Host) -> Listing:
    return HuggingFace("org/model", {"HF_ENDPOINT": host.url}, silence_seconds=5, parallelism=2).listing(None)


def test_a_proxy_that_wants_a_login_is_told_from_the_hub() -> None:
    with Host(407) as host, pytest.raises(WeightsError) as caught:
        listed(host)

    assert "proxy" in caught.value.message and "HTTP 407" in caught.value.message
    assert "Have the proxy let these pods through" in caught.value.remedy


@pytest.mark.parametrize(
    ("status", "kind", "body", "words"),
    [
        (503, "text/html", b"<html><title>Maintenance until 6</title></html>", "Maintenance until 6"),
        (500, "application/json", b'{"errors": [{"status": 500, "message": "remote is\\u0020off"}]}', "remote is"),
        (400, "text/plain", b"No remote of this name.\r\n", "No remote of this name"),
        (418, "application/octet-stream", b"\x00\x01", "HTTP 418 for"),
    ],
)
def test_what_a_refusal_says_is_told(status: int, kind: str, body: bytes, words: str) -> None:
    with Host(status, body, {"Content-Type": kind}) as host, pytest.raises(WeightsError) as caught:
        listed(host)

    assert words in caught.value.message


@pytest.mark.parametrize("body", [b"Client sent an HTTP request to an HTTPS server.", PLAIN_TO_TLS])
def test_plain_http_where_tls_is_wanted_is_told(body: bytes) -> None:
    with Host(400, body, {"Content-Type": "text/html"}) as host, pytest.raises(WeightsError) as caught:
        listed(host)

    assert (caught.value.reason, "begin with https://" in caught.value.remedy) == (Reason.HUB_REFUSED, True)


def test_a_page_of_another_server_is_no_missing_model() -> None:
    with Host(404, b"<html>nginx</html>", {"Content-Type": "text/html"}) as host, pytest.raises(WeightsError) as caught:
        listed(host)

    assert caught.value.reason is Reason.HUB_REFUSED
    assert "Check the endpoint" in caught.value.remedy


def test_a_hub_that_redirects_for_ever_is_told() -> None:
    with Host(302) as host:
        host.headers["Location"] = host.url
        with pytest.raises(WeightsError) as caught:
            listed(host)

    assert caught.value.reason is Reason.HUB_REFUSED and "redirects for ever" in caught.value.message


@pytest.mark.parametrize(
    ("why", "said", "advice"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate has expired (_ssl.c:1000)", "whose time is over", "renew"),
        (
            "CERTIFICATE_VERIFY_FAILED] Hostname mismatch, certificate is not valid for 'a'",
            "for another name",
            "made out",
        ),
        ("CERTIFICATE_VERIFY_FAILED] unable to get local issuer certificate", "not trusted", "trustedCertificates"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "does not speak TLS", "http://"),
        (
            "ReadError [SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert",
            "certificate of the client",
            "asks for none",
        ),
        ("ConnectError [SSL: TLSV1_ALERT_PROTOCOL_VERSION] tlsv1 alert", "a version of TLS", "TLS 1.2"),
        ("[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] sslv3 alert", "no safe way of TLS", "ciphers"),
        ("ConnectError [SSL: TLSV1_UNRECOGNIZED_NAME] tlsv1", "know no server of this name", "Correct the host"),
    ],
)
def test_a_certificate_is_refused_for_what_is_wrong_with_it(why: str, said: str, advice: str) -> None:
    failure = wire.unreachable("hub.example", why)

    assert said in failure.message and advice in failure.remedy


def test_what_may_not_be_had_for_legal_reasons_has_another_source() -> None:
    with Host(451) as host, pytest.raises(WeightsError) as caught:
        listed(host)

    assert "another source" in caught.value.remedy


@pytest.mark.parametrize("ask", ["listing", "file"])
def test_nothing_of_a_firewalls_page_is_quoted_but_its_title(ask: str) -> None:
    """As a web firewall before ModelScope answers."""
    page = b"<!doctype html><html><title>405</title><body><div id='block'>traceid: 1</div></body></html>"
    with Host(405, page, {"Content-Type": "text/html"}) as host:
        source = ModelScope("org/model", {"MODELSCOPE_ENDPOINT": host.url}, silence_seconds=5, parallelism=2)
        with pytest.raises(WeightsError) as caught:
            if ask == "listing":
                source.listing(None)
            else:
                read_start(source, "", FILE, 100)

    assert caught.value.reason is Reason.HUB_REFUSED and "HTTP 405" in caught.value.message
    assert "<" not in caught.value.message and "traceid" not in caught.value.message


def test_a_pointer_that_modelscope_serves_in_a_files_place_is_told() -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 400130\n"
    with Host(200, pointer) as host, pytest.raises(WeightsError) as caught:
        source = ModelScope("org/model", {"MODELSCOPE_ENDPOINT": host.url}, silence_seconds=5, parallelism=2)
        read_start(source, "", FILE, 100)

    assert (caught.value.reason, caught.value.retry) == (Reason.WEIGHTS_CORRUPT, False)
    assert "Git LFS pointer" in caught.value.message and FILE.path in caught.value.message
