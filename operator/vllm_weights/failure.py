"""How fetching a model can fail: a closed list of reasons, each with what to do about it.

WeightsError is the only exception that leaves this package's rooms; a library's error is wrapped where it is met.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class Reason(StrEnum):
    """Why it failed; part of the termination message."""

    INVALID_REQUEST = "InvalidRequest"
    REPO_NOT_FOUND = "RepoNotFound"
    GATED_REPO = "GatedRepo"
    BAD_TOKEN = "BadToken"
    ACCESS_DENIED = "AccessDenied"
    REVISION_NOT_FOUND = "RevisionNotFound"
    FILE_NOT_FOUND = "FileNotFound"
    NO_WEIGHTS = "NoWeights"
    AMBIGUOUS_WEIGHTS = "AmbiguousWeights"
    UNSAFE_PATH = "UnsafePath"
    RATE_LIMITED = "RateLimited"
    HUB_UNREACHABLE = "HubUnreachable"
    HUB_REFUSED = "HubRefused"
    SOURCE_CHANGED = "SourceChanged"
    CHECKSUM_MISMATCH = "ChecksumMismatch"
    DOWNLOAD_STALLED = "DownloadStalled"
    DISK_FULL = "DiskFull"
    DISK_FAILED = "DiskFailed"
    TERMINATED = "Terminated"
    INTERNAL_ERROR = "InternalError"


RETRYABLE = frozenset(
    {
        Reason.RATE_LIMITED,
        Reason.HUB_UNREACHABLE,
        Reason.DOWNLOAD_STALLED,
        Reason.DISK_FAILED,
        Reason.TERMINATED,
        Reason.INTERNAL_ERROR,
    }
)
"""What may pass without anybody changing anything."""


class WeightsError(Exception):
    """A failure with its reason, a sentence of what happened and one of what to do.

    `retry_after` is in seconds, None when the other side named no time.
    """

    def __init__(self, reason: Reason, message: str, remedy: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.remedy = remedy
        self.retry_after = retry_after

    @property
    def retry(self) -> bool:
        """Whether another try, unchanged, can succeed."""
        return self.reason in RETRYABLE

    def as_json(self) -> dict[str, Any]:
        return {
            "version": 1,
            "ok": False,
            "reason": str(self.reason),
            "message": self.message,
            "remedy": self.remedy,
            "retry": self.retry,
        }
