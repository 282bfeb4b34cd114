"""Why the scheduler finds no node: its one sentence, taken apart, with numbers and the right remedy."""

import re
from typing import Final

from vllm_operator.diagnose.failure import Failure, failure
from vllm_operator.diagnose.podstate import PodState, is_gpu
from vllm_operator.diagnose.reasons import Reason

_HEAD = re.compile(r"(?P<fit>\d+)/(?P<nodes>\d+) nodes are available: (?P<why>.{1,2000})", re.DOTALL)
_ITEM = re.compile(r"(?P<count>\d+) (?P<what>(?:[^,{]|\{[^}]{0,300}\})+)")
_INSUFFICIENT = re.compile(r"Insufficient (?P<resource>[\w./-]{0,99}\w)")
_TAINT: Final = "untolerated taint"

_UNBOUND = re.compile(
    r"unbound immediate PersistentVolumeClaims|did not have enough free storage|plugin \"VolumeBinding\"|persistentvolumeclaim \"[\w.-]{1,253}\" (?:not found|bound to non-existent)|persistentvolumeclaim \"[\w.-]{1,253}\" is being deleted"
)
_ATTACHED = re.compile(r"ReadWriteOncePod|volume already attached|already in-use by another pod")


def unschedulable(pod: PodState, message: str, *, old_pod_runs: bool) -> Failure:
    """The failure of a pod that no node takes; `old_pod_runs`: an older pod of the same Deployment still runs."""
    if _UNBOUND.search(message):
        return failure(
            Reason.VolumePending, f"The pod waits for its volume claim: {_first_sentence(message)}", excerpt=message
        )
    if _ATTACHED.search(message):
        return failure(
            Reason.VolumeAttachConflict,
            f"The volume is in use by another pod: {_first_sentence(message)}",
            excerpt=message,
        )
    wants = short_of(message)
    gpu = next((name for name in wants if is_gpu(name)), None)
    if gpu and old_pod_runs:
        return rollout_waits(gpu, pod.gpus[1] if pod.gpus else "1", _nodes(message), message)
    return failure(
        Reason.Unschedulable, _nodes(message, pod), remedy=_remedy(message, wants, gpu, pod), excerpt=message
    )


def rollout_waits(resource: str, asked: object, why: str, excerpt: str) -> Failure:
    """The failure of a new pod that waits for devices while the model's old pod serves on with its own."""
    free = "0" if str(asked) == "1" else "fewer"
    message = (
        f"The rollout waits for a GPU: {asked} {resource} needed, {free} free while the old server holds its own. {why}"
    )
    return failure(
        Reason.RolloutWaitsForGPU,
        message,
        remedy="Set `rollout.strategy: Recreate` so that the old pod ends first, or free or add a GPU.",
        excerpt=excerpt,
    )


def short_of(message: str) -> tuple[str, ...]:
    """The resources that nodes have not enough of, in the scheduler's order."""
    return tuple(dict.fromkeys(_INSUFFICIENT.findall(_items_part(message))))


def _items_part(message: str) -> str:
    head = _HEAD.search(message)
    return (head["why"] if head else message).split(". preemption:")[0].split("preemption: ")[0]


def _nodes(message: str, pod: PodState | None = None) -> str:
    head = _HEAD.search(message)
    if head is None:
        return (
            f"The scheduler cannot place the pod: {_first_sentence(message)}"
            if message
            else "The scheduler has not placed the pod yet."
        )
    items = [f"{item['count']} {_plain(item['what'].strip(' .'))}" for item in _ITEM.finditer(_items_part(message))]
    asked = [f"{pod.requests[name]} {name}" for name in short_of(message) if pod and name in pod.requests]
    wants = f" (the pod asks for {', '.join(asked)})" if asked else ""
    return f"None of {head['nodes']} nodes can take the pod{wants}: {', '.join(items) or _first_sentence(head['why'])}."


def _plain(what: str) -> str:
    match = _INSUFFICIENT.match(what)
    return f"with too little {match['resource']} free" if match else what.replace("node(s) ", "")


def _remedy(message: str, wants: tuple[str, ...], gpu: str | None, pod: PodState) -> str | None:
    if gpu:
        count = pod.gpus[1] if pod.gpus else "the"
        return (
            f"Free or add a node with {count} free {gpu}, lower `tensorParallelSize`, or choose another `accelerator`."
        )
    if wants:
        return f"Free or add nodes with more {', '.join(wants)}, or lower `resources`."
    if _TAINT in message:
        return "Tolerate the taint in `pod.tolerations` (or the accelerator's profile in the settings), or add nodes without it."
    if "affinity" in message or "selector" in message or "topology spread" in message:
        return "Correct `pod.nodeSelector`, `pod.affinity` or `accelerator`: no node has these labels, or the volume is bound to another zone."
    if "free ports" in message:
        return "A host port is taken on every node: add nodes."
    return None


def _first_sentence(message: str) -> str:
    return message.split(". ")[0][:400]
