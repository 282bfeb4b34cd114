"""Models that are images, on clusters that mount images and on those that do not know how."""

from __future__ import annotations

from typing import Any

import pytest

from tests.diagnose_logs.states import a_container, a_pod
from tests.wire.fixtures import a_vllmmodel
from tests.wire.operator import Operator, an_operator
from vllm_operator.cluster import Refused
from vllm_operator.diagnose import Reason, look_at_pod

REFERENCE = f"registry.example/models/tiny@sha256:{'ab' * 32}"
MODEL = f"oci://{REFERENCE}"


def without_image_volumes(body: dict[str, Any]) -> None:
    """What an API server does whose feature ImageVolume is off: volumes and mounts go, and nothing is said."""
    if body["kind"] != "Deployment":
        return
    spec = body["spec"]["template"]["spec"]
    dropped = {volume["name"] for volume in spec.get("volumes", ()) if "image" in volume}
    spec["volumes"] = [volume for volume in spec.get("volumes", ()) if volume["name"] not in dropped]
    for container in spec["containers"]:
        container["volumeMounts"] = [each for each in container["volumeMounts"] if each["name"] not in dropped]


def condition(op: Operator, type: str) -> dict[str, Any]:
    return next(each for each in op.status()["conditions"] if each["type"] == type)


async def test_a_model_that_is_an_image_takes_no_job_and_no_volume_and_its_fit_is_unknown_for_a_reason() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel(model=MODEL))
        await op.settle()

        assert op.condition("Ready") == ("True", "Serving")
        assert op.condition("WeightsReady") == ("True", "InPlace")
        assert op.condition("Fits") == ("Unknown", "FitUnknown")
        assert "config.json" in condition(op, "Fits")["message"]
        assert MODEL in condition(op, "Fits")["message"]
        assert op.fake.all("Job") == op.fake.all("PersistentVolumeClaim") == []


async def test_no_server_starts_without_the_image_that_a_cluster_would_drop() -> None:
    async with an_operator() as op:
        op.fake.store.webhooks.append(without_image_volumes)
        op.fake.put(a_vllmmodel(model=MODEL))
        for _ in range(3):
            with pytest.raises(Refused):
                await op.look()

        assert op.fake.all("Deployment") == op.fake.all("Pod") == []
        assert op.condition("Ready") == ("False", "ImageVolumesUnsupported")
        assert "the volume model" in condition(op, "Ready")["message"]
        assert "Kubernetes 1.35" in condition(op, "Ready")["message"]

        op.fake.store.webhooks.clear()  # the feature is switched on
        await op.settle()
        assert op.condition("Ready") == ("True", "Serving")


async def test_a_server_that_runs_is_left_alone_where_the_new_one_would_lack_its_image() -> None:
    async with an_operator() as op:
        op.fake.store.webhooks.append(without_image_volumes)
        op.fake.put(a_vllmmodel())
        await op.settle()
        before = op.fake.get("Deployment", "m")
        op.fake.edit("VLLMModel", "m", {"spec": {"model": MODEL}})
        with pytest.raises(Refused):
            await op.look()

        assert op.fake.get("Deployment", "m") == before
        assert op.condition("Ready") == ("False", "ImageVolumesUnsupported")
        assert op.condition("Available")[0] == "True"


async def test_an_adapter_that_is_an_image_counts_as_well() -> None:
    async with an_operator() as op:
        op.fake.store.webhooks.append(without_image_volumes)
        adapters = [{"name": "style", "source": MODEL}]
        op.fake.put(a_vllmmodel(adapters=adapters, enableLora=True))
        with pytest.raises(Refused):
            for _ in range(12):
                await op.look()

        assert "adapter-1" in condition(op, "Ready")["message"]


def a_waiting_pod(reason: str, message: str, volume: str = "model") -> dict[str, Any]:
    pod = a_pod(
        phase="Pending", containers=[{**a_container("waiting", reason=reason, message=message), "image": "vllm:1"}]
    )
    pod["spec"]["volumes"] = [{"name": volume, "image": {"reference": REFERENCE}}, {"name": "home", "emptyDir": {}}]
    return pod


@pytest.mark.parametrize(("volume", "field"), [("model", "`model`"), ("adapter-1", "`adapters[].source`")])
def test_an_image_volume_that_is_not_there_is_told_from_the_servers_own_image(volume: str, field: str) -> None:
    words = f'failed to pull and unpack image "{REFERENCE}": failed to resolve image: {REFERENCE}: not found'

    found = look_at_pod(a_waiting_pod("ErrImagePull", words, volume))

    assert found is not None
    assert found.reason is Reason.ImagePullFailed
    assert REFERENCE in found.message
    assert "vllm:1" not in found.message
    assert field in found.remedy
    assert "`image`" not in found.remedy


def test_the_servers_own_image_is_still_named_beside_an_image_volume() -> None:
    found = look_at_pod(a_waiting_pod("ErrImagePull", "dial tcp: lookup registry: no such host"))

    assert found is not None
    assert "vllm:1" in found.message
    assert "`image`" in found.remedy


def test_a_node_that_cannot_mount_images_is_said() -> None:
    found = look_at_pod(a_waiting_pod("CreateContainerConfigError", "path is empty *image.imagePlugin"))

    assert found is not None
    assert found.reason is Reason.ImageVolumesUnsupported
    assert "containerd 2.1" in found.remedy
