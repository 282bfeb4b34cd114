"""The fit on a running operator: what nodes tell, what a misfit leaves alone, and what overrides it."""

from __future__ import annotations

from typing import Any

from tests.decide_facts import CONFIG
from tests.wire.fixtures import a_vllmmodel
from tests.wire.operator import Operator, an_operator

L4 = {"nvidia.com/gpu.memory": "23034", "nvidia.com/gpu.compute.major": "8", "nvidia.com/gpu.compute.minor": "9"}
H100 = L4 | {"nvidia.com/gpu.memory": "81559", "nvidia.com/gpu.compute.major": "9", "nvidia.com/gpu.compute.minor": "0"}
WIDE = {"num_key_value_heads": 14, "num_hidden_layers": 300, "max_position_embeddings": 131072}


def a_node(name: str, labels: dict[str, str]) -> dict[str, Any]:
    labels = labels | {"nvidia.com/gpu.product": name.upper()}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


def a_large_model(op: Operator, *nodes: dict[str, Any]) -> None:
    """A repository whose model takes an H100, and nodes for it."""
    op.controllers.answer |= {"config": CONFIG | WIDE, "weights": {"totalBytes": 10 * 1024**3, "parameters": {}}}
    for node in nodes:
        op.fake.put(node)


def fits(op: Operator) -> tuple[str, str]:
    found = next(c for c in op.status()["conditions"] if c["type"] == "Fits")
    return found["status"], found["message"]


async def test_a_misfit_by_the_nodes_labels_takes_nothing_and_says_what_would_fit() -> None:
    async with an_operator() as op:
        a_large_model(op, a_node("l4", L4))
        op.fake.put(a_vllmmodel(maxModelLen=32768))
        await op.settle()
        status, message = fits(op)

        assert status == "False"
        assert message.startswith("maxModelLen 32768 needs ")
        assert "on a 22 GiB nvidia at 0.92: use" in message
        assert op.status()["fit"]["remedies"]
        assert not op.fake.all("Deployment") and not op.fake.all("PersistentVolumeClaim")


async def test_where_only_some_nodes_fit_it_is_unknown_and_tried() -> None:
    async with an_operator() as op:
        a_large_model(op, a_node("l4", L4), a_node("h100", H100))
        op.fake.put(a_vllmmodel(maxModelLen=32768))
        await op.settle()
        status, message = fits(op)

        assert status == "Unknown"
        assert "it fits on H100 (79 GiB), and not on L4 (22 GiB)" in message
        assert op.condition("Ready") == ("True", "Serving")


async def test_a_change_that_does_not_fit_leaves_the_older_version_serving_until_the_annotation_says_go_on() -> None:
    async with an_operator() as op:
        a_large_model(op, a_node("l4", L4))
        op.fake.put(a_vllmmodel(maxModelLen=512))
        await op.settle()
        assert op.condition("Ready") == ("True", "Serving")
        template = op.fake.all("Deployment")[0]["spec"]["template"]
        op.fake.edit("VLLMModel", "m", {"spec": {"maxModelLen": 32768}})
        await op.settle()

        assert (fits(op)[0], op.condition("Available")[0]) == ("False", "True")
        assert op.condition("Stalled") == ("True", "KVCacheTooSmall")
        assert op.fake.all("Deployment")[0]["spec"]["template"] == template
        op.fake.edit("VLLMModel", "m", {"metadata": {"annotations": {"vllm-operator.dev/ignore-fit": "true"}}})
        await op.settle()

        assert "This is ignored" in fits(op)[1]
        assert op.fake.all("Deployment")[0]["spec"]["template"] != template
