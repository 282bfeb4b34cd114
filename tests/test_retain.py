"""What outlives its models, and what goes with the last of them: `cache.retain` on a fake API."""

from __future__ import annotations

from typing import Any

from tests.wire.fixtures import a_vllmmodel
from tests.wire.operator import Operator, an_operator
from vllm_operator.queue import Key

CLAIM = "PersistentVolumeClaim"


def owners(op: Operator) -> list[list[str]]:
    """The models that own each claim."""
    return [[o["name"] for o in claim["metadata"].get("ownerReferences") or []] for claim in op.fake.all(CLAIM)]


async def edit(op: Operator, name: str, **cache: Any) -> None:
    op.fake.edit("VLLMModel", name, {"spec": {"cache": cache}})
    op.doormen.reconciler.changed(Key("team", name))
    await op.settle(name)


async def settle(op: Operator, *names: str) -> None:
    """Until none of them writes anything."""
    for _ in range(4):
        for name in names:
            op.doormen.reconciler.changed(Key("team", name))
            await op.settle(name)


async def test_a_volume_that_is_to_be_retained_from_now_on_outlives_its_model() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel())
        await op.settle()
        assert owners(op) == [["m"]]

        await edit(op, "m", retain=True)
        assert owners(op) == [[]]
        assert op.condition("Ready") == ("True", "Serving")
        op.fake.remove("VLLMModel", "m")
        assert owners(op) == [[]]


async def test_a_volume_that_is_no_longer_to_be_retained_goes_with_its_model() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel(cache={"retain": True}))
        await op.settle()
        assert owners(op) == [[]]

        await edit(op, "m", retain=False)
        assert owners(op) == [["m"]]
        assert not any("retain" in key for key in op.fake.all(CLAIM)[0]["metadata"]["labels"])
        op.fake.remove("VLLMModel", "m")
        assert owners(op) == []


async def test_a_model_that_does_not_retain_takes_no_volume_from_one_that_does() -> None:
    for first, second in (("m", "n"), ("n", "m")):
        async with an_operator() as op:
            for name in (first, second):
                op.fake.put(a_vllmmodel(name, cache={"retain": True} if name == "m" else {}))
                await op.settle(name)
            await settle(op, "m", "n")
            assert owners(op) == [[]]

            op.fake.remove("VLLMModel", "n")
            await settle(op, "m")
            assert owners(op) == [[]]
            assert (op.condition("Ready"), len(op.fake.all("Job"))) == (("True", "Serving"), 2)


async def test_who_retains_no_longer_leaves_the_volume_to_who_still_does() -> None:
    async with an_operator() as op:
        for name in ("m", "n"):
            op.fake.put(a_vllmmodel(name, cache={"retain": True}))
            await op.settle(name)
        await settle(op, "m", "n")

        await edit(op, "m", retain=False)
        await settle(op, "n", "m")
        assert owners(op) == [[]]
        op.fake.remove("VLLMModel", "m")
        op.fake.remove("VLLMModel", "n")
        assert owners(op) == [[]]
