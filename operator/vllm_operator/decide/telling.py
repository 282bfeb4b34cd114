"""Events: what changed, once. A status that stays says nothing twice."""

from __future__ import annotations

from collections.abc import Iterator

from vllm_operator.api import Condition, ConditionType, Status
from vllm_operator.decide.types import Event, EventType


def events_of(before: Status, after: Status) -> Iterator[Event]:
    """What a person would want to have been told between two statuses."""
    yield from _weights(before.condition(ConditionType.WEIGHTS_READY), after.condition(ConditionType.WEIGHTS_READY))
    old, new = before.condition(ConditionType.READY), after.condition(ConditionType.READY)
    told = _ready(after, old, new)
    if told is not None:
        yield told
    failure = after.last_failure
    is_new = failure is not None and (before.last_failure is None or _key(before) != _key(after))
    if failure is not None and is_new and failure.reason and not (told is not None and told.reason == failure.reason):
        parts = (failure.message, failure.remedy)
        yield Event(EventType.WARNING, failure.reason, " ".join(part for part in parts if part)[:1024])


def _weights(old: Condition | None, new: Condition | None) -> Iterator[Event]:
    # A status that nobody has filled in yet has no such condition: a model that is only met again tells nothing.
    if new is not None and new.status == "True" and old is not None and old.status == "False":
        yield Event(EventType.NORMAL, new.reason, new.message)


def _ready(after: Status, old: Condition | None, new: Condition | None) -> Event | None:
    if new is None or (old is not None and (old.status, old.reason) == (new.status, new.reason)):
        return None
    bad = after.condition(ConditionType.STALLED) is not None or (
        after.last_failure is not None and after.last_failure.reason == new.reason
    )
    kind = EventType.WARNING if bad and new.status != "True" else EventType.NORMAL
    return Event(kind, new.reason, new.message)


def _key(status: Status) -> tuple[object, ...]:
    failure = status.last_failure
    return (failure.reason, failure.pod, failure.exit_code) if failure is not None else ()
