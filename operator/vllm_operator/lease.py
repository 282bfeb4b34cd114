"""Leader election by a Lease: one operator works, the others wait, and one that lost its Lease ends at once.

Time is measured with the monotonic clock alone: how long another's record has not moved, and when our own was renewed.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from vllm_operator.cluster import ApiError, Conflict, Connection, Gone, Request
from vllm_operator.cluster.connection import MERGE
from vllm_operator.cluster.kinds import LEASES, path_of

log = logging.getLogger(__name__)

NAME = "vllm-operator"


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds: how long a Lease holds, when a leader gives up renewing, between two tries (as CloudNativePG), and for a request."""

    duration: float = 15.0
    deadline: float = 10.0
    retry: float = 2.0
    request: float = 4.0


def _end_the_process() -> None:
    """Not an exception: nothing that is in flight may write once another may lead."""
    os._exit(1)


class Lease:
    """One candidate. `lost` is called, and must not return to work, when the Lease cannot be kept."""

    def __init__(
        self,
        connection: Connection,
        namespace: str,
        identity: str,
        *,
        times: Times | None = None,
        clock: Callable[[], float] = time.monotonic,
        lost: Callable[[], None] = _end_the_process,
    ) -> None:
        self._connection = connection
        self._path = path_of(LEASES, namespace, NAME)
        self._collection = path_of(LEASES, namespace)
        self._identity = identity
        self._times = times if times is not None else Times()
        self._clock = clock
        self._lost = lost
        self._renewed_at: float | None = None
        self._record: tuple[str, float] | None = None  # the version of another's record, and since when it stands still

    @property
    def is_held(self) -> bool:
        """Whether it was renewed recently enough that nobody else can hold it."""
        return self._renewed_at is not None and self._clock() - self._renewed_at < self._times.duration

    def guard(self) -> None:
        """Called before every write: a process that was stopped and woke up must not write."""
        if self._renewed_at is not None and not self.is_held:
            log.error("the Lease has lapsed while this process did not run; it ends")
            self._lost()

    async def acquire(self) -> None:
        """Returns when this process leads."""
        for _ in itertools.count():
            if await self._try():
                break
            await asyncio.sleep(self._times.retry * random.uniform(0.8, 1.2))
        log.info("%s leads", self._identity)

    async def keep(self) -> None:
        """Renews until it is cancelled; ends the process when it cannot."""
        while True:
            await asyncio.sleep(self._times.retry)
            if not await self._try_within_deadline() and self._left() <= 0:
                log.error("the Lease could not be renewed for %.0f s; the process ends", self._times.deadline)
                self._lost()
                return

    async def release(self) -> None:
        """Lets go, so that another need not wait for the Lease to lapse."""
        if not self.is_held:
            return
        self._renewed_at = None
        try:
            live = await self._connection.call(Request("GET", self._path, timeout=5.0))
            if (live.get("spec") or {}).get("holderIdentity") == self._identity:
                await self._write(live, {"holderIdentity": "", "leaseDurationSeconds": 1})
        except ApiError as error:
            log.info("the Lease was not released: %s", error)

    def _left(self) -> float:
        """Seconds until this process gives up."""
        since = self._clock() - self._renewed_at if self._renewed_at is not None else self._times.deadline
        return self._times.deadline - since

    async def _try_within_deadline(self) -> bool:
        try:
            async with asyncio.timeout(max(self._left(), 0.0)):
                return await self._try()
        except TimeoutError:
            return False

    async def _try(self) -> bool:
        started = self._clock()  # before the request: what counts is the latest moment that others may have seen
        try:
            taken = await self._take()
        except ApiError as error:
            log.warning("the Lease: %s", error)
            return False
        if taken:
            self._renewed_at = started
        return taken

    async def _take(self) -> bool:
        request = Request("GET", self._path, timeout=self._times.request)
        try:
            live = await self._connection.call(request)
        except Gone:
            return await self._create()
        holder = (live.get("spec") or {}).get("holderIdentity")
        if holder and holder != self._identity:
            if self._renewed_at is not None:
                log.error("%s holds the Lease; this process ends", holder)
                self._lost()
                return False
            if not self._stands_still(live):
                return False
        try:
            await self._write(live, self._spec(live))
        except Conflict:
            return False
        return True

    def _stands_still(self, live: dict[str, Any]) -> bool:
        """Whether another's record has not moved for as long as it holds, by our own clock."""
        version = str(live["metadata"]["resourceVersion"])
        if self._record is None or self._record[0] != version:
            self._record = (version, self._clock())
        holds = (live.get("spec") or {}).get("leaseDurationSeconds") or self._times.duration
        return self._clock() - self._record[1] >= holds

    async def _create(self) -> bool:
        body = {
            "apiVersion": LEASES[0],
            "kind": LEASES[1],
            "metadata": {"name": NAME},
            "spec": self._spec({}) | {"leaseTransitions": 0},
        }
        try:
            await self._connection.call(Request("POST", self._collection, body=body))
        except Conflict:
            return False
        return True

    async def _write(self, live: dict[str, Any], spec: dict[str, Any]) -> None:
        body = {"metadata": {"resourceVersion": live["metadata"]["resourceVersion"]}, "spec": spec}
        await self._connection.call(
            Request("PATCH", self._path, body=body, content_type=MERGE, timeout=self._times.request)
        )

    def _spec(self, live: dict[str, Any]) -> dict[str, Any]:
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {
            "holderIdentity": self._identity,
            "renewTime": moment,
            "leaseDurationSeconds": int(self._times.duration) or 1,
        }
        before = live.get("spec") or {}
        if before.get("holderIdentity") != self._identity:
            spec |= {"acquireTime": moment, "leaseTransitions": (before.get("leaseTransitions") or 0) + 1}
        return spec
