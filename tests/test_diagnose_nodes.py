"""What a pod's Node adds to its failure: whether it answers, what it lacks, that it is gone. And when it is read at all."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from tests.diagnose_logs.states import a_container, a_pod, an_event
from tests.wire.fixtures import a_vllmmodel
from tests.wire.operator import Operator, an_operator
from vllm_operator.diagnose import Failure, Reason, look_at_pod
from vllm_operator.queue import Key

EVICTED = {
    "reason": "Evicted",
    "message": "The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi, available: 2Gi.",
}
BAD_LENGTH = "ValueError: User-specified max_model_len (9) is greater than the derived max_model_len (max_position_embeddings=8.0).\n"


def a_node(ready: str = "True", message: str = "kubelet is posting ready status", **pressures: str) -> dict[str, Any]:
    conditions = [{"type": kind, "status": "True", "message": words} for kind, words in pressures.items()]
    since = {"lastTransitionTime": "2026-11-21T12:19:00Z"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "gpu-3"},
        "status": {
            "conditions": [*conditions, {"type": "Ready", "status": ready, "message": message, **since}],
            "allocatable": {"nvidia.com/gpu": "4", "memory": "512Gi"},
        },
    }


SILENT = a_node("Unknown", "Kubelet stopped posting node status.")


def an_unreachable_pod() -> dict[str, Any]:
    unready = [{"type": "Ready", "status": "False"}, {"type": "PodScheduled", "status": "True"}]
    return a_pod(containers=[a_container("running", ready=True)], conditions=unready)


def read(pod: dict[str, Any], node: dict[str, Any] | None, log: str | None = None) -> Failure:
    found = look_at_pod(pod, (), log, node=node)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("node", "says", "remedy"),
    [
        (SILENT, "gpu-3 does not answer (since 2026-11-21T12:19:00Z): Kubelet stopped posting", "delete its Node object"),
        (a_node("False", "container runtime is down"), "gpu-3 is not ready (since 2026-11-21T12:19:00Z): container runtime", "Repair"),
        ({}, "gpu-3 is no longer in the cluster", "replaces the pod by itself"),
    ],
    ids=["silent", "not-ready", "gone"],
)  # fmt: skip
def test_a_pod_on_a_node_that_does_not_work_is_lost_with_it(node: dict[str, Any], says: str, remedy: str) -> None:
    found = read(an_unreachable_pod(), node)

    assert (found.reason, found.retry) == (Reason.NodeLost, True)
    assert says in found.message
    assert remedy in found.remedy


def test_what_a_lost_node_was_short_of_is_said_too() -> None:
    found = read(
        an_unreachable_pod(), a_node("False", "PLEG is not healthy", MemoryPressure="kubelet has insufficient memory")
    )

    assert "PLEG is not healthy" in found.message
    assert "memory pressure (kubelet has insufficient memory)" in found.message


def test_a_pod_of_a_node_that_came_back_says_so() -> None:
    pod = a_pod(phase="Failed", status={"reason": "NodeLost", "message": "Node gpu-3 is unresponsive"})

    assert "did not answer: Node gpu-3 is unresponsive. It is ready again." in read(pod, a_node()).message


def test_an_old_event_about_a_node_that_works_again_is_no_failure() -> None:
    went = an_event("NodeNotReady", "Node is not ready")

    assert look_at_pod(an_unreachable_pod(), [went], node=a_node()) is None
    assert read(an_unreachable_pod(), SILENT).reason is Reason.NodeLost


def test_a_node_that_works_changes_nothing_for_a_pod_that_waits() -> None:
    creating = a_pod(phase="Pending", containers=[a_container("waiting", reason="ContainerCreating")])

    assert look_at_pod(creating, node=a_node()) is None


def test_an_eviction_says_what_its_node_is_under() -> None:
    found = read(a_pod(phase="Failed", status=EVICTED), a_node(DiskPressure="kubelet has disk pressure"))

    assert found.reason is Reason.Evicted
    assert "gpu-3 is under disk pressure (kubelet has disk pressure)" in found.message


@pytest.mark.parametrize(
    ("code", "log", "says"),
    [(137, "INFO 11-21 12:00:00 [x.py:1] Loading weights\n", True), (1, BAD_LENGTH, False)],
    ids=["killed", "own-fault"],
)
def test_pressure_is_said_of_what_it_can_have_caused(code: int, log: str, says: bool) -> None:
    pod = a_pod(containers=[a_container("terminated", exitCode=code, reason="Error")])

    found = read(pod, a_node(MemoryPressure="kubelet has insufficient memory available"), log)

    assert ("memory pressure" in found.message) is says


def test_a_pod_without_its_devices_says_how_many_the_node_offers() -> None:
    words = "Allocate failed due to requested number of devices unavailable for nvidia.com/gpu. Requested: 2, Available: 0, which is unexpected"
    pod = a_pod(phase="Failed", status={"reason": "UnexpectedAdmissionError", "message": words})

    assert "gpu-3 offers 4 nvidia.com/gpu in all" in read(pod, a_node()).message


def kubelet_is_away(request: web.Request) -> web.Response | None:
    return (
        web.json_response({"code": 500, "message": "no route to host"}, status=500)
        if request.path.endswith("/log")
        else None
    )


async def served(op: Operator) -> dict[str, Any]:
    """A model that serves from node gpu-3; its pod."""
    op.fake.put(a_vllmmodel())
    await op.settle()
    name = next(pod["metadata"]["name"] for pod in op.fake.all("Pod") if pod["metadata"]["name"].startswith("m-"))
    op.fake.edit("Pod", name, {"spec": {"nodeName": "gpu-3"}})
    await op.look()
    return dict(op.fake.get("Pod", name) or {})


def without_ready(pod: dict[str, Any]) -> dict[str, Any]:
    kept = [found for found in pod["status"]["conditions"] if found["type"] != "Ready"]
    return {"status": {"conditions": [*kept, {"type": "Ready", "status": "False"}]}}


def reads_of_the_node(op: Operator) -> list[str]:
    return [path for _, path in op.fake.audit if "/nodes/gpu-3" in path]


async def look_again(op: Operator) -> dict[str, Any]:
    op.doormen.reconciler.changed(Key("team", "m"))
    await op.look()
    status = (op.fake.get("VLLMModel", "m") or {})["status"]
    return {**status, "ready": next(c for c in status["conditions"] if c["type"] == "Ready")}


@pytest.mark.parametrize("node", [SILENT, None], ids=["silent", "gone"])
async def test_a_server_on_a_node_that_went_says_so_in_status(node: dict[str, Any] | None) -> None:
    async with an_operator() as op:
        pod = await served(op)
        if node is not None:
            op.fake.put(node)
        before = reads_of_the_node(op)
        op.fake.edit("Pod", pod["metadata"]["name"], without_ready(pod))
        status = await look_again(op)

    assert before == []
    assert len(reads_of_the_node(op)) == 1
    assert status["ready"]["reason"] == "NodeLost"
    assert "gpu-3" in status["lastFailure"]["message"]


async def test_a_server_whose_log_cannot_be_read_is_looked_for_at_its_node() -> None:
    async with an_operator() as op:
        pod = await served(op)
        op.fake.put(SILENT)
        starting = {"name": "vllm", "ready": False, "started": False, "restartCount": 0, "state": {"running": {}}}
        op.fake.edit("Pod", pod["metadata"]["name"], without_ready(pod))
        op.fake.edit("Pod", pod["metadata"]["name"], {"status": {"containerStatuses": [starting]}})
        op.fake.faults.append(kubelet_is_away)
        status = await look_again(op)

    assert status["lastFailure"]["reason"] == "NodeLost"


async def test_a_pod_that_its_node_does_not_take_is_looked_for_there() -> None:
    async with an_operator() as op:
        pod = await served(op)
        op.fake.put(SILENT)
        placed = {
            "conditions": [{"type": "PodScheduled", "status": "True"}],
            "containerStatuses": [],
            "phase": "Pending",
        }
        op.fake.edit(
            "Pod",
            pod["metadata"]["name"],
            {"metadata": {"creationTimestamp": "2026-11-21T12:00:00Z"}, "status": placed},
        )
        status = await look_again(op)

    assert status["lastFailure"]["reason"] == "NodeLost"
