"""What goes wrong at the hub on demand, and what it was asked.

A fault is `{"kind": …, "repo": "org/name", "path": "*.safetensors", "where": "cdn", "times": 1, …}`:
- `status`: answers `status` (with `retryAfter` seconds, if given) instead of serving;
- `truncate`: promises the whole length, sends `afterBytes` and closes in order;
- `cut`: sends `afterBytes` and resets the connection;
- `stall`: sends `afterBytes` and then nothing for `seconds`;
- `slow`: sends at most `bytesPerSecond`;
- `corrupt`: flips one byte at `afterBytes` of the answer;
- `revoke`: from the `afterBytes`-th byte of the answer on, `token` (all, if unset) is no longer valid; of the API's
  answers from the first;
- `page`, `packed`, `multipart`, `unsized`: answers in another shape (tests/hub/shapes.py).
`times` is how many requests it hits (-1: every one), after the first `skip`; `where` is `api`, `resolve`, `cdn` or `any`.
`path` is the file's, and of the API's requests the revision.
"""

from __future__ import annotations

import fnmatch
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from tests.hub import shapes

KINDS = ("status", "truncate", "cut", "stall", "slow", "corrupt", "revoke", *shapes.KINDS)


@dataclass(frozen=True, slots=True)
class Fault:
    kind: str
    repo: str = "*"
    path: str = "*"
    where: str = "any"
    times: int = 1
    skip: int = 0
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
class _Pending:
    fault: Fault
    skip: int
    left: int


@dataclass(slots=True)
class Faults:
    """The faults to come and the record of requests; safe for the server's threads."""

    revoked: dict[str | None, str] = field(default_factory=dict)
    """Tokens that are no longer valid (None: all), and the repository whose fault it is."""
    _pending: list[_Pending] = field(default_factory=list)
    _requests: list[dict[str, Any]] = field(default_factory=list)
    _bytes: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._pending.append(_Pending(fault, fault.skip, fault.times))

    def clear(self, repo: str | None = None) -> None:
        """Ends all faults, or those that were set for one repository, and makes their tokens valid again."""
        with self._lock:
            self._pending = [entry for entry in self._pending if repo not in (None, entry.fault.repo)]
            self.revoked = {token: whose for token, whose in self.revoked.items() if repo not in (None, whose)}

    def take(self, where: str, repo: str, path: str) -> Fault | None:
        """The first fault that hits this request, which uses it up by one."""
        with self._lock:
            for entry in self._pending:
                if entry.left == 0 or not entry.fault.hits(where, repo, path):
                    continue
                if entry.skip > 0:
                    entry.skip -= 1
                    continue
                entry.left -= 1 if entry.left > 0 else 0
                return entry.fault
        return None

    def revoke(self, fault: Fault) -> None:
        with self._lock:
            self.revoked[fault.token] = fault.repo

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
