"""How fetching a model can fail: a closed list of reasons, each with what to do about it.

WeightsError is the only exception that leaves this package's rooms; a library's error is wrapped where it is met.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class Reason(StrEnum):
    """Why it failed; part of the termination message, in the words that the operator documents."""

    INVALID_ARGUMENT = "InvalidArgument"
    REPO_NOT_FOUND = "RepoNotFound"
    GATED_REPO = "GatedRepo"
    INVALID_TOKEN = "InvalidToken"
    REVISION_NOT_FOUND = "RevisionNotFound"
    WEIGHTS_MISSING = "WeightsMissing"
    WEIGHTS_CORRUPT = "WeightsCorrupt"
    MODEL_CONFIG_INVALID = "ModelConfigInvalid"
    HUB_RATE_LIMITED = "HubRateLimited"
    HUB_UNREACHABLE = "HubUnreachable"
    HUB_REFUSED = "HubRefused"
    DOWNLOAD_STALLED = "DownloadStalled"
    DISK_FULL = "DiskFull"
    READ_ONLY_CACHE = "ReadOnlyCache"
    DOWNLOAD_FAILED = "DownloadFailed"


RETRYABLE = frozenset(
    {Reason.HUB_RATE_LIMITED, Reason.HUB_UNREACHABLE, Reason.DOWNLOAD_STALLED, Reason.DOWNLOAD_FAILED}
)
"""What may pass without anybody changing anything."""

REFRESH = "give the annotation vllm-operator.dev/refresh a new value"
"""How a model is looked up again, and a download that failed for good tried again."""


class WeightsError(Exception):
    """A failure with its reason, a sentence of what happened and one of what to do.

    `retry_after` is in seconds, None when the other side named no time. `is_final`: no try mends it, whatever the reason.
    """

    def __init__(
        self, reason: Reason, message: str, remedy: str, *, retry_after: float | None = None, is_final: bool = False
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.remedy = remedy
        self.retry_after = retry_after
        self.is_final = is_final

    @property
    def retry(self) -> bool:
        """Whether another try, unchanged, can succeed."""
        return self.reason in RETRYABLE and not self.is_final

    def for_good(self) -> WeightsError:
        """What it is when the last try failed by it, too."""
        return self

    def as_json(self) -> dict[str, Any]:
        return {
            "version": 1,
            "ok": False,
            "reason": str(self.reason),
            "message": self.message,
            "remedy": self.remedy,
            "retry": self.retry,
        }
