"""What stores and lenders of credentials answer: the reason is theirs, and the remedy is for what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
from obstore import exceptions

from tests.hub.running import Ended, run
from tests.stores.host import Host
from vllm_weights import limits, refusals
from vllm_weights.asking import Asking
from vllm_weights.failure import Reason

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]

KEYS = {"AWS_ACCESS_KEY_ID": "keykey", "AWS_SECRET_ACCESS_KEY": "secretsecret", "AWS_REGION": "us-east-1"}
XML = {"Content-Type": "application/xml"}


def looked_up(tmp_path: Path, environment: dict[str, str], source: str = "s3://models/llama") -> Ended:
    return run("inspect", {"source": source, "backoffSeconds": 0, "tries": 1}, tmp_path / "work", environment)


def error(code: str, message: str = "No.") -> bytes:
    return f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


@pytest.mark.parametrize(
    ("status", "body", "reason", "advice"),
    [
        (403, error("AccessDenied", "Transaction cap exceeded, see the Caps &amp; Alerts page"), "HubRefused", "cap"),
        (403, error("AccessDenied", "S3 API Request made to Console port."), "HubRefused", "port of the store's API"),
        (403, error("SecondLevelDomainForbidden"), "HubRefused", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST"),
        (403, error("AccessDenied", "x because no VPC endpoint policy allows y"), "HubRefused", "VPC endpoint"),
        (403, error("AccessDenied", "x with an explicit deny in a resource-based policy"), "InvalidToken", "denies it"),
        (400, error("InvalidArgument", "Credential access key has length 20, should be 32"), "InvalidToken", "another"),
        (400, error("InvalidRequest", "stored using a form of Server Side Encryption."), "HubRefused", "SSE-C"),
        (400, error("AuthorizationHeaderMalformed", "the Credential is mal-formed"), "InvalidToken", "the key alone"),
        (400, error("AuthorizationHeaderMalformed", "the region 'a' is wrong"), "HubRefused", "AWS_REGION"),
        (403, error("SignatureDoesNotMatch", "No key. The region must be specified."), "HubRefused", "AWS_REGION"),
        (403, error("SignatureDoesNotMatch", "It does not match."), "InvalidToken", "host or path"),
        (400, b"Client sent an HTTP request to an HTTPS server.", "HubRefused", "begin with https://"),
        (
            403,
            b"<Error><Code>AccessDenied</Code><Message>It must be addressed using the specified endpoint.</Message>"
            b"<Endpoint>oss-cn-beijing.example</Endpoint></Error>",
            "HubRefused",
            "the endpoint that these words name",
        ),
        (404, error("NoSuchKey"), "HubRefused", "Leave the bucket out of AWS_ENDPOINT_URL"),
        (404, error("NoSuchBucket"), "RepoNotFound", "name of the bucket"),
        (404, b"404 page not found", "HubRefused", "Where a proxy"),
        (200, b"<html><head><base></head></html>", "HubRefused", "sign-in page"),
        (503, error("SlowDown"), "HubRateLimited", "`download.parallelism`"),
    ],
)
def test_the_remedy_is_for_what_a_store_says(
    tmp_path: Path, status: int, body: bytes, reason: str, advice: str
) -> None:
    with Host(status, body, XML) as store:
        ended = looked_up(tmp_path, KEYS | {"AWS_ENDPOINT_URL": store.url})

    assert (ended.answer["reason"], advice in ended.answer["remedy"]) == (reason, True), ended.output


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, b"RBAC: access denied"),
        (403, b""),
        (401, b"Jwt is missing"),
        (401, b'{"message": "No API key found in request"}'),
        (401, b"<html><head><title>401 Authorization Required</title></head></html>"),
    ],
)
def test_a_gate_before_a_store_is_no_fault_of_the_keys(tmp_path: Path, status: int, body: bytes) -> None:
    with Host(status, body, {"Content-Type": "text/plain"}) as gate:
        ended = looked_up(tmp_path, KEYS | {"AWS_ENDPOINT_URL": gate.url})

    assert (ended.code, ended.answer["reason"]) == (3, "HubRefused"), ended.output
    assert "proxy" in ended.answer["remedy"]


@pytest.mark.parametrize(
    ("body", "reason", "advice"),
    [
        (error("SecurityPolicyViolated", "Request violates VPC Service Controls."), "HubRefused", "perimeter"),
        (error("UserProjectAccountProblem", "an absent billing account."), "HubRefused", "pays for the bucket"),
        (error("AccessDenied", "Anonymous caller does not have access."), "InvalidToken", "Name a Secret"),
    ],
)
def test_so_it_is_with_googles(tmp_path: Path, body: bytes, reason: str, advice: str) -> None:
    with Host(403, body, XML) as store:
        environment = {"GOOGLE_BASE_URL": store.url, "GOOGLE_SKIP_SIGNATURE": "true"}
        ended = looked_up(tmp_path, environment, "gs://models/llama")

    assert (ended.answer["reason"], advice in ended.answer["remedy"]) == (reason, True), ended.output


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"AWS_SECRET_ACCESS_KEY": ""}, "lack AWS_SECRET_ACCESS_KEY"),
        ({"AWS_ACCESS_KEY_ID": ""}, "lack AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": "ASIAEXAMPLEEXAMPLE"}, "lack AWS_SESSION_TOKEN"),
        ({"AWS_ACCESS_KEY_ID": "two\nlines"}, "AWS_ACCESS_KEY_ID for s3://models is no key"),
        ({"AWS_ACCESS_KEY_ID": "AKIAEXAMPLEEXAMPLE", "AWS_SESSION_TOKEN": "x"}, "do not belong together"),
        ({"AWS_SECRET_ACCESS_KEY": '"quoted"'}, "AWS_SECRET_ACCESS_KEY for s3://models is no key"),
    ],
)
def test_half_a_key_is_told_before_anybody_is_asked(tmp_path: Path, keys: dict[str, str], words: str) -> None:
    with Host(200) as store:
        ended = looked_up(tmp_path, KEYS | {"AWS_ENDPOINT_URL": store.url} | keys)

    assert (ended.code, ended.answer["reason"], store.asked) == (3, "InvalidToken", []), ended.output
    assert words in ended.answer["message"] and "credentialsSecretRef" in ended.answer["remedy"]


@pytest.mark.parametrize("status", [None, 400, 401, 403, 404, 405])
def test_a_store_without_any_keys_and_a_node_that_lends_none_wants_keys(tmp_path: Path, status: int | None) -> None:
    """The client asks the node's metadata service, with PUT, where nothing else is given."""
    with Host(status or 200) as node:
        address = "http://127.0.0.1:9" if status is None else node.url
        ended = looked_up(tmp_path, {"AWS_REGION": "us-east-1", "AWS_METADATA_ENDPOINT": address})

    assert (ended.code, ended.answer["reason"]) == (3, "InvalidToken"), ended.output
    assert "none are given" in ended.answer["message"] and "Name a Secret" in ended.answer["remedy"]


@pytest.mark.parametrize(
    ("code", "message", "retry", "advice"),
    [
        ("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", False, "trust policy"),
        (
            "InvalidIdentityToken",
            "No OpenIDConnect provider found in your account for it",
            False,
            "OIDC provider in IAM",
        ),
        ("InvalidIdentityToken", "Incorrect token audience", False, "audience"),
        ("InvalidIdentityToken", "The HTTPS certificate doesn't match configured thumbprint", False, "Renew the"),
        ("InvalidIdentityToken", "The ID Token provided is not a valid JWT.", False, "AWS_WEB_IDENTITY_TOKEN_FILE"),
        ("InvalidIdentityToken", "The web identity token provided could not be validated", False, "not yet the role"),
        ("RegionDisabledException", "STS is not activated in this region", False, "STS of this region activated"),
        ("Throttling", "Rate exceeded", True, "tried again"),
        ("ValidationError", "Request ARN is invalid", False, "role-arn"),
        ("ExpiredTokenException", "Token expired: current date/time must be before it", True, "fresh one"),
    ],
)
def test_a_role_that_is_not_lent_is_no_fault_of_the_buckets(code: str, message: str, retry: bool, advice: str) -> None:
    """The library asks for roles by TLS alone, and hides the address."""
    body = f'<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>'
    said = f"Generic S3 error: Error performing POST REDACTED in 5ms - Server returned non-2xx status code: 400 Bad Request: {body}"
    meant = refusals.failure(exceptions.GenericError(said), "s3://models/llama", Asking("s3", "models"))

    assert (meant.retry, advice in meant.remedy) == (retry, True)
    assert "s3:GetObject" not in meant.remedy and message in meant.message


def test_who_lends_roles_is_named_where_it_cannot_be_reached(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a.b.c")
    role = {"AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/r", "AWS_WEB_IDENTITY_TOKEN_FILE": str(token)}
    ended = looked_up(tmp_path, {"AWS_REGION": "eu-central-1", "AWS_ENDPOINT_URL_STS": "https://127.0.0.1:9", **role})

    assert (ended.code, ended.answer["reason"]) == (1, "HubUnreachable"), ended.output
    assert "https://127.0.0.1 " in ended.answer["message"] and "Connection refused" in ended.answer["message"]


def test_a_token_of_the_pods_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    role = {"AWS_ROLE_ARN": "arn:aws:iam::1:role/r", "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "absent")}
    ended = looked_up(tmp_path, {"AWS_REGION": "us-east-1", **role})

    assert (ended.code, ended.answer["reason"]) == (3, "InvalidToken"), ended.output
    assert str(tmp_path / "absent") in ended.answer["message"]


def test_a_refusal_behind_a_redirect_is_no_lack_of_rights(tmp_path: Path) -> None:
    with Host(403, error("AccessDenied"), XML) as other, Host(307) as store:
        store.headers["Location"] = other.url
        ended = looked_up(tmp_path, KEYS | {"AWS_ENDPOINT_URL": store.url})

    assert (ended.answer["reason"], other.url in ended.answer["message"]) == ("HubRefused", True), ended.output
    assert "AWS_REGION" in ended.answer["remedy"]


def test_a_redirect_to_a_host_that_is_not_there_is_told_with_it(tmp_path: Path) -> None:
    with Host(302) as store:
        store.headers["Location"] = "https://sso.no.such.host.invalid"
        ended = looked_up(tmp_path, KEYS | {"AWS_ENDPOINT_URL": store.url})

    assert (ended.answer["reason"], "sso.no.such.host.invalid" in ended.answer["message"]) == ("HubRefused", True)
    assert "sign in at" in ended.answer["remedy"]


@pytest.mark.parametrize("status", [301, 400])
def test_a_bucket_of_another_region_is_told_with_it(tmp_path: Path, status: int) -> None:
    body = error("PermanentRedirect" if status == 301 else "AuthorizationHeaderMalformed", "Elsewhere.")
    with Host(status, body, XML | {"x-amz-bucket-region": "eu-central-1"}) as store:
        ended = looked_up(tmp_path, KEYS | {"AWS_ENDPOINT_URL": store.url})

    assert ended.answer["reason"] == "HubRefused"
    assert ended.answer["remedy"].startswith("Set AWS_REGION to eu-central-1")


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ('Encountered object with invalid path: Path "llama//x" contained empty path segment', "Rename or remove"),
        ("Generic GCS error: Content-Length Header missing from response", "Content-Encoding"),
        ("Generic S3 error: Received non-partial response when range requested", "knows no ranges"),
    ],
)
def test_what_the_library_cannot_take_is_no_fault_of_the_network(said: str, advice: str) -> None:
    meant = refusals.failure(exceptions.GenericError(said), "s3://models/llama", Asking("s3", "models"))

    assert (meant.reason, meant.retry, advice in meant.remedy) == (Reason.HUB_REFUSED, False, True)


def test_a_balancer_without_a_store_behind_it_is_told_as_one(tmp_path: Path) -> None:
    page = b"<html><body><h1>503 Service Unavailable</h1>No server is available to handle this request.</body></html>"
    with Host(503, page, {"Content-Type": "text/html"}) as balancer:
        ended = looked_up(tmp_path, KEYS | {"AWS_ENDPOINT_URL": balancer.url})

    assert (ended.answer["reason"], ended.answer["retry"]) == ("HubUnreachable", True)
    assert "is up" in ended.answer["remedy"] and "ingress" in ended.answer["remedy"]


def test_a_limit_of_threads_is_no_fault_of_keys_or_network() -> None:
    for said in (
        "can't start new thread",
        "OS can't spawn worker thread: Resource temporarily unavailable (os error 11)",
    ):
        meant = limits.of_threads(RuntimeError(said))

        assert meant is not None and meant.retry and "podPidsLimit" in meant.remedy
    assert limits.of_threads(RuntimeError("another")) is None
