"""The cases that come before everything else: what the plan refuses, what is not ours, what is not there."""

from __future__ import annotations

from typing import Final

from vllm_operator.decide.finding import Finding, Outcome
from vllm_operator.decide.reasons import StateReason
from vllm_operator.decide.situation import Situation
from vllm_operator.plan import Problem

CONFLICT_AGAIN: Final = 15.0  # seconds: objects of others are not watched


def refused(here: Situation) -> Finding:
    """The plan's own problems: the spec asks for what cannot or must not be."""
    return _of(here.plan.problems)


def refused_later(here: Situation) -> Finding:
    """Problems that show only once the source is known, or the servers are planned."""
    weights = here.weights.problems if here.weights is not None else ()
    return _of((*weights, *(here.server.problems if here.server is not None else ())))


def conflicts(here: Situation) -> Finding:
    """Names that we need and somebody else has: nothing is taken over, and nothing is made beside it."""
    if not here.seen.strangers:
        return Finding(Outcome.DONE)
    names = ", ".join(f"{ref.kind} {ref.name}" for ref in here.seen.strangers)
    message = f"{names} exists and is not this model's. Delete or rename it, or give the model another name."
    return Finding(Outcome.STUCK, StateReason.NAME_CONFLICT, message, look_again_after=CONFLICT_AGAIN)


def missing(here: Situation) -> Finding:
    """Objects that the spec names and the namespace lacks: they may come any moment."""
    if not here.seen.missing:
        return Finding(Outcome.DONE)
    names = ", ".join(here.seen.missing)
    message = f"The namespace has no {names}. Create it, or correct the name in the spec."
    return Finding(
        Outcome.UNDERWAY,
        StateReason.REFERENCE_NOT_FOUND,
        message,
        goes_on=here.deployed,
        spares_ready=True,
        look_again_after=CONFLICT_AGAIN,
    )


def _of(problems: tuple[Problem, ...]) -> Finding:
    if not problems:
        return Finding(Outcome.DONE)
    message = " ".join(f"{problem.message} {problem.remedy}".strip() for problem in problems)
    return Finding(Outcome.STUCK, problems[0].reason, message)
