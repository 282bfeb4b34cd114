"""What goes wrong at the hub on demand, and what it was asked.

A fault is `{"kind": …, "repo": "org/name", "path": "*.safetensors", "where": "cdn", "times": 1, …}`:
- `status`: answers `status` (with `retryAfter` seconds, if given) instead of serving;
- `truncate`: promises the whole length, sends `afterBytes` and closes in order;
- `cut`: sends `afterBytes` and resets the connection;
- `stall`: sends `afterBytes` and then nothing for `seconds`;
- `slow`: sends at most `bytesPerSecond`;
- `corrupt`: flips one byte at `afterBytes` of the answer;
- `revoke`: from the `afterBytes`-th byte of the answer on, `token` (all, if unset) is no longer valid.
`times` is how many requests it hits (-1: every one); `where` is `api`, `resolve`, `cdn` or `any`.
"""

from __future__ import annotations

import fnmatch
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

KINDS = ("status", "truncate", "cut", "stall", "slow", "corrupt", "revoke")


@dataclass(frozen=True, slots=True)
class Fault:
    kind: str
    repo: str = "*"
    path: str = "*"
    where: str = "any"
    times: int = 1
    status: int = 503
    retryAfter: float | None = None
    afterBytes: int = 0
    seconds: float = 3600.0
    bytesPerSecond: int = 1_000_000
    token: str | None = None

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Fault:
        """A fault from JSON. Raises ValueError that names what is not understood."""
        unknown = set(given) - {item.name for item in fields(cls)}
        if unknown or given.get("kind") not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}; unknown keys: {sorted(unknown)}")
        return cls(**given)

    def hits(self, where: str, repo: str, path: str) -> bool:
        return (
            self.where in ("any", where)
            and fnmatch.fnmatch(repo, self.repo)
            and fnmatch.fnmatch(path or "*", self.path)
        )


@dataclass(slots=True)
class Faults:
    """The faults to come and the record of requests; safe for the server's threads."""

    revoked: set[str | None] = field(default_factory=set)
    _pending: list[list[Any]] = field(default_factory=list)
    _requests: list[dict[str, Any]] = field(default_factory=list)
    _bytes: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._pending.append([fault, fault.times])

    def clear(self) -> None:
        with self._lock:
            self._pending.clear()
            self.revoked.clear()

    def take(self, where: str, repo: str, path: str) -> Fault | None:
        """The first fault that hits this request, which uses it up by one."""
        with self._lock:
            for entry in self._pending:
                fault, left = entry
                if left != 0 and fault.hits(where, repo, path):
                    entry[1] = left - 1 if left > 0 else left
                    return fault  # type: ignore[no-any-return]
        return None

    def revoke(self, token: str | None) -> None:
        with self._lock:
            self.revoked.add(token)

    def is_revoked(self, token: str) -> bool:
        return None in self.revoked or token in self.revoked

    def note(self, method: str, where: str, repo: str, path: str, asked_range: str | None) -> None:
        with self._lock:
            self._requests.append(
                {"method": method, "where": where, "repo": repo, "path": path, "range": asked_range},
            )

    def served(self, path: str, count: int) -> None:
        with self._lock:
            self._bytes[path] += count

    def report(self) -> dict[str, Any]:
        """What was asked and served since the last reset: `requests`, `bytes` (of files), `byPath`, `log`."""
        with self._lock:
            return {
                "requests": len(self._requests),
                "bytes": sum(self._bytes.values()),
                "byPath": dict(self._bytes),
                "log": list(self._requests),
            }

    def reset(self) -> None:
        with self._lock:
            self._requests.clear()
            self._bytes.clear()
