"""Whatever a volume says, and wherever it says it, a pull ends with what is to be done about that volume."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub import Hub
from tests.hub.models import write_model
from tests.hub.running import Program
from vllm_weights.disk import disk_errors_named
from vllm_weights.errnos import Kind, kind_of
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.node import clear
from vllm_weights.progress import Progress
from vllm_weights.pull import Pull
from vllm_weights.request import Request

pytestmark = pytest.mark.weights

WEIGHTS = "model.safetensors"
IN_THE_WAY = {errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ELOOP}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    root = tmp_path / "root"
    write_model(root / "org/model", shard_bytes=1 << 20)
    with Hub(root) as running:
        yield running


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A volume of its own, of 8 MiB."""
    (mount := tmp_path / "volume").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(mount)], check=True)
    yield mount
    subprocess.run(["umount", "--lazy", str(mount)], check=True)


def pull(hub: Hub, to: Path, **fields: Any) -> dict[str, Any]:
    request = Request(**{"source": "org/model", "destination": str(to), "backoff_seconds": 0} | fields)
    return Pull({"HF_ENDPOINT": hub.url}, Progress(), to.parent.parent / "progress.json").run((request,), False)


def failure(hub: Hub, to: Path) -> WeightsError:
    with pytest.raises(WeightsError) as caught:
        pull(hub, to)
    return caught.value


def named(error: OSError, folder: Path) -> WeightsError:
    with pytest.raises(WeightsError) as caught, disk_errors_named(folder):
        raise error
    return caught.value


@pytest.mark.parametrize("number", [*errno.errorcode, 512, 524, 528, 529])
def test_no_errno_is_without_its_remedy(tmp_path: Path, number: int) -> None:
    found = named(OSError(number, os.strerror(number), str(tmp_path / "model.partial")), tmp_path / "model")

    assert ("files or folders of others" in found.remedy) == (number in IN_THE_WAY)
    assert "report" not in found.remedy


@pytest.mark.parametrize(
    "name",
    [
        *(
            "EIO",
            "ESTALE",
            "ENOTCONN",
            "ESHUTDOWN",
            "ENODEV",
            "ENXIO",
            "EREMOTEIO",
            "ENOLINK",
            "ECONNRESET",
            "EPIPE",
            "EBADF",
        ),
        *(
            "EHOSTDOWN",
            "EHOSTUNREACH",
            "ETIMEDOUT",
            "ENETDOWN",
            "ECONNREFUSED",
            "ECONNABORTED",
            "EPROTO",
            "ECOMM",
            "ENOMEDIUM",
        ),
    ],
)
def test_storage_that_is_lost_is_looked_at_and_mounted_afresh(tmp_path: Path, name: str) -> None:
    found = named(OSError(getattr(errno, name), "gone"), tmp_path)

    assert (found.reason, found.retry) == (Reason.DOWNLOAD_FAILED, True)
    assert "storage behind the volume" in found.remedy and "delete the pod" in found.remedy


@pytest.mark.parametrize(
    ("name", "retry", "advice"),
    [
        ("EKEYEXPIRED", True, "have it renewed"),
        ("ENOKEY", True, "Kerberos"),
        ("EUCLEAN", True, "file system is damaged"),
        ("EAGAIN", True, "still in use"),
        ("EMLINK", False, "storage class"),
        ("ENOBUFS", True, "limit is reached"),
        ("EMFILE", True, "open files"),
    ],
)
def test_what_else_a_volume_refuses_is_told_apart(tmp_path: Path, name: str, retry: bool, advice: str) -> None:
    found = named(OSError(getattr(errno, name), "no"), tmp_path)

    assert (found.retry, advice in found.remedy) == (retry, True)


def test_a_folder_that_a_bucket_will_not_rename_is_no_lack_of_open_files(
    hub: Hub, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Any, target: Any, **_: Any) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), os.fspath(source), None, os.fspath(target))

    monkeypatch.setattr(os, "rename", refuse)
    found = failure(hub, volume / "model")

    assert (found.reason, found.retry) == (Reason.DOWNLOAD_FAILED, False)
    assert "rename-dir-limit" in found.remedy and "parallelism" not in found.remedy


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_refusal_against_the_modes_is_of_labels_and_servers(tmp_path: Path, number: int) -> None:
    found = named(OSError(number, os.strerror(number), str(tmp_path / ".model.lock")), tmp_path / "model")

    assert (found.reason, found.retry) == (Reason.READ_ONLY_CACHE, False)
    assert f"by the mode of {tmp_path} they may write" in found.message
    assert "SELinux" in found.remedy and "Let one of these groups" not in found.remedy


@pytest.mark.parametrize(("mode", "owner"), [(0o755, 0), (0o700, 0), (0o1777, 1000)])
def test_a_refusal_by_the_modes_is_not(tmp_path: Path, mode: int, owner: int) -> None:
    (folder := tmp_path / "model").mkdir(mode=0o700)
    os.chown(folder, 1000, 1000)
    tmp_path.chmod(mode)
    os.chown(tmp_path, owner, owner)
    found = named(OSError(errno.EPERM, os.strerror(errno.EPERM), str(folder)), folder)

    assert "SELinux" not in found.remedy


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_file_that_was_opened_for_writing_is_refused_by_the_storage(tmp_path: Path, number: int) -> None:
    found = named(OSError(number, os.strerror(number)), tmp_path)

    assert (found.reason, found.retry) == (Reason.READ_ONLY_CACHE, False)
    assert "the storage itself refuses" in found.remedy and "honours fsGroup" not in found.remedy


def a_loop(folder: Path) -> Path:
    (folder / "loop").symlink_to("loop")
    return folder / "loop/model"


def a_name_too_long(folder: Path) -> Path:
    return folder / ("m" * 300)


def a_file_as_the_volume(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file/model"


@pytest.mark.parametrize("destination", [a_loop, a_name_too_long, a_file_as_the_volume])
def test_a_volume_is_named_that_does_not_tell_what_is_there(
    hub: Hub, tmp_path: Path, destination: Callable[[Path], Path]
) -> None:
    found = failure(hub, destination(tmp_path))

    assert found.reason is Reason.DOWNLOAD_FAILED and "Writing to" in found.message
    assert not hub.requests["log"]


@pytest.mark.parametrize("call", ["stat", "statvfs", "fsync", "fdatasync", "pwrite", "mkdir", "scandir", "ftruncate"])
def test_a_volume_that_is_lost_is_named_whoever_meets_it(
    hub: Hub, volume: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    real = getattr(os, call)

    def lost(target: Any, *arguments: Any, **named: Any) -> Any:
        path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else os.fspath(target)
        if not str(path).startswith(str(volume)):
            return real(target, *arguments, **named)
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN), *([] if isinstance(target, int) else [path]))

    monkeypatch.setattr(os, call, lost)
    found = failure(hub, volume / "model")

    assert (found.reason, "storage behind the volume" in found.remedy) == (Reason.DOWNLOAD_FAILED, True)


def test_a_quota_that_is_told_as_the_file_is_closed_is_a_full_volume(
    hub: Hub, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.close

    def used_up(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        real(descriptor)
        if path.endswith(WEIGHTS):
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "close", used_up)
    found = failure(hub, volume / "model")

    assert (found.reason, "quota" in found.remedy) == (Reason.DISK_FULL, True)


def test_a_file_system_that_syncs_no_folders_is_served(hub: Hub, volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def files_alone(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", files_alone)

    assert pull(hub, volume / "model")["ok"]


@pytest.mark.parametrize("is_pinned", [True, False])
def test_a_volume_that_became_read_only_serves_what_is_whole_on_it(hub: Hub, volume: Path, is_pinned: bool) -> None:
    commit = pull(hub, volume / "model")["commit"]
    subprocess.run(["mount", "-o", "remount,ro", str(volume)], check=True)
    answer = pull(hub, volume / "model", **({"commit": commit} if is_pinned else {}))

    assert (answer["ok"], answer["bytesFetched"]) == (True, 0)


def test_a_volume_that_became_read_only_is_named_where_something_is_to_be_written(hub: Hub, volume: Path) -> None:
    pull(hub, volume / "model")
    (hub.repos.root / "org/model/README.md").write_text("More.")
    (hub.repos.root / "org/model/generation_config.json").write_text('{"eos_token_id": 7}')
    subprocess.run(["mount", "-o", "remount,ro", str(volume)], check=True)
    found = failure(hub, volume / "model")

    assert (found.reason, "mounted read-only" in found.message) == (Reason.READ_ONLY_CACHE, True)


def test_a_pull_that_ends_while_it_waits_for_another_says_so(hub: Hub, volume: Path, tmp_path: Path) -> None:
    lock = volume / ".model.lock"
    lock.touch()
    with subprocess.Popen(["flock", str(lock), "-c", "echo held; read _"], stdin=-1, stdout=-1) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        request = {"source": "org/model", "destination": str(volume / "model")}
        waiting = Program("pull", request, tmp_path / "work", {"HF_ENDPOINT": hub.url})
        while '"waiting"' not in waiting.log.read_text():
            assert waiting.process.poll() is None
        waiting.process.terminate()
        ended = waiting.wait()
        holder.communicate(b"\n")

    assert (ended.code, ended.answer["reason"]) == (1, "DownloadFailed")
    assert "another pull of the same destination" in ended.answer["message"]


def test_a_folder_of_a_node_that_cannot_be_removed_is_named(tmp_path: Path) -> None:
    (busy := tmp_path / "team/model").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(busy)], check=True)
    try:
        with pytest.raises(WeightsError) as caught:
            clear({"FOLDER": "team/model"}, tmp_path)
    finally:
        subprocess.run(["umount", "--lazy", str(busy)], check=True)

    assert "nodeCache.path" in caught.value.remedy


def test_only_a_rename_is_refused_for_a_folders_size() -> None:
    opened = OSError(errno.EMFILE, "Too many open files", "/weights/a")
    renamed = OSError(errno.EMFILE, "Too many open files", "/weights/a", None, "/weights/b")

    assert (kind_of(opened), kind_of(renamed)) == (Kind.TOO_MANY, Kind.CANNOT)
