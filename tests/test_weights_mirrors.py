"""What a mirror, or the hub itself, answers in the place of a listed file or of the listing: whose fault it is, and what helps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.hub.running import Ended
from tests.stores.mirror import Answer, Mirror, as_page, asked, by_the_hub, files_of, in_words

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]

SECOND = "model-00002-of-00002.safetensors"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 400130\n"
DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
GATE = "/api/models/*"


def both(tmp_path: Path, answers: dict[str, Answer | bytes], environment: Mapping[str, str] | None = None) -> Ended:
    """What an inspection and a pull both end in."""
    with Mirror(files_of(tmp_path), answers) as mirror:
        inspected = asked("inspect", tmp_path, mirror, environment)
        pulled = asked("pull", tmp_path, mirror, environment)
    reasons = {ended.answer["reason"] for ended in (inspected, pulled)}
    assert len(reasons) == 1, inspected.output + pulled.output
    return inspected


@pytest.mark.parametrize("name", ["config.json", SECOND])
@pytest.mark.parametrize("change", [lambda whole: whole[: len(whole) // 2], lambda whole: whole + b" " * 40])
def test_a_copy_of_another_length_is_the_fault_of_who_keeps_it(tmp_path: Path, name: str, change: Any) -> None:
    stale = change(files_of(tmp_path)[name])
    ended = both(tmp_path, {f"*/{name}": stale})

    assert (ended.answer["reason"], ended.code) == ("WeightsCorrupt", 3)
    assert name in ended.answer["message"] and f"{len(stale)} bytes" in ended.answer["message"]
    assert "cleared from the cache" in ended.answer["remedy"] and "nspect it again" not in ended.answer["remedy"]


def test_a_range_beyond_a_copys_end_is_a_copy_that_is_cut_off(tmp_path: Path) -> None:
    beyond = Answer(416, b"", {"Content-Range": "bytes */500"})
    ended = both(tmp_path, {f"*/{SECOND}": beyond})

    assert (ended.answer["reason"], "with 500 bytes" in ended.answer["message"]) == ("WeightsCorrupt", True)


def test_a_pointer_that_is_served_in_a_files_place_is_told(tmp_path: Path) -> None:
    ended = both(tmp_path, {f"*/{SECOND}": POINTER})

    assert (ended.answer["reason"], ended.code) == ("WeightsCorrupt", 3)
    assert "Git LFS pointer" in ended.answer["message"] and SECOND in ended.answer["message"]


@pytest.mark.parametrize("token", [{}, {"HF_TOKEN": "hf_secretsecret"}])
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (in_words(404, "Resource not found in cache, offline"), "Resource not found in cache, offline"),
        (as_page(404, "404 Not Found"), "404 Not Found"),
        (by_the_hub(404, "EntryNotFound", "Entry not found"), "Entry not found"),
        (Answer(404), "HTTP 404"),
        (in_words(410, "it was removed"), "it was removed"),
    ],
)
def test_a_listed_file_that_is_not_there_is_named(
    tmp_path: Path, answer: Answer, words: str, token: dict[str, str]
) -> None:
    ended = both(tmp_path, {f"*/{SECOND}": answer}, token)

    assert (ended.answer["reason"], ended.code) == ("WeightsMissing", 3)
    assert SECOND in ended.answer["message"] and words in ended.answer["message"]
    assert "Have whoever runs" in ended.answer["remedy"] and "spelling" not in ended.answer["remedy"]


@pytest.mark.parametrize(
    ("refused", "answer", "reason", "remedy"),
    [
        (SECOND, Answer(403, DENIED), "WeightsMissing", "upload the file again"),
        (SECOND, Answer(404, b"gone"), "WeightsMissing", "upload the file again"),
        ("*", as_page(403, "Blocked in your country"), "HubRefused", "or another mirror"),
        ("*", Answer(403, DENIED), "HubUnreachable", "fresh address"),
    ],
)
def test_a_file_that_the_store_has_lost_is_told_from_a_store_that_refuses_all(
    tmp_path: Path, refused: str, answer: Answer, reason: str, remedy: str
) -> None:
    files = files_of(tmp_path)
    with Mirror(files, {f"*/{refused}": answer}) as store, Mirror(files) as mirror:
        mirror.answers["*.safetensors"] = Answer(302, headers={"Location": store.url.replace("127.0.0.1", "localhost")})
        for command in ("inspect", "pull"):
            ended = asked(command, tmp_path, mirror)

            assert (ended.answer["reason"], ended.answer["retry"]) == (reason, reason == "HubUnreachable"), ended.output
            assert remedy in ended.answer["remedy"] and ".safetensors" in ended.answer["message"]
            assert "localhost, where 127.0.0.1" in ended.answer["message"]


@pytest.mark.parametrize(
    ("answer", "reason", "words", "remedy"),
    [
        (
            by_the_hub(403, "GatedRepo", "Your request to access model acme/tiny has been rejected by the authors."),
            "GatedRepo",
            "has been rejected by the authors",
            "another model",
        ),
        (
            by_the_hub(403, "GatedRepo", "Your request to access model acme/tiny is awaiting a review."),
            "GatedRepo",
            "awaiting a review",
            "Wait until",
        ),
        (by_the_hub(403, "GatedRepo", "Access is restricted."), "GatedRepo", "gated", "huggingface.co, as a rule"),
        (in_words(401, "Bad props auth token"), "InvalidToken", "Bad props auth token", "one of the hub's"),
        (
            in_words(403, "Package download was blocked by Curation due to policies violated"),
            "HubRefused",
            "due to policies violated",
            "its policies",
        ),
        (
            Answer(403, b"", {"X-Error-Message": "Storage limit reached, upgrade your plan"}),
            "HubRefused",
            "upgrade your plan",
            "plan or quota",
        ),
        (
            by_the_hub(401, "GatedRepo", "Access to model acme/tiny is restricted. Please log in."),
            "GatedRepo",
            "though one was sent",
            "pass the token on",
        ),
        (Answer(403, b"RBAC: access denied", {"Server": "istio-envoy"}), "HubRefused", "RBAC", "AuthorizationPolicy"),
        (Answer(403, b"", {"l5d-proxy-error": "unauthorized"}), "HubRefused", "403", "service mesh"),
        (
            Answer(403, b"", {"X-Error-Message": "The organization requires SSO"}),
            "InvalidToken",
            "requires SSO",
            "single sign-on",
        ),
        (
            Answer(429, b"You hit the quota of 1000 api requests per 5 minutes"),
            "HubRateLimited",
            "quota of 1000",
            "the token's account",
        ),
    ],
)
def test_a_refusal_is_told_in_its_own_words_and_leads_to_no_page_that_is_not_there(
    tmp_path: Path, answer: Answer, reason: str, words: str, remedy: str
) -> None:
    for pattern in (GATE, f"*/{SECOND}"):
        ended = both(tmp_path, {pattern: answer}, {"HF_TOKEN": "hf_secretsecret"})

        assert ended.answer["reason"] == reason
        assert words in ended.answer["message"] and remedy in ended.answer["remedy"]
        assert "http://" not in ended.answer["remedy"]
        assert "/settings/tokens" not in ended.answer["remedy"]


def test_a_mirror_that_wants_a_login_says_so(tmp_path: Path) -> None:
    wanted = in_words(401, "Authentication is required")
    ended = both(tmp_path, {GATE: wanted})

    assert (ended.answer["reason"], "wants a login" in ended.answer["message"]) == ("InvalidToken", True)
    assert "tokenSecretRef" in ended.answer["remedy"]


def test_a_login_in_the_address_that_is_refused_is_told_by_its_setting(tmp_path: Path) -> None:
    with Mirror({}, {"*": Answer(401, b"<html>no</html>", {"Content-Type": "text/html"})}) as mirror:
        mirror.url = mirror.url.replace("http://", "http://user:urlPASSword@")
        ended = asked("inspect", tmp_path, mirror)

    assert (ended.answer["reason"], "hub.endpoint" in ended.answer["remedy"]) == ("InvalidToken", True)
    assert "urlPASSword" not in ended.output + json.dumps(ended.answer)


def test_a_token_that_a_redirect_leaves_behind_is_told(tmp_path: Path) -> None:
    gate = by_the_hub(403, "GatedRepo", "Access is restricted.")
    with Mirror({}, {"*": gate}) as hub, Mirror({}) as short:
        short.answers["*"] = Answer(301, headers={"Location": hub.url.replace("127.0.0.1", "localhost")})
        ended = asked("inspect", tmp_path, short, {"HF_TOKEN": "hf_secretsecret"})

    assert ended.answer["reason"] == "HubRefused" and "redirects to localhost" in ended.answer["message"]
    assert "hub.endpoint" in ended.answer["remedy"] and "Ask for access" not in ended.answer["remedy"]


@pytest.mark.parametrize("answer", [Answer(404), by_the_hub(404, "EntryNotFound", "Entry not found")])
def test_a_file_that_is_missing_behind_a_redirect_wants_no_token(tmp_path: Path, answer: Answer) -> None:
    with Mirror({}, {"*": answer}) as hub, Mirror(files_of(tmp_path)) as mirror:
        there = hub.url.replace("127.0.0.1", "localhost")
        mirror.answers[f"*/{SECOND}"] = Answer(302, headers={"Location": f"{there}/x/resolve/y"})
        ended = asked("inspect", tmp_path, mirror, {"HF_TOKEN": "hf_secretsecret"})

    assert ended.answer["reason"] == "WeightsMissing" and SECOND in ended.answer["message"]


def test_a_note_in_the_listings_place_is_told(tmp_path: Path) -> None:
    note = Answer(200, b'{"error": "this mirror is being moved"}', {"Content-Type": "application/json"})
    ended = both(tmp_path, {GATE: note})

    assert (ended.answer["reason"], "it answers 'this mirror is being moved'" in ended.answer["message"]) == (
        "HubRefused",
        True,
    )


def test_an_account_that_has_to_pay_is_told(tmp_path: Path) -> None:
    ended = both(tmp_path, {GATE: in_words(402, "Storage quota of acme is used up")})

    assert ended.answer["reason"] == "HubRefused" and "Storage quota of acme" in ended.answer["message"]
    assert "plan or quota" in ended.answer["remedy"]


def test_a_page_to_sign_in_is_told_with_its_host(tmp_path: Path) -> None:
    with Mirror({}, {"*": as_page(200, "Sign in to Acme")}) as login, Mirror({}) as mirror:
        mirror.answers["*"] = Answer(302, headers={"Location": login.url.replace("127.0.0.1", "localhost")})
        ended = asked("inspect", tmp_path, mirror)

    assert ended.answer["reason"] == "HubRefused"
    assert "redirects to localhost, which answers with a page (Sign in to Acme)" in ended.answer["message"]
    assert "are to sign in (SSO)" in ended.answer["remedy"]


@pytest.mark.parametrize("token", [{}, {"HF_TOKEN": "hf_secretsecret"}])
@pytest.mark.parametrize("status", [401, 403])
def test_a_page_that_refuses_at_another_host_is_no_matter_of_the_token(
    tmp_path: Path, status: int, token: dict[str, str]
) -> None:
    with Mirror({}, {"*": as_page(status, "Acme gate")}) as gate, Mirror({}) as mirror:
        mirror.answers["*"] = Answer(302, headers={"Location": gate.url.replace("127.0.0.1", "localhost")})
        ended = asked("inspect", tmp_path, mirror, token)

    assert ended.answer["reason"] == "HubRefused"
    assert f"redirects to localhost, which answers with a page (HTTP {status}: Acme gate)" in ended.answer["message"]


def test_a_page_in_a_files_place_is_told_with_its_title_and_host(tmp_path: Path) -> None:
    files = files_of(tmp_path)
    with Mirror({}, {"*": as_page(200, "Sign in to Acme")}) as login, Mirror(files) as mirror:
        mirror.answers[f"*/{SECOND}"] = Answer(302, headers={"Location": login.url.replace("127.0.0.1", "localhost")})
        ended = asked("pull", tmp_path, mirror)

    assert ended.answer["reason"] == "HubRefused" and "localhost answers" in ended.answer["message"]
    assert "(Sign in to Acme)" in ended.answer["message"] and SECOND in ended.answer["message"]


def test_a_listing_that_a_mirror_keeps_in_half_is_told(tmp_path: Path) -> None:
    ended = both(tmp_path, {GATE: Answer(200, b'{"id": "acme/tiny", "sib', {"Content-Type": "application/json"})})

    assert ended.answer["reason"] == "HubRefused" and "listing is cut off" in ended.answer["message"]


def test_a_store_that_limits_is_named_and_no_token_is_asked_for(tmp_path: Path) -> None:
    files = files_of(tmp_path)
    with Mirror({}, {"*": Answer(429, b"slow down")}) as store, Mirror(files) as mirror:
        mirror.answers["*.safetensors"] = Answer(302, headers={"Location": store.url.replace("127.0.0.1", "localhost")})
        ended = asked("pull", tmp_path, mirror)

    assert ended.answer["reason"] == "HubRateLimited" and ended.answer["message"].startswith("localhost, to which")
    assert "Set a token" not in ended.answer["remedy"]


@pytest.mark.parametrize("location", ["http://files.example:badport", "ftp://files.example"])
def test_a_redirect_to_no_address_is_final(tmp_path: Path, location: str) -> None:
    broken = Answer(302, headers={"Location": location})
    ended = both(tmp_path, {f"*/{SECOND}": broken})

    assert (ended.answer["reason"], ended.code) == ("HubRefused", 3)
    assert "redirects to what is no address" in ended.answer["message"]
