"""The hub of the tests is told apart from the real one by nothing that the real client library looks at."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub import Hub

pytestmark = pytest.mark.weights

WEIGHTS = os.urandom(3_000_000)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    root = tmp_path / "root"
    for name in ("acme/open", "acme/gated", "acme/hidden"):
        (root / name).mkdir(parents=True)
        (root / name / "config.json").write_text('{"model_type": "llama"}')
        (root / name / "model.safetensors").write_bytes(WEIGHTS)
    (root / "acme/open/sub").mkdir()
    (root / "acme/open/sub/notes.txt").write_text("hello")
    (root / "acme/open/.branches/dev").mkdir(parents=True)
    (root / "acme/open/.branches/dev/config.json").write_text('{"model_type": "dev"}')
    (root / "acme/open/.refs.json").write_text('{"dev": ".branches/dev", "v1.0": "."}')
    (root / "acme/gated/.gated").write_text("hf_granted\n")
    (root / "acme/hidden/.private").touch()
    (root / ".tokens.json").write_text(json.dumps({"hf_granted": "ann", "hf_other": "bob"}))
    with Hub(root) as running:
        yield running


def api(hub: Hub, token: str | bool = False) -> HfApi:
    return HfApi(endpoint=hub.url, token=token)


def snapshot(hub: Hub, repo: str, to: Path, token: str | bool = False) -> Path:
    return Path(snapshot_download(repo, endpoint=hub.url, local_dir=to, token=token, max_workers=2))


def test_model_info_has_the_commit_and_every_file_with_its_digests(hub: Hub) -> None:
    info = api(hub).model_info("acme/open", files_metadata=True)

    files = {file.rfilename: file for file in info.siblings or []}
    assert len(info.sha or "") == 40
    assert sorted(files) == ["config.json", "model.safetensors", "sub/notes.txt"]
    lfs = files["model.safetensors"].lfs
    assert lfs is not None and lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest() and lfs.size == len(WEIGHTS)
    text = b"hello"
    assert files["sub/notes.txt"].blob_id == hashlib.sha1(b"blob %d\0" % len(text) + text).hexdigest()


def test_a_commit_depends_on_the_content_alone(hub: Hub) -> None:
    before = api(hub).model_info("acme/open").sha
    (hub.repos.root / "acme/open/config.json").write_text('{"model_type": "other"}')
    changed = api(hub).model_info("acme/open").sha
    (hub.repos.root / "acme/open/config.json").write_text('{"model_type": "llama"}')

    assert before == api(hub).model_info("acme/open").sha != changed


def test_branches_and_tags_lead_to_their_own_commits(hub: Hub) -> None:
    main, tag, dev = (api(hub).model_info("acme/open", revision=name).sha for name in ("main", "v1.0", "dev"))

    assert main == tag != dev
    assert api(hub).model_info("acme/open", revision=dev).sha == dev
    assert {ref.name for ref in api(hub).list_repo_refs("acme/open").branches} == {"main", "v1.0", "dev"}


def test_the_tree_lists_files_and_folders(hub: Hub) -> None:
    whole = {entry.path for entry in api(hub).list_repo_tree("acme/open", recursive=True)}
    top = {entry.path for entry in api(hub).list_repo_tree("acme/open")}

    assert whole == {"config.json", "model.safetensors", "sub", "sub/notes.txt"}
    assert top == {"config.json", "model.safetensors", "sub"}


def test_paths_info_answers_the_files_asked_for(hub: Hub) -> None:
    (found,) = api(hub).get_paths_info("acme/open", ["model.safetensors", "absent"])

    assert found.path == "model.safetensors"


def test_snapshot_download_brings_every_byte(hub: Hub, tmp_path: Path) -> None:
    folder = snapshot(hub, "acme/open", tmp_path / "got")

    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert (folder / "sub/notes.txt").read_text() == "hello"


def test_the_command_line_client_downloads(hub: Hub, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "hf"), "download", "acme/open", "--local-dir", str(tmp_path / "got")]
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    subprocess.run(command, env=env, check=True, capture_output=True, timeout=60)

    assert (tmp_path / "got/model.safetensors").read_bytes() == WEIGHTS


def test_whoami_knows_the_owner_of_a_token(hub: Hub) -> None:
    assert api(hub).whoami(token="hf_granted")["name"] == "ann"


@pytest.mark.parametrize(
    ("act", "error", "status"),
    [
        (lambda hub: api(hub).model_info("acme/absent"), RepositoryNotFoundError, 401),
        (lambda hub: api(hub, "hf_other").model_info("acme/absent"), RepositoryNotFoundError, 404),
        (lambda hub: api(hub).model_info("acme/hidden"), RepositoryNotFoundError, 401),
        (lambda hub: api(hub).model_info("acme/open", revision="nope"), RevisionNotFoundError, 404),
        (lambda hub: api(hub).hf_hub_download("acme/open", "nope.txt"), RemoteEntryNotFoundError, 404),
        (lambda hub: api(hub, "hf_wrong").model_info("acme/open"), HfHubHTTPError, 401),
        (lambda hub: api(hub).auth_check("acme/gated"), GatedRepoError, 401),
        (lambda hub: api(hub, "hf_other").auth_check("acme/gated"), GatedRepoError, 403),
    ],
)
def test_the_client_recognises_each_error(
    hub: Hub, act: Callable[[Hub], object], error: type[HfHubHTTPError], status: int
) -> None:
    with pytest.raises(error) as caught:
        act(hub)

    assert caught.value.response.status_code == status


def test_a_bad_token_is_not_taken_for_a_missing_repository(hub: Hub) -> None:
    with pytest.raises(HfHubHTTPError, match="Invalid credentials") as caught:
        api(hub, "hf_wrong").model_info("acme/open")

    assert not isinstance(caught.value, RepositoryNotFoundError)


def test_a_gated_repository_shows_its_info_but_not_its_files(hub: Hub, tmp_path: Path) -> None:
    assert api(hub).model_info("acme/gated").gated == "manual"
    with pytest.raises(GatedRepoError):
        snapshot(hub, "acme/gated", tmp_path / "no")

    assert (snapshot(hub, "acme/gated", tmp_path / "yes", "hf_granted") / "model.safetensors").exists()


def get(hub: Hub, path: str, **headers: str) -> tuple[int, bytes]:
    with urllib.request.urlopen(urllib.request.Request(hub.url + path, headers=headers), timeout=5) as answer:
        return answer.status, answer.read()


def test_ranges_are_served_and_counted(hub: Hub) -> None:
    status, body = get(hub, "/acme/open/resolve/main/model.safetensors", Range="bytes=10-19")
    report = json.loads(get(hub, "/_requests")[1])

    assert (status, body) == (206, WEIGHTS[10:20])
    assert report["bytes"] == 10
    assert [entry["where"] for entry in report["log"]] == ["resolve", "cdn"]


def test_a_fault_hits_as_often_as_it_says(hub: Hub) -> None:
    body = json.dumps({"kind": "status", "status": 429, "retryAfter": 7, "where": "api", "times": 1}).encode()
    urllib.request.urlopen(urllib.request.Request(hub.url + "/_faults", data=body), timeout=5).close()

    with pytest.raises(urllib.error.HTTPError) as caught:
        get(hub, "/api/models/acme/open")
    caught.value.close()
    assert (caught.value.code, caught.value.headers["Retry-After"]) == (429, "7")
    assert get(hub, "/api/models/acme/open")[0] == 200


def test_a_fault_of_one_name_of_a_repository_begins_late_and_ends_alone(hub: Hub, tmp_path: Path) -> None:
    """End-to-end tests share one hub: each breaks a name of its own, of a repository or a token, and mends no other."""
    hub.break_next("status", repo="acme/open__one", times=-1, skip=1)
    hub.break_next("revoke", repo="acme/gated__two", where="api", token="hf_granted")

    assert api(hub).model_info("acme/open__one").sha == api(hub).model_info("acme/open").sha
    with pytest.raises(HfHubHTTPError):
        api(hub).model_info("acme/open__one")
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        api(hub, "hf_granted").model_info("acme/gated__two")
    assert snapshot(hub, "acme/gated", tmp_path / "to", token="hf_granted__three").is_dir()
    hub.faults.clear("acme/gated__two")
    assert api(hub, "hf_granted").model_info("acme/gated__two").sha
    with pytest.raises(HfHubHTTPError):
        api(hub).model_info("acme/open__one")


def test_an_unknown_fault_is_refused(hub: Hub) -> None:
    with pytest.raises(ValueError, match="kind must be one of"):
        hub.break_next("explode")


def test_corrupt_flips_one_byte(hub: Hub) -> None:
    hub.break_next("corrupt", where="cdn", afterBytes=5)
    body = get(hub, "/acme/open/resolve/main/model.safetensors")[1]

    assert [at for at, (sent, true) in enumerate(zip(body, WEIGHTS, strict=True)) if sent != true] == [5]


def test_a_revoked_token_is_refused_from_then_on(hub: Hub) -> None:
    hub.break_next("revoke", repo="acme/gated", where="cdn", afterBytes=0)
    token = {"Authorization": "Bearer hf_granted"}
    get(hub, "/acme/gated/resolve/main/model.safetensors", **token)

    with pytest.raises(urllib.error.HTTPError, match="401") as caught:
        get(hub, "/acme/gated/resolve/main/config.json", **token)
    caught.value.close()
