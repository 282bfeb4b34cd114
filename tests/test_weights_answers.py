"""What a proxy, a mirror or a login page answers in the hub's place is never taken for a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub import Hub
from tests.hub.models import write_model
from vllm_weights.failure import WeightsError
from vllm_weights.inspection import inspect
from vllm_weights.progress import Progress
from vllm_weights.pull import Pull
from vllm_weights.request import Request

pytestmark = pytest.mark.weights


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    write_model(tmp_path / "root/org/model", shards=2)
    with Hub(tmp_path / "root") as running:
        yield running


def look(hub: Hub) -> dict[str, Any]:
    return inspect((Request(source="org/model", backoff_seconds=0),), False, {"HF_ENDPOINT": hub.url})


def pull(hub: Hub, to: Path) -> dict[str, Any]:
    request = Request(source="org/model", destination=str(to), backoff_seconds=0, tries=2)
    return Pull({"HF_ENDPOINT": hub.url}, Progress(), to.parent / "progress.json").run((request,), False)


@pytest.mark.parametrize("kind", ["page", "multipart"])
@pytest.mark.parametrize("path", ["config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors"])
def test_an_answer_that_is_no_file_is_refused_by_name(hub: Hub, tmp_path: Path, kind: str, path: str) -> None:
    hub.break_next(kind, path=path, times=-1)

    for act in (lambda: look(hub), lambda: pull(hub, tmp_path / "volume/model")):
        with pytest.raises(WeightsError) as caught:
            act()
        assert str(caught.value.reason) == "HubRefused"
        assert path in caught.value.message


def test_a_file_that_comes_packed_is_unpacked(hub: Hub, tmp_path: Path) -> None:
    plain = look(hub)
    hub.break_next("packed", times=-1)

    assert look(hub) == plain
    pull(hub, tmp_path / "volume/model")
    for file in (hub.repos.root / "org/model").glob("*.[js]*"):
        assert (tmp_path / "volume/model" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("path", ["config.json", "model.safetensors.index.json", "model-00002-of-00002.safetensors"])
def test_half_an_answer_is_a_hub_that_breaks_off_and_not_half_a_file(hub: Hub, path: str) -> None:
    hub.break_next("unsized", path=path, times=-1)

    with pytest.raises(WeightsError) as caught:
        look(hub)

    assert (str(caught.value.reason), caught.value.retry) == ("HubUnreachable", True)


def test_a_small_file_that_comes_wrong_once_is_asked_for_again(hub: Hub) -> None:
    plain = look(hub)
    hub.break_next("corrupt", path="config.json", afterBytes=3)

    assert look(hub) == plain


def test_a_small_file_that_comes_wrong_twice_is_not_believed(hub: Hub) -> None:
    hub.break_next("corrupt", path="config.json", afterBytes=3, times=-1)

    with pytest.raises(WeightsError) as caught:
        look(hub)

    assert str(caught.value.reason) == "WeightsCorrupt"


def listing(hub: Hub, monkeypatch: pytest.MonkeyPatch, **of_weights: Any) -> None:
    """The hub tells other things of the shards."""
    from tests.hub import answers

    whole = answers.sibling

    def other(file: Any, blobs: bool) -> dict[str, Any]:
        entry = whole(file, blobs)
        return entry | of_weights if file.path.endswith(".safetensors") else entry

    monkeypatch.setattr(answers, "sibling", other)


@pytest.mark.parametrize("size", [-5, 1 << 62, "12", 1.5])
def test_a_size_that_no_file_has_is_refused(hub: Hub, monkeypatch: pytest.MonkeyPatch, size: Any) -> None:
    listing(hub, monkeypatch, size=size, lfs=None)

    with pytest.raises(WeightsError) as caught:
        look(hub)

    assert str(caught.value.reason) == "HubRefused"


@pytest.mark.parametrize("name", ["\ud800.json", "a\nb.json", "./config.json", f"{'x' * 300}.json"])
def test_a_name_that_no_file_can_have_is_refused_before_anything_is_taken(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    listing(hub, monkeypatch, rfilename=name)
    (hub.repos.root / "org/model/model.safetensors.index.json").unlink()
    (hub.repos.root / "org/model/pytorch_model.bin").write_bytes(bytes(2000))

    with pytest.raises(WeightsError) as caught:
        look(hub)

    assert str(caught.value.reason) == "WeightsCorrupt"
    assert len(json.dumps(caught.value.as_json())) < 2000


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_signed_address_that_a_store_refuses_is_asked_for_anew(hub: Hub, tmp_path: Path, status: int) -> None:
    to, weights = tmp_path / "volume/model", "model-00001-of-00002.safetensors"
    hub.break_next("status", where="cdn", status=status)
    pull(hub, to)
    assert (to / weights).read_bytes() == (hub.repos.root / "org/model" / weights).read_bytes()

    hub.break_next("status", where="cdn", status=status, times=-1)
    with pytest.raises(WeightsError) as caught:
        pull(hub, tmp_path / "volume/another")

    # It says nothing of the token, and nothing of the repository.
    assert (str(caught.value.reason), f"HTTP {status}" in caught.value.message) == ("HubUnreachable", True)
