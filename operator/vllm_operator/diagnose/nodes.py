"""How a pod is taken from its node, or lost with it, and what the Node object adds to that: whether it answers, and what it lacks."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from vllm_operator.diagnose.failure import Failure, failure
from vllm_operator.diagnose.podstate import Condition, PodState, conditions_of, is_gpu
from vllm_operator.diagnose.reasons import Reason
from vllm_operator.diagnose.rules import find
from vllm_operator.diagnose.scheduling import unschedulable

_NOT_ADMITTED: Final = frozenset({"UnexpectedAdmissionError", "NodeAffinity", "TopologyAffinityError"})
_EVICTED: Final = frozenset({"PreemptionByScheduler", "EvictionByEvictionAPI", "TerminationByKubelet"})
_LOST: Final = frozenset(
    {
        "NodeLost",
        "NodeShutdown",
        "Terminated",
        "Shutdown",
        "DeletionByTaintManager",
        "NodeNotReady",
        "TaintManagerEviction",
        "DeletionByPodGC",  # its node no longer exists
    }
)
_PRESSURES: Final = {
    "MemoryPressure": "memory pressure",
    "DiskPressure": "disk pressure",
    "PIDPressure": "pressure of processes",
    "NetworkUnavailable": "no network",
}
_KILLED: Final = 137
_AFTER_PRESSURE: Final = frozenset({Reason.EngineDied, Reason.ServerCrashed, Reason.HostOutOfMemory, Reason.DiskFull})


@dataclass(frozen=True, slots=True)
class NodeState:
    """What of a node matters to a pod on it."""

    name: str
    gone: bool
    ready: Condition | None
    pressures: tuple[Condition, ...]
    allocatable: Mapping[str, str]

    @classmethod
    def of(cls, name: str, node: Mapping[str, Any] | None) -> "NodeState | None":
        """The state in a Node object; an empty object is a node that is gone, None one that was not read."""
        if node is None:
            return None
        status = node.get("status") or {}
        conditions = conditions_of(status)
        return cls(
            name=name,
            gone=not node,
            ready=next((found for found in conditions if found.type == "Ready"), None),
            pressures=tuple(found for found in conditions if found.type in _PRESSURES and found.status == "True"),
            allocatable=status.get("allocatable") or {},
        )

    @property
    def works(self) -> bool:
        """True while its kubelet says that it can run pods, or nothing is known against it."""
        return not self.gone and (self.ready is None or self.ready.status == "True")

    @property
    def trouble(self) -> str:
        """One sentence on why pods fail there; "" when it works."""
        if self.gone:
            return f"The node {self.name} is no longer in the cluster."
        if self.works or self.ready is None:
            return ""
        since = f" (since {self.ready.since})" if self.ready.since else ""
        words = self.ready.message.rstrip(". ")
        if self.ready.status == "Unknown":
            return f"The node {self.name} does not answer{since}: {words or 'its kubelet posts no status'}."
        return f"The node {self.name} is not ready{since}: {words or self.ready.reason}."

    @property
    def strain(self) -> str:
        """What the node is short of, as a sentence; "" when of nothing."""
        said = [f"{_PRESSURES[found.type]} ({found.message.rstrip('. ')})" for found in self.pressures]
        return f"Its node {self.name} is under {', '.join(said)}." if said else ""


def taken_away(state: PodState, node: Mapping[str, Any] | None) -> Failure | None:
    """Evicted, preempted, turned away by the node, or lost with it; None when the pod is still where it was."""
    seen = NodeState.of(state.node, node)
    disruption = state.condition("DisruptionTarget")
    cause = disruption.reason if disruption and disruption.status == "True" else ""
    words = state.message or (disruption.message if disruption else "")
    if state.reason in ("Evicted", "Preempting") or cause in _EVICTED:
        event = state.last("Preempted", "Evicted")
        found = find(words or (event.message if event else "") or cause or "evicted", "evict")
        return _with_strain(found, seen)
    if _is_lost(state, cause, seen):
        return _lost(state, words or state.reason or cause, seen)
    refused = state.reason.startswith("OutOf") or state.reason in _NOT_ADMITTED
    if state.phase == "Failed" and (refused or state.message.startswith("Pod was rejected")):
        return _turned_away(state, seen)
    return None


def under_strain(found: Failure | None, node: Mapping[str, Any] | None, state: PodState) -> Failure | None:
    """The failure of a container that was killed, with what its node was short of: the kernel kills for its node's memory, too."""
    if found is None or (found.exit_code != _KILLED and found.reason not in _AFTER_PRESSURE):
        return found
    return _with_strain(found, NodeState.of(state.node, node))


def _with_strain(found: Failure | None, seen: NodeState | None) -> Failure | None:
    if found is None or seen is None or not seen.strain:
        return found
    return replace(found, message=f"{found.message} {seen.strain}"[:1000])


def _is_lost(state: PodState, cause: str, seen: NodeState | None) -> bool:
    return (
        state.reason in _LOST
        or cause in _LOST
        or state.phase == "Unknown"
        or (seen is not None and not seen.works and not state.ready)
        or _node_went(state, seen)
        or any(
            c.ended == "ContainerStatusUnknown" and not c.running for c in state.containers
        )  # forgotten by a restart
    )


def _node_went(state: PodState, seen: NodeState | None) -> bool:
    newest = state.events[-1] if state.events else None
    known_to_work = seen is not None and seen.ready is not None and seen.works
    return (
        newest is not None
        and newest.reason == "NodeNotReady"
        and not state.ready
        and bool(state.node)
        and not known_to_work
    )


def _lost(state: PodState, words: str, seen: NodeState | None) -> Failure:
    if seen is None or not seen.trouble:
        where = f" {state.node}" if state.node else ""
        if "shutdown" in words.lower():
            remedy = "Nothing to change: the pod is made anew on another node, or there when the node is back."
            message = f"The node{where} was shut down, and the pod with it: {words}"
            return failure(Reason.NodeLost, message, remedy=remedy, excerpt=words)
        again = " It is ready again." if seen is not None and seen.ready is not None else ""
        did = "did" if again else "does"
        said = words or "it is not ready"
        return failure(Reason.NodeLost, f"The node{where} {did} not answer: {said.rstrip('.')}.{again}", excerpt=words)
    trouble = f"{seen.trouble} {seen.strain}".strip()
    if seen.gone:
        remedy = (
            "Nothing to change: Kubernetes replaces the pod by itself; check why the node left if it was not meant to."
        )
    elif seen.ready is not None and seen.ready.status == "Unknown":
        remedy = (
            "Check the node's machine, kubelet and network. Kubernetes replaces the pod after some five minutes; where the machine is"
            " gone for good, delete its Node object so that volume and GPU are free again."
        )
    else:
        remedy = "Repair what the node names (its kubelet, container runtime or network); Kubernetes then starts the pod again."
    return failure(Reason.NodeLost, trouble, remedy=remedy, excerpt=words)


def _turned_away(state: PodState, seen: NodeState | None) -> Failure | None:
    if "Allocate failed" not in state.message:
        refused = unschedulable(state, state.message, old_pod_runs=False)
        return replace(refused, message=f"The node {state.node} turned the pod away: {state.message}"[:1000])
    found = find(f"{state.reason} {state.message}", "start")
    offers = [f"{amount} {name}" for name, amount in (seen.allocatable if seen else {}).items() if is_gpu(name)]
    if found is None or not offers:
        return found
    return replace(found, message=f"{found.message} The node {state.node} offers {', '.join(offers)} in all."[:1000])
