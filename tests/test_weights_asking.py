"""How a store is asked is looked at before keys and rights are blamed."""

from __future__ import annotations

from pathlib import Path

import pytest
from obstore import exceptions

from tests.hub.running import Ended, run
from tests.stores.mirror import Answer, Mirror
from vllm_weights import refusals
from vllm_weights.asking import Asking
from vllm_weights.failure import Reason, WeightsError

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]

KEYS = {"AWS_ACCESS_KEY_ID": "minio", "AWS_SECRET_ACCESS_KEY": "s3cr3ts3cr3t", "AWS_REGION": "us-east-1"}


def error(code: str, message: str = "No.") -> bytes:
    return f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


def looked_up(tmp_path: Path, environment: dict[str, str]) -> Ended:
    request = {"source": "s3://models/llama", "backoffSeconds": 0, "tries": 1}
    return run("inspect", request, tmp_path / "work", environment)


def asked_like(tmp_path: Path, endpoint: str, switches: dict[str, str], answer: Answer) -> Ended:
    """What an inspection ends in at an address that the store's is part of."""
    with Mirror({}, {"*": answer}) as store:
        return looked_up(tmp_path, {**KEYS, "AWS_ENDPOINT_URL": f"{store.url}{endpoint}", **switches})


BUCKETS = b"<ListAllMyBucketsResult><Buckets><Bucket><Name>models</Name></Bucket></Buckets></ListAllMyBucketsResult>"
BY_HOST = {"AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true"}


@pytest.mark.parametrize(
    ("endpoint", "switches", "answer", "advice"),
    [
        ("", BY_HOST, Answer(200, BUCKETS), "take the switch out"),
        ("", BY_HOST, Answer(403, error("AccessDenied", "perform: s3:ListAllMyBuckets")), "take the switch out"),
        ("", BY_HOST, Answer(404, error("NoSuchBucket")), "take the switch out"),
        ("/minio", {}, Answer(403, error("SignatureDoesNotMatch")), "has a path (/minio)"),
        ("", {}, Answer(403, error("SignatureDoesNotMatch")), "host or path"),
        ("", {}, Answer(403, error("InvalidAccessKeyId")), "another store, region or account"),
    ],
)
def test_how_a_store_is_asked_is_looked_at_before_the_keys(
    tmp_path: Path, endpoint: str, switches: dict[str, str], answer: Answer, advice: str
) -> None:
    ended = asked_like(tmp_path, endpoint, switches, answer)

    assert ended.code == 3 and advice in ended.answer["remedy"], ended.output


def test_a_bucket_in_the_host_of_a_store_that_does_not_look_there_is_told() -> None:
    meant = WeightsError(Reason.REPO_NOT_FOUND, "It holds no objects.", "Check the prefix.")
    asking = Asking("s3", "models", "http://models.minio.svc:9000", by_host=True)

    assert "MINIO_DOMAIN" in asking.looked_at_first(meant, "", is_empty=True).remedy


def test_keys_of_another_store_that_are_shown_to_amazon_are_told() -> None:
    said = "Error performing GET https://s3.us-east-1.amazonaws.com - Server returned non-2xx status code: 403 Forbidden: <Code>InvalidAccessKeyId</Code>"
    meant = refusals.failure(exceptions.GenericError(said), "s3://models/llama", Asking("s3", "models"))

    assert "no AWS_ENDPOINT_URL is given" in meant.remedy and "sources.s3.endpoint" in meant.remedy


def test_a_signature_that_fails_for_objects_alone_is_no_matter_of_the_keys(tmp_path: Path) -> None:
    listing = b"""<ListBucketResult><Name>models</Name><Prefix>llama/</Prefix><KeyCount>1</KeyCount><IsTruncated>false</IsTruncated>
    <Contents><Key>llama/a b/config.json</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>"x"</ETag><Size>2</Size></Contents>
    <Contents><Key>llama/config.json</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>"x"</ETag><Size>2</Size></Contents>
    <Contents><Key>llama/model.safetensors</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>"x"</ETag><Size>2</Size></Contents>
    </ListBucketResult>"""
    refused = Answer(403, error("SignatureDoesNotMatch"))
    with Mirror({}, {"*/config.json": refused, "*.safetensors": refused, "*": Answer(200, listing)}) as store:
        ended = looked_up(tmp_path, {**KEYS, "AWS_ENDPOINT_URL": store.url})

    assert (ended.answer["reason"], ended.code) == ("InvalidToken", 3), ended.output
    assert "they are right" in ended.answer["remedy"]


@pytest.mark.parametrize("endpoint", ["https://s3.us-east-1.amazonaws.com", "http://store.svc", ""])
def test_an_address_of_another_region_is_to_go_with_the_region(endpoint: str) -> None:
    meant = refusals.in_another_region("s3://models", "eu-west-1", Asking("s3", "models", endpoint))

    assert "AWS_REGION to eu-west-1" in meant.remedy
    assert ("AWS_ENDPOINT_URL" in meant.remedy) is bool(endpoint)


@pytest.mark.parametrize("host", ["169.254.170.23", "metadata.google.internal"])
def test_a_proxy_on_the_way_to_who_lends_credentials_is_told(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    said = f"Error performing GET http://{host}/v1/credentials in 5ms - Server returned non-2xx status code: 403 Forbidden: <html><title>ERROR</title></html>"
    monkeypatch.setenv("HTTP_PROXY", "http://squid.corp:3128")
    meant = refusals.failure(exceptions.GenericError(said), "s3://models/llama", Asking("s3", "models"))

    assert f"NO_PROXY name {host}" in meant.remedy and "squid.corp:3128" in meant.message
    monkeypatch.setenv("NO_PROXY", host)
    assert "NO_PROXY" not in refusals.failure(exceptions.GenericError(said), "s3://a", Asking("s3", "a")).remedy


def test_a_list_that_breaks_off_inside_its_xml_is_asked_for_again(tmp_path: Path) -> None:
    cut = b"<ListBucketResult><Name>models</Name><Contents><Key>llama/config.json"
    with Mirror({}, {"*": Answer(200, cut)}) as store:
        ended = looked_up(tmp_path, {**KEYS, "AWS_ENDPOINT_URL": store.url})

        assert len(store.asked) == 2
    assert (ended.answer["reason"], "half a list" in ended.answer["message"]) == ("HubRefused", True), ended.output


def refused(said: str, asking: Asking) -> str:
    whole = f"Error performing GET https://store/models - Server returned non-2xx status code: 403 Forbidden: {said}"
    return refusals.failure(exceptions.PermissionDeniedError(whole), "s3://models/llama", asking).remedy


@pytest.mark.parametrize(
    ("said", "asking", "advice"),
    [
        ("<Code>AccessDenied</Code>", Asking("s3", "models", has_identity=False), "those of the node were shown"),
        (
            "<Code>AccessDenied</Code><Message>with an explicit deny in a policy",
            Asking("s3", "models", "http://s3.us-east-1.amazonaws.com"),
            "have it begin with https://",
        ),
        (
            "<Code>InvalidRequest</Code><Message>supports only virtual style requests",
            Asking("s3", "m"),
            "bucket before",
        ),
        (
            "<Code>AccessDenied</Code><Message>perform: kms:Decrypt",
            Asking("s3", "models"),
            "in its own policy, too",
        ),
    ],
)
def test_what_of_the_address_or_the_identity_may_be_at_fault_comes_first(
    said: str, asking: Asking, advice: str
) -> None:
    assert advice in refused(said, asking)


def test_a_bucket_in_host_and_path_is_told(tmp_path: Path) -> None:
    said = refused("<Code>AccessDenied</Code>", Asking("s3", "models", "https://models.s3.us-east-1.amazonaws.com"))

    assert "leave it out of AWS_ENDPOINT_URL" in said and "Grant" in said


def test_a_cdn_before_a_bucket_asks_as_itself(tmp_path: Path) -> None:
    denied = Answer(403, error("AccessDenied"), {"X-Amz-Cf-Id": "abc", "X-Cache": "Error from cloudfront"})
    ended = asked_like(tmp_path, "", {}, denied)

    assert (ended.answer["reason"], "CloudFront" in ended.answer["message"]) == ("HubRefused", True), ended.output


@pytest.mark.parametrize(
    ("said", "asking", "advice"),
    [
        (
            'GET https://s3.cn-north-1.amazonaws.com/models - HTTP error: error sending request\n"dns error"',
            Asking("s3", "models"),
            "https://s3.cn-north-1.amazonaws.com.cn",
        ),
        (
            "GET https://vpce-1.s3.us-east-1.vpce.amazonaws.com - HTTP error\nInvalidCertificate(NotValidForName",
            Asking("s3", "models", "https://vpce-1.s3.us-east-1.vpce.amazonaws.com"),
            "https://bucket.vpce-1.s3.us-east-1.vpce.amazonaws.com",
        ),
        (
            "Error performing GET http://169.254.170.23/v1/credentials - HTTP error: error sending request",
            Asking("s3", "models"),
            "eks-pod-identity-agent",
        ),
        (
            "Error performing GET http://169.254.169.254/computeMetadata/v1/instance/service-accounts/default/token - Server returned non-2xx "
            "status code: 404 Not Found: Unable to generate access token; Gaia id not found for email a@b",
            Asking("gs", "models"),
            "iam.gke.io/gcp-service-account",
        ),
    ],
)
def test_addresses_that_are_nearly_right_are_told_with_the_right_one(said: str, asking: Asking, advice: str) -> None:
    assert advice in refusals.failure(exceptions.GenericError(said), "s3://models/llama", asking).remedy


def test_a_store_that_does_not_speak_s3_is_told_before_it_is_asked(tmp_path: Path) -> None:
    ended = looked_up(tmp_path, {**KEYS, "AWS_ENDPOINT_URL": "https://acme.blob.core.windows.net"})

    assert (ended.answer["reason"], "Azure" in ended.answer["message"]) == ("InvalidArgument", True)


def test_a_proxy_that_answers_for_a_store_of_the_cluster_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://squid.corp:3128")
    page = "<html><title>ERROR: The requested URL could not be retrieved</title></html>"
    said = f"Error performing GET http://minio.svc:9000/models - Server returned non-2xx status code: 503 Service Unavailable: {page}"
    meant = refusals.failure(exceptions.GenericError(said), "s3://a", Asking("s3", "a", "http://minio.svc:9000"))

    assert "NO_PROXY name minio.svc" in meant.remedy and "squid.corp:3128" in meant.message and meant.retry


def test_a_bucket_of_a_jurisdiction_is_asked_at_its_own_endpoint() -> None:
    remedy = refused("<Code>AccessDenied</Code>", Asking("s3", "models", "https://0a1b.r2.cloudflarestorage.com"))

    assert "https://0a1b.eu.r2.cloudflarestorage.com" in remedy
