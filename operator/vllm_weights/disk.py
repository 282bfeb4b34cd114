"""What a volume's refusals mean: full, not to be written, or broken."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vllm_weights.failure import Reason, WeightsError

_NOT_OURS = (errno.EACCES, errno.EPERM)
_CANNOT = (
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.EXDEV,
    errno.EFBIG,
    errno.EOVERFLOW,
    errno.ENAMETOOLONG,
    errno.EINVAL,
    errno.EILSEQ,
)
"""Of file systems that lack what a pull does: rename a folder, hold so large a file or such a name."""
_IN_USE = (errno.EBUSY, errno.ENOTEMPTY, errno.ETXTBSY)
_TOO_MANY = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
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
_ROOM_BYTES = 16 * 1024 * 1024
"""More than this free, and more than is missing: then it is no full volume that refuses."""


@contextmanager
def disk_errors_named(folder: Path, missing: Callable[[], int] = int) -> Iterator[None]:
    """Turns errors of the disk into DiskFull, with the bytes that are `missing` and free, ReadOnlyCache and DownloadFailed."""
    try:
        yield
    except OSError as error:
        raise _named(error, folder, missing) from error


def _named(error: OSError, folder: Path, missing: Callable[[], int]) -> WeightsError:
    where = f"Writing to {error.filename or folder} failed: {error.strerror or error}"
    if error.errno == errno.EDQUOT:
        return _no_room(folder, "its quota is used up", "Have the quota of this volume, or of its user, raised")
    if error.errno == errno.ENOSPC:
        return _full(folder, missing())
    if error.errno == errno.EROFS:
        return WeightsError(
            Reason.READ_ONLY_CACHE,
            f"{where}. Its volume is mounted read-only.",
            "Use a volume that may be written (cache.accessModes ReadWriteOnce or ReadWriteMany, and a class that can); "
            "one that turned read-only by itself has a fault: have its storage and its node looked at.",
        )
    if error.errno in _NOT_OURS:
        return _not_ours(where, Path(error.filename or folder))
    if error.errno in _CANNOT:
        remedy = (
            "The volume's file system cannot do this: use a storage class of block or file storage (ext4, xfs, NFS), not a bucket "
            "that is mounted, nor one whose files may not be as large."
        )
        return WeightsError(Reason.DOWNLOAD_FAILED, f"{where}.", remedy, is_final=True)
    return WeightsError(Reason.DOWNLOAD_FAILED, f"{where}.", _what_may_pass(error.errno))


def _what_may_pass(number: int | None) -> str:
    if number in _BROKEN:
        return (
            "The storage behind the volume fails or is lost: have it, and the node's log, looked at. It is tried again."
        )
    if number in _IN_USE:
        return (
            "Something on the volume is still in use, by another pod most often (NFS keeps what is open). It is tried again; "
            "where that does not help, remove what is named, or what stands in the way."
        )
    if number == errno.ENOENT:
        return "It went away while it was written: somebody removes what lies on the volume. It is tried again, from what is left."
    if number in _TOO_MANY:
        return "The pod's, or the node's, limit is reached (open files, memory): lower `download.parallelism`, or see to the node."
    return "Look at what lies on the volume under this name: files or folders of others may be in the way."


def _not_ours(where: str, path: Path) -> WeightsError:
    groups = ", ".join(map(str, sorted({os.getgid(), *os.getgroups()})))
    message = f"{where}. This program's user is {os.getuid()}, its groups {groups}"
    path, owner = _nearest(path)
    if owner != os.getuid() and not path.is_mount():
        remedy = (
            f"Have {path} removed, or given to one of these groups with the right to write: it is another user's. Where all of "
            "the volume is, a storage class that honours fsGroup, or the server's export, has to let the group write."
        )
        return WeightsError(Reason.READ_ONLY_CACHE, f"{message}; {path} belongs to user {owner}.", remedy)
    remedy = (
        "Let one of these groups write to the volume: a storage class that honours fsGroup, or, where it does not "
        "(NFS, most often), its folder made writable for the group on the server."
    )
    return WeightsError(Reason.READ_ONLY_CACHE, f"{message}.", remedy)


def _nearest(path: Path) -> tuple[Path, int]:
    """What exists of the path, or of what it lies in, with its owner."""
    for there in (path, *path.parents):
        try:
            return there, there.lstat().st_uid
        except OSError:
            continue
    return path, os.getuid()


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
