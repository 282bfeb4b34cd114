"""Small files that are read whole, and looked at before anything is taken: complete, and of the source's own checksum."""

from __future__ import annotations

from vllm_weights.checksum import is_of
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.listing import RemoteFile, Source

POINTER = b"version https://git-lfs"
"""What stands in the place of a file that Git LFS should have brought, and did not."""
POINTER_BYTES = range(100, 200)
"""As long as a pointer can be: its digest, and a size of up to twenty digits."""
TIMES = 2


def read_start(source: Source, commit: str, file: RemoteFile, limit: int) -> bytes:
    """The first `limit` bytes of a file, all of it where it is smaller. Raises HubUnreachable where they do not come."""
    wanted = min(limit, file.size)
    if wanted == 0:
        return b""
    return read_range(source, commit, file, 0, wanted)


def read_whole(source: Source, commit: str, file: RemoteFile, limit: int) -> bytes:
    """As `read_start`, and a file that is read whole has the checksum of the source. Raises WeightsCorrupt where not."""
    for _ in range(TIMES):
        content = read_start(source, commit, file, limit)
        if len(content) < file.size or is_of(content, file.digest):
            return content
    if source.checksum_is_none(file):
        return content
    raise WeightsError(
        Reason.WEIGHTS_CORRUPT,
        f"{file.path} came {TIMES} times with another {file.digest.kind} than {file.digest.value[:16]}….",
        source.wrong_bytes,
    )


def read_range(source: Source, commit: str, file: RemoteFile, start: int, end: int) -> bytes:
    """Exactly these bytes of a file. Raises HubUnreachable where fewer come: half of a file says what is not true."""
    with source.stream(commit, file, start, end) as pieces:
        content = b"".join(bytes(piece) for piece in pieces)
    if len(content) < end - start:
        raise WeightsError(
            Reason.HUB_UNREACHABLE,
            f"The source ends {file.path} before its last byte.",
            "Try again; if it stays so, a proxy on the way cuts it short.",
        )
    return content


def is_pointer(content: bytes) -> bool:
    """Whether this is a Git LFS pointer that was uploaded in place of the file."""
    return content.startswith(POINTER)


def pointer_in_place_of(file: RemoteFile) -> WeightsError:
    return WeightsError(
        Reason.WEIGHTS_CORRUPT,
        f"{file.path} is a Git LFS pointer that was uploaded as the file.",
        "Upload the file itself (its clone lacks it: git lfs install, then git lfs pull; to a hub git lfs push or hf upload), or name another revision.",
    )
