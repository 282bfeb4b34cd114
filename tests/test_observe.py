"""What a look finds: Jobs with their two ends, pods and their logs, strangers, leftovers, nodes, what is missing."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.wire.controllers import ANSWER
from tests.wire.fixtures import a_vllmmodel
from tests.wire.operator import Operator, an_operator
from vllm_operator.api import VLLMModel
from vllm_operator.decide.types import JobSeen, JobState, Seen
from vllm_operator.observe import Look
from vllm_operator.observe.explain import AGAIN_SECONDS
from vllm_operator.plan import plan_model
from vllm_operator.queue import Key
from vllm_operator.settings import load

SETTINGS = load(None)


async def look(op: Operator, name: str = "m", before: Look | None = None) -> Look:
    model = VLLMModel.model_validate(op.fake.get("VLLMModel", name))
    observer = op.doormen.reconciler._observer
    return await observer.look(model, plan_model(model, SETTINGS), before)


async def seen(op: Operator) -> Seen:
    return (await look(op)).seen


def a_failed(container: str, code: int = 1, **more: Any) -> dict[str, Any]:
    ended = {"terminated": {"exitCode": code, "reason": "Error", **more}}
    return {"name": container, "ready": False, "restartCount": 0, "state": ended}


async def test_before_anything_nothing_is_seen() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel())
        found = await seen(op)

    assert found == Seen()


async def test_a_running_job_is_neither_failed_nor_done() -> None:
    async with an_operator() as op:
        op.controllers.holds.add("inspect")
        op.fake.put(a_vllmmodel())
        await op.look()
        found = (await seen(op)).inspect

    assert (found.state, found.answer, found.failure, found.owned) == (JobState.RUNNING, None, None, True)


async def test_an_answer_is_read_from_the_pod_and_then_from_where_it_is_kept() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel())
        await op.look()
        fresh = (await seen(op)).inspect
        await op.look()
        kept = (await seen(op)).inspect

    assert (fresh.answer, fresh.answer_is_kept) == (ANSWER, False)
    assert (kept.answer, kept.answer_is_kept) == (ANSWER, True)


async def test_an_answer_whose_pod_is_gone_is_lost() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel())
        await op.look()
        op.fake.remove("Pod", op.fake.all("Pod")[0]["metadata"]["name"])
        found = (await seen(op)).inspect

    assert (found.state, found.answer, found.failure) == (JobState.SUCCEEDED, None, None)


@pytest.mark.parametrize("said", ["", "no json", "[1]", '{"ok": false}', "{" * 5000])
async def test_an_answer_that_cannot_be_read_is_a_failure(said: str) -> None:
    async with an_operator() as op:
        op.controllers.holds.add("inspect")
        op.fake.put(a_vllmmodel())
        await op.look()
        op.controllers.end_job(op.fake.all("Job")[0]["metadata"]["name"], said)
        found = (await seen(op)).inspect

    assert found.state is JobState.SUCCEEDED
    assert found.answer is None
    assert found.failure is not None


async def test_a_failed_job_says_what_its_pod_said() -> None:
    said = {"version": 1, "ok": False, "reason": "GatedRepo", "message": "Gated.", "remedy": "Ask.", "retry": False}
    async with an_operator() as op:
        op.controllers.holds.add("inspect")
        op.fake.put(a_vllmmodel())
        await op.look()
        op.controllers.end_job(op.fake.all("Job")[0]["metadata"]["name"], json.dumps(said), code=3)
        found = (await seen(op)).inspect

    assert (found.state, found.tries) == (JobState.FAILED, 1)
    assert found.failure is not None
    assert (found.failure.reason, found.failure.message) == ("GatedRepo", "Gated.")


async def a_job_that_makes_no_pod(op: Operator, message: str, times: int = 1) -> JobSeen:
    """An inspection whose pod the API server refuses with that message, so many times."""
    op.controllers.holds.add("inspect")
    op.fake.put(a_vllmmodel())
    await op.look()
    job = op.fake.all("Job")[0]
    op.fake.remove("Pod", f"{job['metadata']['name']}-pod")
    op.fake.edit("Job", job["metadata"]["name"], {"status": {"active": 0}})
    op.fake.put({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "team"},
        "involvedObject": {"uid": job["metadata"]["uid"], "kind": "Job", "name": job["metadata"]["name"]},
        "type": "Warning", "reason": "FailedCreate", "lastTimestamp": "2026-11-21T10:00:00Z", "count": times,
        "message": f'Error creating: pods "x" is forbidden: {message}',
    })  # fmt: skip
    return (await seen(op)).inspect


@pytest.mark.parametrize(("times", "reason"), [(1, None), (20, "PodRejected")])
async def test_the_service_account_of_a_new_namespace_is_awaited(times: int, reason: str | None) -> None:
    missing = 'error looking up service account team/default: serviceaccount "default" not found'
    async with an_operator() as op:
        found = await a_job_that_makes_no_pod(op, missing, times)

    assert (found.failure.reason if found.failure else None) == reason


async def test_a_job_that_a_quota_keeps_from_starting_is_explained_by_its_events() -> None:
    async with an_operator() as op:
        found = await a_job_that_makes_no_pod(op, "exceeded quota: small, requested: pods=1, limited: pods=0")

    assert found.failure is not None
    assert found.failure.reason == "QuotaExceeded"


async def test_the_log_of_a_starting_server_is_read_at_most_every_quarter_of_a_minute() -> None:
    async with an_operator() as op:
        op.controllers.holds.add("ready")
        op.fake.put(a_vllmmodel())
        await op.settle()
        op.fake.audit.clear()
        for _ in range(5):
            op.doormen.reconciler.changed(Key("team", "m"))
            await op.look()
        logs = [path for _, path in op.fake.audit if "/log" in path]

    assert len(logs) <= 1


HANGING = (Path(__file__).parent / "diagnose_logs" / "engine-failed-but-hangs.log").read_text()


async def test_a_server_that_has_failed_and_does_not_end_hangs_after_half_a_minute() -> None:
    async with an_operator() as op:
        op.controllers.holds.add("ready")
        op.fake.put(a_vllmmodel())
        await op.settle()
        pod = next(pod for pod in op.fake.all("Pod") if pod["metadata"]["name"].startswith("m-"))
        op.fake.logs[(pod["metadata"]["name"], False)] = HANGING
        explainer = op.doormen.reconciler._observer._explainer
        begun, found = explainer._clock(), []
        for seconds in (20.0, 40.0, 60.0):
            explainer._clock = lambda at=begun + seconds: at
            found.append((await seen(op)).pods[0])

    assert [pod.hangs for pod in found] == [False, False, True]
    assert found[2].failure is not None
    assert found[2].failure.reason == "EngineDied"


async def test_a_fatal_line_of_a_starting_server_is_in_status_within_half_a_minute_though_no_event_tells_of_it() -> (
    None
):
    async with an_operator() as op:
        op.controllers.holds.add("ready")
        op.fake.put(a_vllmmodel())
        await op.settle()
        pod = next(pod for pod in op.fake.all("Pod") if pod["metadata"]["name"].startswith("m-"))
        op.fake.logs[(pod["metadata"]["name"], False)] = HANGING
        explainer = op.doormen.reconciler._observer._explainer
        begun = explainer._clock()
        explainer._clock = lambda: begun + AGAIN_SECONDS
        next_look = await op.look()
        failure = op.status()["lastFailure"]

    assert failure["reason"] == "EngineDied"
    assert next_look is not None
    assert AGAIN_SECONDS + 2 * next_look < 30


async def hang(op: Operator, log: str) -> str:
    """A server that logs its end and does not end, looked at after a minute. Returns the pod's name."""
    op.controllers.holds.add("ready")
    op.fake.put(a_vllmmodel())
    await op.settle()
    name = next(pod["metadata"]["name"] for pod in op.fake.all("Pod") if pod["metadata"]["name"].startswith("m-"))
    op.fake.logs[(name, False)] = (Path(__file__).parent / "diagnose_logs" / log).read_text()
    explainer = op.doormen.reconciler._observer._explainer
    begun = explainer._clock()
    for seconds in (20.0, 60.0):
        explainer._clock = lambda at=begun + seconds: at
        await op.look()  # no event tells of a line in a log
    return str(name)


async def test_a_hanging_server_whose_cause_may_pass_is_deleted_and_made_anew() -> None:
    async with an_operator() as op:
        name = await hang(op, "core-killed-at-startup.log")
        deleted = [path for verb, path in op.fake.audit if verb == "DELETE"]

    assert len(deleted) == 1
    assert f"/pods/{name}" in deleted[0]


async def test_a_hanging_server_that_failed_for_good_is_stopped() -> None:
    async with an_operator() as op:
        await hang(op, "engine-failed-but-hangs.log")
        replicas = op.fake.get("Deployment", "m")["spec"]["replicas"]
        conditions = {c["type"]: c["status"] for c in op.fake.get("VLLMModel", "m")["status"]["conditions"]}

    assert replicas == 0
    assert conditions["Stalled"] == "True"


async def test_a_server_that_has_not_started_is_not_asked() -> None:
    async with an_operator() as op:
        op.controllers.holds.add("ready")
        op.fake.put(a_vllmmodel())
        await op.settle()
        found = await seen(op)

    assert [(pod.started, pod.answer) for pod in found.pods] == [(False, None)]
    assert op.controllers.server.asked == []


async def test_a_claim_that_waits_is_explained_by_its_events() -> None:
    async with an_operator() as op:
        op.controllers.holds.add("pull")
        op.fake.put(a_vllmmodel())
        for _ in range(3):
            await op.look()
        claim = op.fake.all("PersistentVolumeClaim")[0]["metadata"]
        op.fake.edit("PersistentVolumeClaim", claim["name"], {"status": {"phase": "Pending"}})
        op.fake.put({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "team"},
            "involvedObject": {"uid": claim["uid"]}, "type": "Warning", "reason": "ProvisioningFailed",
            "message": 'storageclass.storage.k8s.io "fast" not found', "lastTimestamp": "2026-11-21T10:00:00Z",
        })  # fmt: skip
        found = (await seen(op)).claim

    assert found is not None
    assert (found.phase, found.owned) == ("Pending", True)
    assert found.failure is not None
    assert "fast" in found.failure.message


async def test_a_volume_that_is_being_made_is_no_failure_yet() -> None:
    async with an_operator() as op:
        op.controllers.holds.add("pull")
        op.fake.put(a_vllmmodel())
        for _ in range(3):
            await op.look()
        claim = op.fake.all("PersistentVolumeClaim")[0]["metadata"]
        op.fake.edit("PersistentVolumeClaim", claim["name"], {"status": {"phase": "Pending"}})
        op.fake.put({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "team"},
            "involvedObject": {"uid": claim["uid"]}, "type": "Normal", "reason": "ExternalProvisioning",
            "message": "Waiting for a volume to be created", "lastTimestamp": claim["creationTimestamp"],
        })  # fmt: skip
        looker = op.doormen.reconciler._observer._claims
        born = datetime.fromisoformat(claim["creationTimestamp"])
        looker._now = lambda: born + timedelta(seconds=5)
        early = (await seen(op)).claim
        looker._now = lambda: born + timedelta(seconds=90)
        late = (await seen(op)).claim

    assert early is not None
    assert early.failure is None
    assert late is not None
    assert late.failure is not None


async def test_leftovers_of_another_plan_are_seen_once_it_is_known() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel())
        await op.settle()
        first = await look(op)
        op.fake.edit("VLLMModel", "m", {"spec": {"model": "demo/other"}})
        before_answer = await look(op, before=first)
        for _ in range(2):
            await op.look()
        after = await look(op, before=first)

    assert first.seen.stale == ()
    assert before_answer.seen.stale == (), "what the new plan needs is not known yet"
    assert sorted({ref.kind for ref in after.seen.stale}) == ["Job", "PersistentVolumeClaim"]
    assert len(after.seen.stale) == 3


async def test_leftovers_are_not_looked_for_while_the_plan_stays() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel())
        await op.settle()
        first = await look(op)
        op.fake.audit.clear()
        await look(op, before=first)

    assert not any("managed-by" in path for _, path in op.fake.audit)


async def test_after_a_change_of_model_nothing_of_the_old_one_is_left() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel())
        await op.settle()
        old = {job["metadata"]["name"] for job in op.fake.all("Job")}
        op.fake.edit("VLLMModel", "m", {"spec": {"model": "demo/other"}})
        op.doormen.reconciler.changed(Key("team", "m"))
        await op.settle()
        op.doormen.reconciler.changed(Key("team", "m"))
        await op.settle()

        assert op.condition("Ready") == ("True", "Serving")
        assert not old & {job["metadata"]["name"] for job in op.fake.all("Job")}
        assert len(op.fake.all("PersistentVolumeClaim")) == 1


@pytest.mark.parametrize(("target", "expected"), [("m", True), ("other", False)])
async def test_an_autoscaler_of_the_deployment_is_seen(target: str, expected: bool) -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel())
        op.fake.put({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "h", "namespace": "team"},
            "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}},
        })  # fmt: skip
        assert (await seen(op)).autoscaled is expected


async def test_an_autoscaler_of_the_model_itself_leaves_the_deployment_to_us() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel())
        op.fake.put({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "h", "namespace": "team"},
            "spec": {"scaleTargetRef": {"kind": "VLLMModel", "name": "m"}},
        })  # fmt: skip
        assert not (await seen(op)).autoscaled


async def test_what_the_spec_names_and_the_namespace_lacks_is_seen() -> None:
    template = {"configMapKeyRef": {"name": "chat", "key": "t"}}
    async with an_operator() as op:
        op.fake.put(a_vllmmodel(model="pvc://models/llama", chatTemplate=template))
        assert (await seen(op)).missing == ("claim models", "ConfigMap chat")

        op.fake.put(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "chat", "namespace": "team"}, "data": {}}
        )
        assert (await seen(op)).missing == ("claim models", "key t of ConfigMap chat")


async def test_a_shared_object_that_the_operator_did_not_make_is_a_stranger() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel())
        model = VLLMModel.model_validate(op.fake.get("VLLMModel", "m"))
        inspect = plan_model(model, SETTINGS).inspect
        assert inspect is not None
        op.fake.put({"apiVersion": "batch/v1", "kind": "Job", "spec": {},
                     "metadata": {"name": inspect.name, "namespace": "team", "labels": {"vllm-operator.dev/job": "x"}}})  # fmt: skip
        found = await seen(op)

    assert [ref.kind for ref in found.strangers] == ["Job"]


async def test_the_log_that_is_read_is_the_servers_and_not_that_of_a_container_beside_it() -> None:
    async with an_operator() as op:
        op.controllers.holds.add("ready")
        op.fake.put(a_vllmmodel())
        await op.settle()
        pod = next(pod for pod in op.fake.all("Pod") if pod["metadata"]["name"].startswith("m-"))
        proxy = {"name": "istio-proxy", "ready": True, "restartCount": 0, "state": {"running": {}}}
        statuses = [proxy, *pod["status"]["containerStatuses"]]
        op.fake.edit("Pod", pod["metadata"]["name"], {"status": {"containerStatuses": statuses}})
        op.fake.audit.clear()
        await op.look()
        logs = [path for _, path in op.fake.audit if "/log" in path]

    assert logs and all("container=vllm" in path for path in logs)


async def test_a_pod_that_cannot_bring_its_weights_for_good_is_stopped_as_a_server_is() -> None:
    said = json.dumps(
        {"version": 1, "ok": False, "reason": "DiskFull", "message": "Full.", "remedy": "More.", "retry": False}
    )
    ended = {"terminated": {"exitCode": 3, "message": said}}
    weights = {
        "name": "weights",
        "restartCount": 9,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": ended,
    }
    async with an_operator() as op:
        op.controllers.holds.add("ready")
        op.fake.put(a_vllmmodel(cache={"type": "None"}))
        await op.settle()
        pod = next(pod for pod in op.fake.all("Pod") if pod["metadata"]["name"].startswith("m-"))
        waiting = [{"name": "vllm", "restartCount": 0, "state": {"waiting": {"reason": "PodInitializing"}}}]
        status = {"initContainerStatuses": [weights], "containerStatuses": waiting}
        op.fake.edit("Pod", pod["metadata"]["name"], {"status": status})
        await op.look()
        stalled = next(c for c in op.status()["conditions"] if c["type"] == "Stalled")

    assert stalled["reason"] == "DiskFull"
    assert "its devices are free" in stalled["message"]
    assert op.fake.all("Deployment")[0]["spec"]["replicas"] == 0
