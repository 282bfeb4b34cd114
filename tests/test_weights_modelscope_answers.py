"""What ModelScope and the stores behind it answer: who says it, and whether it passes."""

from __future__ import annotations

import json

import pytest

from tests.stores.host import Host
from tests.stores.mirror import Answer, Mirror
from tests.test_weights_modelscope import listed, source
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.listing import Digest, DigestKind, RemoteFile
from vllm_weights.whole import read_start

pytestmark = pytest.mark.weights

LISTED_FILE = RemoteFile("model.safetensors", 4, Digest(DigestKind.SHA256, "ab" * 32))
LATE = {"X-Tengine-Error": "denied by req auth: expired timestamp"}


@pytest.mark.parametrize(
    ("headers", "advice"),
    [(LATE, "set its clock"), ({}, "look at what it redirects to"), ({}, "sources.modelscope.endpoint")],
)
def test_a_store_that_refuses_is_asked_again_by_a_fresh_address(headers: dict[str, str], advice: str) -> None:
    with Host(403, b"<html><title>403 Forbidden</title></html>", headers) as store, Host(302) as host:
        host.headers["Location"] = store.url.replace("127.0.0.1", "localhost")
        opened = source(host.url, "ms-secret")
        with pytest.raises(WeightsError) as caught:
            read_start(opened, "", LISTED_FILE, 4)

    assert (caught.value.reason, caught.value.retry) == (Reason.HUB_UNREACHABLE, True)
    assert "localhost, where 127.0.0.1" in caught.value.message
    assert "token" not in caught.value.remedy and advice in caught.value.remedy


@pytest.mark.parametrize(("body", "path"), [(b"", "/any"), (b"ab", f"/lfs/{'ab' * 32}")])
def test_a_store_that_gives_too_little_is_no_source_that_changed(body: bytes, path: str) -> None:
    with Host(200, body) as store, Host(302) as host:
        host.headers["Location"] = store.url.replace("127.0.0.1", "localhost") + path
        with pytest.raises(WeightsError) as caught:
            read_start(source(host.url), "", LISTED_FILE, 4)

    assert (caught.value.reason, caught.value.retry) == (Reason.HUB_UNREACHABLE, True)
    assert caught.value.for_good().reason is Reason.WEIGHTS_CORRUPT
    assert f"with {len(body)} bytes" in caught.value.message


def answered(code: int, message: str) -> bytes:
    return json.dumps({"Code": code, "Data": None, "Message": message, "Success": False}).encode()


@pytest.mark.parametrize(
    ("status", "body", "reason", "for_good"),
    [
        (404, answered(10010205001, "Error 1461: Can't create more statements"), Reason.HUB_UNREACHABLE, None),
        (404, answered(10990101004, "no tree"), Reason.HUB_UNREACHABLE, Reason.REPO_NOT_FOUND),
        (404, answered(10010205001, "Error 1: record not found"), Reason.REPO_NOT_FOUND, None),
        (404, b"404 page not found", Reason.HUB_REFUSED, None),
        (200, answered(10010101500, "系统繁忙，请稍后再试"), Reason.HUB_UNREACHABLE, None),
        (200, answered(10010101501, "The model is under review"), Reason.HUB_REFUSED, None),
    ],
)
def test_its_own_codes_and_words_tell_more_than_the_status(
    status: int, body: bytes, reason: Reason, for_good: Reason | None
) -> None:
    with Host(status, body, {"Content-Type": "application/json"}) as host, pytest.raises(WeightsError) as caught:
        listed(host)

    assert caught.value.reason is reason, caught.value.message
    assert caught.value.for_good().reason is (for_good or reason)
    if reason is Reason.HUB_REFUSED:
        words = "page not found" if status == 404 else "under review"
        assert words in caught.value.message


def test_an_error_in_a_files_place_is_shown_and_asked_for_again() -> None:
    body = answered(10010205001, "record not found")
    with Host(200, body, {"Content-Type": "application/json"}) as host, pytest.raises(WeightsError) as caught:
        read_start(source(host.url), "", LISTED_FILE, 4)

    assert (caught.value.reason, "record not found" in caught.value.message) == (Reason.HUB_UNREACHABLE, True)
    assert caught.value.for_good().reason is Reason.WEIGHTS_MISSING


def test_what_a_store_has_lost_is_not_asked_for_as_if_it_had_changed() -> None:
    lost = b"<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>"
    with Host(404, lost) as store, Host(302) as host:
        host.headers["Location"] = store.url.replace("127.0.0.1", "localhost")
        with pytest.raises(WeightsError) as caught:
            read_start(source(host.url), "", LISTED_FILE, 4)

    assert caught.value.for_good().reason is Reason.WEIGHTS_MISSING
    assert "localhost" in caught.value.for_good().message and "has lost" in caught.value.for_good().message


def test_a_host_that_the_endpoint_redirects_to_without_the_token_is_named() -> None:
    with Host(404, answered(10010205001, "record not found")) as moved, Host(302) as host:
        host.headers["Location"] = moved.url.replace("127.0.0.1", "localhost")
        with pytest.raises(WeightsError) as caught:
            listed(host, "ms-secret")

    assert caught.value.reason is Reason.HUB_REFUSED and "redirects to localhost" in caught.value.message


def test_the_token_goes_to_no_host_that_the_accounts_page_redirects_to() -> None:
    missing = Answer(404, answered(10010205001, "record not found"))
    with Host(401, b"{}") as elsewhere, Mirror({}, {"*": missing}) as mirror:
        leads_on = {"Location": elsewhere.url.replace("127.0.0.1", "localhost")}
        mirror.answers = {"/openapi/*": Answer(302, headers=leads_on), **mirror.answers}
        opened = source(mirror.url, "ms-secret")
        with pytest.raises(WeightsError):
            opened.listing(None)
        opened.close()

    assert [path for path, _ in mirror.asked if "users/me" in path] and not elsewhere.asked
