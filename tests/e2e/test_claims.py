"""Devices by dynamic resource allocation on the real node: claimed, seen by the server, and waited for by a rollout."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cluster import kubernetes
from tests.e2e.world import Namespace, kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

API = "resource.k8s.io/v1"
DRIVER = "devices.vllm-operator.local"


def a_template(name: str, count: int) -> dict[str, Any]:
    """A ResourceClaimTemplate as a tenant writes it."""
    request = {"name": "device", "exactly": {"deviceClassName": "test-devices", "count": count}}
    spec = {"spec": {"devices": {"requests": [request]}}}
    return {"apiVersion": API, "kind": "ResourceClaimTemplate", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module", autouse=True)
def three_devices() -> None:
    """The driver runs until the node goes down: pods that end give their devices back to it."""
    kubernetes.start_devices(3)
    selectors = [{"cel": {"expression": f"device.driver == '{DRIVER}'"}}]
    body = {"apiVersion": API, "kind": "DeviceClass", "metadata": {"name": "test-devices"}}
    kubectl("apply", "-f", "-", input=json.dumps({**body, "spec": {"selectors": selectors}}))


def test_a_server_gets_the_devices_of_its_claim_and_a_rollout_that_lacks_them_says_so(namespace: Namespace) -> None:
    namespace.kubectl("apply", "-f", "-", input=json.dumps(a_template("two-devices", 2)))
    surge = {"strategy": "RollingUpdate", "maxSurge": "1", "maxUnavailable": "0"}
    namespace.apply_fake(accelerator="nvidia", resourceClaimTemplate={"name": "two-devices"}, rollout=surge)
    namespace.await_ready()

    (claim,) = namespace.list("resourceclaims")
    given = claim["status"]["allocation"]["devices"]["results"]
    (pod,) = namespace.server_pods()
    seen = namespace.kubectl(
        "exec", pod["metadata"]["name"], "--", "python", "-c", "import os; print(os.environ['DEVICES'])"
    )
    assert sorted(seen.split()) == sorted(result["device"] for result in given)
    assert [result["driver"] for result in given] == [DRIVER, DRIVER]
    assert "nvidia.com/gpu" not in pod["spec"]["containers"][0]["resources"].get("limits", {})
    assert "claim" in namespace.condition("Fits")["message"]

    namespace.patch("m", maxModelLen=256)
    waits = namespace.await_condition("Ready", "False", "RolloutWaitsForGPU", seconds=60)
    assert "Recreate" in waits["message"]
    assert namespace.condition("Available")["status"] == "True"

    namespace.patch("m", rollout={"strategy": "Recreate", "maxSurge": None, "maxUnavailable": None})
    namespace.await_ready(seconds=90)


def test_more_devices_than_a_node_has_are_said(namespace: Namespace) -> None:
    namespace.kubectl("apply", "-f", "-", input=json.dumps(a_template("nine-devices", 9)))
    namespace.apply_fake(accelerator="nvidia", resourceClaimTemplate={"name": "nine-devices"})

    told = namespace.await_condition("Ready", "False", "Unschedulable", seconds=60)
    assert "claim" in told["message"]
    assert "`resourceClaimTemplate`" in told["message"]
