"""A pull leaves the whole model, checked, in one step, and an interrupted one goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub import Hub
from tests.hub.models import write_model
from tests.hub.running import Program, run
from vllm_weights.failure import WeightsError
from vllm_weights.progress import Progress, served
from vllm_weights.pull import Pull
from vllm_weights.request import Request

pytestmark = pytest.mark.weights

MIB = 1 << 20
SHARD = 20 * MIB


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    root = tmp_path / "root"
    write_model(root / "org/model")
    with Hub(root) as running:
        yield running


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "volume/model"


def pull(
    hub: Hub, to: Path, source: str = "org/model", segment_bytes: int = 256 * MIB, **fields: Any
) -> dict[str, Any]:
    request = Request(source=source, destination=str(to), backoff_seconds=0, **fields)
    run = Pull({"HF_ENDPOINT": hub.url}, Progress(), to.parent.parent / "progress.json", segment_bytes)
    return run.run((request,), False)


def same_files(folder: Path, original: Path) -> bool:
    names = [
        path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and ".vllm-operator" not in path.parts
    ]
    return bool(names) and all((folder / name).read_bytes() == (original / name).read_bytes() for name in names)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_whole_model_is_there_and_nothing_else(hub: Hub, to: Path) -> None:
    answer = pull(hub, to)

    assert same_files(to, hub.repos.root / "org/model")
    assert {path.name for path in to.iterdir()} == {
        ".vllm-operator", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert [path.name for path in (to / ".vllm-operator").iterdir()] == ["manifest.json"]
    assert not to.with_name("model.partial").exists()
    assert answer["ok"] and answer["bytes"] == answer["bytesFetched"]


def test_the_manifest_names_every_file_with_its_checksum(hub: Hub, to: Path) -> None:
    answer = pull(hub, to)
    manifest = json.loads((to / ".vllm-operator/manifest.json").read_text())

    entries = {entry["path"]: entry for entry in manifest["files"]}
    weights = (to / "model.safetensors").read_bytes()
    assert entries["model.safetensors"]["checksum"] == f"sha256:{hashlib.sha256(weights).hexdigest()}"
    assert entries["config.json"]["checksum"].startswith("git-sha1:")
    assert (manifest["commit"], manifest["bytes"]) == (answer["commit"], answer["bytes"])


def test_a_pinned_model_that_is_there_is_not_asked_for(hub: Hub, to: Path) -> None:
    commit = pull(hub, to)["commit"]
    pull(hub, to, commit=commit)
    hub.faults.reset()

    assert pull(hub, to, commit=commit)["bytesFetched"] == 0
    assert hub.requests["requests"] == 0


def test_a_model_that_is_there_is_not_touched(hub: Hub, to: Path) -> None:
    pull(hub, to)
    before = to.stat().st_ino

    assert pull(hub, to)["bytesFetched"] == 0
    assert to.stat().st_ino == before


def test_a_damaged_file_is_fetched_again_and_only_that(hub: Hub, to: Path) -> None:
    pull(hub, to)
    os.truncate(to / "model.safetensors", 5)
    size = (hub.repos.root / "org/model/model.safetensors").stat().st_size

    assert pull(hub, to)["bytesFetched"] == size
    assert same_files(to, hub.repos.root / "org/model")


def test_of_a_new_commit_only_what_changed_is_fetched(hub: Hub, to: Path) -> None:
    pull(hub, to)
    (hub.repos.root / "org/model/config.json").write_text('{"changed": true}')

    assert pull(hub, to)["bytesFetched"] == len('{"changed": true}')
    assert same_files(to, hub.repos.root / "org/model")


def test_files_that_are_not_wanted_any_more_are_gone(hub: Hub, to: Path) -> None:
    pull(hub, to)
    (hub.repos.root / "org/model/generation_config.json").unlink()
    pull(hub, to)

    assert not (to / "generation_config.json").exists()


def test_a_large_file_is_fetched_in_segments_at_once(hub: Hub, to: Path) -> None:
    write_model(hub.repos.root / "org/large", shard_bytes=7 * MIB + 11)
    pull(hub, to, "org/large", segment_bytes=MIB, parallelism=4)

    ranges = [entry["range"] for entry in hub.requests["log"] if entry["where"] == "cdn"]
    assert len(ranges) == 8
    assert same_files(to, hub.repos.root / "org/large")


def test_an_empty_file_is_a_file(hub: Hub, to: Path) -> None:
    (hub.repos.root / "org/model/merges.txt").touch()
    pull(hub, to)

    assert (to / "merges.txt").read_bytes() == b""


def test_a_tokenizer_of_another_repository_gets_its_own_folder(hub: Hub, to: Path) -> None:
    write_model(hub.repos.root / "org/tok")
    pull(hub, to, tokenizer={"source": "org/tok"})

    assert {path.name for path in (to / "tokenizer").iterdir()} == {
        "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip


def test_several_models_are_pulled_in_one_run(hub: Hub, tmp_path: Path) -> None:
    write_model(hub.repos.root / "org/adapter", shard_bytes=1000)
    pulls = [{"source": name, "destination": str(tmp_path / "volume" / name)} for name in ("org/model", "org/adapter")]
    ended = run("pull", {"pulls": pulls}, tmp_path / "work", {"HF_ENDPOINT": hub.url})

    assert ended.code == 0
    assert [part["source"] for part in ended.answer["parts"]] == ["org/model", "org/adapter"]
    assert same_files(tmp_path / "volume/org/adapter", hub.repos.root / "org/adapter")


@pytest.mark.parametrize("destination", [None, "relative/folder", "/"])
def test_a_destination_that_is_no_folder_of_its_own_is_refused(hub: Hub, destination: str | None) -> None:
    request = Request(source="org/model", destination=destination)
    with pytest.raises(WeightsError, match="destination"):
        Pull({"HF_ENDPOINT": hub.url}, Progress(), Path("/dev/null")).run((request,), False)


def test_a_commit_that_is_gone_is_named(hub: Hub, to: Path) -> None:
    with pytest.raises(WeightsError, match="no revision") as caught:
        pull(hub, to, commit="0" * 40)

    assert not caught.value.retry


def counted(file: Path) -> int:
    """What the counter beside the largest unfinished file says; of one segment that is one number."""
    states = (file.parent / ".vllm-operator/incoming").glob("*")
    return max(int.from_bytes(state.read_bytes(), "little") for state in states)


@pytest.mark.parametrize("percent", [0, 10, 50, 99])
def test_a_killed_pull_goes_on_from_its_byte(hub: Hub, to: Path, tmp_path: Path, percent: int) -> None:
    write_model(hub.repos.root / "org/large", shard_bytes=SHARD)
    weights = hub.repos.root / "org/large/model.safetensors"
    stop = weights.stat().st_size * percent // 100
    hub.break_next("stall", where="cdn", path="*.safetensors", afterBytes=stop)
    request = {"source": "org/large", "destination": str(to)}
    first = Program("pull", request, tmp_path / "work", {"HF_ENDPOINT": hub.url})
    partial = to.with_name("model.partial") / "model.safetensors"
    verified = partial.with_name(".vllm-operator") / "verified"
    until(lambda: any(entry["where"] == "cdn" for entry in hub.requests["log"]))
    until(lambda: verified.exists() and len(verified.read_text().splitlines()) == 4)
    until(lambda: counted(partial) >= stop // MIB * MIB)
    first.kill()

    assert not to.exists()
    small = {path for path in hub.requests["byPath"] if path != str(weights)}
    ended = run("pull", request, tmp_path / "work", {"HF_ENDPOINT": hub.url})
    served = hub.requests["byPath"]
    assert ended.code == 0
    assert same_files(to, hub.repos.root / "org/large")
    assert served[str(weights)] <= weights.stat().st_size + MIB + 64 * 1024
    assert all(served[path] == Path(path).stat().st_size for path in small)


def test_finished_shards_are_not_fetched_again_after_a_kill(hub: Hub, to: Path, tmp_path: Path) -> None:
    write_model(hub.repos.root / "org/shards", shards=4, shard_bytes=2 * MIB)
    hub.break_next("stall", where="cdn", path="model-00003*")
    request = {"source": "org/shards", "destination": str(to), "parallelism": 1}
    first = Program("pull", request, tmp_path / "work", {"HF_ENDPOINT": hub.url})
    until(lambda: ("cdn", "model-00003-of-00004.safetensors") in {(e["where"], e["path"]) for e in hub.requests["log"]})
    first.kill()
    hub.faults.reset()
    ended = run("pull", request, tmp_path / "work", {"HF_ENDPOINT": hub.url})

    asked = {entry["path"] for entry in hub.requests["log"] if entry["where"] == "cdn"}
    assert ended.code == 0
    assert asked == {"model-00003-of-00004.safetensors", "model-00004-of-00004.safetensors"}
    assert same_files(to, hub.repos.root / "org/shards")


def test_sigterm_ends_it_at_once_and_the_next_goes_on(hub: Hub, to: Path, tmp_path: Path) -> None:
    write_model(hub.repos.root / "org/large", shard_bytes=SHARD)
    hub.break_next("stall", where="cdn", afterBytes=10 * MIB)
    request = {"source": "org/large", "destination": str(to)}
    program = Program("pull", request, tmp_path / "work", {"HF_ENDPOINT": hub.url})
    partial = to.with_name("model.partial") / "model.safetensors"
    until(lambda: partial.exists() and partial.stat().st_size >= 8 * MIB)
    program.process.send_signal(signal.SIGTERM)
    ended = program.wait(5)

    assert (ended.code, ended.answer["reason"], ended.answer["retry"]) == (1, "DownloadFailed", True)
    # Of 8 MiB on the disk the last may not have been counted yet; beside SHARD a header and small files are fetched.
    assert pull(hub, to, "org/large")["bytesFetched"] < SHARD - 6 * MIB


def test_two_pulls_of_one_destination_fetch_once(hub: Hub, to: Path, tmp_path: Path) -> None:
    write_model(hub.repos.root / "org/large", shard_bytes=SHARD)
    hub.break_next("stall", where="cdn", afterBytes=MIB, seconds=1)
    request = {"source": "org/large", "destination": str(to), "backoffSeconds": 0}
    first = Program("pull", request, tmp_path / "one", {"HF_ENDPOINT": hub.url})
    until(lambda: to.with_name("model.partial").exists())
    second = Program("pull", request, tmp_path / "two", {"HF_ENDPOINT": hub.url})
    until(lambda: '"waiting"' in second.log.read_text())
    ended = (first.wait(), second.wait())

    assert [end.code for end in ended] == [0, 0]
    assert ended[1].answer["bytesFetched"] == 0
    assert same_files(to, hub.repos.root / "org/large")


def test_progress_is_told_on_a_port_in_a_file_and_on_stdout(hub: Hub, to: Path, tmp_path: Path) -> None:
    write_model(hub.repos.root / "org/large", shard_bytes=SHARD)
    hub.break_next("stall", where="cdn", afterBytes=10 * MIB)
    port = free_port()
    environment = {"HF_ENDPOINT": hub.url, "PROGRESS_PORT": str(port)}
    program = Program("pull", {"source": "org/large", "destination": str(to)}, tmp_path / "work", environment)
    try:
        until(lambda: hub.requests["bytes"] >= 10 * MIB)
        until(lambda: asked(port)["bytesDone"] >= 9 * MIB)
        report = asked(port)
    finally:
        program.kill()

    assert report["version"] == 1 and report["phase"] == "pulling"
    assert 9 * MIB <= report["bytesDone"] < SHARD < report["bytesTotal"]
    assert report["bytesPerSecond"] > 0
    assert report["files"] == [4, 5]
    written = json.loads((tmp_path / "work/progress.json").read_text())
    assert {"event": "progress", "version": 1}.items() <= written.items()
    assert json.loads(program.log.read_text().splitlines()[0]) == written


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def asked(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/progress", timeout=5) as answer:
        report: dict[str, Any] = json.load(answer)
        return report


def test_a_taken_progress_port_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with served(Progress(), 0) as port:
        assert port is not None
        with served(Progress(), port) as second:
            assert second is None
    assert "PROGRESS_PORT" in capsys.readouterr().err
