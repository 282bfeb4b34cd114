"""Several nodes with a folder for weights on the fake API server: what tests of `cache.type: Node` share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.golden.canned import settings
from tests.wire.fixtures import a_vllmmodel
from tests.wire.operator import Operator, an_operator
from vllm_operator.plan.labels import NODE_ANNOTATION, NODE_LABELS

HOME = "platform"
ROOT = "/var/lib/weights"
Object = dict[str, Any]


@asynccontextmanager
async def nodes(*names: str, **cache: Any) -> AsyncIterator[Operator]:
    """An operator whose platform has set a folder apart, and nodes with a GPU."""
    given = settings(nodeCache={"path": ROOT, "namespace": HOME, **cache})
    async with an_operator(settings=given) as op:
        for name in names:
            a_node(op, name)
        yield op


def a_node(op: Operator, name: str, *, ready: str = "True", gpus: str = "8", **spec: Any) -> None:
    status = {"conditions": [{"type": "Ready", "status": ready}], "capacity": {"nvidia.com/gpu": gpus}}
    op.fake.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec, "status": status})


def a_model(op: Operator, name: str = "m", **spec: Any) -> None:
    op.fake.put(a_vllmmodel(name, **{"cache": {"type": "Node"}, **spec}))


def marks(op: Operator) -> dict[str, dict[str, str]]:
    """Our labels, by node."""
    found = {}
    for node in op.fake.all("Node"):
        labels = node["metadata"].get("labels") or {}
        found[node["metadata"]["name"]] = {k: v for k, v in labels.items() if k.startswith(NODE_LABELS)}
    return found


def filled(op: Operator) -> set[str]:
    return {name for name, labels in marks(op).items() if labels}


def jobs(op: Operator, action: str) -> dict[str, Object]:
    """Jobs of an action by the node that each is for."""
    return {
        job["metadata"]["annotations"].get(NODE_ANNOTATION, ""): job
        for job in op.fake.all("Job")
        if job["metadata"]["labels"]["vllm-operator.dev/job"] == action
    }


async def sweep(op: Operator, times: int = 4) -> None:
    assert op.doormen.sweep is not None
    for _ in range(times):
        op.doormen.sweep.nodes_changed()
        await op.doormen.sweep.once()


def message(op: Operator, type: str) -> str:
    return next(str(c["message"]) for c in op.status()["conditions"] if c["type"] == type)
