"""Whatever lies on the volume before a pull, the model comes to lie in its folder, and nothing else is written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub import Hub
from tests.hub.models import write_model
from vllm_weights.contents import Item
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.huggingface import HuggingFace
from vllm_weights.incoming import state_name
from vllm_weights.progress import Progress
from vllm_weights.pull import Pull
from vllm_weights.request import Request

pytestmark = pytest.mark.weights

WEIGHTS = "model.safetensors"
OWN = ".vllm-operator"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    root = tmp_path / "root"
    model = write_model(root / "org/model")
    (model / "1_Pooling").mkdir()
    (model / "1_Pooling/config.json").write_text('{"pooling": 1}')
    with Hub(root) as running:
        yield running


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A volume on which somebody else's model lies already."""
    folder = tmp_path / "volume"
    (folder / "other").mkdir(parents=True)
    (folder / "other" / WEIGHTS).write_bytes(b"theirs")
    return folder


def pull(hub: Hub, to: Path, commit: str | None = None) -> dict[str, Any]:
    request = Request(source="org/model", destination=str(to), backoff_seconds=0, commit=commit)
    return Pull({"HF_ENDPOINT": hub.url}, Progress(), to.parent.parent / "progress.json").run((request,), False)


def is_right(hub: Hub, to: Path) -> bool:
    """Every file is there, as itself, with the hub's bytes; and the manifest is."""
    files = json.loads((to / OWN / "manifest.json").read_text())["files"]
    original = hub.repos.root / "org/model"
    paths = [to / file["path"] for file in files]
    same = all(path.read_bytes() == (original / path.relative_to(to)).read_bytes() for path in paths)
    return same and not any(path.is_symlink() for path in (to, *to.rglob("*")))


def a_link_to_a_file(partial: Path) -> None:
    (partial / WEIGHTS).symlink_to("../other/model.safetensors")


def another_name_of_a_file(partial: Path) -> None:
    os.link(partial.parent / "other" / WEIGHTS, partial / WEIGHTS)


def a_link_to_nowhere(partial: Path) -> None:
    (partial / "config.json").symlink_to("/nowhere/at/all")


def a_link_to_a_folder(partial: Path) -> None:
    (partial / "1_Pooling").symlink_to("../other")


def a_link_that_nobody_wants(partial: Path) -> None:
    (partial / "2_Dense").symlink_to("../other")


def a_folder_in_place_of_a_file(partial: Path) -> None:
    (partial / "config.json/inside").mkdir(parents=True)


def a_file_in_place_of_a_folder(partial: Path) -> None:
    (partial / "1_Pooling").write_text("no folder")


def a_pipe(partial: Path) -> None:
    os.mkfifo(partial / "config.json")


def the_state_elsewhere(partial: Path) -> None:
    (partial / OWN).symlink_to("../other")


def the_whole_elsewhere(partial: Path) -> None:
    shutil.rmtree(partial)
    partial.symlink_to("other")


def the_lock_elsewhere(partial: Path) -> None:
    (partial.parent / ".model.lock").symlink_to("other/model.safetensors")


def a_ledger_of_garbage(partial: Path) -> None:
    (partial / OWN).mkdir()
    (partial / OWN / "verified").write_bytes(b'\xff\xfe\0\0\n123\n"x"\n[]\n{}\n{"path": 7}\n')


def a_ledger_about_a_link(partial: Path) -> None:
    a_link_to_a_file(partial)
    (partial / OWN).mkdir()
    (partial / OWN / "verified").write_text(json.dumps({"path": WEIGHTS, "size": 6, "checksum": "none"}))


def the_manifest_elsewhere(partial: Path) -> None:
    (partial / OWN).mkdir()
    (partial / OWN / "manifest.json").symlink_to("../../other/model.safetensors")


def a_pipe_for_a_lock(partial: Path) -> None:
    os.mkfifo(partial.parent / ".model.lock")


def a_folder_for_a_lock(partial: Path) -> None:
    (partial.parent / ".model.lock" / "inside").mkdir(parents=True)


def a_pipe_for_a_ledger(partial: Path) -> None:
    (partial / OWN).mkdir()
    os.mkfifo(partial / OWN / "verified")


def a_pipe_for_a_manifest(partial: Path) -> None:
    (partial.parent / "model" / OWN).mkdir(parents=True)
    os.mkfifo(partial.parent / "model" / OWN / "manifest.json")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "plant",
    [
        a_link_to_a_file,
        another_name_of_a_file,
        a_link_to_nowhere,
        a_link_to_a_folder,
        a_link_that_nobody_wants,
        a_folder_in_place_of_a_file,
        a_file_in_place_of_a_folder,
        a_pipe,
        the_state_elsewhere,
        the_whole_elsewhere,
        the_lock_elsewhere,
        a_ledger_of_garbage,
        a_ledger_about_a_link,
        the_manifest_elsewhere,
        a_pipe_for_a_lock,
        a_folder_for_a_lock,
        a_pipe_for_a_ledger,
        a_pipe_for_a_manifest,
    ],
)
def test_nothing_is_written_through_what_somebody_put_there(
    hub: Hub, volume: Path, plant: Callable[[Path], None]
) -> None:
    (volume / "model.partial").mkdir()
    plant(volume / "model.partial")

    pull(hub, volume / "model")

    assert is_right(hub, volume / "model")
    assert [path.name for path in (volume / "other").iterdir()] == [WEIGHTS]
    assert (volume / "other" / WEIGHTS).read_bytes() == b"theirs"


def test_no_counter_is_written_through_a_link(hub: Hub, volume: Path) -> None:
    incoming = volume / "model.partial" / OWN / "incoming"
    incoming.mkdir(parents=True)
    source = HuggingFace("org/model", {"HF_ENDPOINT": hub.url}, silence_seconds=5, parallelism=1)
    for file in source.listing(None).files:
        (incoming / state_name(Item(source, "", file, file.path))).symlink_to("../../../other/model.safetensors")
    source.close()

    pull(hub, volume / "model")

    assert is_right(hub, volume / "model")
    assert (volume / "other" / WEIGHTS).read_bytes() == b"theirs"


@pytest.mark.parametrize(
    "manifest",
    ["", "[]", '{"files": [1]}', '{"files": [{"path": 1, "size": 2}]}', '{"files": [], "bytes": "x"}', "\0" * 40],
)
def test_a_manifest_that_is_none_is_made_anew(hub: Hub, volume: Path, manifest: str) -> None:
    commit = str(pull(hub, volume / "model")["commit"])
    (volume / "model" / OWN / "manifest.json").write_text(manifest)

    pull(hub, volume / "model", commit)

    assert is_right(hub, volume / "model")


def test_a_file_that_somebody_replaced_by_a_link_is_fetched_again(hub: Hub, volume: Path) -> None:
    commit = str(pull(hub, volume / "model")["commit"])
    content = (volume / "model" / WEIGHTS).read_bytes()
    (volume / "other" / WEIGHTS).write_bytes(content)
    (volume / "model" / WEIGHTS).unlink()
    (volume / "model" / WEIGHTS).symlink_to("../other/model.safetensors")

    assert pull(hub, volume / "model", commit)["bytesFetched"] == len(content)
    assert is_right(hub, volume / "model")


def test_a_switch_that_was_cut_in_the_middle_is_finished_without_a_byte(hub: Hub, volume: Path) -> None:
    commit = str(pull(hub, volume / "model")["commit"])
    # The old folder was put aside, and the new one not yet in its place.
    (volume / "model").rename(volume / "model.partial")
    files = json.loads((volume / "model.partial" / OWN / "manifest.json").read_text())["files"]
    (volume / "model.partial" / OWN / "verified").write_text("\n".join(json.dumps(file) for file in files))
    (volume / "model.old").mkdir()

    assert pull(hub, volume / "model", commit)["bytesFetched"] == 0
    assert is_right(hub, volume / "model")
    assert not (volume / "model.old").exists()


def test_what_is_left_of_an_older_model_and_stays_is_told_before_anything_is_fetched(hub: Hub, volume: Path) -> None:
    held = volume / "model.old/held"
    held.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(held)], check=True)
    try:
        with pytest.raises(WeightsError) as caught:
            pull(hub, volume / "model")
    finally:
        subprocess.run(["umount", "--lazy", str(held)], check=True)

    assert "held" in caught.value.message and "in the way" in caught.value.remedy
    assert not [entry for entry in hub.requests["log"] if entry["where"] == "cdn"]


def test_a_disk_that_is_full_when_all_but_the_manifest_is_there_is_named(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(mount)], check=True)
    try:
        filler = mount / "filler"

        def fill() -> None:
            """When the last file is whole somebody else takes what is free."""
            with filler.open("wb") as file:
                try:
                    while file.write(bytes(4096)):
                        file.flush()
                except OSError:
                    return

        monkeypatch.setattr(Progress, "file_done", lambda progress: fill())
        with pytest.raises(WeightsError) as caught:
            pull(hub, mount / "model")
        assert caught.value.reason is Reason.DISK_FULL
        assert not (mount / "model").exists()

        monkeypatch.undo()
        filler.unlink()
        pull(hub, mount / "model")
        assert is_right(hub, mount / "model")
    finally:
        subprocess.run(["umount", "--lazy", str(mount)], check=True)
