"""A model's whole life on a fake API: what is made, what is told, and that errors stay where they are."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.wire.controllers import ANSWER
from tests.wire.fixtures import a_vllmmodel
from tests.wire.operator import an_operator
from vllm_operator.queue import Key


def owners(body: dict[str, Any] | None) -> list[str]:
    assert body is not None
    return sorted(owner["name"] for owner in body["metadata"]["ownerReferences"])


async def test_a_model_is_inspected_pulled_served_and_ready() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel())
        await op.settle()

        assert op.condition("Ready") == ("True", "Serving")
        assert [job["metadata"]["labels"]["vllm-operator.dev/job"] for job in op.fake.all("Job")] == ["inspect", "pull"]
        assert [d["metadata"]["name"] for d in op.fake.all("Deployment")] == ["m"]
        assert (op.status()["servedModels"], op.status()["maxModelLen"]) == (["tiny"], 2048)


async def test_the_answer_of_the_inspection_outlives_its_pod() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel())
        await op.settle()
        inspect = op.fake.all("Job")[0]
        kept = json.loads(inspect["metadata"]["annotations"]["vllm-operator.dev/result"])
        assert kept == ANSWER

        op.fake.remove("Pod", f"{inspect['metadata']['name']}-pod")
        writes = op.writes()
        op.doormen.reconciler.changed(Key("team", "m"))
        await op.look()
        assert op.writes() == writes


async def test_two_models_share_what_is_the_same_and_the_last_one_takes_it_away() -> None:
    async with an_operator() as op:
        for name in ("m", "n"):
            op.fake.put(a_vllmmodel(name))
        await op.settle("m")
        await op.settle("n")

        assert len(op.fake.all("Job")) == 2
        assert {tuple(owners(body)) for body in (*op.fake.all("Job"), *op.fake.all("PersistentVolumeClaim"))} == {
            ("m", "n")
        }
        op.fake.remove("VLLMModel", "m")
        assert await op.look("m") is None
        assert {tuple(owners(body)) for body in (*op.fake.all("Job"), *op.fake.all("PersistentVolumeClaim"))} == {
            ("n",)
        }
        op.fake.remove("VLLMModel", "n")
        assert await op.look("n") is None
        assert [place.plural for place in op.fake.store.objects if place.plural not in {"events"}] == []


async def test_a_model_that_moves_to_another_revision_leaves_the_old_volume_to_its_other_owner() -> None:
    async with an_operator() as op:
        for name in ("m", "n"):
            op.fake.put(a_vllmmodel(name))
            await op.settle(name)
        (old,) = op.fake.all("PersistentVolumeClaim")
        op.controllers.answer["commit"] = "b" * 40

        op.fake.edit("VLLMModel", "m", {"spec": {"revision": "dev"}})
        for name in ("m", "n", "m"):
            await op.settle(name, looks=20)

        shared = {body["metadata"]["name"]: owners(body) for body in op.fake.all("PersistentVolumeClaim")}
        assert sorted(shared.values()) == [["m"], ["n"]]
        assert shared[old["metadata"]["name"]] == ["n"]
        assert [op.status(name)["source"]["commit"][0] for name in ("m", "n")] == ["b", "0"]
        assert (op.condition("Ready", "m"), op.condition("Ready", "n")) == (("True", "Serving"),) * 2


async def test_progress_of_the_download_is_told() -> None:
    async with an_operator() as op:
        pull = await op.begin_download()
        again = await op.look()

        assert op.condition("Ready") == ("False", "Downloading")
        assert (op.status()["weights"]["percent"], op.status()["weights"]["bytesPerSecond"]) == (42, 100_000)
        assert again is not None
        assert again <= 7
        op.controllers.end_job(pull, "{}")
        await op.settle()
        assert op.condition("Ready") == ("True", "Serving")


async def test_a_repository_that_is_not_there_is_named_and_takes_no_volume() -> None:
    async with an_operator() as op:
        op.controllers.holds.add("inspect")
        op.fake.put(a_vllmmodel())
        await op.look()
        said = {"version": 1, "ok": False, "reason": "RepoNotFound", "message": "demo/tiny is not on the hub.",
                "remedy": "Correct spec.model.", "retry": False}  # fmt: skip
        op.controllers.end_job(op.fake.all("Job")[0]["metadata"]["name"], json.dumps(said), code=3)
        await op.settle()

        assert op.condition("Ready") == ("False", "RepoNotFound")
        assert op.condition("Stalled") == ("True", "RepoNotFound")
        assert op.status()["lastFailure"]["message"] == "demo/tiny is not on the hub."
        assert op.fake.all("PersistentVolumeClaim") == []


async def test_a_refresh_runs_a_failed_job_again() -> None:
    async with an_operator() as op:
        op.controllers.holds.add("inspect")
        op.fake.put(a_vllmmodel())
        await op.look()
        job = op.fake.all("Job")[0]["metadata"]["name"]
        op.controllers.end_job(
            job, json.dumps({"ok": False, "reason": "HubUnreachable", "message": "No answer."}), code=3
        )
        await op.settle()
        assert op.condition("Stalled")[0] == "True"

        op.controllers.holds.clear()
        op.fake.edit("VLLMModel", "m", {"metadata": {"annotations": {"vllm-operator.dev/refresh": "1"}}})
        await op.settle()
        assert op.condition("Ready") == ("True", "Serving")


@pytest.mark.parametrize(
    "state", [{"waiting": {"reason": "CrashLoopBackOff"}}, {"running": {}}], ids=["waits", "runs again"]
)
async def test_a_crash_is_explained_from_the_log_of_the_run_before(state: dict[str, Any]) -> None:
    log = "INFO vLLM API server version 0.32.0\nValueError: To serve at least one request with the models's max seq len (131072), (16.00 GiB KV cache is needed, which is larger than the available KV cache memory (2.40 GiB). Based on the available memory, the estimated maximum model length is 19648. Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine.\n"
    async with an_operator() as op:
        op.controllers.holds.add("ready")
        op.fake.put(a_vllmmodel())
        await op.settle()
        pod = next(pod["metadata"]["name"] for pod in op.fake.all("Pod") if pod["metadata"]["name"].startswith("m-"))
        op.fake.logs[pod, True] = log
        op.fake.logs[pod, False] = "INFO vLLM API server version 0.32.0\n"
        ended = {"terminated": {"exitCode": 1, "reason": "Error"}}
        status = {"name": "vllm", "ready": False, "started": False, "restartCount": 1, "lastState": ended,
                  "state": state}  # fmt: skip
        op.fake.edit("Pod", pod, {"status": {"containerStatuses": [status]}})
        await op.look()

        assert op.condition("Ready") == ("False", "KVCacheTooSmall")
        assert "maxModelLen" in op.status()["lastFailure"]["remedy"]


async def test_a_deployment_that_somebody_edits_is_put_back() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel())
        await op.settle()
        op.fake.edit("Deployment", "m", {"spec": {"replicas": 7}})
        op.doormen.reconciler.changed(Key("team", "m"))
        await op.settle()

        assert op.fake.get("Deployment", "m")["spec"]["replicas"] == 1  # type: ignore[index]


async def test_what_cannot_be_read_is_said_and_not_retried() -> None:
    broken = a_vllmmodel()
    broken["spec"] = {"model": "demo/tiny", "maxModelLen": "many"}
    async with an_operator() as op:
        op.fake.put(broken)
        again = await op.look()
        writes = op.writes()
        await op.look()

        assert op.condition("Ready") == ("False", "InvalidSpec")
        assert op.condition("Stalled") == ("True", "InvalidSpec")
        assert "spec.maxModelLen" in op.status()["conditions"][0]["message"]
        assert (again, op.writes()) == (None, writes)


async def test_a_bad_spec_heals_when_it_is_corrected() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel(accelerator="does-not-exist"))
        await op.settle()
        assert op.condition("Ready") == ("False", "AcceleratorUnknown")
        op.fake.edit("VLLMModel", "m", {"spec": {"accelerator": None}})
        await op.settle()

        assert op.condition("Ready") == ("True", "Serving")


async def test_events_tell_a_transition_once() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel())
        await op.settle()
        await op.settle()
        told = [(event["reason"], event["count"]) for event in op.fake.all("Event")]

        assert ("Serving", 1) in told
        assert all(count == 1 for _, count in told)


async def test_fifty_models_side_by_side_become_ready_and_a_broken_one_delays_none() -> None:
    async with an_operator(running=True) as op:
        for number in range(50):
            op.fake.put(a_vllmmodel(f"m{number}", model=f"demo/tiny-{number % 10}"))
        broken = a_vllmmodel("broken")
        broken["spec"] = {"model": 7}
        op.fake.put(broken)
        async with asyncio.timeout(60):
            for _ in range(6000):
                if all(op.condition("Ready", f"m{number}")[0] == "True" for number in range(50)):
                    break
                await asyncio.sleep(0.01)

        assert op.condition("Ready", "broken") == ("False", "InvalidSpec")
        assert len(op.fake.all("Job")) == 20, "ten sources, each looked up and pulled once"
        assert len(op.fake.all("Deployment")) == 50
