"""Who may write on a volume: what a folder's mode says, and who refuses where its mode does not."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from vllm_weights.failure import Reason, WeightsError

_RWX = stat.S_IRWXO


def not_ours(where: str, path: Path | None) -> WeightsError:
    """ReadOnlyCache for what this program's user may not do at the path; None: to a file that was opened for writing."""
    groups = ", ".join(map(str, sorted({os.getgid(), *os.getgroups()})))
    message = f"{where}. This program's user is {os.getuid()}, its groups {groups}"
    if path is None:
        remedy = (
            "It could be opened for writing, so mode and fsGroup let it: the storage itself refuses what is written. Have its "
            "rights looked at: what the volume's own user may write there (CephFS caps and their pools), the server's export, its ACL."
        )
        return WeightsError(Reason.READ_ONLY_CACHE, f"{message}; the file was open for writing.", remedy)
    there, owner = _nearest(path)
    if _may_by_mode(path, there):
        remedy = (
            "fsGroup and modes are right: something else refuses. Have looked at the volume's SELinux label (or AppArmor's profile) on the "
            "node, at attributes such as immutable, and at the server: an ACL, or an export that makes this user another one (all_squash)."
        )
        return WeightsError(Reason.READ_ONLY_CACHE, f"{message}; by the mode of {there} they may write.", remedy)
    if owner != os.getuid() and not os.path.ismount(there):
        remedy = (
            f"Have {there} removed, or given to one of these groups with the right to write: it is another user's. Where all of "
            "the volume is, a storage class that honours fsGroup, or the server's export, has to let the group write."
        )
        return WeightsError(Reason.READ_ONLY_CACHE, f"{message}; {there} belongs to user {owner}.", remedy)
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


def _may_by_mode(path: Path, there: Path) -> bool:
    """Whether the modes of what exists, of the folder around it and of those above let this program write there.

    Nobody is asked but the modes: the system would answer with what else refuses, too.
    """
    try:
        found = there.lstat()
        wanted = _RWX if stat.S_ISDIR(found.st_mode) else stat.S_IROTH | stat.S_IWOTH
        if not _has(found, wanted) or not all(_has(parent.stat(), stat.S_IXOTH) for parent in there.parents):
            return False
        around = there.parent.stat()
    except OSError:
        return False
    if there != path or os.path.ismount(there):  # What is to be made is made inside.
        return True
    is_sticky = around.st_mode & stat.S_ISVTX and os.getuid() not in (around.st_uid, found.st_uid)
    return _has(around, stat.S_IWOTH | stat.S_IXOTH) and not is_sticky


def _has(found: os.stat_result, wanted: int) -> bool:
    """Whether this process has these rights of others', by the bits that count for it: its own, its groups' or others'."""
    if found.st_uid == os.geteuid():
        shift = 6
    elif found.st_gid in (os.getegid(), *os.getgroups()):
        shift = 3
    else:
        shift = 0
    return found.st_mode >> shift & wanted == wanted
