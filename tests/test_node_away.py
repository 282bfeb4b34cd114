"""Nodes with weights on their own disks that go away, or die, at any moment: they hold up nothing, and go on when they are back."""

from __future__ import annotations

import pytest

from tests.wire.nodes import Object, a_model, a_node, filled, jobs, message, nodes


@pytest.mark.parametrize(
    "away",
    [
        {"ready": "False"},
        {"ready": "Unknown", "taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]},
        {"unschedulable": True},
    ],
)
async def test_a_node_that_is_away_gets_no_job_and_blocks_nothing_until_it_is_back(away: Object) -> None:
    async with nodes("a") as op:
        a_node(op, "b", **away)
        a_model(op)
        await op.settle(looks=20)

        assert op.condition("Ready") == ("True", "Serving")
        assert set(jobs(op, "prepare")) == {"a"}
        assert op.status()["weights"]["nodes"] == {"ready": 1, "desired": 2}
        assert "on 1 of 2 nodes" in message(op, "WeightsReady")
        op.fake.edit(
            "Node",
            "b",
            {"spec": {"unschedulable": None}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}},
        )
        await op.settle(looks=20)
        assert filled(op) == {"a", "b"}


@pytest.mark.parametrize("step", ["prepare", "pull"])
async def test_a_node_that_dies_while_it_is_filled_gives_its_turn_to_the_next_and_goes_on_when_it_is_back(
    step: str,
) -> None:
    async with nodes("a", "b", nodesAtATime=1) as op:
        op.controllers.holds.add(f"{step} a")
        a_model(op)
        for _ in range(8):
            await op.look()
        assert set(jobs(op, "prepare")) == {"a"}
        (job,) = jobs(op, step).values()

        op.fake.edit("Node", "a", {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}})
        await op.settle(looks=20)
        assert filled(op) == {"b"}
        assert op.condition("Ready") == ("True", "Serving")

        op.fake.edit("Node", "a", {"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
        op.controllers.holds.clear()
        op.controllers.end_job(job["metadata"]["name"], namespace=job["metadata"]["namespace"])
        await op.settle(looks=20)
        assert filled(op) == {"a", "b"}
        assert jobs(op, step)["a"]["metadata"]["uid"] == job["metadata"]["uid"]


async def test_a_node_that_dies_with_the_weights_on_it_takes_nothing_from_the_others() -> None:
    async with nodes("a", "b") as op:
        a_model(op, replicas=2)
        await op.settle(looks=20)
        generation = op.fake.all("Deployment")[0]["metadata"]["generation"]
        before = {node: job["metadata"]["uid"] for node, job in jobs(op, "pull").items()}

        op.fake.edit("Node", "a", {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}})
        a_model(op, "n", maxModelLen=1024)
        await op.settle("n", looks=20)

        assert op.condition("Ready", "n") == ("True", "Serving")
        assert op.condition("WeightsReady") == ("True", "Downloaded")
        assert filled(op) == {"a", "b"}, "it has them still when it is back"
        assert op.fake.all("Deployment")[0]["metadata"]["generation"] == generation
        assert {node: job["metadata"]["uid"] for node, job in jobs(op, "pull").items()} == before
