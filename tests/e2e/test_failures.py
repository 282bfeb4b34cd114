"""What else goes wrong on the real node, and the end of a server that fails for good."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.e2e.world import GO_ON, Namespace, await_failure, await_that, kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def test_a_server_that_the_kernel_kills_for_its_memory_is_said(namespace: Namespace) -> None:
    limit = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "2200Mi"}}
    namespace.apply_fake(resources=limit)
    namespace.await_ready()

    namespace.fault("eat")

    failure = await_failure(namespace, "HostOutOfMemory", 120)
    assert "memory" in failure["remedy"]


def test_a_permanent_crash_is_stopped_and_frees_the_gpu_until_the_spec_changes(namespace: Namespace) -> None:
    namespace.apply_real(annotations=GO_ON, maxModelLen=100000)
    namespace.await_condition("Stalled", "True", "MaxModelLenTooLong", seconds=240)
    await_that(lambda: namespace.get("deployment", "m")["spec"]["replicas"], lambda n: n == 0, 240, "no replicas")
    await_that(lambda: len(namespace.server_pods()), lambda n: n == 0, 90, "no pod")

    namespace.patch("m", maxModelLen=512)

    namespace.await_ready(seconds=240)


@pytest.mark.parametrize(
    ("spec", "reason", "says"),
    [
        ({"image": "vllm-operator.local/absent:1"}, "ImagePullFailed", "vllm-operator.local/absent:1"),
        ({"accelerator": "nvidia", "tensorParallelSize": 16}, "Unschedulable", "nvidia.com/gpu"),
        ({"pod": {"nodeSelector": {"zone": "moon"}}}, "Unschedulable", "node"),
    ],
    ids=["image", "gpus", "node-selector"],
)
def test_a_pod_that_cannot_start_is_explained(
    namespace: Namespace, spec: dict[str, Any], reason: str, says: str
) -> None:
    namespace.apply_fake(annotations=GO_ON, **spec)

    condition = namespace.await_condition("Ready", "False", reason, seconds=120)

    assert says in condition["message"]


def test_a_quota_that_is_used_up_is_said(namespace: Namespace) -> None:
    namespace.apply_fake(replicas=0)
    namespace.await_condition("WeightsReady", "True")
    namespace.kubectl("create", "quota", "q", "--hard=pods=0")

    namespace.kubectl("scale", "vllmmodel", "m", "--replicas=1")

    condition = namespace.await_condition("Ready", "False", "QuotaExceeded", seconds=90)
    assert "q" in condition["message"]


def test_an_engine_killed_in_service_is_said_although_the_server_ends_with_code_zero(namespace: Namespace) -> None:
    namespace.apply_real()
    namespace.await_ready(seconds=240)
    pod = namespace.server_pods()[0]["metadata"]["name"]
    kill = (
        "import os, signal\n"
        "for pid in filter(str.isdigit, os.listdir('/proc')):\n"
        "    if b'VLLM::Engine' b'Core' in open(f'/proc/{pid}/cmdline', 'rb').read(): os.kill(int(pid), signal.SIGKILL)\n"
    )
    namespace.kubectl("exec", pod, "--", "python3", "-c", kill)

    await_failure(namespace, "EngineDied", 120)
    namespace.await_ready(seconds=240)


def test_a_server_without_its_tokenizer_is_healthy_and_not_ready(namespace: Namespace) -> None:
    namespace.apply_real(model="vllm-operator/no-tokenizer")

    failure = await_failure(namespace, "TokenizerMissing", 240)

    assert "tokenizer" in failure["remedy"]
    assert namespace.condition("Ready")["status"] == "False"


def test_custom_code_is_refused_before_anything_is_pulled(namespace: Namespace) -> None:
    namespace.apply_fake(model="vllm-operator/custom-code")

    condition = namespace.await_condition("Ready", "False", "TrustRemoteCodeRequired")

    assert "trustRemoteCode" in condition["message"]
    assert namespace.list("persistentvolumeclaims") == []


def test_what_does_not_fit_is_said_with_numbers_before_a_gpu_or_a_volume_is_taken(namespace: Namespace) -> None:
    namespace.apply_fake(model="vllm-operator/wide-kv-cache", accelerator="nvidia-l4", maxModelLen=1048576)

    condition = namespace.await_condition("Fits", "False")

    assert "GiB" in condition["message"]
    assert namespace.status()["fit"]["remedies"]
    assert namespace.list("persistentvolumeclaims,deployments") == []
    assert namespace.condition("Stalled")["status"] == "True"


@pytest.fixture
def a_node_without_a_machine() -> Iterator[str]:
    """A Node that takes pods and runs none: there is no kubelet behind it."""
    name = "no-machine"
    kubectl(
        "apply",
        "-f",
        "-",
        input=json.dumps(
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}}
        ),
    )
    say_of(name, "True", "all is well")
    yield name
    kubectl("delete", "node", name)


def say_of(node: str, ready: str, message: str) -> None:
    """What the node's kubelet would post."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    room = {"cpu": "8", "memory": "32Gi", "pods": "10", "ephemeral-storage": "100Gi"}
    condition = {
        "type": "Ready",
        "status": ready,
        "reason": "KubeletSays",
        "message": message,
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }
    status = {"capacity": room, "allocatable": room, "conditions": [condition]}
    kubectl("patch", "node", node, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))


def test_a_node_that_goes_silent_is_named_with_what_it_says(
    namespace: Namespace, a_node_without_a_machine: str
) -> None:
    namespace.apply_fake(pod={"nodeSelector": {"kubernetes.io/hostname": a_node_without_a_machine}})
    look = lambda: [pod["spec"].get("nodeName") for pod in namespace.list("pods")]  # noqa: E731
    await_that(look, lambda names: a_node_without_a_machine in names, 60, "a pod on that node")

    say_of(a_node_without_a_machine, "Unknown", "The cable was pulled.")

    failure = await_failure(namespace, "NodeLost", 90)
    assert f"{a_node_without_a_machine} does not answer" in failure["message"]
