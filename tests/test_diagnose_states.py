"""The diagnosis on many shapes of Kubernetes' own words, read where they stand: in a pod, its Deployment, its claim or their events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.diagnose_logs.states import a_container, a_pod, an_event, pending
from vllm_operator.diagnose import Failure, Reason, look_at_claim, look_at_deployment, look_at_pod

STATES: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parent / "diagnose_logs" / "states.yaml").read_text(encoding="utf-8")
)
STARTED = {"exitCode": 137, "reason": "Error"}
KILLED = an_event("Killing", "Container server failed startup probe, will be restarted", seen="2026-11-21T12:20:10Z")


def look(at: str, why: str, words: str) -> Failure | None:
    match at:
        case "waiting":
            return look_at_pod(a_pod(phase="Pending", containers=[a_container("waiting", reason=why, message=words)]))
        case "unplaced":
            return look_at_pod(pending(words))
        case "creating":
            creating = a_pod(phase="Pending", containers=[a_container("waiting", reason="ContainerCreating")])
            return look_at_pod(creating, [an_event(why, words)])
        case "ended":
            return look_at_pod(a_pod(phase="Failed", status={"reason": why, "message": words}))
        case "deployment":
            refused = {"type": "ReplicaFailure", "status": "True", "reason": why, "message": words}
            return look_at_deployment({"metadata": {"uid": "u"}, "status": {"conditions": [refused]}})
        case _:
            claim = {"metadata": {"uid": "uid-w", "name": "w"}, "status": {"phase": "Pending"}}
            return look_at_claim(claim, [an_event(why, words, pod="w")])


@pytest.mark.parametrize("state", STATES, ids=lambda state: state["name"])
def test_kubernetes_words_are_explained_where_they_stand(state: dict[str, Any]) -> None:
    found = look(state["at"], state["why"], state["words"])

    assert found is not None
    assert found.reason in (state["reason"], *state.get("also", ()))
    assert state.get("says", "") in found.message
    assert state.get("remedy", "").lower() in found.remedy.lower()


@pytest.mark.parametrize("state", ["not-ready", "unreachable", "disk-pressure", "memory-pressure"])
def test_nobody_is_told_to_tolerate_a_node_that_is_not_well(state: str) -> None:
    found = look(
        "unplaced", "", f"0/2 nodes are available: 2 node(s) had untolerated taint {{node.kubernetes.io/{state}: }}."
    )

    assert found is not None
    assert "tolerations" not in found.remedy
    assert state in found.remedy


def test_a_sick_node_is_named_beside_the_want_of_gpus() -> None:
    words = "0/6 nodes are available: 2 node(s) had untolerated taint {node.kubernetes.io/unreachable: }, 4 Insufficient nvidia.com/gpu."
    found = look("unplaced", "", words)

    assert found is not None
    assert "tensorParallelSize" in found.remedy
    assert "Repair the nodes that are unreachable." in found.remedy


def test_an_autoscaler_that_adds_no_node_is_quoted() -> None:
    words = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    found = look_at_pod(
        pending(words), [an_event("NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached")]
    )

    assert found is not None
    assert "max node group size reached" in found.message


@pytest.mark.parametrize(
    ("log", "says"),
    [
        ("INFO 11-21 12:00:09 [x.py:1] Starting to load model /m...\nLoading safetensors checkpoint shards:  45% Completed | 14/31 [18:40<22:49,  2.91s/it]\n", "still loading"),
        ("INFO 11-21 12:00:09 [x.py:1] Starting to load model /m...\nLoading safetensors checkpoint shards:  45% Completed | 14/31 [01:40<22:49,  2.91s/it]\n", "hangs"),
    ],
    ids=["goes-on", "stands-still"],
)  # fmt: skip
def test_a_progress_bar_tells_a_slow_start_from_a_hung_one(log: str, says: str) -> None:
    pod = a_pod(containers=[a_container("running", restarts=1, last=STARTED)])

    found = look_at_pod(pod, [KILLED], previous_log=log)

    assert found is not None
    assert found.reason is Reason.StartupTimeout
    assert says in found.message


def test_nobody_is_told_to_tolerate_a_control_plane_beside_other_nodes() -> None:
    found = look(
        "unplaced",
        "",
        "0/3 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, 2 cannot allocate all claims.",
    )

    assert found is not None
    assert "tolerations" not in found.remedy
