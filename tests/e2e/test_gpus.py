"""Devices on the real node (it says that it has eight GPUs): rollouts without a free one, and memory known by the node's labels."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pytest

from tests.e2e.world import GO_ON, Namespace, await_that, kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]
L4 = {
    "nvidia.com/gpu.product": "NVIDIA-L4",
    "nvidia.com/gpu.memory": "23034",
    "nvidia.com/gpu.compute.major": "8",
    "nvidia.com/gpu.compute.minor": "9",
}
KEEP_SERVING = {"strategy": "RollingUpdate", "maxSurge": "1", "maxUnavailable": "0"}


def hold_gpus(namespace: Namespace, count: int) -> None:
    """Another tenant's pod that takes this many GPUs."""
    security = {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "holder",
        "image": namespace.images["vllm-fake"],
        "command": ["sleep", "3600"],
        "securityContext": security,
        "resources": {"requests": {"cpu": "1m"}, "limits": {"nvidia.com/gpu": str(count)}},
    }
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "holder"}, "spec": spec}
    namespace.kubectl("apply", "-f", "-", input=json.dumps(body))
    namespace.kubectl("wait", "pod/holder", "--for=condition=PodScheduled", "--timeout=60s")


def test_an_edit_without_a_free_gpu_serves_on_says_so_and_goes_through_with_recreate(namespace: Namespace) -> None:
    hold_gpus(namespace, 7)
    namespace.apply_fake(accelerator="nvidia", rollout=KEEP_SERVING)
    namespace.await_ready()
    old = namespace.server_pods()[0]["metadata"]["name"]

    namespace.patch("m", maxModelLen=256)

    ready = namespace.await_condition("Ready", "False", "RolloutWaitsForGPU")
    assert "1 nvidia.com/gpu needed, 0 free" in ready["message"]
    assert "rollout.strategy: Recreate" in ready["message"]
    assert namespace.condition("Available")["status"] == "True"
    assert old in {pod["metadata"]["name"] for pod in namespace.server_pods()}
    assert namespace.ask("/v1/models")["data"][0]["max_model_len"] == 512

    namespace.patch("m", rollout={"strategy": "Recreate", "maxSurge": None, "maxUnavailable": None})

    assert namespace.await_ready()["maxModelLen"] == 256
    assert old not in {pod["metadata"]["name"] for pod in namespace.server_pods()}


def test_an_edit_by_default_never_waits_for_the_gpu_that_the_model_holds_itself(namespace: Namespace) -> None:
    hold_gpus(namespace, 7)
    namespace.apply_fake(accelerator="nvidia")
    namespace.await_ready()

    namespace.patch("m", maxModelLen=256)

    assert namespace.await_ready()["maxModelLen"] == 256


@pytest.fixture
def an_l4() -> Iterator[None]:
    """The node with GPU feature discovery's labels of an L4."""
    kubectl("label", "nodes", "--all", "--overwrite", *(f"{key}={value}" for key, value in L4.items()))
    yield
    kubectl("label", "nodes", "--all", *(f"{key}-" for key in L4))


@pytest.mark.usefixtures("an_l4")
def test_memory_that_only_the_nodes_labels_tell_stops_a_misfit_before_a_gpu_and_the_annotation_overrides(
    namespace: Namespace,
) -> None:
    namespace.apply_fake("small", accelerator="nvidia", replicas=0)
    looks = itertools.count()

    def look_at_the_nodes() -> str:  # they are not watched: what is known of them may be a minute old
        namespace.kubectl("annotate", "vllmmodel", "small", "--overwrite", f"example.org/look={next(looks)}")
        return str(namespace.condition("Fits", "small").get("status"))

    await_that(look_at_the_nodes, lambda status: status == "True", 90, "a fit by the node's labels")

    namespace.apply_fake(model="vllm-operator/wide-kv-cache", accelerator="nvidia", maxModelLen=1048576)

    condition = namespace.await_condition("Fits", "False")
    assert "GiB" in condition["message"]
    assert "maxModelLen" in condition["message"]
    status = namespace.status()
    assert status["fit"]["largestMaxModelLen"] < 1048576
    assert status["fit"]["remedies"]
    assert namespace.get("deployment", "m") == {}
    assert namespace.server_pods() == []

    namespace.kubectl("annotate", "vllmmodel", "m", *(f"{key}={value}" for key, value in GO_ON.items()))

    await_that(namespace.server_pods, len, 90, "a pod in spite of the misfit")
    assert "ignored" in namespace.condition("Fits")["message"]
