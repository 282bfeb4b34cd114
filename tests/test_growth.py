"""One volume for the same files, whoever asks for how much: it grows where its storage can, and never is another one."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from tests.wire.fixtures import a_vllmmodel
from tests.wire.operator import Operator, an_operator
from vllm_operator.queue import Key

CLAIM = "PersistentVolumeClaim"
FULL = json.dumps({"version": 1, "ok": False, "reason": "DiskFull", "message": "The volume is full.", "remedy": "Enlarge it.",
                   "retry": False})  # fmt: skip


def asked(op: Operator) -> list[str]:
    """How much each claim asks for."""
    return [claim["spec"]["resources"]["requests"]["storage"] for claim in op.fake.all(CLAIM)]


async def edit(op: Operator, name: str = "m", **cache: Any) -> None:
    model = op.fake.get("VLLMModel", name)
    assert model is not None
    op.fake.edit("VLLMModel", name, {"spec": {"cache": cache}})
    await look(op, name)


async def look(op: Operator, name: str = "m") -> None:
    op.doormen.reconciler.changed(Key("team", name))
    await op.settle(name)


def resized(op: Operator, **status: Any) -> None:
    """The storage has done its part."""
    claim = op.fake.all(CLAIM)[0]
    op.fake.edit(CLAIM, claim["metadata"]["name"], {"status": status})


def refusing(request: web.Request) -> web.Response | None:
    """A storage class that does not allow expansion, in the API server's words."""
    if (
        request.method != "PATCH"
        or "/persistentvolumeclaims/" not in request.path
        or "apply-patch" in request.content_type
    ):
        return None
    message = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
    return web.json_response({"kind": "Status", "code": 403, "reason": "Forbidden", "message": message}, status=403)


async def test_models_that_ask_for_different_sizes_share_a_volume_of_the_largest() -> None:
    async with an_operator() as op:
        for name, cache in (("m", {}), ("n", {"size": "20Gi"}), ("o", {"compileCache": True}), ("p", {"size": "5Gi"})):
            op.fake.put(a_vllmmodel(name, cache=cache))
            await op.settle(name)

        assert asked(op) == ["20Gi"]
        assert len(op.fake.all("Job")) == 2
        before = op.writes()
        for name in "mnop":
            await look(op, name)
        assert (asked(op), op.writes()) == (["20Gi"], before)


async def test_a_compile_cache_makes_room_for_itself_on_a_volume_that_is_there() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel("m"))
        await op.settle("m")
        assert asked(op) == ["66Mi"]

        op.fake.put(a_vllmmodel("n", cache={"compileCache": True}))
        await op.settle("n")

        assert asked(op) == ["2050Mi"]


async def test_a_volume_that_got_full_is_enlarged_and_the_download_goes_on_when_it_is() -> None:
    async with an_operator() as op:
        op.controllers.holds |= {"pull", "grow"}
        op.fake.put(a_vllmmodel(cache={"size": "1Gi"}))
        await op.settle()
        pull = op.fake.all("Job")[1]["metadata"]
        op.controllers.end_job(pull["name"], FULL, 3)
        await look(op)
        assert op.condition("WeightsReady") == ("False", "DiskFull")

        await edit(op, size="2Gi")
        assert asked(op) == ["2Gi"]
        assert op.condition("WeightsReady") == ("False", "WaitingForVolume")
        assert len(op.fake.all("Job")) == 1

        op.controllers.holds.remove("pull")
        resized(op, conditions=[{"type": "FileSystemResizePending", "status": "True"}])
        await look(op)
        assert op.condition("Ready") == ("True", "Serving")
        assert op.fake.all("Job")[1]["metadata"]["name"] == pull["name"]
        assert op.fake.all("Job")[1]["metadata"]["uid"] != pull["uid"]


async def test_a_volume_that_cannot_be_enlarged_says_so_once_and_serves_on() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel(cache={"size": "1Gi"}))
        await op.settle()
        op.fake.faults.append(refusing)

        await edit(op, size="2Gi")

        assert asked(op) == ["1Gi"]
        assert op.condition("Ready") == ("True", "Serving")
        told = next(c["message"] for c in op.status()["conditions"] if c["type"] == "WeightsReady")
        claim = op.fake.all(CLAIM)[0]["metadata"]["name"]
        assert "cannot be enlarged to 2Gi" in told and "must support resize" in told and f"Delete claim {claim}" in told
        before = op.writes()
        for _ in range(3):
            await look(op)
        assert op.writes() == before

        op.fake.faults.clear()
        op.fake.edit("VLLMModel", "m", {"metadata": {"annotations": {"vllm-operator.dev/refresh": "now"}}})
        await look(op)
        assert asked(op) == ["2Gi"]


async def test_a_compile_cache_that_gets_no_room_of_its_own_hinders_nobody() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel("m"))
        await op.settle("m")
        op.fake.faults.append(refusing)
        op.fake.put(a_vllmmodel("n", cache={"compileCache": True}))
        await op.settle("n")

        assert op.condition("Ready", "n") == ("True", "Serving")
        assert "enlarged" not in json.dumps(op.status("n"))


async def test_storage_that_fails_to_grow_is_named_while_the_download_waits_for_it() -> None:
    async with an_operator() as op:
        op.controllers.holds |= {"pull", "grow"}
        op.fake.put(a_vllmmodel(cache={"size": "1Gi"}))
        await op.settle()
        op.controllers.end_job(op.fake.all("Job")[1]["metadata"]["name"], FULL, 3)
        await look(op)
        await edit(op, size="2Gi")
        claim = op.fake.all(CLAIM)[0]["metadata"]
        event = {"type": "Warning", "reason": "VolumeResizeFailed", "message": "resize volume failed: out of capacity"}
        about = {"kind": CLAIM, "name": claim["name"], "uid": claim["uid"]}
        op.fake.put({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "involvedObject": about, **event})

        await look(op)

        assert op.condition("WeightsReady") == ("False", "VolumePending")
        assert "out of capacity" in json.dumps(op.status()["lastFailure"])
