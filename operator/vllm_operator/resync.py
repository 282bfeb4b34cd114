"""The full list every ten minutes: what no watch told (an object deleted in a gap, drift of what is not watched) is seen.

It is also the pulse that the liveness probe feels: no list for too long, and the process is restarted.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence

from vllm_operator.cluster import ApiError, Cluster
from vllm_operator.cluster.kinds import MODELS
from vllm_operator.observe.reading import metadata_of
from vllm_operator.queue import Key, Queue
from vllm_operator.reconcile import Reconciler

log = logging.getLogger(__name__)

EVERY_SECONDS = 600.0
SPREAD_SECONDS = 60.0  # over which the looks of one list are spread
RETRY_SECONDS = 10.0


class Resync:
    """Lists all models and has each one looked at in full. `clock` is monotonic."""

    def __init__(
        self,
        cluster: Cluster,
        queue: Queue,
        reconciler: Reconciler,
        namespaces: Sequence[str] = (),
        *,
        every: float = EVERY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._queue = queue
        self._reconciler = reconciler
        self._namespaces = namespaces
        self._every = every
        self._clock = clock
        self._listed_at = clock()

    @property
    def age(self) -> float:
        """Seconds since the last full list (or since the start)."""
        return self._clock() - self._listed_at

    @property
    def is_overdue(self) -> bool:
        """Whether three lists in a row have failed or not been made."""
        return self.age > 3 * self._every

    async def run(self) -> None:
        """Lists at once, and then until it is cancelled."""
        spread = 0.0  # at the start nobody has waited yet: everything is looked at as fast as the queue allows
        while True:
            try:
                await self.list_once(spread)
                pause, spread = self._every * random.uniform(0.9, 1.1), min(SPREAD_SECONDS, self._every / 10)
            except ApiError as error:
                log.warning("the full list of models: %s", error)
                pause = min(RETRY_SECONDS, self._every)
            await asyncio.sleep(pause)

    async def list_once(self, spread: float = 0.0) -> None:
        """Every model that exists, and every one that was thought to exist, is due within `spread` seconds."""
        found: set[Key] = set()
        for namespace in self._namespaces or (None,):
            for body in await self._cluster.all(MODELS, namespace, metadata_only=True):
                metadata = metadata_of(body)
                found.add(Key(str(metadata["namespace"]), str(metadata["name"])))
        self._listed_at = self._clock()
        for key in sorted(found | self._reconciler.keys):
            self._reconciler.changed(key)
            self._queue.add_later(key, random.uniform(0.0, spread))
