"""The one real request to each server, on its way while looks come and go.

It may take half a minute, since the first request compiles kernels, and a tenant's server may never answer it. A look that
waited for it would hold one of the few places in which all models are looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from vllm_operator.diagnose import Failure

PATIENCE_SECONDS = 3.0  # of one look; a server that is warm answers sooner
PENDING = "a test request has had no answer yet"

Outcome = tuple[str, Failure | None]
"""What went wrong ("" for nothing), and why if the server tells."""


@dataclass(slots=True)
class _Trial:
    """Of one life of a server: the request on its way, and how the one before it ended."""

    restarts: int
    task: asyncio.Task[Outcome] | None = None
    before: Outcome = (PENDING, None)


class Trials:
    """By the pod's uid."""

    def __init__(self) -> None:
        self._trials: dict[str, _Trial] = {}

    async def outcome(self, uid: str, restarts: int, send: Callable[[], Coroutine[Any, Any, Outcome]]) -> Outcome:
        """How the request ended that is on its way; `send` makes it where none is.

        After a few seconds without an answer, how the one before it ended: a server that hangs is told in the same words
        while it is tried again. Raises what `send` raises.
        """
        trial = self._trials.get(uid)
        if trial is None or trial.restarts != restarts:
            self.forget(uid)
            trial = self._trials[uid] = _Trial(restarts)
        if trial.task is None:
            trial.task = asyncio.create_task(send())
        done, _ = await asyncio.wait({trial.task}, timeout=PATIENCE_SECONDS)
        if not done or trial.task.cancelled():  # forgotten meanwhile: its model is gone, and this look is its last
            return trial.before
        task, trial.task = trial.task, None
        trial.before = task.result()
        return trial.before

    def forget(self, uid: str) -> None:
        """The server is gone, or works: nothing is to be known of it any more."""
        trial = self._trials.pop(uid, None)
        if trial is not None and trial.task is not None:
            trial.task.cancel()

    async def close(self) -> None:
        """Ends what is on its way."""
        tasks = [trial.task for trial in self._trials.values() if trial.task is not None]
        for uid in list(self._trials):
            self.forget(uid)
        await asyncio.gather(*tasks, return_exceptions=True)
