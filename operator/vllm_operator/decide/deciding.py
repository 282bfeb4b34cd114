"""The one decision: a table of cases, looked at in order until one is not done.

Each case says how far it is and what is to be written for it; the status is made of all that were looked at and of what
the servers show. No client, no clock, no old-and-new: the same look gives the same decision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

from vllm_operator.api import ConditionType, Status, VLLMModel
from vllm_operator.decide.adapters import adapters
from vllm_operator.decide.cleaning import clean
from vllm_operator.decide.conditions import conditions
from vllm_operator.decide.finding import Fact, Finding, Outcome
from vllm_operator.decide.fit import fit
from vllm_operator.decide.manifests import scaled
from vllm_operator.decide.nodes import bring
from vllm_operator.decide.refusals import conflicts, missing, refused, refused_later
from vllm_operator.decide.server import READY_AGAIN, serve
from vllm_operator.decide.situation import Situation, look
from vllm_operator.decide.status import status_of
from vllm_operator.decide.telling import events_of
from vllm_operator.decide.types import Decision, Manifest, Ref, Seen
from vllm_operator.decide.weights import inspection
from vllm_operator.plan import Plan

READY_RESTS: Final = 600.0  # seconds; a model at rest is looked at in full this often, whatever the watch told
STARTING_RESTS: Final = 60.0  # seconds; what a loading server says is in its log, and its pod's changes are events
CASES: Final[tuple[Callable[[Situation], Finding], ...]] = (
    refused,
    conflicts,
    missing,
    inspection,
    refused_later,
    fit,
    bring,
    serve,
    adapters,
)


def decide(model: VLLMModel, plan: Plan, seen: Seen, now: datetime) -> Decision:
    """What to do now and what to say. Pure: nothing is read but the arguments, `now` goes into transition times only."""
    if model.metadata.deletion_timestamp is not None:
        # Owner references take everything away; whatever we wrote now would be in their way.
        return Decision(status=model.status, decided_at=now)
    here = look(model, plan, seen)
    findings = _walk(here)
    status = status_of(here, findings, now)
    deletions, releases = clean(here)
    annotate: dict[Ref, Mapping[str, str]] = {}
    grow: dict[Ref, str] = {}
    for finding in findings:
        annotate |= finding.annotate
        grow |= finding.grow
    decision = Decision(
        status=status,
        create=tuple(item for finding in findings for item in finding.create),
        own=tuple(ref for finding in findings for ref in finding.own),
        annotate=annotate,
        apply=_applied(here, findings),
        delete=(*(ref for finding in findings for ref in finding.delete), *deletions),
        release=releases,
        grow=grow,
        retain=tuple(ref for finding in findings for ref in finding.retain),
        disown=tuple(ref for finding in findings for ref in finding.disown),
        unmark=tuple(mark for finding in findings for mark in finding.unmark),
        discard=tuple(name for finding in findings for name in finding.discard),
        establish=tuple(item for finding in findings for item in finding.establish),
        mark=tuple(mark for finding in findings for mark in finding.mark),
        events=(*(event for finding in findings for event in finding.events), *events_of(model.status, status)),
        calls=tuple(call for finding in findings for call in finding.calls),
        look_again_after=_soonest(here, findings),
        decided_at=now,
    )
    return replace(decision, rests_for=_rests_for(decision, findings))


def refuse(before: Status, generation: int, facts: tuple[Fact, ...], now: datetime) -> Status:
    """The status of a model that could not even be read: only these facts, and the time bookkeeping kept."""
    return Status(observed_generation=generation, conditions=conditions(before, facts, generation, now))


def _walk(here: Situation) -> tuple[Finding, ...]:
    findings: list[Finding] = []
    for case in CASES:
        findings.append(case(here))
        if not findings[-1].continues:
            break
    return tuple(findings)


def _applied(here: Situation, findings: tuple[Finding, ...]) -> tuple[Manifest, ...]:
    """What the cases want applied; where none of them came to the servers, perhaps another number of the old ones."""
    manifests = tuple(item for finding in findings for item in finding.apply)
    if len(findings) == len(CASES):
        return manifests
    fewer = scaled(here)
    return (*manifests, fewer) if fewer is not None else manifests


def _rests_for(decision: Decision, findings: tuple[Finding, ...]) -> float | None:
    """Seconds for which nobody but the servers need be asked; None where the next look is to see everything."""
    writes = (
        decision.create, decision.own, decision.annotate, decision.apply, decision.delete, decision.release,
        decision.retain, decision.disown, decision.grow,
        decision.calls,
        decision.unmark, decision.discard, decision.establish, decision.mark,
    )  # fmt: skip
    if any(writes) or decision.look_again_after is None:
        return None
    ready = decision.status.condition(ConditionType.READY)
    if ready is not None and ready.status == "True":
        # Jobs of the platform's namespace are not watched by an operator of a list of namespaces.
        return STARTING_RESTS if any(finding.fills_more for finding in findings) else READY_RESTS
    if len(findings) < len(CASES):
        return None
    servers = findings[CASES.index(serve)]
    others = [found for found in findings if found is not servers]
    comes_up = servers.outcome is Outcome.UNDERWAY
    return STARTING_RESTS if comes_up and all(found.look_again_after is None for found in others) else None


def _soonest(here: Situation, findings: tuple[Finding, ...]) -> float | None:
    """The earliest look that anything asks for; servers that are up are asked again in any case."""
    times = [finding.look_again_after for finding in findings if finding.look_again_after is not None]
    if any(pod.ready for pod in here.pods):
        times.append(READY_AGAIN)
    return min(times, default=None)
