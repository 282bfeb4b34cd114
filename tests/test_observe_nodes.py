"""What nodes say of their accelerators, and that odd labels and statuses say nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.wire.fixtures import a_vllmmodel
from vllm_operator.api import VLLMModel
from vllm_operator.decide.types import DeviceSeen
from vllm_operator.observe.nodes import HIDDEN, devices_seen
from vllm_operator.observe.reading import container_state, count, newest, parsed, seconds_as
from vllm_operator.plan import plan_model
from vllm_operator.settings import load

SETTINGS = load(None)
A100: Mapping[str, str] = {
    "nvidia.com/gpu.memory": "81920",
    "nvidia.com/gpu.compute.major": "8",
    "nvidia.com/gpu.compute.minor": "0",
    "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
}


def a_plan(**spec: Any) -> Any:
    body = a_vllmmodel(**spec)
    body["metadata"]["uid"] = "u"
    return plan_model(VLLMModel.model_validate(body), SETTINGS)


def a_node(labels: Mapping[str, str]) -> dict[str, Any]:
    return {"metadata": {"name": "n", "labels": dict(labels)}}


def seen(*nodes: dict[str, Any], profile: str = "nvidia", **spec: Any) -> tuple[DeviceSeen, ...]:
    return devices_seen(nodes, a_plan(accelerator=profile, **spec)).get(profile, ())


EIGHTY = 80 * 1024**3 - HIDDEN


def test_each_kind_of_device_that_the_model_may_use_is_read_from_labels() -> None:
    t4 = {"nvidia.com/gpu.memory": "15360", "nvidia.com/gpu.compute.major": "7", "nvidia.com/gpu.compute.minor": "5"}
    large, small = seen(a_node(t4), a_node(A100), a_node({}), a_node(A100))

    assert (large.memory_bytes, large.compute_capability) == (EIGHTY, "8.0")
    assert (large.product, small.compute_capability) == ("NVIDIA-A100-SXM4-80GB", "7.5")


def test_a_node_with_devices_that_tells_no_memory_is_one_of_an_unknown_kind() -> None:
    assert seen(a_node({"nvidia.com/gpu.present": "true"})) == (DeviceSeen(),)
    assert seen(a_node({"nvidia.com/gpu.present": "false"})) == ()
    assert seen(a_node({"amd.com/gpu.vram": "192G"})) == ()
    (mi300x,) = seen(a_node({"amd.com/gpu.vram": "192G"}), profile="amd")
    assert mi300x.memory_bytes == 192 << 30


def test_nodes_that_the_model_may_not_use_say_nothing() -> None:
    pod = {"nodeSelector": {"zone": "b"}}

    assert seen(a_node(A100), pod=pod) == ()
    assert [device.memory_bytes for device in seen(a_node({**A100, "zone": "b"}), pod=pod)] == [EIGHTY]


def test_a_slice_has_the_memory_of_its_own_labels() -> None:
    labels = {**A100, "nvidia.com/mig-1g.10gb.memory": "9728", "nvidia.com/mig-1g.10gb.product": "A100-MIG-1g.10gb"}
    (mixed,) = seen(a_node(labels), profile="nvidia-a100-80gb-mig-1g.10gb")
    (single,) = seen(
        a_node({**A100, "nvidia.com/gpu.memory": "9728", "nvidia.com/gpu.product": "NVIDIA-A100-MIG-1g.10gb"})
    )

    assert (mixed.memory_bytes, mixed.is_slice) == (9728 << 20, True)
    assert (single.memory_bytes, single.is_slice) == (9728 << 20, True)


def test_a_device_that_is_shared_says_by_how_many() -> None:
    assert [device.shared_by for device in seen(a_node({**A100, "nvidia.com/gpu.replicas": "4"}))] == [4]
    assert [device.shared_by for device in seen(a_node({**A100, "nvidia.com/gpu.replicas": "0"}))] == [1]


@pytest.mark.parametrize("memory", ["", "many", "-1", "1e9", "9" * 40, "0"])
def test_labels_that_are_no_numbers_say_nothing(memory: str) -> None:
    assert [device.memory_bytes for device in seen(a_node({**A100, "nvidia.com/gpu.memory": memory}))] == [None]


def test_reading_never_trips_over_what_is_not_there() -> None:
    assert count({}, "status", "active") == 0
    assert container_state({"status": {"containerStatuses": None}}) == {}
    assert newest([]) is None
    assert parsed("[" * 100_000) is None


def test_a_condition_tells_for_how_long_it_has_been_so() -> None:
    now = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)
    told = {"type": "PodScheduled", "status": "False", "lastTransitionTime": "2026-11-21T12:28:00Z"}

    assert seconds_as({"status": {"conditions": [told]}}, "PodScheduled", "False", now) == 120
    assert seconds_as({"status": {"conditions": [told]}}, "PodScheduled", "True", now) == 0
    assert (
        seconds_as({"status": {"conditions": [{**told, "lastTransitionTime": None}]}}, "PodScheduled", "False", now)
        == 0
    )
    assert seconds_as({}, "PodScheduled", "False", now) == 0
