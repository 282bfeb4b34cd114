"""ModelScope is spoken to by its own client library, whose errors are told apart, and which leaves nothing on the disk."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from modelscope_hub import HubApi
from modelscope_hub.errors import AuthenticationError, NotExistError, PermissionDeniedError, RateLimitError, ServerError

from tests.hub.models import write_model
from tests.hub.running import OPERATOR, files_in, run
from tests.stores.host import Host
from tests.stores.modelscope import MOST_LISTED, FakeModelScope
from vllm_weights import VERSION
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.listing import Digest, DigestKind, Listing, RemoteFile
from vllm_weights.modelscope import ModelScope
from vllm_weights.whole import read_start

pytestmark = pytest.mark.weights

FILE = RemoteFile("a folder/model.safetensors", 4, Digest(DigestKind.NONE))
ENTRY = {"Type": "blob", "Path": "config.json", "Size": 2, "Sha256": "AB" * 32}
LISTED = json.dumps({"Code": 200, "Success": True, "Data": {"Files": [ENTRY]}}).encode()


@pytest.fixture(autouse=True)
def _tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the program has it, which imports the library after it has set the variable."""
    monkeypatch.setattr("modelscope_hub._legacy_api.REPO_TREE_PAGE_MAX_ATTEMPTS", 1)


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeModelScope]:
    write_model(tmp_path / "root/org/model")
    with FakeModelScope(tmp_path / "root", token="good") as running:
        yield running


def source(url: str, token: str | None = None) -> ModelScope:
    environment = {"MODELSCOPE_ENDPOINT": url} | ({"MODELSCOPE_API_TOKEN": token} if token else {})
    return ModelScope("org/model", environment, silence_seconds=5, parallelism=2)


def listed(host: Host | FakeModelScope, token: str | None = None) -> Listing:
    opened = source(host.url, token)
    try:
        return opened.listing(None)
    finally:
        opened.close()


def read(host: Host | FakeModelScope, token: str | None = None) -> bytes:
    opened = source(host.url, token)
    try:
        return read_start(opened, "", FILE, 100)
    finally:
        opened.close()


def test_listing_and_addresses_are_the_librarys() -> None:
    with Host(200, LISTED) as host:
        opened = source(host.url)
        listing = opened.listing("v1+x")
        host.body = b"data"
        assert read_start(opened, listing.commit, FILE, 100) == b"data"

    assert listing.files == (RemoteFile("config.json", 2, Digest(DigestKind.SHA256, "ab" * 32)),)
    assert [path for path, _ in host.asked] == [
        "/api/v1/models/org/model/repo/files?Revision=v1%2Bx&Recursive=True",
        "/api/v1/models/org/model/repo?Revision=v1%2Bx&FilePath=a+folder%2Fmodel.safetensors",
    ]


@pytest.mark.parametrize(("ask", "body"), [(listed, LISTED), (read, b"data")])
def test_the_token_goes_to_the_hub_and_not_where_it_redirects_to(ask: Any, body: bytes) -> None:
    with Host(200, body) as elsewhere, Host(302) as host:
        host.headers["Location"] = elsewhere.url.replace("127.0.0.1", "localhost")
        ask(host, "ms-secret")

    ((_, to_hub),), ((_, to_other),) = host.asked, elsewhere.asked
    assert to_hub["authorization"] == "Bearer ms-secret"
    assert to_hub["cookie"] == "m_session_id=ms-secret"
    assert "ms-secret" not in json.dumps(to_other)


def test_no_request_tells_one_installation_from_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with Host(200, LISTED) as host:
        listed(host)
        listed(host)

    (first, second) = (headers for _, headers in host.asked)
    assert first["user-agent"] == second["user-agent"]
    assert f"session_id/{'0' * 32};" in first["user-agent"]
    assert first["user-agent"].endswith(f"vllm-operator-weights/{VERSION}")
    assert "authorization" not in first and "cookie" not in first
    assert not files_in(tmp_path)


def test_nothing_of_the_home_folder_is_read_and_nothing_is_left_there(fake: FakeModelScope, tmp_path: Path) -> None:
    work = tmp_path / "work"
    stored = work / ".modelscope/credentials/cookies"
    stored.parent.mkdir(parents=True)
    stored.write_bytes(b"cos\nsystem\n(S'touch " + bytes(work) + b"/ran'\ntR.")  # A pickle that runs a command.
    fake.token = None
    request = {"source": "modelscope://org/model", "destination": str(tmp_path / "volume/model")}

    assert run("inspect", request, work, {"MODELSCOPE_ENDPOINT": fake.url}).code == 0
    assert run("pull", request, work, {"MODELSCOPE_ENDPOINT": fake.url}).code == 0
    kept = {".modelscope/credentials/cookies", "termination", "log", "progress.json"}
    assert files_in(work) <= kept
    assert all(path.startswith("/api/v1/models/org/model/repo") for path in fake.asked)


@pytest.mark.parametrize("body", [b'"upstream failed"', b"[1]", b"\xff\xfe{", b"<html>", b"", b'{"error": "busy"}'])
@pytest.mark.parametrize("ask", [listed, read])
@pytest.mark.parametrize(
    ("status", "reason"), [(503, Reason.HUB_UNREACHABLE), (429, Reason.HUB_RATE_LIMITED), (400, Reason.HUB_REFUSED)]
)
def test_an_error_is_named_whatever_its_body(ask: Any, body: bytes, status: int, reason: Reason) -> None:
    with Host(status, body, {"Retry-After": "7000"}) as host, pytest.raises(WeightsError) as caught:
        ask(host)

    assert caught.value.reason is reason
    assert caught.value.retry_after == (None if status == 400 else 300)
    assert len(host.asked) == 1


@pytest.mark.parametrize(
    ("ask", "token", "status", "reason"),
    [
        (listed, None, 401, Reason.REPO_NOT_FOUND),
        (listed, None, 403, Reason.REPO_NOT_FOUND),
        (listed, "x", 401, Reason.INVALID_TOKEN),
        (listed, "x", 403, Reason.INVALID_TOKEN),
        (listed, None, 404, Reason.REPO_NOT_FOUND),
        (listed, None, 408, Reason.HUB_UNREACHABLE),
        (read, None, 403, Reason.REPO_NOT_FOUND),
        (read, "x", 401, Reason.INVALID_TOKEN),
        (read, "x", 403, Reason.INVALID_TOKEN),
        (read, "x", 404, Reason.WEIGHTS_MISSING),
        (read, "x", 408, Reason.HUB_UNREACHABLE),
        (read, None, 204, Reason.HUB_REFUSED),
        (read, None, 304, Reason.HUB_REFUSED),
    ],
)
def test_what_is_refused_is_told_apart(ask: Any, token: str | None, status: int, reason: Reason) -> None:
    body = b"" if status in (204, 304) else b'{"Message": "no"}'
    with Host(status, body) as host, pytest.raises(WeightsError) as caught:
        ask(host, token)

    assert caught.value.reason is reason
    assert token is None or f" {token} " not in caught.value.message


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b"null", b'{"Data": {"Files": [1]}}', b'{"Data": {"Files": 3}}', b"\xff"]
)
def test_an_answer_that_is_not_modelscopes_is_refused(body: bytes) -> None:
    with Host(200, body) as host, pytest.raises(WeightsError, match="did not answer as ModelScope does") as caught:
        listed(host)

    assert caught.value.reason is Reason.HUB_REFUSED
    assert "proxy" in caught.value.remedy


def test_a_bad_token_that_the_hub_takes_for_none_is_told_by_its_account_page(fake: FakeModelScope) -> None:
    for ask in (listed, read):
        with pytest.raises(WeightsError) as wrong:
            ask(fake, "wrong")
        assert wrong.value.reason is Reason.INVALID_TOKEN
    with pytest.raises(WeightsError, match="or hides it") as none:
        listed(fake)

    assert none.value.reason is Reason.REPO_NOT_FOUND


def test_a_mirror_without_accounts_has_no_such_model() -> None:
    with Host(404, b"{}") as host, pytest.raises(WeightsError) as caught:
        listed(host, "token")

    assert caught.value.reason is Reason.REPO_NOT_FOUND
    assert "that the token's account may read it" in caught.value.remedy


@pytest.mark.parametrize(("status", "body"), [(404, b"{}"), (200, b'{"Code": 200, "Data": {"Files": null}}')])
def test_a_revision_of_a_model_that_is_not_there_is_no_revision(status: int, body: bytes) -> None:
    with Host(status, body) as host, pytest.raises(WeightsError) as caught:
        source(host.url).listing("v9")

    # The default revision answers the same: of a model that is there, only the wanted revision is missing.
    assert caught.value.reason is (Reason.REPO_NOT_FOUND if status == 404 else Reason.REVISION_NOT_FOUND)


@pytest.mark.parametrize("body", [b'{"Code": 10010205001, "Data": null, "Success": false}', b'{"Data": {"Files": []}}'])
def test_a_list_without_files_is_told(body: bytes) -> None:
    with Host(200, body) as host, pytest.raises(WeightsError, match="lists no files of org/model at master") as caught:
        listed(host)

    assert caught.value.reason is Reason.WEIGHTS_MISSING


def test_an_answer_that_breaks_off_is_unreachable() -> None:
    with Host(200, LISTED, {"Content-Length": "9000"}) as host, pytest.raises(WeightsError) as caught:
        listed(host)

    assert caught.value.reason is Reason.HUB_UNREACHABLE


def test_another_revision_is_pulled(fake: FakeModelScope, tmp_path: Path) -> None:
    fake.token = None
    write_model(fake.root / "org/model/.revisions/v1", shards=2)
    request = {"source": "modelscope://org/model@v1", "destination": str(tmp_path / "to/model")}
    ended = run("pull", request, tmp_path / "work", {"MODELSCOPE_ENDPOINT": fake.url})

    assert ended.code == 0, ended.output
    assert (tmp_path / "to/model/model-00001-of-00002.safetensors").is_file()


def test_a_list_that_the_server_cuts_is_read_folder_by_folder(fake: FakeModelScope) -> None:
    fake.token = None
    for folder, files in (("a", 1600), ("b", 1500)):
        (fake.root / "org/model" / folder).mkdir()
        for number in range(files):
            (fake.root / "org/model" / folder / str(number)).touch()

    files = {file.path for file in listed(fake).files}
    assert len([path for path in files if path.startswith(("a/", "b/"))]) == 3100
    assert "config.json" in files


def test_a_folder_that_cannot_be_listed_whole_is_refused(fake: FakeModelScope) -> None:
    fake.token = None
    (fake.root / "org/model/a").mkdir()
    for number in range(MOST_LISTED + 1):
        (fake.root / "org/model/a" / str(number)).touch()

    with pytest.raises(WeightsError, match="holds 3000 files or more") as caught:
        listed(fake)
    assert caught.value.reason is Reason.HUB_REFUSED


def test_the_limits_of_the_library_are_set_before_it_is_imported_and_other_sources_do_not_import_it() -> None:
    code = """
import sys
import vllm_weights.__main__
from vllm_weights.grammar import parse_source
from vllm_weights.opening import open_source
def opened(text):
    open_source(parse_source(text), {}, stall_seconds=5, parallelism=1)
opened("s3://bucket/x")
opened("org/name")
assert "modelscope_hub" not in sys.modules
opened("modelscope://org/name")
from modelscope_hub import constants
assert (constants.REPO_TREE_PAGE_MAX_ATTEMPTS, constants.API_CONNECT_TIMEOUT) == (1, 4)
"""
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(OPERATOR), "AWS_REGION": "x"}, check=True)


# The server of the tests is told apart from the real one by nothing that the library looks at.


def library(fake: FakeModelScope, token: str = "good") -> HubApi:
    return HubApi(endpoint=fake.url, token=token)


def test_the_library_downloads_from_the_server_of_the_tests(
    fake: FakeModelScope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    got = Path(library(fake).download_repo("org/model", "model", local_dir=tmp_path / "got"))

    original = fake.root / "org/model"
    assert files_in(original) <= files_in(got)
    assert (got / "model.safetensors").read_bytes() == (original / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("repo", "revision", "token", "fails", "error"),
    [
        ("org/absent", "master", "good", [], NotExistError),
        ("org/model", "master", "wrong", [], NotExistError),
        ("org/model", "master", "", [], NotExistError),
        ("org/model", "master", "good", [401], AuthenticationError),
        ("org/model", "master", "good", [403], PermissionDeniedError),
        ("org/model", "master", "good", [429], RateLimitError),
        ("org/model", "master", "good", [503], ServerError),
    ],
)
def test_the_library_recognises_each_error(
    fake: FakeModelScope, repo: str, revision: str, token: str, fails: list[int], error: type[Exception]
) -> None:
    fake.fail_next = fails
    with pytest.raises(error):
        library(fake, token).list_repo_files(repo, "model", revision=revision)


@pytest.mark.parametrize("token", [None, "x"])
def test_a_filters_page_is_no_word_of_modelscopes(token: str | None) -> None:
    with (
        Host(403, b"<html>Blocked</html>", {"Content-Type": "text/html"}) as host,
        pytest.raises(WeightsError) as caught,
    ):
        listed(host, token)

    assert caught.value.reason is Reason.HUB_REFUSED and "filter" in caught.value.remedy
