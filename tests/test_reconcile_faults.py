"""Faults at the wire and objects of others: a model ends as it should all the same."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable

import pytest
from aiohttp import web

from tests.wire.fixtures import a_vllmmodel
from tests.wire.operator import Operator, an_operator
from vllm_operator.cluster import ApiError, Conflict
from vllm_operator.queue import Key


async def test_an_object_of_somebody_else_is_left_alone() -> None:
    theirs = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "m", "namespace": "team"},
              "spec": {"replicas": 0, "template": {"metadata": {"labels": {}}, "spec": {}}}}  # fmt: skip
    async with an_operator() as op:
        version = op.fake.put(theirs)["metadata"]["uid"]
        op.fake.put(a_vllmmodel())
        await op.settle()

        assert op.condition("Ready") == ("False", "NameConflict")
        assert op.fake.get("Deployment", "m")["metadata"]["uid"] == version  # type: ignore[index]
        assert op.fake.all("Job") == []


async def test_a_fault_of_the_operators_own_is_told_and_the_rest_of_the_status_stays() -> None:
    """Else the status says for ever what it said before, or that nobody has looked yet."""

    def nonsense(request: web.Request) -> web.Response | None:
        is_deployment = request.method == "GET" and request.path.endswith("/deployments/m")
        return web.json_response(["no object"]) if is_deployment else None

    async with an_operator() as op:
        op.fake.put(a_vllmmodel())
        await op.settle()
        op.fake.faults.append(nonsense)
        op.doormen.reconciler.changed(Key("team", "m"))
        for _ in range(2):
            writes = op.writes()
            with pytest.raises(AttributeError):
                await op.look()

        assert op.condition("Ready") == ("Unknown", "OperatorError")
        assert op.condition("Reconciling") == ("True", "OperatorError")
        assert op.condition("WeightsReady") == ("True", "Downloaded")
        assert "AttributeError" in op.status()["conditions"][3]["message"]
        assert op.writes() == writes, "it is told once"

        op.fake.faults.remove(nonsense)
        await op.settle()
        assert op.condition("Ready") == ("True", "Serving")
        assert op.condition("Reconciling") == ("", "")


async def test_a_deletion_that_is_refused_is_told_and_forgets_nothing() -> None:
    """The status of a changed spec is the news of it: it is not written before the failed Job is gone."""
    said = {"version": 1, "ok": False, "reason": "GatedRepo", "message": "gated", "retry": False}

    def no_rights(request: web.Request) -> web.Response | None:
        message = "jobs.batch is forbidden: User cannot delete resource jobs"
        return web.json_response({"message": message}, status=403) if request.method == "DELETE" else None

    async with an_operator() as op:
        op.controllers.fails["pull"] = json.dumps(said)
        op.fake.put(a_vllmmodel())
        await op.settle()
        del op.controllers.fails["pull"]
        op.fake.faults.append(no_rights)
        op.fake.edit("VLLMModel", "m", {"metadata": {"annotations": {"vllm-operator.dev/refresh": "1"}}})
        with pytest.raises(ApiError, match="cannot delete"):
            await op.settle()
        assert op.condition("Reconciling") == ("True", "PodRejected")
        assert "cannot delete" in op.status()["conditions"][3]["message"]

        op.fake.faults.remove(no_rights)
        await op.settle()
        assert op.condition("Ready") == ("True", "Serving")


async def test_a_refused_write_is_told_and_tried_again() -> None:
    def quota(request: web.Request) -> web.Response | None:
        if request.method == "POST" and request.path.endswith("/persistentvolumeclaims"):
            message = 'persistentvolumeclaims "weights" is forbidden: exceeded quota: storage, requested: 1Gi'
            return web.json_response({"kind": "Status", "message": message}, status=403)
        return None

    async with an_operator() as op:
        op.fake.faults.append(quota)
        op.fake.put(a_vllmmodel())
        with pytest.raises(ApiError, match="exceeded quota"):
            await op.settle()
        assert op.condition("Reconciling") == ("True", "QuotaExceeded")
        writes = sum("vllmmodels" in path for verb, path in op.fake.audit if verb == "PATCH")
        with pytest.raises(ApiError):
            await op.look()
        assert sum("vllmmodels" in path for verb, path in op.fake.audit if verb == "PATCH") == writes, (
            "it says one thing"
        )

        op.fake.faults.clear()
        await op.settle()
        assert op.condition("Ready") == ("True", "Serving")


async def test_an_affinity_that_is_none_is_told_with_its_path() -> None:
    def strict(request: web.Request) -> web.Response | None:
        if request.method == "PATCH" and "/deployments/" in request.path:
            where = ".spec.template.spec.affinity.nodeAffinty: field not declared in schema"
            message = f"failed to create typed patch object (team/m; apps/v1, Kind=Deployment): {where}"
            return web.json_response({"kind": "Status", "message": message}, status=500)
        return None

    async with an_operator() as op:
        op.fake.faults.append(strict)
        op.fake.put(a_vllmmodel(pod={"affinity": {"nodeAffinty": {}}}))
        with pytest.raises(ApiError):
            await op.settle()

        assert op.condition("Ready") == ("False", "PodRejected")
        (ready,) = (one for one in op.status()["conditions"] if one["type"] == "Ready")
        assert "affinity.nodeAffinty" in ready["message"] and "`pod.affinity`" in ready["message"]


async def test_a_look_that_was_cut_short_at_any_write_converges_in_the_next_life() -> None:
    """Sieve's intermediate states: the operator ends before the n-th write, for every n."""

    class Killed(Exception):
        pass

    for number in range(1, 40):
        left = number

        def kill(request: web.Request) -> None:
            nonlocal left
            if request.method not in {"GET"} and "/events" not in request.path:
                left -= 1
                if left < 0:
                    raise web.HTTPServiceUnavailable

        async with an_operator() as op:
            op.fake.put(a_vllmmodel())
            op.fake.faults.append(kill)
            try:
                await op.settle()
                assert number > 5, "a life has more writes than that"
                return
            except ApiError:
                op.fake.faults.clear()
            op.doormen.reconciler._memories.clear()
            await op.settle()
            assert op.condition("Ready") == ("True", "Serving"), f"after an end before write {number}"
            assert len(op.fake.all("Job")) == 2
    raise AssertionError("it never came to rest")


async def test_a_model_that_vanishes_during_a_look_leaves_nothing() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel())
        await op.look()

        def vanish(request: web.Request) -> None:
            if request.method == "PATCH" and op.fake.get("VLLMModel", "m"):
                op.fake.remove("VLLMModel", "m")

        op.fake.faults.append(vanish)
        with pytest.raises((ApiError, AssertionError)):
            await op.settle()
        assert await op.look() is None
        assert op.doormen.reconciler.keys == frozenset()


async def test_a_new_model_of_the_same_name_never_adopts_the_old_ones_objects() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel())
        await op.settle()
        old = op.fake.get("Deployment", "m")
        op.fake.store.objects.pop(op.fake.place("VLLMModel", "m"))  # its garbage is not collected yet
        op.fake.put(a_vllmmodel())
        await op.look()

        assert op.condition("Ready") == ("False", "NameConflict")
        assert op.fake.get("Deployment", "m") == old


async def test_a_conflict_is_an_ordinary_end_of_a_look() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel())
        op.fake.faults.append(
            lambda request: web.json_response({"message": "changed"}, status=409) if request.method == "PATCH" else None
        )
        with pytest.raises(Conflict):
            await op.look()


async def test_a_download_to_a_volume_that_was_made_anew_meanwhile_is_none() -> None:
    """One model reads the Job; before it reads the claim, another has made both anew."""
    async with an_operator() as op:
        for name in ("m", "n"):
            op.fake.put(a_vllmmodel(name, replicas=0))
            await op.settle(name)
        claim = op.fake.all("PersistentVolumeClaim")[0]["metadata"]["name"]
        op.controllers.holds.add("pull")
        op.fake.remove("PersistentVolumeClaim", claim)
        op.fake.edit("VLLMModel", "n", {"spec": {"replicas": 1}})
        asked, made_anew = asyncio.Event(), asyncio.Event()

        def meanwhile(request: web.Request) -> Awaitable[None] | None:
            if request.method == "GET" and request.path.endswith(claim) and not asked.is_set():
                asked.set()
                return made_anew.wait()  # type: ignore[return-value]
            return None

        op.fake.faults.append(meanwhile)
        slow = asyncio.create_task(op.look("n"))
        await asked.wait()
        for _ in range(3):
            op.doormen.reconciler.changed(Key("team", "m"))
            await op.look("m")
        made_anew.set()
        with contextlib.suppress(Conflict):
            await slow

        assert op.fake.get("PersistentVolumeClaim", claim) is not None
        assert [deployment["spec"]["replicas"] for deployment in op.fake.all("Deployment")] == [0, 0]
        op.doormen.reconciler.changed(Key("team", "n"))
        await op.settle("n")
        assert op.condition("WeightsReady", "n") == ("False", "Downloading")


@pytest.mark.parametrize(("action", "reason"), [("inspect", "RepoNotFound"), ("pull", "DiskFull")])
async def test_models_that_share_a_job_that_fails_try_it_once_together(action: str, reason: str) -> None:
    said = {"version": 1, "ok": False, "reason": reason, "message": "No.", "remedy": "Change it.", "retry": False}
    names = [f"m{number}" for number in range(12)]

    def made(op: Operator) -> int:
        jobs = [change.object for change in op.fake.store.history if change.place.plural == "jobs"]
        uids = {job["metadata"]["uid"] for job in jobs if job["metadata"]["labels"]["vllm-operator.dev/job"] == action}
        return len(uids)

    async def all_at_rest(op: Operator) -> None:
        for name in names * 2:
            op.doormen.reconciler.changed(Key("team", name))
            with contextlib.suppress(Conflict):  # another was quicker
                await op.settle(name)
        assert {op.condition("WeightsReady", name) for name in names} == {("False", reason)}

    async with an_operator() as op:
        op.controllers.fails[action] = json.dumps(said)
        for name in names:
            op.fake.put(a_vllmmodel(name))
        await asyncio.gather(*(op.look(name) for name in names), return_exceptions=True)
        await all_at_rest(op)
        assert made(op) == 1

        for name in names:  # somebody corrects something, and applies all of them again
            op.fake.edit("VLLMModel", name, {"spec": {"maxModelLen": 1024}})
        await all_at_rest(op)
        assert made(op) == 2
