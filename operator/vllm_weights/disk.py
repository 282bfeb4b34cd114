"""What a volume's refusals mean: full, not to be written, or broken."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vllm_weights.errnos import Kind, kind_of
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.rights import not_ours

_ROOM_BYTES = 16 * 1024 * 1024
"""More than this free, and more than is missing: then it is no full volume that refuses."""


_READ_ONLY = (
    "Use a volume that may be written (cache.accessModes ReadWriteOnce or ReadWriteMany, and a class that can); "
    "one that turned read-only by itself has a fault: have its storage and its node looked at."
)
_CANNOT = (
    "The volume's file system cannot do this: use a storage class of block or file storage (ext4, xfs, NFS), not a bucket "
    "that is mounted, nor one whose files may not be as large."
)
_CANNOT_RENAME = (
    " It has to rename a folder: of a bucket mounted by gcsfuse that takes a bucket with hierarchical namespace, or the mount option "
    "rename-dir-limit above the number of the model's files."
)
_MAY_PASS = {
    Kind.LOST: "The storage behind the volume fails or is lost: have it, and the node's log, looked at. It is tried again. A mount "
    "that is gone for this pod comes back with a new one: delete the pod where it stays so.",
    Kind.NO_KEY: "The key with which the node opens this storage (Kerberos, encryption) is missing or has expired: have it renewed "
    "there. It is tried again.",
    Kind.DAMAGED: "The volume's file system is damaged: have it checked and repaired, or take another volume. It is tried again.",
    Kind.IN_USE: "Something on the volume is still in use, by another pod most often (NFS keeps what is open). It is tried again; "
    "where that does not help, remove what is named, or what stands in the way.",
    Kind.WENT_AWAY: "It went away while it was written: somebody removes what lies on the volume. It is tried again, from what is left.",
    Kind.TOO_MANY: "The pod's, or the node's, limit is reached (open files, memory): lower `download.parallelism`, or see to the node.",
    Kind.IN_THE_WAY: "Look at what lies on the volume under this name: files or folders of others may be in the way.",
}


@contextmanager
def disk_errors_named(folder: Path, missing: Callable[[], int] = int, only_in: Path | None = None) -> Iterator[None]:
    """Turns errors of the disk into DiskFull, with the bytes that are `missing` and free, ReadOnlyCache and DownloadFailed.

    `only_in`: of what may fail elsewhere, too, only errors with a path in there.
    """
    try:
        yield
    except OSError as error:
        if only_in is not None and not _is_in(only_in, error):
            raise
        raise _named(error, folder, missing) from error


def _is_in(folder: Path, error: OSError) -> bool:
    return isinstance(error.filename, str | bytes) and Path(os.fsdecode(error.filename)).is_relative_to(folder)


def _named(error: OSError, folder: Path, missing: Callable[[], int]) -> WeightsError:
    where = f"Writing to {error.filename or folder} failed: {error.strerror or error}"
    kind = kind_of(error)
    if kind is Kind.NO_ROOM:
        if error.errno == errno.EDQUOT:
            return _no_room(folder, "its quota is used up", "Have the quota of this volume, or of its user, raised")
        return _full(folder, missing())
    if kind is Kind.NOT_OURS:
        return not_ours(where, None if error.filename is None else Path(os.fsdecode(error.filename)))
    if kind is Kind.READ_ONLY:
        return WeightsError(Reason.READ_ONLY_CACHE, f"{where}. Its volume is mounted read-only.", _READ_ONLY)
    if kind is Kind.CANNOT:
        is_rename = error.filename2 is not None
        remedy = f"{_CANNOT}{_CANNOT_RENAME if is_rename else ''}"
        return WeightsError(Reason.DOWNLOAD_FAILED, f"{where}.", remedy, is_final=True)
    return WeightsError(Reason.DOWNLOAD_FAILED, f"{where}.", _MAY_PASS[kind])


def _full(folder: Path, missing: int) -> WeightsError:
    """What is free may be more than what is missing: a pool or a quota behind the volume says nothing of itself."""
    needed = f"it is full, and {missing} bytes are still to come" if missing else "it is full"
    try:
        disk = os.statvfs(folder.parent)
    except OSError:
        return disk_full(folder, needed)
    free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    if disk.f_files and not disk.f_favail:
        return disk_full(folder, f"{needed}: no more files can be made on it (inodes)")
    if free > missing + _ROOM_BYTES:
        how = f"it takes no more, though {free} of its {total} bytes look free"
        return _no_room(folder, how, "Have the quota, or the pool behind the volume, looked at and enlarged")
    return disk_full(folder, f"{needed}: {free} of its {total} bytes are free")


def disk_full(folder: Path, how: str) -> WeightsError:
    """DiskFull, of a volume that is to be enlarged."""
    return _no_room(folder, how, "Enlarge the volume")


def _no_room(folder: Path, how: str, remedy: str) -> WeightsError:
    return WeightsError(
        Reason.DISK_FULL,
        f"The volume at {folder} is too small: {how}.",
        f"{remedy} (spec.cache size, where the storage class allows expansion), or remove other models from it.",
    )
