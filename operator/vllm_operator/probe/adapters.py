"""Telling running servers to load and unload LoRA adapters, and remembering which of them would not.

What a server holds is read from its own list of models, never from here: a server that was made anew is told again. What is
remembered is only whom not to ask again yet.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from vllm_operator.decide.types import AdapterCall, Refusal
from vllm_operator.diagnose import Failure, look_at_adapter_answer
from vllm_operator.probe.reach import Reach, Reply, Target

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
LOAD_SECONDS = 30.0  # a file of some hundred megabytes, from a slow disk
UNLOAD_SECONDS = 5.0
POD_SECONDS = 60.0  # no further call to a pod after so long: the model's next look goes on
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0  # seconds between tries of what may pass by itself


@dataclass(frozen=True, slots=True)
class _Refused:
    """Not before `again_at` (None: never, as long as the server and the path are the same)."""

    restarts: int
    path: str
    failure: Failure
    tries: int
    again_at: float | None


@dataclass(frozen=True, slots=True)
class Server:
    """One life of a pod's server, and how to reach it."""

    target: Target
    uid: str
    restarts: int


class AdapterLoader:
    """Makes the calls, by pod. `clock` is monotonic."""

    def __init__(self, reach: Reach, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._reach = reach
        self._clock = clock
        self._refused: defaultdict[str, dict[str, _Refused]] = defaultdict(dict)

    def forget(self, uids: frozenset[str]) -> None:
        """Drops what is remembered of pods that are gone."""
        for uid in uids:
            self._refused.pop(uid, None)

    def refusals(self, uid: str, restarts: int, unknown: Iterable[str] = ()) -> Mapping[str, Refusal]:
        """What this life of a server refused, by adapter. `unknown` adapters are looked up anew, and so are begun anew."""
        known = self._refused.get(uid)
        if known is None:
            return {}
        anew = set(unknown)
        for name in [name for name, one in known.items() if one.restarts != restarts or name in anew]:
            del known[name]
        return {name: Refusal(one.path, one.failure.on(""), self._is_due(one)) for name, one in known.items()}

    def any_due(self, uids: Iterable[str]) -> bool:
        """Whether a server is to be asked again by now."""
        return any(self._is_due(one) for uid in uids for one in self._refused.get(uid, {}).values())

    async def carry_out(self, calls: Sequence[AdapterCall], servers: Iterable[Server]) -> None:
        """Makes the calls, side by side for several pods. Never raises for what a server does."""
        by_pod = {server.target.pod: server for server in servers}
        mine: defaultdict[str, list[AdapterCall]] = defaultdict(list)
        for call in calls:
            if call.pod in by_pod:
                mine[call.pod].append(call)
        await asyncio.gather(*(self._all_of(by_pod[pod], its) for pod, its in mine.items()))

    async def _all_of(self, server: Server, calls: Sequence[AdapterCall]) -> None:
        end = self._clock() + POD_SECONDS
        for call in calls:
            if self._clock() < end:
                self._note(server, call, await self._make(server.target, call))

    async def _make(self, target: Target, call: AdapterCall) -> Reply:
        if not call.path:
            return await self._unload(target, call.name)
        reply = await self._load(target, call)
        if call.replaces and reply.status == 400 and b"already been loaded" in reply.body:
            # A release that does not know load_inplace.
            await self._unload(target, call.name)
            reply = await self._load(target, call)
        return reply

    async def _load(self, target: Target, call: AdapterCall) -> Reply:
        body = {"lora_name": call.name, "lora_path": call.path} | ({"load_inplace": True} if call.replaces else {})
        return await self._reach.ask(target, LOAD, body, seconds=LOAD_SECONDS)

    async def _unload(self, target: Target, name: str) -> Reply:
        reply = await self._reach.ask(target, UNLOAD, {"lora_name": name}, seconds=UNLOAD_SECONDS)
        gone = reply.status == 404 and b"cannot be found" in reply.body
        return Reply(200) if gone else reply

    def _note(self, server: Server, call: AdapterCall, reply: Reply) -> None:
        known = self._refused[server.uid]
        before = known.pop(call.name, None)
        if reply.status == 200:
            return
        failure = look_at_adapter_answer(reply.status, reply.body.decode(errors="replace"), reply.problem)
        tries = before.tries + 1 if before is not None and before.path == call.path else 1
        pause = min(FIRST_PAUSE * 2 ** min(tries - 1, 10), LONGEST_PAUSE)
        again = self._clock() + pause if failure.retry else None
        known[call.name] = _Refused(server.restarts, call.path, failure, tries, again)

    def _is_due(self, one: _Refused) -> bool:
        return one.again_at is not None and self._clock() >= one.again_at
