"""The bytes of a range as HTTP answers with them: those of the file that was listed, or an error that says what came."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import httpx2

from vllm_weights import body
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.listing import RemoteFile
from vllm_weights.whole import POINTER
from vllm_weights.wire import source_changed, what_it_says

LONGEST_NOTE_BYTES = 4096
_ANOTHER_COPY = (
    "A copy there, or in a proxy on the way, is cut off or out of date: have it cleared from the cache of whoever keeps it, "
    "or have the platform's settings name the source itself, or another mirror of it."
)


def body_of_range(
    response: httpx2.Response, file: RemoteFile, start: int, end: int, *, is_pinned: bool
) -> Iterator[memoryview]:
    """The asked bytes of an answer; also where the server ignores ranges and sends the whole file.

    `is_pinned`: what is asked for is one commit, of which no file changes.
    """
    kind, encoding = response.headers.get("content-type", ""), response.headers.get("content-encoding", "identity")
    is_packed = encoding not in ("", "identity")
    # A mirror may call everything a page; one that is none has the length of what was asked for.
    is_page = kind.startswith("text/html") and response.headers.get("content-length") not in (
        str(file.size),
        str(end - start),
    )
    if is_page or kind.startswith("multipart/") or (is_packed and response.status_code != 200):
        # The bytes of a part of something packed cannot be unpacked, and we asked for nothing packed.
        said = _words_of_a_small(response)
        raise WeightsError(
            Reason.HUB_REFUSED,
            f"{response.url.host} answers {file.path} with {encoding if is_packed else kind.partition(';')[0]}, "
            f"not with its bytes{f' ({said})' if said else ''}.",
            "Check the endpoint, and whether a proxy answers in its place; where people are to sign in (SSO), have these pods reach it without.",
        )
    length = None if is_packed else length_of(response)
    if length is not None and length != file.size:
        raise of_another_length(response, file, length, is_pinned=is_pinned)
    skipped = start if response.status_code == 200 else 0
    return body.pieces(response, skipped, end - start, is_packed=is_packed)


def length_of(response: httpx2.Response) -> int | None:
    """How long the server says the whole file is; None where it does not."""
    length = response.headers.get("content-range", "").rpartition("/")[2]
    if response.status_code == 200:
        length = response.headers.get("content-length", "")
    return int(length) if length.isdecimal() else None


def of_another_length(response: httpx2.Response, file: RemoteFile, length: int, *, is_pinned: bool) -> WeightsError:
    """Of a server that has another file than the one it listed, under the same name."""
    host = response.url.netloc.decode()
    said = _words_of_a_small(response)
    if said.encode().startswith(POINTER):
        return WeightsError(
            Reason.WEIGHTS_CORRUPT,
            f"{host} serves {file.path} as the Git LFS pointer that stands for it: {length} bytes long, not {file.size}.",
            "Where it is a mirror, have it fetch the file itself (its copy was made without Git LFS), or set another; "
            "else have the repository's owner upload the file itself.",
        )
    if length == 0:
        return CutShort(host, file, length)
    if said and response.headers.get("content-type", "").startswith("application/json") and response.status_code == 200:
        return InItsPlace(host, file, said)
    how = f"it is {length} bytes long, not {file.size}{f' ({said})' if said and response.status_code == 200 else ''}"
    if not is_pinned:
        return source_changed(file, how)
    if length < file.size:
        return CutShort(host, file, length)
    return WeightsError(
        Reason.WEIGHTS_CORRUPT,
        f"{file.path} is at {host} not what was listed of this commit: {how}.",
        _ANOTHER_COPY,
    )


class InItsPlace(WeightsError):
    """HubUnreachable: an error that comes with status 200 may be one that passes."""

    def __init__(self, host: str, file: RemoteFile, said: str) -> None:
        super().__init__(
            Reason.HUB_UNREACHABLE,
            f"{host} answers with an error in the place of {file.path}: {said}.",
            "It is tried again. Where it stays so, it has not got the file that it lists: have whoever keeps it there upload or fetch it again, or take "
            "another source.",
        )

    def for_good(self) -> WeightsError:
        """WeightsMissing."""
        return WeightsError(Reason.WEIGHTS_MISSING, self.message, self.remedy)


class CutShort(WeightsError):
    """HubUnreachable: what keeps half a copy now may have fetched it whole by the next try."""

    def __init__(self, host: str, file: RemoteFile, length: int) -> None:
        message = f"{host} gives {file.path} with {length} bytes, where {file.size} were listed of this commit."
        super().__init__(Reason.HUB_UNREACHABLE, message, _ANOTHER_COPY)

    def for_good(self) -> WeightsError:
        """WeightsCorrupt."""
        return WeightsError(Reason.WEIGHTS_CORRUPT, self.message, _ANOTHER_COPY)


def _words_of_a_small(response: httpx2.Response) -> str:
    """What an answer says that is too short for a file; "" where it says nothing, or is a part of one."""
    length = response.headers.get("content-length", "")
    if not length.isdecimal() or not 0 < int(length) <= LONGEST_NOTE_BYTES:
        return ""
    with suppress(httpx2.HTTPError):
        content = response.read()
        return what_it_says(response) if content.isascii() and b"\0" not in content else ""
    return ""
