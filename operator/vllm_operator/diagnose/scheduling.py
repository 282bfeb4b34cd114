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
_TAINTED = re.compile(r"untolerated taint(?:\(s\)|s)? \{(?P<key>[^:}=\s]{1,253})")
_NODE_IS = re.compile(
    r"node\.kubernetes\.io/(?P<state>not-ready|unreachable|disk-pressure|memory-pressure|pid-pressure|network-unavailable|unschedulable)"
)
"""Taints that Kubernetes puts on nodes itself: nobody should tolerate them."""
_TURNED_AWAY = re.compile(r"enough resource: (?P<resource>[\w./-]{1,100}), requested: ")
_HINTS: Final = (
    ("no nodes available", "Add nodes: the cluster has none."),
    ("were unschedulable", "The nodes are cordoned: `kubectl uncordon` them, or add nodes."),
    ("max volume count", "The nodes hold as many volumes as their storage driver allows: add nodes, or free volumes."),
    ("Too many pods", "The nodes hold as many pods as their kubelet allows: add nodes."),
    ("allocate all claims", "Check what `resourceClaimTemplate` asks for: no node has such a device free."),
    ("resourceclaim", "Check `resourceClaimTemplate`, and that the cluster's driver for these devices runs."),
    ("free ports", "A host port is taken on every node: add nodes."),
)
_PLACES: Final = (
    (
        re.compile(r"node affinity/selector|node selector|didn't match node"),
        "Correct `pod.nodeSelector`, `pod.affinity` or `accelerator`: some nodes do not have these labels.",
    ),
    (
        re.compile(r"anti-affinity"),
        "An anti-affinity (the pod's in `pod.affinity`, or that of pods already there) keeps it off those nodes: loosen it, or add nodes.",
    ),
    (
        re.compile(r"didn't match pod affinity rules"),
        "The pod must be where the other pods of its affinity are (models that share a ReadWriteOnce volume share a node): make room there, or loosen `pod.affinity`.",
    ),
    (
        re.compile(r"topology spread"),
        "Topology spread constraints keep the pod off those nodes: add nodes in the other zones, or have them loosened.",
    ),
)
_OF_ZONE: Final = "The volume can only be used on its own node or in its own zone: make room there, or let the weights be pulled to another volume (`cache`)."

_UNBOUND = re.compile(
    r"unbound immediate PersistentVolumeClaims|did not have enough free storage|plugin \"VolumeBinding\"|persistentvolumeclaim \"[\w.-]{1,253}\" (?:not found|bound to non-existent)|persistentvolumeclaim \"[\w.-]{1,253}\" is being deleted"
)
_NO_CLAIM = re.compile(
    r"persistentvolumeclaim \"(?P<name>[\w.-]{1,253})\" (?P<state>not found|is being deleted|bound to non-existent)"
)
_CLAIM: Final = "allocate all claims"
_ATTACHED = re.compile(r"ReadWriteOncePod|volume already attached|already in-use by another pod")


def unschedulable(pod: PodState, message: str, *, old_pod_runs: bool) -> Failure:
    """The failure of a pod that no node takes; `old_pod_runs`: an older pod of the same Deployment still runs."""
    if _UNBOUND.search(message):
        return failure(
            Reason.VolumePending,
            f"The pod waits for its volume claim: {_first_sentence(message)}",
            remedy=_of_claim(message),
            excerpt=message,
        )
    if _ATTACHED.search(message):
        return failure(
            Reason.VolumeAttachConflict,
            f"The volume is in use by another pod: {_first_sentence(message)}",
            excerpt=message,
        )
    if _CLAIM in message and old_pod_runs:
        return _rollout_waits("devices: its claim asks for more than are free", _nodes(message), message)
    wants = short_of(message)
    gpu = next((name for name in wants if is_gpu(name)), None)
    if gpu and old_pod_runs:
        return rollout_waits(gpu, pod.gpus[1] if pod.gpus else "1", _nodes(message), message)
    refused = pod.last("NotTriggerScaleUp")
    grows = f" The autoscaler adds no node: {refused.message[:300].rstrip('.')}." if refused else ""
    words = f"{_nodes(message, pod)}{grows}"
    return failure(Reason.Unschedulable, words, remedy=_remedy(message, wants, gpu, pod), excerpt=message)


def rollout_waits(resource: str, asked: object, why: str, excerpt: str) -> Failure:
    """The failure of a new pod that waits for devices while the model's old pod serves on with its own."""
    free = "0" if str(asked) == "1" else "fewer"
    return _rollout_waits(f"a GPU: {asked} {resource} needed, {free} free", why, excerpt)


def _rollout_waits(what: str, why: str, excerpt: str) -> Failure:
    return failure(
        Reason.RolloutWaitsForGPU,
        f"The rollout waits for {what} while the old server holds its own. {why}",
        remedy="Set `rollout.strategy: Recreate` so that the old pod ends first, or free or add a GPU.",
        excerpt=excerpt,
    )


def short_of(message: str) -> tuple[str, ...]:
    """The resources that nodes have not enough of, in the scheduler's order."""
    found = [*_INSUFFICIENT.findall(_items_part(message)), *_TURNED_AWAY.findall(message)]
    return tuple(dict.fromkeys(found))


def _items_part(message: str) -> str:
    head = _HEAD.search(message)
    return (head["why"] if head else message).split(". preemption:")[0].split("preemption: ")[0]


def _nodes(message: str, pod: PodState | None = None) -> str:
    head = _HEAD.search(message)
    if head is None:
        return (
            f"The scheduler cannot place the pod: {_first_sentence(message).rstrip('.')}."
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
    states = dict.fromkeys(_NODE_IS.findall(message))
    repair = f"Repair the nodes that are {', '.join(states)}." if states else ""
    taints = [key for key in _TAINTED.findall(message) if not _NODE_IS.match(key)]
    masters = [key for key in taints if key.startswith("node-role.kubernetes.io/")]
    # Control planes keep all pods off: to be tolerated only where there is no other node.
    spared = bool(masters) and len(masters) == len(taints) and len(_ITEM.findall(_items_part(message))) > len(masters)
    placement = _of_placement(message, tolerable=not spared and (bool(taints) or not states))
    first = _of_resources(wants, gpu, pod)
    if not first or any(is_gpu(key) for key in taints):  # that taint is there to be tolerated by pods like this one
        first = f"{first} {placement}".strip()
    hint = next((hint for words, hint in _HINTS if words in message), "")
    volume = _OF_ZONE if "volume node affinity" in message else ""
    return " ".join(part for part in (first, hint, volume, repair) if part) or None


def _of_claim(message: str) -> str | None:
    missing = _NO_CLAIM.search(message)
    if missing is None:
        return None
    if missing["state"] == "not found":
        return f"Create the claim {missing['name']} in the model's namespace, or correct the name where the spec has it (`model`, `cache.claimName`)."
    return f"The claim {missing['name']} {'is going' if 'deleted' in missing['state'] else 'has lost its volume'}: let it be deleted wholly (no pod may hold it), then create it anew."


def _of_resources(wants: tuple[str, ...], gpu: str | None, pod: PodState) -> str:
    if gpu:
        count = pod.gpus[1] if pod.gpus else "the"
        return (
            f"Free or add a node with {count} free {gpu}, lower `tensorParallelSize`, or choose another `accelerator`."
        )
    return f"Free or add nodes with more {', '.join(wants)}, or lower `resources`." if wants else ""


def _of_placement(message: str, *, tolerable: bool) -> str:
    if _TAINT in message and tolerable:
        return "Tolerate the taint in `pod.tolerations` (or the accelerator's profile in the settings), or add nodes without it."
    return " ".join(remedy for words, remedy in _PLACES if words.search(message))


def _first_sentence(message: str) -> str:
    return message.split(". ")[0][:400]
