"""From a key to a model at rest: look, plan, decide, carry out. The same sentence for every event, deadline and resync."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from vllm_operator.admitted import Admitted
from vllm_operator.api import ConditionType, Metadata, Status, VLLMModel
from vllm_operator.carry_out import CarryingOut, told_fault
from vllm_operator.cluster import ApiError, Cluster, Forbidden, Owner, Refused, Writer
from vllm_operator.cluster.kinds import ref_of
from vllm_operator.decide.deciding import decide, refuse
from vllm_operator.decide.finding import Fact
from vllm_operator.decide.types import Decision, Seen
from vllm_operator.events import Recorder
from vllm_operator.interest import Interests
from vllm_operator.metrics import Metrics
from vllm_operator.observe import Look, Observer
from vllm_operator.plan import Plan, ProblemReason, plan_model
from vllm_operator.plan.labels import REFRESH_ANNOTATION
from vllm_operator.plan.nodes import home_of
from vllm_operator.queue import Key
from vllm_operator.settings import Settings

log = logging.getLogger(__name__)

JITTER = 0.1  # of every deadline, so that a thousand models do not ask their servers in the same second


@dataclass(frozen=True, slots=True)
class Rest:
    """How a model was left: nothing was to be written, its servers are asked again after so many seconds."""

    look: Look
    until: float  # then everything is looked at again, whatever the watch told
    again_after: float


@dataclass(slots=True)
class Memory:
    """What is remembered of one model between two looks. Losing it costs requests, never correctness."""

    look: Look | None = None
    rest: Rest | None = None
    events: int = 0  # so far; one that comes during a look must not be forgotten by its end
    refused: bool = False
    status_version: str = ""
    admitted: Admitted = field(default_factory=Admitted)
    growth_refused: tuple[object, str] = (None, "")  # of which claim, spec and refresh, and why


def _now() -> datetime:
    return datetime.now(UTC)


class Reconciler:
    """Looks at one model at a time for each key; the queue sees to that. `clock` is monotonic."""

    def __init__(
        self,
        cluster: Cluster,
        observer: Observer,
        recorder: Recorder,
        settings: Settings,
        *,
        metrics: Metrics | None = None,
        interests: Interests | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = _now,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._cluster = cluster
        self._observer = observer
        self._recorder = recorder
        self._settings = settings
        self._metrics = metrics if metrics is not None else Metrics()
        self.interests = interests if interests is not None else Interests()
        self._clock = clock
        self._now = now
        self._jitter = jitter
        self._memories: dict[Key, Memory] = {}
        self.on_gone: Callable[[Key], None] = lambda key: None

    @property
    def keys(self) -> frozenset[Key]:
        """The models that were met and not known to be gone."""
        return frozenset(self._memories)

    def changed(self, key: Key) -> None:
        """Something happened to the model or its objects: the next look is a full one."""
        memory = self._memories.get(key)
        if memory is not None:
            memory.rest = None
            memory.events += 1

    def is_own_echo(self, key: Key, version: str) -> bool:
        """Whether a watch event only brings back the status that we wrote ourselves."""
        memory = self._memories.get(key)
        return memory is not None and bool(version) and memory.status_version == version

    async def look(self, key: Key) -> float | None:
        """One look. Seconds until the next one, or None to wait for an event. Raises ApiError; the queue backs off."""
        started, result = self._clock(), "error"
        try:
            memory = self._memories.setdefault(key, Memory())
            if await self._is_at_rest(memory):
                result = "probe"
                assert memory.rest is not None
                return self._jittered(memory.rest.again_after)
            memory.rest = None
            again = await self._full_look(key, memory)
            result = "full"
            return self._jittered(again)
        finally:
            self._metrics.looked(result, self._clock() - started)

    async def _is_at_rest(self, memory: Memory) -> bool:
        """Nothing happened since the last look, and every server says what it said then. Costs no API request."""
        rest = memory.rest
        if rest is None or self._clock() >= rest.until:
            return False
        # An event may come while the servers are asked: it takes `rest` away, and that counts.
        return await self._observer.is_unchanged(rest.look) and memory.rest is rest

    async def _full_look(self, key: Key, memory: Memory) -> float | None:
        body = await self._cluster.model(key.namespace, key.name)
        if body is None:
            self._forget(key, memory)
            return None
        try:
            model = VLLMModel.model_validate(body)
        except ValidationError as error:
            self._metrics.model(key, await self._refuse(body, error, memory))
            return None
        if model.metadata.deletion_timestamp is not None:
            return None  # its ownerReferences take everything away
        version = _version_of(body)
        try:
            return await self._reconcile(key, model, version, memory)
        except ApiError:
            raise
        except Exception as error:
            await self._tell_fault(key, model, version, error, memory)
            raise

    async def _tell_fault(self, key: Key, model: VLLMModel, version: str, error: Exception, memory: Memory) -> None:
        """Whoever looks at the model is to see that the operator fails at it, and not what was so before."""
        status = told_fault(model, error, self._now())
        self._metrics.model(key, status)
        writer = Writer(self._cluster.connection, _owner(model.metadata))
        if status != model.status:
            with suppress(ApiError):  # the next try tells it
                memory.status_version = await writer.status(status.as_json(), version)

    async def _reconcile(self, key: Key, model: VLLMModel, version: str, memory: Memory) -> float | None:
        plan = plan_model(model, self._settings)
        events = memory.events
        look = memory.look = await self._observer.look(model, plan, memory.look)
        self.interests.learn(key, look.followed)
        decision = await self._decide(model, plan, _with_refused_growth(look.seen, model, memory), memory.admitted)
        home = home_of(self._settings)
        carrying = CarryingOut(self._cluster, self._recorder, model, look, version, memory.admitted, home)
        try:
            await carrying.do(decision, refused_before=memory.refused)
        except (Forbidden, Refused):
            memory.refused = True
            raise
        finally:
            memory.status_version = carrying.status_version or memory.status_version
            self._metrics.model(key, carrying.told)
        if carrying.growth_refused:
            memory.growth_refused = (_growth_of(look.seen, model), carrying.growth_refused)
            return 0.0  # to tell it
        await self._observer.call(decision.calls, look)
        memory.refused = False
        _log_transition(key, model.status, decision.status)
        if decision.rests_for is not None and decision.look_again_after is not None and memory.events == events:
            memory.rest = Rest(look, self._clock() + decision.rests_for, decision.look_again_after)
        return decision.look_again_after

    async def _decide(self, model: VLLMModel, plan: Plan, seen: Seen, admitted: Admitted) -> Decision:
        """The decision; what the cluster's admission makes of our manifests is told from somebody's edit."""
        seen = replace(seen, admitted=admitted.holding(seen.live))
        decision = decide(model, plan, seen, self._now())
        if model.status.observed_generation != model.metadata.generation:
            return decision  # of a new spec: the difference is what was asked for
        writer = Writer(self._cluster.connection, _owner(model.metadata))
        differing = [
            (manifest, seen.live[ref]) for manifest in decision.apply if (ref := ref_of(manifest)) in seen.live
        ]
        explained = [await admitted.explains(manifest, live, writer) for manifest, live in differing]
        if not any(explained):
            return decision
        return decide(model, plan, replace(seen, admitted=admitted.holding(seen.live)), self._now())

    async def _refuse(self, body: Mapping[str, Any], error: ValidationError, memory: Memory) -> Status:
        """The status of an object that cannot be read: the API server let through what the types do not know."""
        metadata = Metadata.model_validate(body["metadata"])
        before = _status_of(body)
        message = f"The spec cannot be read: {_in_words(error)}"
        facts = (
            Fact(ConditionType.READY, "False", ProblemReason.INVALID_SPEC, message),
            Fact(ConditionType.STALLED, "True", ProblemReason.INVALID_SPEC, message),
        )
        status = refuse(before, metadata.generation, facts, self._now())
        if status != before:
            writer = Writer(self._cluster.connection, _owner(metadata))
            memory.status_version = await writer.status(status.as_json(), _version_of(body))
        return status

    def _forget(self, key: Key, memory: Memory) -> None:
        self._observer.forget(memory.look)
        self.interests.forget(key)
        self._metrics.gone(key)
        self._memories.pop(key, None)
        self.on_gone(key)

    def _jittered(self, seconds: float | None) -> float | None:
        return None if seconds is None else seconds * (1 - JITTER + 2 * JITTER * self._jitter())


def _growth_of(seen: Seen, model: VLLMModel) -> object:
    """What a refused growth was about. Another spec, or a refresh, asks again."""
    claim, metadata = seen.claim.uid if seen.claim else "", model.metadata
    return claim, metadata.generation, metadata.annotations.get(REFRESH_ANNOTATION)


def _with_refused_growth(seen: Seen, model: VLLMModel, memory: Memory) -> Seen:
    about, why = memory.growth_refused
    if seen.claim is None or about != _growth_of(seen, model):
        return seen
    return replace(seen, claim=replace(seen.claim, growth_refused=why))


def _log_transition(key: Key, before: Status, after: Status) -> None:
    """One line for each change of what Ready says; the numbers in between are in the status."""
    old, new = before.condition(ConditionType.READY), after.condition(ConditionType.READY)
    if new is not None and (old is None or (old.status, old.reason) != (new.status, new.reason)):
        log.info("%s: Ready is %s, %s: %s", key, new.status, new.reason, new.message)


def _owner(metadata: Metadata) -> Owner:
    return Owner(metadata.namespace, metadata.name, metadata.uid)


def _version_of(body: Mapping[str, Any]) -> str:
    return str(body["metadata"]["resourceVersion"])


def _status_of(body: Mapping[str, Any]) -> Status:
    try:
        return Status.model_validate(body.get("status") or {})
    except ValidationError:
        return Status()


def _in_words(error: ValidationError) -> str:
    """The first few things that are wrong, each with its field's JSON path."""
    told = [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()[:3]]
    more = error.error_count() - len(told)
    return "; ".join(told) + (f"; and {more} more" if more > 0 else "")
