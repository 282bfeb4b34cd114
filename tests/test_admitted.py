"""Admission that rewrites our objects: no drift, no write for ever, and Ready all the same. Somebody's edit still is one."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tests.wire.fixtures import a_vllmmodel
from tests.wire.operator import Operator, an_operator
from vllm_operator.queue import Key

MIRROR = "mirror.example/"


def to_the_mirror(body: dict[str, Any]) -> None:
    """What policies of many clusters do: images come from a mirror."""
    if body["kind"] == "Deployment":
        container = body["spec"]["template"]["spec"]["containers"][0]
        container["image"] = MIRROR + container["image"].removeprefix(MIRROR)


def image(op: Operator) -> str:
    deployment = op.fake.get("Deployment", "m")
    assert deployment is not None
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])


async def a_model_behind_a_mirror(op: Operator) -> None:
    op.fake.store.webhooks.append(to_the_mirror)
    op.fake.put(a_vllmmodel())
    await op.settle()
    assert op.condition("Ready") == ("True", "Serving")
    assert image(op).startswith(MIRROR)
    op.fake.audit.clear()


async def look_in_full(op: Operator) -> None:
    op.doormen.reconciler.changed(Key("team", "m"))
    await op.look()


async def test_what_admission_rewrites_is_written_once() -> None:
    async with an_operator() as op:
        await a_model_behind_a_mirror(op)
        for _ in range(3):
            await look_in_full(op)

        assert op.writes() == 0
        assert op.condition("Ready") == ("True", "Serving")


async def test_a_restarted_operator_asks_by_a_dry_run_and_ready_is_not_lost() -> None:
    async with an_operator() as op:
        await a_model_behind_a_mirror(op)
        op.doormen.reconciler._memories.clear()
        before = op.status()
        for _ in range(3):
            await look_in_full(op)
        patches = [path for verb, path in op.fake.audit if verb == "PATCH"]

        assert len(patches) == 1
        assert "dryRun=All" in patches[0]
        assert op.status() == before


async def test_an_edit_behind_a_mirror_is_still_put_back() -> None:
    async with an_operator() as op:
        await a_model_behind_a_mirror(op)
        wanted = image(op)
        op.fake.edit("Deployment", "m", {"spec": {"template": {"spec": {"containers": [{"image": "forged"}]}}}})
        op.doormen.reconciler.changed(Key("team", "m"))
        await op.settle()

        assert image(op) == wanted
        assert op.condition("Ready") == ("True", "Serving")


async def test_a_change_of_the_spec_behind_a_mirror_is_applied() -> None:
    async with an_operator() as op:
        await a_model_behind_a_mirror(op)
        op.fake.edit("VLLMModel", "m", {"spec": {"maxModelLen": 777}})
        await op.settle()
        deployment = op.fake.get("Deployment", "m")

        assert deployment is not None
        assert "--max-model-len=777" in deployment["spec"]["template"]["spec"]["containers"][0]["args"]
        assert image(op).startswith(MIRROR)


async def test_a_dry_run_that_is_refused_leaves_the_word_to_the_apply() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel())
        await op.settle()
        op.fake.edit("Deployment", "m", {"spec": {"replicas": 7}})
        op.fake.faults.append(lambda request: _refused() if "dryRun" in request.query else None)
        op.doormen.reconciler.changed(Key("team", "m"))
        await op.settle()

        assert op.fake.get("Deployment", "m")["spec"]["replicas"] == 1  # type: ignore[index]


def _refused() -> web.Response:
    return web.json_response({"kind": "Status", "message": "webhook does not support dry run"}, status=400)
