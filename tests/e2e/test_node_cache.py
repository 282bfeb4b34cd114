"""Weights on the disk of the real node, beside a node that is an object only: it blocks nothing, whatever it says of itself."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.places import NODE_NAME
from tests.demo.install import install_operator
from tests.e2e.world import TINY, Namespace, await_that, kubectl
from vllm_operator.plan.environment import COMPILE_CACHE
from vllm_operator.plan.labels import NODE_ANNOTATION, NODE_LABELS

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.timeout(300)]
ROOT = Path("/var/lib/vllm-operator-tests/weights")
GHOST = "a-ghost"  # by its name the first in turn
CACHE = {"type": "Node", "compileCache": True}


@pytest.fixture
def node_cache(image_names: dict[str, str]) -> Iterator[None]:
    """An operator whose platform has set a folder of its nodes apart, and a second node that no kubelet stands behind."""
    server = {"cpu": image_names["vllm-cpu"], "nvidia": image_names["vllm-cpu"]}
    settings = {
        "hub": {"endpoint": "http://hub.hub.svc"},
        "images": {"weights": image_names["weights"], "server": server},
        "policy": {"allowedImages": ["vllm-operator.local/"]},
        "nodeCache": {"path": str(ROOT), "nodesAtATime": 1},
    }
    install_operator(dict(image_names), {"settings": settings})
    kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": GHOST}}))
    try:
        yield
    finally:
        kubectl("delete", "node", GHOST, "--ignore-not-found")
        install_operator(dict(image_names), {})
        shutil.rmtree(ROOT.parent, ignore_errors=True)


def marks(node: str = NODE_NAME) -> dict[str, str]:
    labels = json.loads(kubectl("get", "node", node, "-o", "json"))["metadata"]["labels"]
    return {key: value for key, value in labels.items() if key.startswith(NODE_LABELS)}


def volumes() -> list[dict[str, Any]]:
    found = json.loads(
        kubectl("get", "persistentvolumes", "-l", "app.kubernetes.io/managed-by=vllm-operator", "-o", "json")
    )
    return list(found["items"])


def folder_jobs() -> dict[str, str]:
    """The node of each Job in the platform's namespace, by the Job's action and name."""
    found = json.loads(kubectl("-n", "vllm-operator", "get", "jobs", "-o", "json"))["items"]
    return {job["metadata"]["name"]: job["metadata"]["annotations"][NODE_ANNOTATION] for job in found}


def the_ghost_is(ready_status: str) -> None:
    """What it says of itself: with "True" it has room, and pods come to it and never run."""
    ready = {
        "type": "Ready",
        "status": ready_status,
        "reason": "Said",
        "lastHeartbeatTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    room = {"cpu": "4", "memory": "8Gi", "pods": "10"}
    status = {"conditions": [ready], "capacity": room, "allocatable": room}
    kubectl("patch", "node", GHOST, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))


def test_weights_on_the_nodes_disks_are_filled_served_shared_and_gone(namespace: Namespace, node_cache: None) -> None:
    namespace.apply_fake("looked-up", replicas=0, cache={"type": "None"})  # so that no inspection comes to the ghost
    namespace.await_condition("WeightsReady", "True", "InPlace", name="looked-up")
    the_ghost_is("True")
    namespace.apply_fake("one", cache=CACHE)
    await_that(folder_jobs, lambda at: list(at.values()) == [GHOST], 60, "the ghost's turn")
    the_ghost_is("Unknown")
    status = namespace.await_ready("one")

    assert status["weights"]["nodes"] == {"ready": 1, "desired": 2}
    assert len(marks()) == 1
    assert namespace.ask("/v1/models", "one")["data"][0]["id"] == TINY
    assert len(list(ROOT.glob(f"{namespace.name}/*/*/.vllm-operator/manifest.json"))) == 1
    _the_server_reads_and_keeps(namespace)

    _a_wiped_disk_is_filled_again(namespace)

    the_ghost_is("True")
    assert sorted(folder_jobs().values()) == [GHOST, NODE_NAME]
    namespace.apply_fake("two", cache=CACHE, maxModelLen=256)
    namespace.await_ready("two")
    assert "on 1 of 2 nodes" in namespace.condition("WeightsReady", "two")["message"]
    assert len(volumes()) == 1
    assert len(namespace.list("jobs")) == 2  # an inspection and one pull

    namespace.kubectl("delete", "vllmmodel", "one", "two", "looked-up", "--wait=true")
    await_that(marks, lambda left: not left, 60, "no label on the node")
    await_that(lambda: list(ROOT.glob(f"{namespace.name}/*")), lambda left: not left, 60, "no files on the node")
    assert len(volumes()) == 1  # for the node that has not said whether anything is left on it
    kubectl("delete", "node", GHOST)
    await_that(volumes, lambda left: not left, 60, "the end of the volume")
    await_that(folder_jobs, lambda left: not left, 60, "the end of its Jobs")


def _a_wiped_disk_is_filled_again(namespace: Namespace) -> None:
    """The folder goes, and the server has to start anew."""
    (folder,) = ROOT.glob(f"{namespace.name}/*")
    shutil.rmtree(folder)
    before = namespace.server_pods("one")[0]["metadata"]["name"]
    namespace.kubectl("delete", "pod", before, "--grace-period=0", "--force")

    manifests = lambda: list(ROOT.glob(f"{namespace.name}/*/*/.vllm-operator/manifest.json"))  # noqa: E731
    await_that(manifests, lambda found: found, 60, "the weights again")
    namespace.await_ready("one", seconds=60)
    assert len(marks()) == 1


def _the_server_reads_and_keeps(namespace: Namespace) -> None:
    """As the user that it is: the files, and a place for what it compiles."""
    pod = namespace.server_pods("one")[0]
    path = pod["spec"]["containers"][0]["args"][0]
    program = f"import os; print(sorted(os.listdir({path!r}))); open({COMPILE_CACHE + '/x'!r}, 'w').close()"
    said = namespace.kubectl("exec", pod["metadata"]["name"], "--", "python", "-c", program)

    assert "config.json" in said
    assert pod["spec"]["nodeName"] == NODE_NAME
