"""The keyed queue: who is looked at, when, and never twice at the same time.

`Schedule` is the pure part (it is told the time); `Queue` runs it on the event loop with bounded concurrency.
Events and deadlines are the same thing here: a key and the moment from which it is due.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

# More looks in the same moment hold up the event loop, and servers seem silent.
CONCURRENCY = 8
SPACING_SECONDS = 0.5  # a rollout sends dozens of events in a second; one look answers them all
FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 300.0
EVENT_BACKOFF_SECONDS = 5.0  # a user's correction is not made to wait for the five minutes of the error before it
RUN_LIMIT_SECONDS = 120.0  # more than any chain of calls that each have a timeout should need


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """One model: where it lives and what it is called."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(slots=True)
class _Entry:
    due: float | None = None  # None: nothing to do until somebody says so
    started_at: float | None = None  # when the run in progress began
    again: bool = False  # something happened during the run
    gone: bool = False  # the run found that the object no longer exists
    failures: int = 0
    earliest: float = float("-inf")  # no event makes it due before this
    ticket: int = 0  # the one heap entry that counts


@dataclass(slots=True)
class Schedule:
    """Which key is due when. Pure: every method is told the time (seconds on a monotonic clock)."""

    spacing: float = SPACING_SECONDS
    jitter: random.Random = field(default_factory=random.Random)
    _entries: dict[Key, _Entry] = field(default_factory=dict)
    _heap: list[tuple[float, int, Key]] = field(default_factory=list)
    _tickets: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def __len__(self) -> int:
        """How many keys wait or run."""
        return sum(1 for e in self._entries.values() if e.due is not None or e.started_at is not None)

    def add(self, key: Key, now: float) -> None:
        """Something happened to this key: it is due now, or as soon as its run in progress has ended."""
        entry = self._entries.setdefault(key, _Entry())
        if entry.started_at is not None:
            entry.again = True
        else:
            self._bring_forward(key, entry, max(now, entry.earliest))

    def add_at(self, key: Key, due: float) -> None:
        """A deadline: due then, unless it is due earlier already."""
        entry = self._entries.setdefault(key, _Entry())
        self._bring_forward(key, entry, due)

    def _bring_forward(self, key: Key, entry: _Entry, due: float) -> None:
        if entry.due is not None and entry.due <= due:
            return
        self._set_due(key, entry, due)

    def _set_due(self, key: Key, entry: _Entry, due: float) -> None:
        entry.due, entry.ticket = due, next(self._tickets)
        heapq.heappush(self._heap, (due, entry.ticket, key))

    def next_due(self) -> float | None:
        """The moment at which the next key is due; None when none waits."""
        while self._heap:
            due, ticket, key = self._heap[0]
            entry = self._entries.get(key)
            if entry is not None and entry.ticket == ticket and entry.due is not None and entry.started_at is None:
                return due
            heapq.heappop(self._heap)
        return None

    def take(self, now: float) -> Key | None:
        """The key that has been due the longest, marked as running; None when none is due."""
        due = self.next_due()
        if due is None or due > now:
            return None
        _, _, key = heapq.heappop(self._heap)
        entry = self._entries[key]
        entry.due, entry.started_at, entry.again, entry.gone = None, now, False, False
        entry.earliest = now + self.spacing
        return key

    def finished(self, key: Key, now: float, again_after: float | None) -> None:
        """The run ended well; again after so many seconds, or when something happens."""
        entry = self._entries[key]
        entry.started_at, entry.failures = None, 0
        dues = [] if entry.due is None else [entry.due]  # a deadline set during the run
        if entry.again:
            dues.append(max(now, entry.earliest))
        if again_after is not None and not entry.gone:
            dues.append(now + again_after)
        self._rest_until(key, entry, min(dues, default=None))

    def failed(self, key: Key, now: float, at_least: float = 0.0) -> float:
        """The run ended badly: seconds until the next try, doubling from 0.5 s to 5 min, with jitter.

        `at_least` so many seconds were asked for by whoever was too busy; they hold for events, too.
        """
        entry = self._entries[key]
        entry.started_at, entry.gone = None, False
        entry.failures += 1
        full: float = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** min(entry.failures - 1, 12))
        delay = at_least + full * (0.5 + self.jitter.random() / 2)
        # An object that somebody rewrites all the time must not turn its errors into a storm of requests.
        entry.earliest = now + max(at_least, min(delay, EVENT_BACKOFF_SECONDS))
        self._rest_until(key, entry, entry.earliest if entry.again else now + delay)
        return delay

    def _rest_until(self, key: Key, entry: _Entry, due: float | None) -> None:
        if due is not None:
            self._set_due(key, entry, due)
        elif entry.gone:
            del self._entries[key]

    def forget(self, key: Key) -> None:
        """The object is gone: no deadline, no count of failures. An event brings it back."""
        entry = self._entries.get(key)
        if entry is None:
            return
        if entry.started_at is None:
            del self._entries[key]
        else:
            entry.due, entry.gone = None, True

    def longest_wait(self, now: float) -> float:
        """Seconds for which the most overdue key has waited or the longest run has lasted; 0 when none."""
        moments = (e.started_at if e.started_at is not None else e.due for e in self._entries.values())
        return max((now - moment for moment in moments if moment is not None and moment < now), default=0.0)


Work = Callable[[Key], Awaitable[float | None]]


class Queue:
    """Runs `work` for every key that is due: one run per key at a time, a bounded number side by side.

    `work` returns the seconds after which it wants to look again, or None. What it raises is logged with the key and
    tried again with back-off; it never reaches another key.
    """

    def __init__(
        self,
        work: Work,
        *,
        concurrency: int = CONCURRENCY,
        clock: Callable[[], float] = time.monotonic,
        schedule: Schedule | None = None,
        run_limit: float = RUN_LIMIT_SECONDS,
    ) -> None:
        self._work = work
        self._clock = clock
        self._schedule = schedule if schedule is not None else Schedule()
        self._concurrency = concurrency
        self._run_limit = run_limit
        self._changed = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._schedule)

    def add(self, key: Key) -> None:
        """Look at this key now; often asked, once done."""
        self._schedule.add(key, self._clock())
        self._changed.set()

    def add_later(self, key: Key, seconds: float) -> None:
        """Look at this key after so many seconds, unless something happens earlier."""
        self._schedule.add_at(key, self._clock() + seconds)
        self._changed.set()

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._schedule.forget(key)

    def longest_wait(self) -> float:
        """Seconds for which the most overdue key has waited (for the liveness probe)."""
        return self._schedule.longest_wait(self._clock())

    async def run(self) -> None:
        """Works until it is cancelled; then the runs in progress are cancelled, too, and waited for."""
        try:
            while True:
                self._changed.clear()
                self._start_what_is_due()
                await self._until_something_changes()
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    def _start_what_is_due(self) -> None:
        while len(self._running) < self._concurrency and (key := self._schedule.take(self._clock())) is not None:
            task = asyncio.create_task(self._run_one(key), name=f"look at {key}")
            self._running.add(task)
            task.add_done_callback(self._one_ended)

    def _one_ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._changed.set()

    async def _until_something_changes(self) -> None:
        due = self._schedule.next_due()
        if due is None or len(self._running) >= self._concurrency:
            await self._changed.wait()
            return
        try:
            async with asyncio.timeout(max(0.0, due - self._clock())):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _run_one(self, key: Key) -> None:
        try:
            async with asyncio.timeout(self._run_limit):
                again_after = await self._work(key)
        except Exception as error:
            delay = self._schedule.failed(key, self._clock(), getattr(error, "retry_after", 0.0))
            quiet = isinstance(error, (TimeoutError, ConnectionError)) or getattr(error, "expected", False)
            log.warning("%s: %s; again in %.1f s", key, error or type(error).__name__, delay, exc_info=not quiet)
        else:
            self._schedule.finished(key, self._clock(), again_after)
