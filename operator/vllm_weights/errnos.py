"""What kind of refusal a volume's errno is. File systems over a network, and those of FUSE, give nearly any of them."""

from __future__ import annotations

import errno
from enum import Enum, auto


class Kind(Enum):
    """What has to be done about it is the same for all errnos of a kind."""

    NO_ROOM = auto()
    READ_ONLY = auto()
    NOT_OURS = auto()
    CANNOT = auto()
    """Of file systems that lack what a pull does: rename a folder, hold so large a file or such a name."""
    IN_USE = auto()
    IN_THE_WAY = auto()
    WENT_AWAY = auto()
    TOO_MANY = auto()
    NO_KEY = auto()
    DAMAGED = auto()
    LOST = auto()
    """Of disks that fail and of file systems that lost their server, or their own program."""


_ENOTSUPP = 524
"""The kernel's own, which NFS lets out; Python has no name for it."""
_EJUKEBOX = 528

_KINDS = {
    Kind.NO_ROOM: {errno.ENOSPC, errno.EDQUOT},
    Kind.READ_ONLY: {errno.EROFS},
    Kind.NOT_OURS: {errno.EACCES, errno.EPERM},
    Kind.CANNOT: {
        errno.ENOSYS,
        errno.EOPNOTSUPP,
        errno.EXDEV,
        errno.EFBIG,
        errno.EOVERFLOW,
        errno.ENAMETOOLONG,
        errno.EINVAL,
        errno.EILSEQ,
        errno.EMLINK,
        errno.ENOTTY,
        errno.ENOTBLK,
        errno.ESPIPE,
        errno.ERANGE,
        errno.EDOM,
        errno.E2BIG,
        _ENOTSUPP,
    },
    Kind.IN_USE: {
        errno.EBUSY,
        errno.ENOTEMPTY,
        errno.ETXTBSY,
        errno.EAGAIN,
        errno.EINTR,
        errno.ERESTART,
        errno.EDEADLK,
        errno.EALREADY,
        errno.EINPROGRESS,
        errno.ECANCELED,
        _EJUKEBOX,
    },
    Kind.IN_THE_WAY: {errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ELOOP},
    Kind.WENT_AWAY: {errno.ENOENT},
    Kind.TOO_MANY: {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EUSERS},
    Kind.NO_KEY: {errno.ENOKEY, errno.EKEYEXPIRED, errno.EKEYREVOKED, errno.EKEYREJECTED},
    Kind.DAMAGED: {errno.EBADMSG, errno.EUCLEAN},
}
_KIND_OF = {number: kind for kind, numbers in _KINDS.items() for number in numbers}


def kind_of(error: OSError) -> Kind:
    """The kind of an error that a volume gave. What nothing else gives than a connection, a device or a fault is LOST.

    A rename opens no file: where it is refused for too many, the file system will not move all that is in the folder.
    """
    is_rename = error.filename2 is not None
    if is_rename and error.errno in (errno.EMFILE, errno.ENFILE):
        return Kind.CANNOT
    return _KIND_OF.get(error.errno or 0, Kind.LOST)
