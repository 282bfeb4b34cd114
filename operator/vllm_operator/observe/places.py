"""Which nodes may run a model: the scheduler's lasting reasons, without what passes (a node that is away, or full).

Labels, required affinity, taints and devices decide. A node that is not Ready, cordoned or under pressure is one of them
all the same: it only takes no pods now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vllm_operator.cluster.kinds import Json
from vllm_operator.live import quantity
from vllm_operator.observe.reading import condition_is_true, is_deleting, metadata_of
from vllm_operator.plan import NodesPlan
from vllm_operator.plan.types import Placement

# Taints by which Kubernetes itself says how a node is at the moment.
_PASSING = "node.kubernetes.io/"
_HARD = frozenset({"NoSchedule", "NoExecute"})


def may_run(node: Json, plan: NodesPlan) -> bool:
    """Whether the scheduler would ever put a server of the model there."""
    return (
        _is_chosen(node, plan.placement)
        and all(_is_borne(taint, plan.placement.tolerations) for taint in _lasting_taints(node))
        and all(_has(node, resource, count) for resource, count in plan.devices.items())
    )


def takes_pods(node: Json) -> bool:
    """Whether it is Ready, not cordoned, and not on its way out."""
    spec = node.get("spec") or {}
    return condition_is_true(node, "Ready") and not spec.get("unschedulable") and not is_deleting(node)


def fingerprint(node: Json) -> object:
    """All that `may_run` and `takes_pods` look at: the same for every heartbeat of a node."""
    spec, status = node.get("spec") or {}, node.get("status") or {}
    extended = {key: value for key, value in (status.get("capacity") or {}).items() if "/" in key}
    labels, taints = metadata_of(node).get("labels") or {}, spec.get("taints") or []
    return (metadata_of(node).get("uid"), takes_pods(node), labels, taints, extended)


def _is_chosen(node: Json, placement: Placement) -> bool:
    labels = metadata_of(node).get("labels") or {}
    if any(labels.get(key) != value for key, value in placement.node_selector.items()):
        return False
    affinity: Any = placement.affinity.get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    name = {"metadata.name": str(metadata_of(node).get("name"))}
    return any(_holds(term, labels, name) for term in required.get("nodeSelectorTerms") or ())


def _holds(term: Mapping[str, Any], labels: Mapping[str, str], fields: Mapping[str, str]) -> bool:
    """A term's requirements hold together; one without any holds for no node."""
    asked = [(item, labels) for item in term.get("matchExpressions") or ()]
    asked += [(item, fields) for item in term.get("matchFields") or ()]
    return bool(asked) and all(_requirement(item, values) for item, values in asked)


def _requirement(item: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(str(item.get("key"))), [str(each) for each in item.get("values") or ()]
    match item.get("operator"):
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as side:
            return _is_beyond(value, values, side == "Gt")
        case _:
            return False


def _is_beyond(value: str | None, values: list[str], greater: bool) -> bool:
    try:
        there, bound = int(value or ""), int(values[0])
    except (ValueError, IndexError):
        return False
    return there > bound if greater else there < bound


def _lasting_taints(node: Json) -> Iterable[Json]:
    taints = (node.get("spec") or {}).get("taints") or ()
    return (
        taint for taint in taints if taint.get("effect") in _HARD and not str(taint.get("key")).startswith(_PASSING)
    )


def _is_borne(taint: Json, tolerations: Iterable[Mapping[str, Any]]) -> bool:
    return any(_bears(toleration, taint) for toleration in tolerations)


def _bears(toleration: Mapping[str, Any], taint: Json) -> bool:
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    exists = toleration.get("operator") == "Exists"
    if not toleration.get("key"):
        return exists
    same = exists or (toleration.get("value") or "") == (taint.get("value") or "")
    return toleration.get("key") == taint.get("key") and same


def _has(node: Json, resource: str, count: int) -> bool:
    found = quantity(((node.get("status") or {}).get("capacity") or {}).get(resource, 0))
    return found is not None and found >= count
