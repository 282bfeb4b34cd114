"""One failure: a reason, a sentence with its numbers, what to do, and the line it was read from, with no secret in it."""

import re
from dataclasses import dataclass, replace
from typing import Any, Final

from vllm_operator.diagnose.reasons import MEANINGS, Reason

MAX_BYTES: Final = 1024
"""Of message, remedy and excerpt each: a status stays small, and an Event's note may hold 1,024 bytes."""

_SECRETS: Final = (
    re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{10,}"),
    re.compile(r"\b(?:sk|gsk|pk|rk)-[A-Za-z0-9_-]{8,}"),
    re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}"),
    re.compile(r"\bgh[pousr]_[A-Za-z0-9]{16,}|\bglpat-[A-Za-z0-9_-]{12,}|\bxox[abpr]-[A-Za-z0-9-]{10,}"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]{4,})?"),
    re.compile(r"(?<=://)[^\s/@:]{1,200}:[^\s/@]{1,200}(?=@)"),
    re.compile(r"(?i)(?<=bearer )[A-Za-z0-9._~+/=-]{4,}"),
    re.compile(r"(?i)(?<=basic )[A-Za-z0-9+/=]{8,}"),
    re.compile(
        r"(?i)((?:api[_-]?key|(?:access|secret|hf|auth|session)[_-]?(?:token|key)|token|passw(?:or)?d|secret|signature|x-amz-[a-z-]{4,30})"
        r"['\"]?(?:[=:]| )\s?\[?['\"]?)(?!\(?https?://)(?=[^\s'\"<&,\])]{0,80}\d)[^\s'\"&,\])]{6,}"
    ),
)


def masked(text: str) -> str:
    """The text with tokens, keys and credentials in URLs replaced by ***."""
    for pattern in _SECRETS:
        text = pattern.sub(r"\1***" if pattern.groups else "***", text)
    return text


def shortened(text: str, limit: int = MAX_BYTES) -> str:
    """At most `limit` bytes of UTF-8; a longer text loses its end."""
    raw = text.encode("utf-8", "replace")
    return text if len(raw) <= limit else raw[: limit - 4].decode("utf-8", "ignore") + " …"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something failed. `retry`: the same thing, unchanged, may work the next time."""

    reason: Reason
    message: str
    remedy: str
    excerpt: str = ""
    retry: bool = False
    pod: str = ""
    exit_code: int | None = None
    rule: str = ""

    def on(self, pod: str, exit_code: int | None = None) -> "Failure":
        """The same failure, with the pod it happened in."""
        return replace(self, pod=pod, exit_code=self.exit_code if exit_code is None else exit_code)

    def as_status(self) -> dict[str, Any]:
        """`status.lastFailure`: camelCase, empty fields left out."""
        fields = {
            "reason": str(self.reason),
            "message": self.message,
            "remedy": self.remedy,
            "pod": self.pod or None,
            "exitCode": self.exit_code,
            "excerpt": self.excerpt or None,
        }
        return {key: value for key, value in fields.items() if value is not None}

    def as_answer(self) -> dict[str, Any]:
        """What `vllm-operator diagnose --output json` prints."""
        return {
            "reason": str(self.reason),
            "message": self.message,
            "remedy": self.remedy,
            "excerpt": self.excerpt,
            "retry": self.retry,
        }


def failure(
    reason: Reason,
    message: str,
    *,
    remedy: str | None = None,
    excerpt: str = "",
    retry: bool | None = None,
    rule: str = "",
) -> Failure:
    """A failure with secrets masked and lengths bounded; remedy and retry default to what the reason says."""
    meaning = MEANINGS[reason]
    return Failure(
        reason=reason,
        message=shortened(masked(" ".join(message.split()))),
        remedy=shortened(masked(" ".join((remedy or meaning.remedy).split()))),
        excerpt=shortened(masked(excerpt.strip())),
        retry=meaning.retry if retry is None else retry,
        rule=rule,
    )
