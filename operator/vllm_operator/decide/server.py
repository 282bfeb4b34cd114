"""The case of the servers: what is applied for them, and how far they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from vllm_operator.decide.annotations import REFRESH
from vllm_operator.decide.failures import because_of_pods, gives_way, hanging, stops, was_stopped_for
from vllm_operator.decide.finding import Finding, Outcome, because, outcome_of
from vllm_operator.decide.manifests import Pending, pending
from vllm_operator.decide.reasons import StateReason
from vllm_operator.decide.servers import Servers, survey
from vllm_operator.decide.situation import Situation
from vllm_operator.decide.types import Event, EventType
from vllm_operator.diagnose import Failure
from vllm_operator.plan.rollout import GIVING_WAY

READY_AGAIN: Final = 5.0  # seconds, and 8 s to be sure that a server is silent: Ready is lost within 15 s
STARTING_AGAIN: Final = 5.0  # seconds
_STOPPED: Final = (
    f"The server is stopped and its devices are free; change the spec, or set the annotation {REFRESH} to a new value."
)

_GIVES_WAY: Final = "No device came free beside the old server, which gives way to the new one."


def serve(here: Situation) -> Finding:
    """Done when every server that is asked for runs the version that is asked for, and answers."""
    assert here.server is not None  # the case of the weights is done
    failure = because_of_pods(here)
    stop = _is_to_stand(here, failure)
    todo = pending(here, here.server, stop, yields=gives_way(here, failure))
    edited = here.deployed and _touches_pods(todo)
    found = _state(here, survey(here), failure, stop, edited)
    manifests = tuple(item.manifest for item in todo)
    ended = () if stop else hanging(here)
    told = _events(here, todo, stop, failure)
    return replace(found, apply=manifests, delete=ended, events=told, goes_on=True)  # servers that answer get adapters


def _is_to_stand(here: Situation, failure: Failure | None) -> bool:
    """Stopped before and nobody asked anew, or failing for good now."""
    if here.model.spec.replicas == 0:
        return False
    if here.is_stopped:
        return not here.refresh_due
    return stops(here, failure)


def _state(here: Situation, servers: Servers, failure: Failure | None, stop: bool, edited: bool) -> Finding:
    if here.desired == 0 and not stop:
        message = "No server is asked for (replicas: 0); the weights stay where they are."
        return Finding(Outcome.RESTING, StateReason.SCALED_TO_ZERO, message)
    if stop:
        reason, message = was_stopped_for(here, failure)
        return Finding(Outcome.STUCK, reason, f"{message} {_STOPPED}", failure=failure, stopped=True)
    if edited:
        message = "The servers' template was changed by somebody else and is put back."
        return _underway(StateReason.RESTORING, message)
    if servers.ready:
        message = f"{here.desired} of {here.desired} servers answer."
        return Finding(Outcome.DONE, StateReason.SERVING, message, look_again_after=READY_AGAIN)
    if failure is not None:
        found = _underway(failure.reason, because(failure))
        return replace(found, outcome=outcome_of(failure), failure=failure)
    return _on_the_way(here, servers)


def _on_the_way(here: Situation, servers: Servers) -> Finding:
    done, desired = len(servers.working), here.desired
    if here.deployment is None:
        return _underway(StateReason.STARTING, "The server is created.")
    if servers.dull:
        pod = servers.dull[0]
        why = (
            pod.answer.problem if pod.answer is not None and pod.answer.problem else "no request went through the model"
        )
        return _underway(StateReason.NOT_ANSWERING, f"The server {pod.name} is up and does not answer: {why}.")
    if servers.older or not here.deployed:
        message = f"{done} of {desired} servers run the new version; {len(servers.older)} of the old one are up."
        return _underway(StateReason.ROLLING_OUT, message)
    return _underway(StateReason.STARTING, f"{done} of {desired} servers answer; the others load the model.")


def _underway(reason: str, message: str) -> Finding:
    return Finding(Outcome.UNDERWAY, reason, message, look_again_after=STARTING_AGAIN)


def _touches_pods(todo: tuple[Pending, ...]) -> bool:
    """Somebody else's edit of the pod template: the pods that run now may be of it."""
    return any(
        item.ref.kind == "Deployment" and any(path.startswith("spec.template") for path in item.paths) for item in todo
    )


def _events(here: Situation, todo: tuple[Pending, ...], stop: bool, failure: Failure | None) -> tuple[Event, ...]:
    events = []
    if stop and not here.is_stopped:
        why = f" ({failure.reason})" if failure is not None else ""
        events.append(
            Event(EventType.WARNING, StateReason.SERVER_STOPPED, f"The server fails for good{why} and is stopped.")
        )
    if gives_way(here, failure) and any("spec.strategy" in path for item in todo for path in item.paths):
        events.append(Event(EventType.NORMAL, StateReason.ROLLING_OUT, _GIVES_WAY))
    ours = stop or here.is_stopped or here.weights_are_gone or here.stands_without_weights
    for item in todo:
        if _is_our_giving_way(here, item):
            continue
        # Right after a change of the spec differences are the change itself; at rest they are somebody's edit.
        if not here.spec_is_new and here.deployed and item.exists and not ours:
            where = ", ".join(item.paths[:3]) + (" …" if len(item.paths) > 3 else "")
            message = f"{item.ref.kind} {item.ref.name} was changed by somebody else and is put back: {where}"
            events.append(Event(EventType.NORMAL, StateReason.RESTORED, message[:1024]))
    return tuple(events)


def _is_our_giving_way(here: Situation, item: Pending) -> bool:
    """The strategy alone differs, because the old server gives way, or did."""
    if here.deployment is None or not item.paths or not all(path.startswith("spec.strategy") for path in item.paths):
        return False
    live, wanted = (part.get("spec") for part in (here.deployment.live, item.manifest))
    return any(isinstance(spec, Mapping) and spec.get("strategy") == GIVING_WAY for spec in (live, wanted))
