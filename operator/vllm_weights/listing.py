"""What a source holds: its files with sizes and checksums at one commit, and how to read them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Protocol, runtime_checkable

from vllm_weights.failure import Reason, WeightsError

OWN_FOLDER = ".vllm-operator"
"""Inside each folder of weights: our manifest, and the state of a pull that is not finished."""

LONGEST_NAME_BYTES = 255
UNWRITABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class DigestKind(StrEnum):
    SHA256 = "sha256"
    GIT_BLOB = "git-sha1"
    MD5 = "md5"
    NONE = "none"
    """The store gives no checksum of the content (an S3 multipart upload): the size is all there is to check."""


@dataclass(frozen=True, slots=True)
class Digest:
    kind: DigestKind
    value: str = ""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file at the source. `path` is relative with forward slashes; `version` pins the object in a bucket."""

    path: str
    size: int
    digest: Digest
    version: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """Every file at `commit`: 40 hex digits of git, or of a hash over names, sizes and ETags."""

    commit: str
    files: tuple[RemoteFile, ...]
    parameters: dict[str, int] = field(default_factory=dict)
    """Parameters by dtype where the hub itself says so; empty otherwise."""

    def file(self, path: str) -> RemoteFile | None:
        return next((file for file in self.files if file.path == path), None)


class Source(Protocol):
    """A place that holds one model. Every method raises WeightsError and nothing else."""

    wrong_bytes: str
    """What helps where a file of it comes wrong every time."""

    def listing(self, revision: str | None) -> Listing:
        """Its files at the revision (None: the source's default)."""

    def stream(
        self, commit: str, file: RemoteFile, start: int, end: int
    ) -> AbstractContextManager[Iterator[bytes | memoryview]]:
        """The bytes from `start` up to, not including, `end`; may end early, never late.

        A piece is good until the next one is asked for; it is written at once, so it is large or has been waited for.
        """

    def checksum_is_none(self, file: RemoteFile) -> bool:
        """Asked when a checksum does not match: whether what was listed is no checksum of the content after all."""

    def close(self) -> None:
        """Ends its connections; streams that still run fail."""


@runtime_checkable
class Redirecting(Protocol):
    """A source whose bytes come from other hosts than its own; a store's come from one alone."""

    asked_last: Callable[[], str]
    """Where its latest request went, as messages call it."""


def check_paths(files: tuple[RemoteFile, ...]) -> None:
    """Raises WeightsCorrupt for a name that would be written outside the folder or into our own one."""
    for file in files:
        parts = PurePosixPath(file.path).parts
        bad = not parts or file.path.startswith("/") or ".." in parts or parts[0] == OWN_FOLDER
        if bad or "\\" in file.path or "\0" in file.path:
            raise _misnamed(file, "which leads out of the model's folder")


def check_names(files: tuple[RemoteFile, ...]) -> None:
    """Raises WeightsCorrupt for a file to be brought that cannot be asked for, or written, under its name and no other."""
    for file in files:
        parts = PurePosixPath(file.path).parts
        # `./a` and `a//b` are further names of what may be there under another.
        if "/".join(parts) != file.path or UNWRITABLE.search(file.path):
            raise _misnamed(file, "which is no name of a file")
        if any(len(part.encode()) > LONGEST_NAME_BYTES for part in parts):
            raise _misnamed(file, f"which is longer than the {LONGEST_NAME_BYTES} bytes that a file system allows")


def _misnamed(file: RemoteFile, how: str) -> WeightsError:
    return WeightsError(
        Reason.WEIGHTS_CORRUPT,
        f"The source holds a file named {file.path[:300]!r}, {how}.",
        "Do not use this source; if it is yours, rename the file.",
    )
