"""What nodes say of their accelerators, and that odd labels and statuses say nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.wire.fixtures import a_vllmmodel
from vllm_operator.api import VLLMModel
from vllm_operator.observe.nodes import nodes_seen
from vllm_operator.observe.reading import container_state, count, newest, parsed
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


def test_the_largest_accelerator_that_the_model_may_use_is_read_from_labels() -> None:
    t4 = {"nvidia.com/gpu.memory": "15360", "nvidia.com/gpu.compute.major": "7", "nvidia.com/gpu.compute.minor": "5"}
    found = nodes_seen([a_node(t4), a_node(A100), a_node({})], a_plan())

    assert (found.memory_bytes, found.compute_capability) == (80 * 1024**3, "8.0")
    assert found.product == "NVIDIA-A100-SXM4-80GB"


def test_nodes_that_the_model_may_not_use_say_nothing() -> None:
    plan = a_plan(pod={"nodeSelector": {"zone": "b"}})

    assert nodes_seen([a_node(A100)], plan).memory_bytes is None
    assert nodes_seen([a_node({**A100, "zone": "b"})], plan).memory_bytes == 80 * 1024**3


@pytest.mark.parametrize("memory", ["", "many", "-1", "1e9", "9" * 40])
def test_labels_that_are_no_numbers_say_nothing(memory: str) -> None:
    assert nodes_seen([a_node({**A100, "nvidia.com/gpu.memory": memory})], a_plan()).memory_bytes is None


def test_reading_never_trips_over_what_is_not_there() -> None:
    assert count({}, "status", "active") == 0
    assert container_state({"status": {"containerStatuses": None}}) == {}
    assert newest([]) is None
    assert parsed("[" * 100_000) is None
