"""Kubernetes' own shapes for the tests of the diagnosis: pods, containers and events as the API shows them."""

from typing import Any


def a_pod(
    *,
    name: str = "llama-6d9f-x2x",
    phase: str = "Running",
    owner: str = "ReplicaSet",
    hash_: str = "6d9f",
    containers: list[dict[str, Any]] | None = None,
    init: list[dict[str, Any]] | None = None,
    conditions: list[dict[str, Any]] | None = None,
    gpus: str = "2",
    node: str = "gpu-3",
    status: dict[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "labels": {"pod-template-hash": hash_},
            "ownerReferences": [{"kind": owner, "name": "llama"}],
            "creationTimestamp": "2026-11-21T12:00:00Z",
        },
        "spec": {
            "nodeName": node,
            "restartPolicy": "Always" if owner == "ReplicaSet" else "Never",
            "containers": [{"name": "server", "resources": {"limits": {"memory": "32Gi", "nvidia.com/gpu": gpus}}}],
        },
        "status": {
            "phase": phase,
            "containerStatuses": containers or [],
            "initContainerStatuses": init or [],
            "conditions": conditions or [],
            **(status or {}),
        },
    }


def a_container(
    state: str, *, ready: bool = False, restarts: int = 0, last: dict[str, Any] | None = None, **fields: Any
) -> dict[str, Any]:
    return {
        "name": "server",
        "ready": ready,
        "restartCount": restarts,
        "state": {state: fields},
        "lastState": {"terminated": last} if last else {},
    }


def an_event(
    reason: str, message: str, *, seen: str = "2026-11-21T12:20:00Z", count: int = 1, pod: str = "llama-6d9f-x2x"
) -> dict[str, Any]:
    return {
        "reason": reason,
        "message": message,
        "lastTimestamp": seen,
        "count": count,
        "involvedObject": {"uid": f"uid-{pod}"},
    }


def pending(message: str, **fields: Any) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return a_pod(phase="Pending", node="", conditions=[condition], **fields)
