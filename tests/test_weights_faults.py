"""Whatever happens on the way, a pull ends with the right bytes or with a named reason."""

from __future__ import annotations

import errno
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub import Hub
from tests.hub.models import write_model
from tests.hub.running import run
from vllm_weights.disk import disk_errors_named
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.fetching import Patience
from vllm_weights.progress import Progress
from vllm_weights.pull import Pull
from vllm_weights.request import Request
from vllm_weights.wire import retry_after, unreachable

pytestmark = pytest.mark.weights

MIB = 1 << 20
WEIGHTS = "model.safetensors"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    root = tmp_path / "root"
    write_model(root / "org/model", shard_bytes=4 * MIB)
    with Hub(root) as running:
        yield running


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "volume/model"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A volume of 8 MiB."""
    mount = tmp_path / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(mount)], check=True)
    yield mount
    subprocess.run(["umount", "--lazy", str(mount)], check=True)


def pull(hub: Hub, to: Path, token: str | None = None, segment_bytes: int = 256 * MIB, **fields: Any) -> dict[str, Any]:
    request = Request(**{"source": "org/model", "destination": str(to), "backoff_seconds": 0} | fields)
    environment = {"HF_ENDPOINT": hub.url} | ({"HF_TOKEN": token} if token else {})
    return Pull(environment, Progress(), to.parent / "progress.json", segment_bytes).run((request,), False)


def failure(hub: Hub, to: Path, token: str | None = None, **fields: Any) -> WeightsError:
    with pytest.raises(WeightsError) as caught:
        pull(hub, to, token, **fields)
    return caught.value


def is_right(hub: Hub, to: Path) -> bool:
    return (to / WEIGHTS).read_bytes() == (hub.repos.root / "org/model" / WEIGHTS).read_bytes()


def served(hub: Hub) -> int:
    found: int = hub.requests["byPath"][str(hub.repos.root / "org/model" / WEIGHTS)]
    return found


def size(hub: Hub) -> int:
    return (hub.repos.root / "org/model" / WEIGHTS).stat().st_size


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408])
@pytest.mark.parametrize("where", ["api", "resolve", "cdn"])
def test_a_passing_error_is_tried_again(hub: Hub, to: Path, status: int, where: str) -> None:
    hub.break_next("status", status=status, where=where, times=2)
    pull(hub, to)

    assert is_right(hub, to)


@pytest.mark.parametrize(("kind", "where"), [("cut", "resolve"), ("cut", "cdn"), ("truncate", "cdn")])
@pytest.mark.parametrize("after", [0, 1_500_000])
def test_a_broken_transfer_goes_on_from_its_byte(hub: Hub, to: Path, kind: str, where: str, after: int) -> None:
    if where == "resolve":
        after = 0
    hub.break_next(kind, where=where, path=WEIGHTS, afterBytes=after)
    pull(hub, to)

    assert is_right(hub, to)
    assert size(hub) <= served(hub) <= size(hub) + after
    if kind == "truncate":
        assert served(hub) == size(hub)


def test_progress_between_failures_keeps_a_pull_alive(hub: Hub, to: Path) -> None:
    hub.break_next("truncate", where="cdn", path=WEIGHTS, afterBytes=400_000, times=9)

    assert pull(hub, to, tries=2)["ok"]
    assert is_right(hub, to)


@pytest.mark.parametrize(
    ("status", "reason"), [(429, Reason.HUB_RATE_LIMITED), (500, Reason.HUB_UNREACHABLE), (503, Reason.HUB_UNREACHABLE)]
)
def test_an_error_that_stays_ends_the_pull_after_its_tries(hub: Hub, to: Path, status: int, reason: Reason) -> None:
    hub.break_next("status", status=status, where="cdn", path=WEIGHTS, times=-1)
    error = failure(hub, to, tries=3)

    assert (error.reason, error.retry) == (reason, True)
    assert sum(entry["where"] == "cdn" for entry in hub.requests["log"]) == 3


def test_a_network_that_is_gone_ends_the_pull_after_its_tries(hub: Hub, to: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        gone = f"http://127.0.0.1:{taken.getsockname()[1]}"
    request = {"source": "org/model", "destination": str(to), "backoffSeconds": 0, "tries": 2}
    ended = run("pull", request, tmp_path / "work", {"HF_ENDPOINT": gone})

    assert (ended.code, ended.answer["reason"], ended.answer["retry"]) == (1, "HubUnreachable", True)


def test_wrong_bytes_are_fetched_again(hub: Hub, to: Path) -> None:
    hub.break_next("corrupt", where="cdn", path=WEIGHTS, afterBytes=MIB)
    pull(hub, to)

    assert is_right(hub, to)
    assert served(hub) == 2 * size(hub)


def test_wrong_bytes_in_one_of_many_segments_are_found(hub: Hub, to: Path) -> None:
    hub.break_next("corrupt", where="cdn", path=WEIGHTS, afterBytes=1000)
    pull(hub, to, segment_bytes=MIB)

    assert is_right(hub, to)


def test_a_wrong_small_file_is_found_by_its_git_id(hub: Hub, to: Path) -> None:
    hub.break_next("corrupt", where="resolve", path="config.json", afterBytes=3)
    pull(hub, to)

    assert (to / "config.json").read_bytes() == (hub.repos.root / "org/model/config.json").read_bytes()


def test_bytes_that_stay_wrong_are_never_served(hub: Hub, to: Path) -> None:
    hub.break_next("corrupt", where="cdn", path=WEIGHTS, afterBytes=9, times=-1)
    error = failure(hub, to)

    assert (error.reason, error.retry) == (Reason.WEIGHTS_CORRUPT, False)
    assert WEIGHTS in error.message
    assert not to.exists()


def test_a_stall_ends_this_try_and_the_next_goes_on(hub: Hub, to: Path) -> None:
    hub.break_next("stall", where="cdn", path=WEIGHTS, afterBytes=3 * MIB)
    hub.break_next("stall", where="cdn", path=WEIGHTS, times=-1)
    error = failure(hub, to, stall_seconds=0.4)

    assert (error.reason, error.retry) == (Reason.DOWNLOAD_STALLED, True)
    hub.faults.clear()
    assert pull(hub, to)["bytesFetched"] <= 2 * MIB
    assert is_right(hub, to)


def test_one_silent_connection_is_replaced_before_it_is_a_stall(hub: Hub, to: Path) -> None:
    hub.break_next("stall", where="cdn", path=WEIGHTS, afterBytes=3 * MIB)
    pull(hub, to, stall_seconds=0.6)

    assert is_right(hub, to)
    assert served(hub) <= size(hub) + 2 * MIB


def test_a_stall_ends_the_program_with_the_code_to_retry(hub: Hub, to: Path, tmp_path: Path) -> None:
    hub.break_next("stall", where="cdn", times=-1)
    request = {"source": "org/model", "destination": str(to), "stallSeconds": 0.4, "backoffSeconds": 0}
    ended = run("pull", request, tmp_path / "work", {"HF_ENDPOINT": hub.url})

    assert (ended.code, ended.answer["reason"]) == (1, "DownloadStalled")


def test_a_slow_source_is_no_stall(hub: Hub, to: Path) -> None:
    hub.break_next("slow", where="cdn", path=WEIGHTS, bytesPerSecond=6_000_000)

    assert pull(hub, to, stall_seconds=0.4)["ok"]


def test_a_token_revoked_in_the_middle_is_a_bad_token(hub: Hub, to: Path) -> None:
    write_model(hub.repos.root / "org/gated", shards=3, shard_bytes=MIB)
    (hub.repos.root / "org/gated/.gated").write_text("hf_test")
    hub.break_next("revoke", repo="org/gated", where="cdn", path="model-00002*", afterBytes=1000)
    error = failure(hub, to, "hf_test", source="org/gated", parallelism=1)

    assert (error.reason, error.retry) == (Reason.INVALID_TOKEN, False)
    hub.faults.clear()
    assert pull(hub, to, "hf_test", source="org/gated")["bytesFetched"] < 2 * MIB


def test_a_gate_is_named_by_a_pull_too(hub: Hub, to: Path, tmp_path: Path) -> None:
    (hub.repos.root / "org/model/.gated").write_text("hf_granted")
    ended = run("pull", {"source": "org/model", "destination": str(to)}, tmp_path / "work", {"HF_ENDPOINT": hub.url})

    assert (ended.code, ended.answer["reason"]) == (3, "GatedRepo")


def test_a_volume_that_is_too_small_is_named_before_the_first_byte(hub: Hub, small_disk: Path) -> None:
    write_model(hub.repos.root / "org/large", shard_bytes=9 * MIB)
    error = failure(hub, small_disk / "model", source="org/large")

    assert (error.reason, error.retry) == (Reason.DISK_FULL, False)
    assert "free" in error.message
    assert hub.requests["log"][-1]["where"] == "api"


def test_a_volume_that_gets_full_on_the_way_is_named(hub: Hub, small_disk: Path) -> None:
    hub.break_next("stall", where="cdn", path=WEIGHTS, afterBytes=MIB, seconds=0.3)
    partial = small_disk / "model.partial" / WEIGHTS
    filler = threading.Thread(target=fill_when_there, args=(partial, small_disk / "filler"))
    filler.start()
    error = failure(hub, small_disk / "model")
    filler.join()

    assert (error.reason, error.retry) == (Reason.DISK_FULL, False)
    assert re.search(rf"full, and \d+ bytes are still to come: \d+ of its {8 * MIB} bytes are free", error.message)
    (small_disk / "filler").unlink()
    assert pull(hub, small_disk / "model")["ok"]
    assert is_right(hub, small_disk / "model")


def fill_when_there(file: Path, filler: Path) -> None:
    while not file.exists():
        threading.Event().wait(0.005)
    filler.write_bytes(bytes(6 * MIB))


def test_a_volume_without_inodes_says_so(hub: Hub, tmp_path: Path) -> None:
    (mount := tmp_path / "few").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m,nr_inodes=8", "tmpfs", str(mount)], check=True)
    try:
        found = failure(hub, mount / "model")
    finally:
        subprocess.run(["umount", "--lazy", str(mount)], check=True)

    assert (found.reason, "inodes" in found.message) == (Reason.DISK_FULL, True)


def test_a_volume_that_may_only_be_read_is_named(hub: Hub, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    error = failure(hub, small_disk / "model")

    assert (error.reason, error.retry) == (Reason.READ_ONLY_CACHE, False)
    assert "mounted read-only" in error.message and "cache.accessModes" in error.remedy


@pytest.mark.parametrize(
    ("number", "reason", "retry", "advice"),
    [
        (errno.EACCES, Reason.READ_ONLY_CACHE, False, "honours fsGroup"),
        (errno.EPERM, Reason.READ_ONLY_CACHE, False, "writable for the group"),
        (errno.EIO, Reason.DOWNLOAD_FAILED, True, "storage behind the volume"),
        (errno.ESTALE, Reason.DOWNLOAD_FAILED, True, "storage behind the volume"),
        (errno.EDQUOT, Reason.DISK_FULL, False, "Have the quota"),
        (errno.EFBIG, Reason.DOWNLOAD_FAILED, False, "storage class of block or file storage"),
        (errno.ENOSYS, Reason.DOWNLOAD_FAILED, False, "not a bucket"),
        (errno.ENOSPC, Reason.DISK_FULL, False, "the pool behind the volume"),
        (errno.EISDIR, Reason.DOWNLOAD_FAILED, True, "in the way"),
    ],
)
def test_what_a_disk_refuses_is_told_apart(
    tmp_path: Path, number: int, reason: Reason, retry: bool, advice: str
) -> None:
    (folder := tmp_path / "volume").mkdir(mode=0o555)
    with pytest.raises(WeightsError) as caught, disk_errors_named(tmp_path):
        raise OSError(number, os.strerror(number), str(folder / "model"))

    assert (caught.value.reason, caught.value.retry) == (reason, retry)
    assert advice in caught.value.remedy


def test_what_another_user_left_on_the_volume_is_named(tmp_path: Path) -> None:
    theirs = tmp_path / "model.partial"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    with pytest.raises(WeightsError) as caught, disk_errors_named(tmp_path / "model"):
        raise PermissionError(errno.EACCES, "Permission denied", str(theirs))

    assert caught.value.reason is Reason.READ_ONLY_CACHE
    assert "belongs to user 12345" in caught.value.message and f"Have {theirs} removed" in caught.value.remedy


def test_a_volume_that_cannot_be_written_is_named(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    error = failure(hub, tmp_path / "file/model")

    assert (error.reason, error.retry) == (Reason.DOWNLOAD_FAILED, True)


def test_a_file_that_grew_since_it_was_listed_is_a_changed_source(hub: Hub, to: Path) -> None:
    hub.break_next("stall", where="resolve", path="config.json", seconds=0.3)
    weights = hub.repos.root / "org/model" / WEIGHTS

    def grow() -> None:
        while not hub.requests["log"]:
            threading.Event().wait(0.001)
        weights.write_bytes(weights.read_bytes() + b"more")

    thread = threading.Thread(target=grow)
    thread.start()
    error = failure(hub, to, parallelism=1)
    thread.join()
    assert error.reason in (Reason.REVISION_NOT_FOUND, Reason.WEIGHTS_MISSING)
    assert not error.retry


def test_pauses_double_up_to_a_minute() -> None:
    error = unreachable("hub", "gone")
    pauses = [Patience(9, 60, 1).pause_seconds(tried, error) for tried in range(1, 12)]

    assert all(0.75 * 2**at <= pause <= 1.25 * 2**at for at, pause in enumerate(pauses[:6]))
    assert all(pause <= 75 for pause in pauses)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "9999"}, 300.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"ratelimit": '"resolvers";r=0;t=55'}, 55.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": "Mon, 01 Jan 99999 00:00:00 GMT"}, None),
        ({"ratelimit": "t=²"}, None),
    ],
)
def test_what_the_other_side_asks_for_is_waited(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds
    error = unreachable("hub", "gone")
    error.retry_after = seconds
    if seconds is not None:
        assert Patience(5, 60, 1).pause_seconds(1, error) == seconds
