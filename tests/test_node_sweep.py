"""What the nodes' disks no longer need goes, and what keeps them from being filled is told."""

from __future__ import annotations

from collections import Counter

import pytest
from aiohttp import web

from tests.wire.apiserver import Fault
from tests.wire.nodes import HOME, a_model, filled, jobs, marks, message, nodes, sweep
from tests.wire.operator import an_operator
from vllm_operator.cluster import Forbidden
from vllm_operator.plan.labels import MADE_WITH_ANNOTATION, NODE_LABELS


async def test_after_the_last_model_labels_files_jobs_and_the_volume_are_gone() -> None:
    async with nodes("a", "b") as op:
        a_model(op)
        await op.settle(looks=20)
        op.controllers.holds.add("clear")
        op.fake.remove("VLLMModel", "m")
        await sweep(op)

        assert filled(op) == set()
        assert set(jobs(op, "clear")) == {"a", "b"}
        assert len(op.fake.all("PersistentVolume")) == 1
        for job in jobs(op, "clear").values():
            op.controllers.end_job(job["metadata"]["name"], namespace=HOME)
        await sweep(op)
        assert op.fake.all("PersistentVolume") == []
        assert Counter(job["metadata"]["namespace"] for job in op.fake.all("Job"))[HOME] == 0


async def test_a_node_that_is_away_keeps_its_volume_until_it_is_swept_and_nobody_waits_for_it() -> None:
    async with nodes("a", "b") as op:
        a_model(op)
        await op.settle(looks=20)
        op.fake.edit("Node", "b", {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}})
        op.fake.remove("VLLMModel", "m")
        await sweep(op)
        assert set(jobs(op, "clear")) == {"a"}
        assert len(op.fake.all("PersistentVolume")) == 1

        a_model(op, "again")
        await op.settle("again", looks=20)
        assert op.condition("Ready", "again") == ("True", "Serving")
        assert filled(op) == {"a"}

        op.fake.edit("Node", "b", {"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
        await sweep(op)
        assert len(op.fake.all("PersistentVolume")) == 1
        assert filled(op) == {"a"}


async def test_another_operator_s_volumes_are_not_swept() -> None:
    async with nodes("a") as op:
        a_model(op)
        await op.settle(looks=20)
        volume = op.fake.all("PersistentVolume")[0]["metadata"]["name"]
        op.fake.edit("PersistentVolume", volume, {"metadata": {"labels": {"vllm-operator.dev/home": "elsewhere"}}})
        op.fake.remove("VLLMModel", "m")
        await sweep(op)

        assert len(op.fake.all("PersistentVolume")) == 1
        assert filled(op) == {"a"}


async def test_a_failed_clean_up_is_tried_again_and_a_lost_node_ends_it() -> None:
    async with nodes("a") as op:
        a_model(op)
        await op.settle(looks=20)
        op.controllers.holds.add("clear")
        op.fake.remove("VLLMModel", "m")
        await sweep(op, 1)
        first = jobs(op, "clear")["a"]["metadata"]
        op.controllers.end_job(first["name"], code=1, namespace=HOME)
        await sweep(op, 2)
        assert jobs(op, "clear")["a"]["metadata"]["uid"] != first["uid"]

        op.fake.remove("Node", "a")
        await sweep(op)
        assert op.fake.all("PersistentVolume") == []


async def test_a_retained_cache_outlives_its_models() -> None:
    async with nodes("a") as op:
        a_model(op, cache={"type": "Node", "retain": True})
        await op.settle(looks=20)
        op.fake.remove("VLLMModel", "m")
        await sweep(op)

        assert filled(op) == {"a"}
        assert len(op.fake.all("PersistentVolumeClaim")) == 1


async def test_a_claim_that_somebody_deletes_is_made_and_filled_anew_and_what_was_there_is_swept() -> None:
    async with nodes("a") as op:
        a_model(op, replicas=0)
        await op.settle(looks=20)
        (first,) = marks(op)["a"].values()
        claim = op.fake.all("PersistentVolumeClaim")[0]["metadata"]["name"]
        pull = jobs(op, "pull")["a"]["metadata"]["uid"]

        op.fake.edit("PersistentVolumeClaim", claim, {"metadata": {"deletionTimestamp": "2026-11-21T10:00:00Z"}})
        await op.look()
        assert op.condition("WeightsReady") == ("False", "WaitingForVolume")
        assert jobs(op, "pull") == {}
        op.fake.remove("PersistentVolumeClaim", claim)
        await op.settle(looks=20)
        await sweep(op)

        (second,) = marks(op)["a"].values()
        assert second != first
        assert jobs(op, "pull")["a"]["metadata"]["uid"] != pull
        assert len(op.fake.all("PersistentVolume")) == 1
        assert op.condition("WeightsReady") == ("True", "Downloaded")


async def test_labels_without_a_volume_come_off() -> None:
    async with nodes("a") as op:
        op.fake.edit("Node", "a", {"metadata": {"labels": {f"{NODE_LABELS}0123": "old", "team": "x"}}})
        await sweep(op)

        # Somebody else set it: what is taken off is what the operator itself set.
        assert op.fake.get("Node", "a")["metadata"]["labels"]["team"] == "x"  # type: ignore[index]


async def test_without_the_setting_the_model_says_what_the_platform_has_to_do() -> None:
    async with an_operator() as op:
        a_model(op)
        await op.settle()

        assert op.condition("Ready") == ("False", "CacheNotAllowed")
        assert "nodeCache.path" in message(op, "Ready")
        assert op.fake.all("Job") == []
        assert not any("/persistentvolumes" in path for _, path in op.fake.audit)


async def test_a_platform_namespace_that_forbids_the_folder_s_job_is_named() -> None:
    async with nodes("a") as op:
        op.controllers.holds.add("prepare")
        a_model(op)
        for _ in range(5):
            await op.look()
        job = jobs(op, "prepare")["a"]["metadata"]
        op.fake.remove("Pod", f"{job['name']}-pod", HOME)
        op.fake.edit("Job", job["name"], {"status": {"active": 0}}, HOME)
        op.fake.put({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": HOME}, "type": "Warning",
            "involvedObject": {"uid": job["uid"], "kind": "Job", "name": job["name"]}, "reason": "FailedCreate",
            "lastTimestamp": "2026-11-21T10:00:00Z", "count": 5,
            "message": 'Error creating: pods "x" is forbidden: violates PodSecurity "baseline:latest": hostPath volumes',
        })  # fmt: skip
        await op.look()

        assert op.condition("WeightsReady") == ("False", "PodRejected")
        assert f"{HOME}/{job['name']}" in message(op, "WeightsReady")


async def test_a_folder_s_job_whose_image_was_wrong_is_made_anew_when_the_platform_names_another() -> None:
    async with nodes("a") as op:
        op.controllers.holds.add("prepare")
        a_model(op)
        for _ in range(5):
            await op.look()
        job = jobs(op, "prepare")["a"]["metadata"]
        waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image: not found"}}
        status = {"phase": "Pending", "containerStatuses": [{"name": "weights", "ready": False, "state": waiting}]}
        op.fake.edit("Pod", f"{job['name']}-pod", {"status": status}, HOME)
        await op.look()
        assert op.condition("WeightsReady") == ("False", "ImagePullFailed")

        op.fake.edit("Job", job["name"], {"metadata": {"annotations": {MADE_WITH_ANNOTATION: "before"}}}, HOME)
        op.controllers.holds.clear()
        await op.settle(looks=20)
        assert op.condition("Ready") == ("True", "Serving")


async def test_rights_that_are_missing_are_told() -> None:
    async with nodes("a") as op:
        a_model(op)
        op.fake.faults.append(forbid("persistentvolumes"))
        with pytest.raises(Forbidden):
            for _ in range(8):
                await op.look()

        assert op.condition("Ready") == ("False", "PodRejected")
        assert "persistentvolumes" in message(op, "Ready")


def forbid(plural: str) -> Fault:
    """The API server allows no write of that kind."""

    def answer(request: web.Request) -> web.Response | None:
        if request.method == "GET" or f"/{plural}" not in request.path:
            return None
        said = {"kind": "Status", "code": 403, "reason": "Forbidden", "message": f"{plural} is forbidden"}
        return web.json_response(said, status=403)

    return answer


async def test_no_node_that_could_run_it_is_said() -> None:
    async with nodes() as op:
        a_model(op)
        for _ in range(6):
            await op.look()

        assert op.condition("WeightsReady") == ("False", "Unschedulable")
