"""Whose certificates are trusted: one file says it for the library of every source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.hub import Hub
from tests.hub.models import write_model
from tests.hub.running import Ended, run
from tests.stores.gcs import FakeGoogleStorage
from tests.stores.host import Host
from tests.stores.modelscope import FakeModelScope
from tests.stores.tls import Authority
from vllm_weights import tls
from vllm_weights.shown import names_in

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]

SOURCES = {
    "org/model": (Hub, "HF_ENDPOINT"),
    "modelscope://org/model": (FakeModelScope, "MODELSCOPE_ENDPOINT"),
    "gs://org/model": (FakeGoogleStorage, "GOOGLE_BASE_URL"),
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "authority")


def pulled(source: str, authority: Authority, tmp_path: Path, trusted: Mapping[str, str]) -> Ended:
    write_model(tmp_path / "root/org/model")
    kind, variable = SOURCES[source]
    with kind(tmp_path / "root") as server:
        address = server.url.replace("http://", "https://")
        environment = {variable: address, "GOOGLE_SKIP_SIGNATURE": "true", **trusted}
        request = {"source": source, "destination": str(tmp_path / "to/model"), "tries": 1, "backoffSeconds": 0}
        authority.encrypt(server.tcp)
        return run("pull", request, tmp_path / "work", environment)


@pytest.mark.parametrize("source", SOURCES)
def test_an_authority_of_ones_own_is_trusted_where_it_is_named(
    source: str, authority: Authority, tmp_path: Path
) -> None:
    ended = pulled(source, authority, tmp_path, {"SSL_CERT_FILE": str(authority.file)})

    assert ended.code == 0, ended.output


@pytest.mark.parametrize("source", SOURCES)
def test_an_authority_that_nobody_named_is_told(source: str, authority: Authority, tmp_path: Path) -> None:
    ended = pulled(source, authority, tmp_path, {})

    assert (ended.code, ended.answer["reason"]) == (1, "HubUnreachable")
    assert "an authority that is not trusted" in ended.answer["message"]
    assert "sources.trustedCertificates" in ended.answer["remedy"]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "is empty"),
        (b"\x30\x82\x01\x0a" + bytes(266), "is DER, not PEM"),
        (b"-----BEGIN CERTIFICATE-----\nMIIB!!!!\n-----END CERTIFICATE-----\n", "is broken PEM"),
        (b"a note", "holds no certificate in PEM"),
        (None, "cannot be read (No such file or directory)"),
    ],
)
def test_a_file_of_authorities_that_cannot_be_used_is_told_by_its_setting(
    source: str, content: bytes | None, fault: str, tmp_path: Path
) -> None:
    file = tmp_path / "ca.crt"
    if content is not None:
        file.write_bytes(content)
    variable = SOURCES[source][1]
    environment = {variable: "https://127.0.0.1:9", "GOOGLE_SKIP_SIGNATURE": "true", "SSL_CERT_FILE": str(file)}
    ended = run("inspect", {"source": source, "backoffSeconds": 0}, tmp_path / "work", environment)

    assert (ended.code, ended.answer["reason"]) == (3, "InvalidArgument"), ended.output
    assert fault in ended.answer["message"]
    assert "sources.trustedCertificates" in ended.answer["remedy"]


@pytest.mark.parametrize("bucket", ["s3://models/llama", "config.json in s3://models/llama", "gs://b"])
def test_a_bucket_is_no_host_of_a_certificate(bucket: str) -> None:
    found = tls.not_trusted(bucket, "invalid peer certificate: NotValidForName")

    assert "made out for the host in it" in found.remedy and "llama" not in found.remedy


def test_an_ingress_under_a_public_hubs_name_is_dns_too(tmp_path: Path) -> None:
    found = tls.not_trusted("huggingface.co", "CERTIFICATE_VERIFY_FAILED self-signed certificate")
    assert "an authority that is not trusted" in found.message
    authority = Authority(tmp_path / "tls", "/O=Acme Co/CN=Kubernetes Ingress Controller Fake Certificate")
    with Host(200) as host:
        authority.encrypt(host.tcp)
        led = tls.not_trusted(
            "huggingface.co", "CERTIFICATE_VERIFY_FAILED self-signed certificate", f"https://{host.address}"
        )

    assert "DNS leads huggingface.co elsewhere" in led.remedy and "ingress (or gateway)" not in led.remedy


@pytest.mark.parametrize("cut", range(0, 300, 7))
def test_what_is_no_certificate_has_no_names(tmp_path: Path, cut: int) -> None:
    assert names_in(bytes([0x30, 0x82, 0x01, 0x00, *range(256)])[:cut]) == ("", "")


@pytest.mark.parametrize(
    ("why", "advice"),
    [
        ("CaUsedAsEndEntity", "CA:FALSE"),
        ("UnsupportedCertVersion", "version 3"),
        ("EkuError", "serverAuth"),
        ("CERTIFICATE_VERIFY_FAILED certificate verify failed: unsuitable certificate purpose", "serverAuth"),
        ("CERTIFICATE_VERIFY_FAILED certificate verify failed: EE certificate key too weak", "made anew"),
        ("UnsupportedSignatureAlgorithmContext", "made anew"),
        ("CERTIFICATE_VERIFY_FAILED certificate verify failed: Missing Authority Key Identifier", "made anew"),
    ],
)
def test_a_certificate_that_is_made_wrong_is_not_told_as_one_to_trust(why: str, advice: str) -> None:
    meant = tls.not_trusted("store.svc", why)

    assert advice in meant.remedy and "authority that is not trusted" not in meant.message


def test_a_trusted_certificate_that_is_an_authoritys_own_is_told_by_the_buckets_library(tmp_path: Path) -> None:
    own = Authority(tmp_path / "tls", is_its_own=True)
    with Host(200) as store:
        own.encrypt(store.tcp)
        environment = {
            "AWS_ENDPOINT_URL": f"https://{store.address}",
            "AWS_REGION": "us-east-1",
            "AWS_SKIP_SIGNATURE": "true",
            "SSL_CERT_FILE": str(own.file),
        }
        ended = run("inspect", {"source": "s3://models/llama", "backoffSeconds": 0}, tmp_path / "work", environment)

    assert "an authority's own" in ended.answer["message"] and "CA:FALSE" in ended.answer["remedy"], ended.output
