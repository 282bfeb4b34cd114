"""Conditions with their bookkeeping: the generation always, the time only when the status of one moves."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from vllm_operator.api import Condition, ConditionType, Status
from vllm_operator.decide.finding import Fact
from vllm_operator.diagnose.failure import shortened

MAX_MESSAGE_BYTES: Final = 1024
ORDER: Final = tuple(ConditionType)


def conditions(before: Status, facts: Iterable[Fact], generation: int, now: datetime) -> tuple[Condition, ...]:
    """The conditions for these facts, in the order of their types; a later fact about the same type wins."""
    told = {fact.type: fact for fact in facts}
    return tuple(_condition(before, told[type_], generation, now) for type_ in ORDER if type_ in told)


def moment(now: datetime) -> str:
    """A time as Kubernetes writes it: whole seconds, UTC."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _condition(before: Status, fact: Fact, generation: int, now: datetime) -> Condition:
    old = before.condition(fact.type)
    unmoved = old is not None and old.status == fact.status
    return Condition(
        type=fact.type.value,
        status=fact.status,
        reason=str(fact.reason),
        message=shortened(fact.message, MAX_MESSAGE_BYTES),
        observed_generation=generation,
        last_transition_time=old.last_transition_time if unmoved and old is not None else moment(now),
    )
