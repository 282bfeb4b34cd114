"""Odd buckets, and what Secrets and settings bring for them: read as it was meant, or told where it is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx2
import pytest

from tests.hub.models import write_model
from tests.hub.running import Ended, files_in, run
from tests.stores.gcs import FakeGoogleStorage
from tests.stores.host import Host
from tests.stores.s3 import MotoS3

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoS3]:
    with MotoS3(tmp_path_factory.mktemp("moto") / "log") as running:
        running.fill("models", "llama", write_model(tmp_path_factory.mktemp("model")))
        yield running


def looked_up(moto: MotoS3, tmp_path: Path, given: Mapping[str, str]) -> Ended:
    request = {"source": "s3://models/llama", "backoffSeconds": 0}
    return run("inspect", request, tmp_path / "work", moto.environment | given)


@pytest.mark.parametrize("key", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION"])
def test_a_lines_end_in_a_secret_is_not_taken_for_a_part_of_it(moto: MotoS3, tmp_path: Path, key: str) -> None:
    ended = looked_up(moto, tmp_path, {key: f"{moto.environment[key]}\n"})

    assert ended.code == 0, ended.output


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"AWS_ENDPOINT_URL": "minio:9000"}, "AWS_ENDPOINT_URL is no address such as https://"),
        ({"AWS_ENDPOINT_URL": "not an address"}, "AWS_ENDPOINT_URL is no address"),
        ({"AWS_SKIP_SIGNATURE": "maybe"}, "AWS_SKIP_SIGNATURE for s3://models is 'maybe', neither true nor false"),
    ],
)
def test_what_cannot_be_asked_with_is_told_once(
    moto: MotoS3, tmp_path: Path, given: Mapping[str, str], words: str
) -> None:
    ended = looked_up(moto, tmp_path, given)

    assert (ended.code, ended.answer.get("reason")) == (3, "InvalidArgument"), ended.output
    assert words in ended.answer["message"]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("junk", "it is no JSON"),
        ("{}", "no private_key"),
        ("eyJ0eXBlIjogInNlcnZpY2VfYWNjb3VudCJ9", "in base64 once more"),
        ('{"type": "authorized_user", "refresh_token": "x"}', "of the type 'authorized_user'"),
    ],
)
def test_a_service_account_that_is_none_is_told(tmp_path: Path, key: str, words: str) -> None:
    with FakeGoogleStorage(tmp_path) as gs:
        environment = {"GOOGLE_BASE_URL": gs.url, "GOOGLE_SERVICE_ACCOUNT_KEY": key}
        ended = run("inspect", {"source": "gs://models/llama"}, tmp_path / "work", environment)

    assert (ended.code, ended.answer["reason"]) == (3, "InvalidToken")
    assert words in ended.answer["message"] and "GOOGLE_SERVICE_ACCOUNT_KEY" in ended.answer["remedy"]


def test_a_store_that_wants_the_bucket_in_its_address_gets_it_so(moto: MotoS3, tmp_path: Path) -> None:
    moto.fill("hosted", "model", write_model(tmp_path / "model"))
    hosted = {"AWS_ENDPOINT_URL": f"{moto.url}/hosted", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true"}
    ended = run("inspect", {"source": "s3://hosted/model"}, tmp_path / "work", moto.environment | hosted)

    assert ended.code == 0, ended.output


def test_folders_that_a_console_made_are_no_files(moto: MotoS3, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    (folder / "sub").mkdir()
    (folder / "sub/notes.txt").write_text("x")
    moto.fill("folders", "model", folder)
    for key in ("model/", "model/sub/"):
        httpx2.put(f"{moto.url}/folders/{key}", content=b"").raise_for_status()
    request = {"source": "s3://folders/model", "include": ["*"], "destination": str(tmp_path / "to/model")}
    ended = run("pull", request, tmp_path / "work", moto.environment)

    assert ended.code == 0, ended.output
    assert files_in(folder) < files_in(tmp_path / "to/model")


def test_odd_prefixes_and_names_arrive_as_they_are(moto: MotoS3, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    for name in ("a b.json", "a%20b.json", "a#b?c&d+e=f.json", "ümläut.json"):
        (folder / name).write_text("{}")
    moto.fill("odd.bucket-1", "team=a/.x/run+1/v1.0", folder)
    moto.fill("odd.bucket-1", "team=a/.x/run+1/v1.0-other", folder)
    source = {"source": "s3://odd.bucket-1/team=a/.x/run+1/v1.0/", "include": ["*"]}
    ended = run("pull", source | {"destination": str(tmp_path / "to/model")}, tmp_path / "work", moto.environment)

    assert ended.code == 0, ended.output
    assert files_in(tmp_path / "to/model") == files_in(folder) | {".vllm-operator/manifest.json"}


@pytest.mark.parametrize(
    ("code", "reason", "advice"),
    [
        ("RequestTimeTooSkewed", "HubRefused", "clock of the node"),
        ("AllAccessDisabled", "HubRefused", "ask its owner"),
        ("AccessDenied", "InvalidToken", "s3:ListBucket"),
        ("UserSuspended", "HubRefused", "shut the account"),
        ("KMS.DisabledException", "HubRefused", "have it enabled"),
        ("InvalidClientTokenId", "InvalidToken", "valid keys"),
        ("RequestTimeout", "HubUnreachable", "tried again"),
        ("TooManyRequests", "HubRateLimited", "Wait"),
    ],
)
def test_a_stores_own_code_tells_more_than_its_status(tmp_path: Path, code: str, reason: str, advice: str) -> None:
    body = f"<Error><Code>{code}</Code><Message>No.</Message></Error>".encode()
    with Host(400 if code == "RequestTimeout" else 403, body, {"Content-Type": "application/xml"}) as store:
        environment = {"AWS_ENDPOINT_URL": store.url, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
        request = {"source": "s3://models/llama", "backoffSeconds": 0}
        ended = run("inspect", request, tmp_path / "work", {**environment, "AWS_REGION": "us-east-1"})

    assert ended.answer["reason"] == reason
    assert advice in ended.answer["remedy"] and code in ended.answer["message"]


@pytest.mark.parametrize(
    ("status", "body", "message", "advice"),
    [
        (
            403,
            "<Error><Code>AccessDenied</Code><Message>not authorized to perform: kms:Decrypt</Message></Error>",
            "AccessDenied: not authorized to perform: kms:Decrypt",
            "Grant kms:Decrypt",
        ),
        (403, "<!DOCTYPE html><html><title>Filter</title></html>", "no object storage", "a proxy or a filter"),
        (404, "<html><title>404</title></html>", "no object storage", "Check the endpoint"),
        (301, "<Error><Code>PermanentRedirect</Code><Message>elsewhere</Message></Error>", "llama", "AWS_REGION"),
    ],
)
def test_a_stores_own_words_are_shown_and_a_page_is_none(
    tmp_path: Path, status: int, body: str, message: str, advice: str
) -> None:
    with Host(status, body.encode(), {"Content-Type": "text/plain"}) as store:
        environment = {"AWS_ENDPOINT_URL": store.url, "AWS_ACCESS_KEY_ID": "keykey", "AWS_SECRET_ACCESS_KEY": "secret"}
        request = {"source": "s3://models/llama", "backoffSeconds": 0}
        ended = run("inspect", request, tmp_path / "work", {**environment, "AWS_REGION": "us-east-1"})

    assert ended.code == 3, ended.output
    assert message in ended.answer["message"] and advice in ended.answer["remedy"]


@pytest.mark.parametrize("source", ["s3://models/llama", "gs://models/llama"])
def test_a_page_that_reads_as_an_empty_listing_is_no_store(tmp_path: Path, source: str) -> None:
    with Host(200, b"<html><body><p>Blocked</p></body></html>", {"Content-Type": "text/html"}) as store:
        environment = {"AWS_ENDPOINT_URL": store.url, "AWS_ACCESS_KEY_ID": "keykey", "AWS_SECRET_ACCESS_KEY": "secret"}
        environment |= {"AWS_REGION": "us-east-1", "GOOGLE_BASE_URL": store.url, "GOOGLE_SKIP_SIGNATURE": "true"}
        ended = run("inspect", {"source": source, "backoffSeconds": 0}, tmp_path / "work", environment)

    assert (ended.code, ended.answer["reason"]) == (3, "HubRefused"), ended.output
    assert "no object storage" in ended.answer["message"]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("https://no.such.host.invalid", "failed to lookup address"),
        ("http://127.0.0.1:9", "Connection refused"),
        ("https://{plain}", "does not speak TLS"),
    ],
)
def test_why_a_store_cannot_be_reached_is_told(tmp_path: Path, address: str, words: str) -> None:
    with Host(200) as plain:
        environment = {"AWS_ACCESS_KEY_ID": "keykey", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
        environment |= {"AWS_ENDPOINT_URL": address.format(plain=plain.address)}
        ended = run("inspect", {"source": "s3://models/llama", "backoffSeconds": 0}, tmp_path / "work", environment)

    assert (ended.code, ended.answer["reason"]) == (1, "HubUnreachable"), ended.output
    assert words in ended.answer["message"]


def test_a_bucket_may_be_called_like_a_stores_code(tmp_path: Path) -> None:
    with Host(403, b"<Error><Code>AccessDenied</Code></Error>", {"Content-Type": "application/xml"}) as store:
        environment = {"AWS_ENDPOINT_URL": store.url, "AWS_ACCESS_KEY_ID": "keykey", "AWS_SECRET_ACCESS_KEY": "secret"}
        request = {"source": "s3://slow/SlowDown-Throttled", "backoffSeconds": 0}
        ended = run("inspect", request, tmp_path / "work", {**environment, "AWS_REGION": "us-east-1"})

    assert ended.answer["reason"] == "InvalidToken"


def test_googles_words_are_shown_without_amazons(tmp_path: Path) -> None:
    body = b'{"error": {"code": 400, "message": "Bucket is requester pays bucket but no user project provided."}}'
    with Host(400, body, {"Content-Type": "application/json"}) as store:
        environment = {"GOOGLE_BASE_URL": store.url, "GOOGLE_SKIP_SIGNATURE": "true"}
        request = {"source": "gs://models/llama", "backoffSeconds": 0}
        ended = run("inspect", request, tmp_path / "work", environment)

    assert "requester pays" in ended.answer["message"]
    assert "AWS" not in ended.answer["remedy"]
