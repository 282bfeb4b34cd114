"""What a volume's refusals mean: full, not to be written, or broken."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vllm_weights.failure import Reason, WeightsError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOT_OURS = (errno.EACCES, errno.EPERM)
_BROKEN = (
    errno.EIO,
    errno.ESTALE,
    errno.ENOTCONN,
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.EREMOTEIO,
)
"""Of network file systems that lost their server, and of disks that fail."""


@contextmanager
def disk_errors_named(folder: Path, missing: Callable[[], int] = int) -> Iterator[None]:
    """Turns errors of the disk into DiskFull, with the bytes that are `missing` and free, ReadOnlyCache and DownloadFailed."""
    try:
        yield
    except OSError as error:
        raise _named(error, folder, missing) from error


def _named(error: OSError, folder: Path, missing: Callable[[], int]) -> WeightsError:
    where = f"Writing to {folder} failed: {error.strerror or error}"
    if error.errno in _FULL:
        return disk_full(folder, _needed_and_free(folder, missing()))
    if error.errno == errno.EROFS:
        return WeightsError(
            Reason.READ_ONLY_CACHE,
            f"{where}. Its volume is mounted read-only.",
            "Use a volume that may be written (cache.accessModes ReadWriteOnce or ReadWriteMany, and a class that can); "
            "one that turned read-only by itself has a fault: have its storage and its node looked at.",
        )
    if error.errno in _NOT_OURS:
        return WeightsError(
            Reason.READ_ONLY_CACHE,
            f"{where}. This program's user is {os.getuid()}, its groups {', '.join(map(str, sorted(_groups())))}.",
            "Let one of these groups write to the volume: a storage class that honours fsGroup, or, where it does not "
            "(NFS, most often), its folder made writable for the group on the server.",
        )
    remedy = "Look at what lies on the volume under this name: files or folders of others may be in the way."
    if error.errno in _BROKEN:
        remedy = (
            "The storage behind the volume fails or is lost: have it, and the node's log, looked at. It is tried again."
        )
    return WeightsError(Reason.DOWNLOAD_FAILED, f"{where}.", remedy)


def _groups() -> set[int]:
    return {os.getgid(), *os.getgroups()}


def _needed_and_free(folder: Path, missing: int) -> str:
    """Of a volume that refuses a write. What is free may be more than what is missing: a quota says nothing of itself."""
    needed = f"it is full, and {missing} bytes are still to come" if missing else "it is full"
    try:
        disk = os.statvfs(folder.parent)
    except OSError:
        return needed
    if disk.f_files and not disk.f_favail:
        return f"{needed}: no more files can be made on it (inodes)"
    return f"{needed}: {disk.f_bavail * disk.f_frsize} of its {disk.f_blocks * disk.f_frsize} bytes are free"


def disk_full(folder: Path, how: str) -> WeightsError:
    return WeightsError(
        Reason.DISK_FULL,
        f"The volume at {folder} is too small: {how}.",
        "Enlarge the volume (spec.cache size, where the storage class allows expansion) or remove other models from it.",
    )
