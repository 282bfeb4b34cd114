"""The folders on a node's own disk: whose they are, what is removed, and what never can be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vllm_weights import node
from vllm_weights.failure import WeightsError


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The platform's folder; the group of the weights is this process's own, so that no right is needed."""
    monkeypatch.setattr(node, "GROUP", os.getgid())
    return tmp_path


def test_the_folder_is_the_group_s_with_all_that_comes_into_it(root: Path) -> None:
    node.prepare({"FOLDER": "team/weights-x"}, root)

    made = (root / "team" / "weights-x").stat()
    assert (made.st_mode & 0o7777, made.st_gid) == (0o2770, os.getgid())
    assert (root / "team").stat().st_mode & 0o077 == 0o011


def test_a_folder_that_is_there_stays_as_it_is(root: Path) -> None:
    node.prepare({"FOLDER": "team/weights-x"}, root)
    (root / "team" / "weights-x" / "config.json").write_text("{}")

    node.prepare({"FOLDER": "team/weights-x"}, root)

    assert (root / "team" / "weights-x" / "config.json").read_text() == "{}"


def test_the_folder_goes_with_everything_in_it_and_its_namespace_with_the_last(root: Path) -> None:
    for name in ("one", "two"):
        node.prepare({"FOLDER": f"team/{name}"}, root)
        (root / "team" / name / "deep" / "er").mkdir(parents=True)

    node.clear({"FOLDER": "team/one"}, root)
    assert [path.name for path in (root / "team").iterdir()] == ["two"]
    node.clear({"FOLDER": "team/two"}, root)
    node.clear({"FOLDER": "team/two"}, root)
    assert list(root.iterdir()) == []


def test_a_link_inside_is_removed_and_not_followed(root: Path) -> None:
    (root / "other").mkdir()
    (root / "other" / "kept").write_text("x")
    node.prepare({"FOLDER": "team/one"}, root)
    (root / "team" / "one" / "link").symlink_to(root / "other")

    node.clear({"FOLDER": "team/one"}, root)

    assert (root / "other" / "kept").read_text() == "x"


@pytest.mark.parametrize("folder", ["", "team", "team/", "/etc", "../etc", "team/..", "team/../x", "team/a/b", "a/b\n"])
@pytest.mark.parametrize("action", [node.prepare, node.clear])
def test_nothing_but_a_namespace_and_a_name_is_a_folder(root: Path, folder: str, action: object) -> None:
    with pytest.raises(WeightsError, match="namespace/name"):
        action({"FOLDER": folder}, root)  # type: ignore[operator]


def test_a_folder_that_cannot_be_made_is_a_failure_with_a_remedy(root: Path) -> None:
    (root / "team").write_text("a file is in the way")

    with pytest.raises(WeightsError) as caught:
        node.prepare({"FOLDER": "team/one"}, root)

    assert "nodeCache.path" in caught.value.as_json()["remedy"]
