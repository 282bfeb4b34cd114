"""What one case of the decision found: go on to the next, or stop here and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from vllm_operator.api import ConditionType, FitStatus
from vllm_operator.decide.types import AdapterCall, Event, Manifest, Mark, Ref
from vllm_operator.diagnose import Failure

Truth = Literal["True", "False", "Unknown"]


class Outcome(StrEnum):
    """How a case ended. It says which of kstatus' conditions is there: Reconciling (underway), Stalled (stuck) or none."""

    DONE = "done"
    UNDERWAY = "underway"  # goes on by itself
    STUCK = "stuck"  # goes on only when somebody changes something
    RESTING = "resting"  # nothing is asked for: zero replicas


@dataclass(frozen=True, slots=True)
class Fact:
    """A condition without its bookkeeping."""

    type: ConditionType
    status: Truth
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One case's verdict, with what is to be written for it.

    `goes_on`: the cases behind it are looked at although this one is not done (a server that already runs is kept).
    `spares_ready`: servers of the very version that is asked for stay Ready meanwhile.
    """

    outcome: Outcome
    reason: str = ""
    message: str = ""
    facts: tuple[Fact, ...] = ()
    goes_on: bool = False
    spares_ready: bool = False
    failure: Failure | None = None
    create: tuple[Manifest, ...] = ()
    own: tuple[Ref, ...] = ()
    annotate: Mapping[Ref, Mapping[str, str]] = field(default_factory=dict)
    apply: tuple[Manifest, ...] = ()
    delete: tuple[Ref, ...] = ()
    grow: Mapping[Ref, str] = field(default_factory=dict)
    retain: tuple[Ref, ...] = ()
    disown: tuple[Ref, ...] = ()
    unmark: tuple[Mark, ...] = ()
    discard: tuple[str, ...] = ()
    establish: tuple[Manifest, ...] = ()
    mark: tuple[Mark, ...] = ()
    events: tuple[Event, ...] = ()
    calls: tuple[AdapterCall, ...] = ()
    fit: FitStatus | None = None
    stopped: bool = False
    fills_more: bool = False  # done, while weights are on their way to further nodes
    look_again_after: float | None = None

    @property
    def continues(self) -> bool:
        """Whether the next case is looked at."""
        return self.outcome is Outcome.DONE or self.goes_on


def because(failure: Failure) -> str:
    """A failure in one line: what is wrong, and what to do."""
    return " ".join(part for part in (failure.message, failure.remedy) if part)


def outcome_of(failure: Failure) -> Outcome:
    """What a failure that something still tries to get over means: it may pass by itself, or it will not."""
    return Outcome.UNDERWAY if failure.retry else Outcome.STUCK
