"""The hub is spoken to by its own client library, which keeps the token to the hub and leaves nothing on the disk."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.hub import Hub
from tests.hub.models import write_model
from tests.hub.running import OPERATOR, files_in, run
from tests.stores.host import Host
from vllm_weights import VERSION
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.huggingface import HuggingFace
from vllm_weights.listing import Digest, DigestKind, Listing, RemoteFile
from vllm_weights.whole import read_start

pytestmark = pytest.mark.weights

COMMIT = "0" * 40
FILE = RemoteFile("a folder/model.safetensors", 4, Digest(DigestKind.NONE))
INFO = {"id": "org/model", "sha": COMMIT, "siblings": [{"rfilename": "x", "size": 1, "blobId": "1" * 40}]}


def source(host: Host | Hub, token: str | None = None, repo: str = "org/model") -> HuggingFace:
    environment = {"HF_ENDPOINT": host.url} | ({"HF_TOKEN": token} if token else {})
    return HuggingFace(repo, environment, silence_seconds=5, parallelism=2)


def listed(host: Host, token: str | None = None) -> Listing:
    return source(host, token).listing(None)


def read(host: Host, token: str | None = None) -> bytes:
    opened = source(host, token)
    try:
        return read_start(opened, COMMIT, FILE, 100)
    finally:
        opened.close()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    write_model(tmp_path / "root/org/model")
    with Hub(tmp_path / "root") as running:
        yield running


@pytest.mark.parametrize(("ask", "body"), [(listed, json.dumps(INFO).encode()), (read, b"data")])
def test_the_token_goes_to_the_hub_and_not_where_it_redirects_to(ask: Any, body: bytes) -> None:
    with Host(200, body) as elsewhere, Host(302, headers={"Location": elsewhere.url}) as host:
        ask(host, "hf_secret")

    ((_, to_hub),), ((_, to_other),) = host.asked, elsewhere.asked
    assert to_hub["authorization"] == "Bearer hf_secret"
    assert "hf_secret" not in json.dumps(to_other)


def failure_of(status: int, headers: dict[str, str], token: str | None) -> WeightsError:
    with Host(status, b"", headers) as host, pytest.raises(WeightsError) as caught:
        listed(host, token)
    return caught.value


@pytest.mark.parametrize("token", [None, "hf_secret"])
def test_a_repository_that_the_hub_disabled_is_opened_by_no_token(token: str | None) -> None:
    found = failure_of(403, {"X-Error-Message": "Access to this resource is disabled."}, token)

    assert (found.reason, found.retry) == (Reason.REPO_NOT_FOUND, False)
    assert "has disabled org/model" in found.message
    assert "another repository" in found.remedy


@pytest.mark.parametrize(
    ("headers", "token", "reason"),
    [
        ({"X-Error-Message": "You need read access."}, "hf_secret", Reason.INVALID_TOKEN),
        ({}, "hf_secret", Reason.INVALID_TOKEN),
        ({}, None, Reason.HUB_REFUSED),
        ({"X-Error-Message": "Your IP is not in the organization's list."}, "hf_secret", Reason.HUB_REFUSED),
        ({"Content-Type": "text/html; charset=utf-8"}, "hf_secret", Reason.HUB_REFUSED),
    ],
)
def test_a_403_is_about_the_token_only_where_it_may_be(
    headers: dict[str, str], token: str | None, reason: Reason
) -> None:
    found = failure_of(403, headers, token)

    assert (found.reason, found.retry) == (reason, False)
    assert not found.message.endswith("..")
    assert ("secret with a token" in found.remedy) is (token is None)
    assert "sk who runs" in found.remedy


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("This model is not available in your region.", "no token changes that"),
        ("Access from your country is restricted for legal reasons.", "no token changes that"),
        ("Your IP address 203.0.113.7 is not allowed by acme.", "put on the list"),
        ("Access to this model is blocked by a policy of acme.", "who runs that policy"),
    ],
)
@pytest.mark.parametrize("token", [None, "hf_secret"])
def test_what_no_token_opens_is_not_told_as_the_tokens_fault(said: str, advice: str, token: str | None) -> None:
    found = failure_of(403, {"X-Error-Message": said}, token)

    assert found.reason is Reason.HUB_REFUSED and said.rstrip(".") in found.message
    assert advice in found.remedy and "read access" not in found.remedy


def test_a_policy_about_tokens_lets_look_at_the_token_too() -> None:
    said = {"X-Error-Message": "acme's policy admits no tokens without an expiry."}

    assert "whether the token is one that it admits" in failure_of(403, said, "hf_secret").remedy


def test_a_host_that_cannot_be_reached_is_named_and_not_the_one_that_redirects_to_it() -> None:
    with Host(302, headers={"Location": "http://files.acme.invalid"}) as host, pytest.raises(WeightsError) as caught:
        listed(host)

    assert caught.value.reason is Reason.HUB_UNREACHABLE
    assert f"files.acme.invalid, to which {host.address} redirects, cannot be reached" in caught.value.message


def test_a_host_that_cannot_be_reached_itself_is_named_alone() -> None:
    with Host(200) as host:
        address = host.address
    with pytest.raises(WeightsError) as caught:
        listed(host)

    assert caught.value.message.startswith(f"{address} cannot be reached")


@pytest.mark.parametrize(
    "endpoint", ["hub.acme.example", "hub.acme.example:8443", "ftp://hub.acme.example", "https://"]
)
def test_an_endpoint_that_is_no_whole_address_is_not_tried_again(endpoint: str) -> None:
    with pytest.raises(WeightsError) as caught:
        HuggingFace("org/model", {"HF_ENDPOINT": endpoint}, silence_seconds=5, parallelism=2)

    assert (caught.value.reason, caught.value.retry) == (Reason.INVALID_ARGUMENT, False)
    assert "HF_ENDPOINT" in caught.value.message
    assert "https://" in caught.value.remedy


def test_every_request_says_who_asks_and_no_more() -> None:
    with Host(200, json.dumps(INFO).encode()) as host:
        listed(host)
        host.body = b"data"
        read(host)

    for _, headers in host.asked:
        assert headers["user-agent"].startswith(f"vllm-operator-weights/{VERSION}")
        assert "None" not in headers["user-agent"]
        assert not any(word in headers["user-agent"] for word in ("torch", "agent/"))
        assert "authorization" not in headers and "cookie" not in headers


def test_the_version_that_is_told_is_the_releases() -> None:
    assert version("vllm-operator") == VERSION


def test_addresses_are_the_hubs() -> None:
    with Host(200, json.dumps(INFO).encode()) as host:
        source(host).listing("refs/pr/1")
        host.body = b"data"
        read(host)

    assert [path for path, _ in host.asked] == [
        "/api/models/org/model/revision/refs%2Fpr%2F1?blobs=true",
        f"/org/model/resolve/{COMMIT}/a%20folder/model.safetensors",
    ]


def test_no_token_of_the_home_folder_is_sent_and_nothing_is_left_there(hub: Hub, tmp_path: Path) -> None:
    work = tmp_path / "work"
    stored = work / ".cache/huggingface/token"
    stored.parent.mkdir(parents=True)
    stored.write_text("hf_of_somebody_else")
    request = {"source": "org/model", "destination": str(tmp_path / "volume/model")}

    assert run("inspect", request, work, {"HF_ENDPOINT": hub.url}).code == 0  # An unknown token would be refused.
    assert run("pull", request, work, {"HF_ENDPOINT": hub.url}).code == 0
    assert files_in(work) <= {".cache/huggingface/token", "termination", "log", "progress.json"}


def test_nothing_but_the_model_is_asked_for(tmp_path: Path) -> None:
    with Host(200, json.dumps(INFO).encode()) as host:
        run("inspect", {"source": "org/model"}, tmp_path / "work", {"HF_ENDPOINT": host.url})

    assert [path for path, _ in host.asked] == ["/api/models/org/model/revision/main?blobs=true"]
    assert files_in(tmp_path / "work") <= {"termination", "log"}


@pytest.mark.parametrize("body", [b'"upstream failed"', b"[1]", b"\xff\xfe{", b"<html>", b"", b'{"error": "busy"}'])
@pytest.mark.parametrize("ask", [listed, read])
@pytest.mark.parametrize(
    ("status", "reason"), [(503, Reason.HUB_UNREACHABLE), (429, Reason.HUB_RATE_LIMITED), (400, Reason.HUB_REFUSED)]
)
def test_an_error_is_named_whatever_its_body(ask: Any, body: bytes, status: int, reason: Reason) -> None:
    with Host(status, body, {"Retry-After": "7"}) as host, pytest.raises(WeightsError) as caught:
        ask(host)

    assert caught.value.reason is reason
    assert caught.value.retry_after == (None if status == 400 else 7)


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b"null", b'{"sha": "0"}', b'{"id": "x", "siblings": [{}]}', b"\xff"]
)
def test_an_answer_that_is_not_the_hubs_is_refused(body: bytes) -> None:
    with Host(200, body) as host, pytest.raises(WeightsError, match="did not answer as the hub does") as caught:
        listed(host)

    assert caught.value.reason is Reason.HUB_REFUSED
    assert "proxy" in caught.value.remedy


def test_a_name_and_password_in_the_mirrors_address_are_not_told() -> None:
    with Host(401, b"{}", {"X-Error-Code": "GatedRepo"}) as host:
        host.url = host.url.replace("http://", "http://name:word@")
        with pytest.raises(WeightsError) as caught:
            listed(host)

    assert caught.value.reason is Reason.GATED_REPO
    assert "word" not in caught.value.message + caught.value.remedy


@pytest.mark.parametrize("status", [204, 304])
def test_a_file_without_its_bytes_is_refused(status: int) -> None:
    with Host(status) as host, pytest.raises(WeightsError) as caught:
        read(host)

    assert caught.value.reason is Reason.HUB_REFUSED


@pytest.mark.parametrize("repo", ["org/a--b", "org/name.git", "org/" + "x" * 97])
def test_a_name_that_no_hub_allows_is_not_asked_for(repo: str) -> None:
    with Host(200) as host, pytest.raises(WeightsError, match="has no model") as caught:
        source(host, repo=repo).listing(None)

    assert caught.value.reason is Reason.REPO_NOT_FOUND
    assert not host.asked


def test_the_offline_variable_is_named(hub: Hub, tmp_path: Path) -> None:
    environment = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "1"}
    ended = run("inspect", {"source": "org/model"}, tmp_path / "work", environment)

    assert (ended.code, ended.answer["reason"]) == (3, "InvalidArgument")
    assert "HF_HUB_OFFLINE" in ended.answer["message"]


def test_other_sources_do_not_import_the_library() -> None:
    code = """
import sys
import vllm_weights.__main__
from vllm_weights.grammar import parse_source
from vllm_weights.opening import open_source
for text in ("s3://bucket/x", "modelscope://org/name"):
    open_source(parse_source(text), {}, stall_seconds=5, parallelism=1)
sys.exit("huggingface_hub" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(OPERATOR), "AWS_REGION": "x"}, check=True)
