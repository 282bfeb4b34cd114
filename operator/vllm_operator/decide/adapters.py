"""The case of live adapters: their files come to a volume that servers mount, and running servers load and unload them.

Whatever is wrong with an adapter, the model itself goes on serving: Ready is never about adapters, AdaptersReady is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from vllm_operator.api import AdapterStatus, ConditionType
from vllm_operator.decide.finding import Fact, Finding, Outcome, Truth, because
from vllm_operator.decide.jobs import SOON, brought, downloading, hindered, looked_up, not_yet, owned
from vllm_operator.decide.reasons import StateReason
from vllm_operator.decide.servers import survey
from vllm_operator.decide.situation import Situation
from vllm_operator.decide.types import AdapterCall, AdapterSeen, JobState, PodSeen
from vllm_operator.decide.weights import claim_ref
from vllm_operator.diagnose import Reason
from vllm_operator.diagnose.failure import shortened
from vllm_operator.plan import AdapterPlan, AdapterPullPlan, ClaimPlan, plan_adapter_pull
from vllm_operator.render import render_part

CALLED_AGAIN: Final = 1.0  # seconds: a server that was told to load an adapter lists it then
_MESSAGE_BYTES: Final = 512  # of each adapter's message: there may be 64
_FULL: Final = (
    "Raise `adapterCache.size`: the servers then start anew with a new volume, which holds the listed adapters alone."
)


@dataclass(frozen=True, slots=True)
class AdapterState:
    """One adapter. `found` is DONE when every server that answers has it; `path` is known once its files are there."""

    name: str
    source: str
    commit: str | None
    path: str | None
    pods: tuple[str, ...]  # that serve it; while its files are looked up again, in whichever version
    found: Finding


def adapters(here: Situation) -> Finding:
    """Done when every server that answers has the adapters that are listed, and no other; or none are loaded live."""
    claim = here.plan.adapter_claim
    if claim is None:
        return Finding(Outcome.DONE)
    held = _volume(here, claim)
    if here.desired == 0:
        message = "No server is asked for (replicas: 0); adapters are brought when one runs."
        return replace(held, facts=(_fact("False", StateReason.NO_SERVER, message),))
    states = adapter_states(here)
    calls = tuple(_calls(here, states))
    return _summed(here, held, states, calls)


def adapter_states(here: Situation) -> tuple[AdapterState, ...]:
    """The live adapters in the spec's order."""
    return tuple(_state(here, adapter) for adapter in here.plan.adapters)


def adapter_status(state: AdapterState) -> AdapterStatus:
    """What `status.adapters` says of a live adapter."""
    done = state.found.outcome is Outcome.DONE
    return AdapterStatus(
        name=state.name,
        source=state.source,
        commit=state.commit,
        pods=state.pods[:1000],
        reason=None if done else str(state.found.reason),
        message=None if done else shortened(state.found.message, _MESSAGE_BYTES),
    )


def adapter_pull(here: Situation, adapter: AdapterPlan) -> AdapterPullPlan | None:
    """Where the adapter comes to lie; None until its inspection has answered."""
    seen = here.seen.adapters.get(adapter.name, AdapterSeen()).inspect
    if seen.state is not JobState.SUCCEEDED or seen.answer is None or seen.deleting:
        return None
    return plan_adapter_pull(here.plan, adapter, seen.answer)


def _volume(here: Situation, claim: ClaimPlan) -> Finding:
    there = here.seen.adapter_claim
    if there is None:
        return Finding(Outcome.DONE, create=(render_part(claim),), own=(claim_ref(claim),))
    missing = not there.owned and not there.deleting
    return Finding(Outcome.DONE, own=(claim_ref(claim),) if missing else ())


def _state(here: Situation, adapter: AdapterPlan) -> AdapterState:
    if here.desired == 0:
        resting = Finding(Outcome.RESTING, StateReason.NO_SERVER, "It is brought when a server runs.")
        return AdapterState(adapter.name, adapter.part.source.uri, None, None, (), resting)
    seen = here.seen.adapters.get(adapter.name, AdapterSeen())
    files, pull = looked_up(here, adapter.inspect, seen.inspect), adapter_pull(here, adapter)
    if files.outcome is Outcome.DONE and pull is not None:
        files = _files(here, files, pull, seen)
    arrived = files.outcome is Outcome.DONE and pull is not None
    path = pull.path if arrived and pull is not None else None
    found = _on_servers(here, adapter.name, path, files) if path is not None else files
    pods = tuple(pod.name for pod in survey(here).working if _serves(pod, adapter.name, path))
    commit = pull.commit or None if pull is not None else None
    return AdapterState(adapter.name, adapter.part.source.uri, commit, path, pods, replace(found, facts=()))


def _files(here: Situation, held: Finding, pull: AdapterPullPlan, seen: AdapterSeen) -> Finding:
    """The pull of an adapter whose inspection has answered. It waits for the volume, which a server's place decides."""
    if pull.problem is not None or pull.pull is None:
        problem = pull.problem
        assert problem is not None
        return not_yet(held, Outcome.STUCK, problem.reason, f"{problem.message} {problem.remedy}")
    there = here.seen.adapter_claim
    if there is None or there.deleting or there.phase != "Bound":
        return not_yet(held, Outcome.UNDERWAY, StateReason.LOADING_ADAPTERS, "It waits for the volume of a server.")
    also = owned(seen.pull, pull.pull)
    held = replace(held, own=(*held.own, *also.own))
    found = brought(here, held, pull.pull, seen.pull)
    if found is None:
        found = hindered(here, held, pull.pull, seen.pull) or downloading(held, "It is downloaded.")
    if found.failure is not None and found.failure.reason is Reason.DiskFull:
        return replace(found, message=f"{found.failure.message} {_FULL}", failure=replace(found.failure, remedy=_FULL))
    return found


def _on_servers(here: Situation, name: str, path: str, held: Finding) -> Finding:
    working = survey(here).working
    lacking = [pod for pod in working if not _serves(pod, name, path)]
    if working and not lacking:
        return held
    refusals = [pod.refusals[name] for pod in lacking if name in pod.refusals and pod.refusals[name].path == path]
    if not refusals:
        return not_yet(held, Outcome.UNDERWAY, StateReason.LOADING_ADAPTERS, "Servers are to load it.")
    failure = min((refusal.failure for refusal in refusals), key=lambda each: each.retry)
    if failure.retry:
        return not_yet(held, Outcome.UNDERWAY, StateReason.LOADING_ADAPTERS, because(failure))
    return replace(not_yet(held, Outcome.STUCK, failure.reason, because(failure)), failure=failure)


def _serves(pod: PodSeen, name: str, path: str | None) -> bool:
    loaded = pod.answer.adapters.get(name) if pod.answer is not None else None
    return loaded is not None and path in (None, loaded)


def _calls(here: Situation, states: tuple[AdapterState, ...]) -> Iterator[AdapterCall]:
    """What servers are to be told, unloading first. A refusal is met again only when it is due."""
    paths = {state.name: state.path for state in states if state.path is not None}
    listed = {adapter.name for adapter in here.plan.adapters}
    for pod in survey(here).working:
        loaded: Mapping[str, str] = pod.answer.adapters if pod.answer is not None else {}
        for name in sorted(set(loaded) - listed):
            if _may_call(pod, name, ""):
                yield AdapterCall(pod.name, name)
        for name, path in paths.items():
            if loaded.get(name) != path and _may_call(pod, name, path):
                yield AdapterCall(pod.name, name, path, replaces=name in loaded)


def _may_call(pod: PodSeen, name: str, path: str) -> bool:
    refusal = pod.refusals.get(name)
    return refusal is None or refusal.path != path or refusal.is_due


def _summed(
    here: Situation, held: Finding, states: tuple[AdapterState, ...], calls: tuple[AdapterCall, ...]
) -> Finding:
    """One finding of all adapters: what is stuck is told before what is underway."""
    unfinished = [state for state in states if state.found.outcome is not Outcome.DONE]
    stuck = [state for state in unfinished if state.found.outcome is Outcome.STUCK]
    told = next(iter(stuck or unfinished), None)
    written = _with_writes(held, states, calls)
    if told is None and not calls:
        message = f"{len(states)} of {len(states)} adapters are on every server." if states else "No adapter is listed."
        return replace(written, facts=(_fact("True", StateReason.ADAPTERS_LOADED, message),))
    reason: str = StateReason.LOADING_ADAPTERS
    message = "Servers are to unload what is not listed."
    if told is not None:
        done = len(states) - len(unfinished)
        reason = told.found.reason
        message = f"Adapter {told.name}: {told.found.message} {done} of {len(states)} adapters are on every server."
    # While the servers themselves are not up, they are what is to be told first.
    is_stuck = bool(stuck) and survey(here).ready
    return replace(
        written,
        outcome=Outcome.STUCK if is_stuck else Outcome.UNDERWAY,
        reason=reason,
        message=message,
        spares_ready=True,
        failure=next((state.found.failure for state in stuck if state.found.failure is not None), None),
        facts=(_fact("False", reason, message),),
        look_again_after=_soonest(unfinished, calls),
    )


def _soonest(unfinished: list[AdapterState], calls: tuple[AdapterCall, ...]) -> float | None:
    """What waits for a server comes by the server's own looks, and the end of a Job by the watch."""
    if calls:
        return CALLED_AGAIN
    jobs = [state for state in unfinished if state.found.reason != StateReason.LOADING_ADAPTERS]
    return SOON if any(state.found.outcome is Outcome.UNDERWAY for state in jobs) else None


def _with_writes(held: Finding, states: tuple[AdapterState, ...], calls: tuple[AdapterCall, ...]) -> Finding:
    found = [held, *(state.found for state in states)]
    annotate = {ref: values for each in found for ref, values in each.annotate.items()}
    return replace(
        held,
        create=tuple(_once(item for each in found for item in each.create)),
        own=tuple(dict.fromkeys(ref for each in found for ref in each.own)),
        annotate=annotate,
        delete=tuple(dict.fromkeys(ref for each in found for ref in each.delete)),
        calls=calls,
    )


def _once(manifests: Iterator[Mapping[str, object]]) -> list[Mapping[str, object]]:
    """Two names for one adapter share its Jobs."""
    kept: list[Mapping[str, object]] = []
    for manifest in manifests:
        if manifest not in kept:
            kept.append(manifest)
    return kept


def _fact(status: Truth, reason: str, message: str) -> Fact:
    return Fact(ConditionType.ADAPTERS_READY, status, str(reason), message)
