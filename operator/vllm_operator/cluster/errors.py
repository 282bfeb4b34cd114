"""What can go wrong with the API server, in the five ways that call for different answers.

ApiError
├── Busy       the server cannot answer now (429, 5xx, no connection, a timeout), or does not know us (401): the same call, later
├── Conflict   somebody else was quicker (409): look again, decide anew
├── Gone       what is written to is no longer there (404, 410)
├── Forbidden  the operator, or what it asked for, is not allowed (403): quota and Pod Security, too
└── Refused    the server does not accept the object (400, 422 and the rest)

OutOfBounds    a bug of ours: a write that would leave the model's namespace
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MESSAGE_LIMIT = 1024  # of what the server says; an admission policy may answer with pages


class ApiError(Exception):
    """The API server's answer was no. `status` is the HTTP status, 0 when there was no answer."""

    expected = True  # the queue logs it in one line, without a traceback

    def __init__(self, status: int, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after


class Busy(ApiError):
    """Not now. `retry_after` seconds were asked for by the server; 0 when it did not say."""


class Conflict(ApiError):
    """The object changed, or was replaced, since it was seen."""


class Gone(ApiError):
    """There is no such object (any more)."""


class Forbidden(ApiError):
    """Not allowed: the operator's rights, a quota, an admission policy."""


class Refused(ApiError):
    """The object is invalid."""


class OutOfBounds(ValueError):
    """A write to another namespace, to a kind that is not the operator's, or for another owner."""


# Of OwnerReferencesPermissionEnforcement, for 10 to 15 s after a CRD was installed (seen with Kubernetes 1.36).
_NOT_YET_KNOWN = "cannot find RESTMapping for APIVersion"

# What an apply answers, with 500, to a field that does not exist or has another type (seen with Kubernetes 1.36).
_NOT_UNDERSTOOD = "failed to create typed patch object"

_BY_STATUS: Mapping[int, type[ApiError]] = {
    401: Busy, 403: Forbidden, 404: Gone, 409: Conflict, 410: Gone, 408: Busy, 429: Busy,
}  # fmt: skip


def error_of(status: int, body: bytes, headers: Mapping[str, str], what: str) -> ApiError:
    """The error for an HTTP answer; `what` names the call in its message."""
    said = _parsed(body)
    kind = _of_causes(status, said) or _BY_STATUS.get(status, Busy if status >= 500 else Refused)
    text = str(said.get("message") or "") or body.decode("utf-8", "replace").strip() or f"HTTP {status}"
    return kind(status, f"{what}: {text[:MESSAGE_LIMIT]}", retry_after=_seconds(headers.get("Retry-After", "")))


def _parsed(body: bytes) -> Mapping[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _of_causes(status: int, said: Mapping[str, Any]) -> type[ApiError] | None:
    """The refusals that mean something else than their status says."""
    causes = (said.get("details") or {}).get("causes") or []
    if status == 422 and any(cause.get("field") == "metadata.uid" for cause in causes):
        return Conflict  # the patch named the uid it is meant for, and met a successor: "the field is immutable"
    if status == 403 and any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
        return Gone
    if status == 500 and str(said.get("message")).startswith(_NOT_UNDERSTOOD):
        return Refused
    if status == 403 and _NOT_YET_KNOWN in str(said.get("message")):
        return Busy  # the API server has just been given our CRD, and its admission does not know the kind yet
    return None


def _seconds(text: str) -> float:
    return min(float(text), 60.0) if text.isascii() and text.isdigit() else 0.0
