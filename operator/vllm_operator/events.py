"""Kubernetes Events about models: one object for each model and reason, counted up, and never more than one a minute.

Events are for people who look; a model's truth is its status. So nothing here ever fails a look.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from vllm_operator.api import API_VERSION, KIND
from vllm_operator.cluster import ApiError, Conflict, Connection, Gone, Owner, Request
from vllm_operator.cluster.connection import MERGE
from vllm_operator.cluster.kinds import EVENTS, path_of
from vllm_operator.decide.types import Event
from vllm_operator.plan.names import digest, short_name

log = logging.getLogger(__name__)

QUIET_SECONDS = 60.0  # between two of the same reason: a flapping model must not fill etcd
NOTE_LIMIT = 1024  # the API's own bound
REMEMBERED = 4096  # (model, reason) pairs; the oldest go first
COMPONENT = "vllm-operator"


@dataclass(slots=True)
class _Told:
    at: float
    held_back: int = 0


class Recorder:
    """Writes Events. `clock` is monotonic, `now` is the time that people read."""

    def __init__(
        self,
        connection: Connection,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._now = now
        self._told: dict[tuple[str, str], _Told] = {}

    async def tell(self, owner: Owner, event: Event) -> None:
        """Writes the Event, or counts it where the same was told within the last minute."""
        told = self._told.pop((owner.uid, event.reason), None)
        quiet = told is not None and self._clock() - told.at < QUIET_SECONDS
        if told is not None and quiet:
            told.held_back += 1
            self._told[owner.uid, event.reason] = told
            return
        self._told[owner.uid, event.reason] = _Told(self._clock())
        while len(self._told) > REMEMBERED:
            del self._told[next(iter(self._told))]
        try:
            await self._write(owner, event, 1 + (told.held_back if told is not None else 0))
        except ApiError as error:
            log.info("%s/%s: the Event %s was not written: %s", owner.namespace, owner.name, event.reason, error)

    async def _write(self, owner: Owner, event: Event, times: int) -> None:
        body = self._body(owner, event, times)
        collection = path_of(EVENTS, owner.namespace)
        try:
            await self._connection.call(Request("POST", collection, body=body))
        except Conflict:
            await self._count_up(path_of(EVENTS, owner.namespace, body["metadata"]["name"]), body, times)

    async def _count_up(self, path: str, body: dict[str, Any], times: int) -> None:
        try:
            live = await self._connection.call(Request("GET", path))
        except Gone:
            return  # it lapsed in this very moment
        patch = {key: body[key] for key in ("message", "type", "lastTimestamp")} | {
            "count": (live.get("count") or 0) + times
        }
        await self._connection.call(Request("PATCH", path, body=patch, content_type=MERGE))

    def _body(self, owner: Owner, event: Event, times: int) -> dict[str, Any]:
        moment = self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        name = f"{short_name(owner.name)}.{digest([owner.uid, event.reason], 16)}"
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": owner.namespace},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": owner.name,
                "namespace": owner.namespace,
                "uid": owner.uid,
            },
            "type": str(event.type),
            "reason": event.reason,
            "message": event.message[:NOTE_LIMIT],
            "count": times,
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": "",
        }
