"""The kinds the operator reads and writes, and the paths they live at. What is not listed here is never touched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from vllm_operator.api import API_VERSION, GROUP, KIND, PLURAL
from vllm_operator.cluster.errors import OutOfBounds
from vllm_operator.decide.types import Ref

Json = Mapping[str, Any]


DEPLOYMENTS = ("apps/v1", "Deployment")
JOBS = ("batch/v1", "Job")
SERVICES = ("v1", "Service")
CONFIG_MAPS = ("v1", "ConfigMap")
CLAIMS = ("v1", "PersistentVolumeClaim")
PODS = ("v1", "Pod")
EVENTS = ("v1", "Event")
NODES = ("v1", "Node")
VOLUMES = ("v1", "PersistentVolume")
MODELS = (API_VERSION, KIND)
LEASES = ("coordination.k8s.io/v1", "Lease")
AUTOSCALERS = ("autoscaling/v2", "HorizontalPodAutoscaler")
SCALED_OBJECTS = ("keda.sh/v1alpha1", "ScaledObject")

EVERY_NODE = (NODES[1], "*")  # what follows it is looked at when any node changes

_PLURALS: Mapping[tuple[str, str], str] = {
    DEPLOYMENTS: "deployments",
    JOBS: "jobs",
    SERVICES: "services",
    CONFIG_MAPS: "configmaps",
    CLAIMS: "persistentvolumeclaims",
    PODS: "pods",
    EVENTS: "events",
    NODES: "nodes",
    VOLUMES: "persistentvolumes",
    MODELS: PLURAL,
    LEASES: "leases",
    AUTOSCALERS: "horizontalpodautoscalers",
    SCALED_OBJECTS: "scaledobjects",
}
_CLUSTER_SCOPED = frozenset({NODES, VOLUMES})
WRITABLE = frozenset({DEPLOYMENTS, JOBS, SERVICES, CONFIG_MAPS, CLAIMS})
DELETABLE = WRITABLE | {PODS}  # a server that hangs is ended; its Deployment makes another


def path_of(kind: tuple[str, str], namespace: str | None = None, name: str | None = None, sub: str = "") -> str:
    """The URL path of a collection (no name), an object, or its subresource. No namespace: all namespaces.

    Raises OutOfBounds for a kind that is not listed, or for names that are no path segments.
    """
    if kind not in _PLURALS:
        raise OutOfBounds(f"{kind[1]} of {kind[0]} is no kind of this operator")
    root = f"/api/{kind[0]}" if "/" not in kind[0] else f"/apis/{kind[0]}"
    pieces = [root]
    if namespace is not None and kind not in _CLUSTER_SCOPED:
        pieces += ["namespaces", _segment(namespace)]
    pieces.append(_PLURALS[kind])
    if name is not None:
        pieces.append(_segment(name))
    if sub:
        pieces.append(sub)
    return "/".join(pieces)


def _segment(text: str) -> str:
    if not text or text in {".", ".."} or "/" in text:
        raise OutOfBounds(f"{text!r} is no name of an object")
    return quote(text, safe=":")


def ref_of(manifest: Json) -> Ref:
    """The reference to the object that a manifest describes."""
    return Ref(str(manifest["apiVersion"]), str(manifest["kind"]), str(manifest["metadata"]["name"]))


def kind_of(ref: Ref) -> tuple[str, str]:
    """The (apiVersion, kind) of a reference."""
    return (ref.api_version, ref.kind)


def owner_uids(live: Json) -> frozenset[str]:
    """The uids of all VLLMModels that own a live object."""
    return frozenset(str(owner["uid"]) for owner in model_owners(live))


def model_owners(live: Json) -> list[Json]:
    """The ownerReferences of a live object that point at VLLMModels (of any version of our API group)."""
    owners = (live.get("metadata") or {}).get("ownerReferences") or []
    return [o for o in owners if o.get("kind") == KIND and str(o.get("apiVersion", "")).startswith(f"{GROUP}/")]
