"""The decision, case by case: what is written, what is said, and what is left alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.builders import a_model
from tests.decide_world import CONFIG, SETTINGS, START, Cluster, Truth, an_answer, passing, permanent
from vllm_operator.api import Condition, SourceStatus, Status
from vllm_operator.decide.annotations import IGNORE_FIT, REFRESH, RESULT, STOPPED, WANTED
from vllm_operator.decide.deciding import decide
from vllm_operator.decide.types import ClaimSeen, Decision, JobSeen, JobState, Ref, Seen
from vllm_operator.diagnose import Reason, failure
from vllm_operator.plan import plan_model
from vllm_operator.settings import Policy


def a_serving_cluster(**spec: Any) -> Cluster:
    cluster = Cluster(model=a_model(**spec))
    cluster.settle()
    return cluster


def said(status: Status, kind: str) -> Condition:
    found = status.condition(kind)
    assert found is not None, kind
    return found


def ready(status: Status) -> tuple[str, str]:
    condition = said(status, "Ready")
    return condition.status, condition.reason


def writes_nothing(decision: Decision) -> bool:
    lists = (decision.create, decision.own, decision.annotate, decision.apply, decision.delete, decision.release)
    return not any(lists)


# Refusals.


def test_a_spec_that_the_plan_refuses_is_stalled_with_the_plans_own_words():
    settings = SETTINGS.model_copy(update={"policy": Policy(allowed_images=["registry.example/"])})
    cluster = Cluster(model=a_model(image="elsewhere.example/vllm:1"), settings=settings)

    decision = cluster.reconcile()

    assert ready(decision.status) == ("False", "ImageNotAllowed")
    assert said(decision.status, "Stalled").reason == "ImageNotAllowed"
    assert "registry.example/" in said(decision.status, "Ready").message
    assert writes_nothing(decision)


def test_a_refused_change_leaves_the_older_server_alone():
    settings = SETTINGS.model_copy(update={"policy": Policy(allowed_sources=["demo/*"])})
    cluster = Cluster(settings=settings)
    cluster.settle()

    cluster.edit(model="other/model")
    decision = cluster.settle()

    assert writes_nothing(decision)
    assert ready(decision.status) == ("False", "SourceNotAllowed")
    assert said(decision.status, "Available").status == "True"
    assert "older version" in said(decision.status, "Ready").message
    assert len([pod for pod in cluster.pods if pod.ready]) == 1


def test_a_name_that_somebody_else_has_is_never_taken_over():
    cluster = Cluster(strangers=(Ref("apps/v1", "Deployment", "m"),))

    decision = cluster.reconcile()

    assert said(decision.status, "Stalled").reason == "NameConflict"
    assert "Deployment m" in said(decision.status, "Stalled").message
    assert writes_nothing(decision)
    assert decision.look_again_after == 15


def test_a_name_that_becomes_free_heals_the_model():
    cluster = Cluster(strangers=(Ref("v1", "Service", "m"),))
    cluster.settle()
    cluster.strangers = ()

    assert ready(cluster.settle().status) == ("True", "Serving")


def test_what_the_spec_names_and_the_namespace_lacks_is_waited_for():
    cluster = Cluster(missing=("claim models",))

    decision = cluster.reconcile()

    assert ready(decision.status) == ("False", "ReferenceNotFound")
    assert said(decision.status, "Reconciling").message.startswith("The namespace has no claim models.")
    assert decision.status.condition("Stalled") is None


def test_a_reference_that_goes_takes_nothing_from_a_running_server():
    cluster = a_serving_cluster()
    cluster.missing = ("configmap prompts",)

    status = cluster.settle().status

    assert ready(status) == ("True", "Serving")
    assert said(status, "Reconciling").reason == "ReferenceNotFound"


def test_a_model_that_is_being_deleted_is_left_to_its_owner_references():
    cluster = a_serving_cluster()
    metadata = cluster.model.metadata.model_copy(update={"deletion_timestamp": "2026-01-01T00:00:00Z"})
    model = cluster.model.model_copy(update={"metadata": metadata})

    decision = decide(model, plan_model(model, SETTINGS), Seen(), START)

    assert writes_nothing(decision)
    assert decision.status == model.status
    assert decision.look_again_after is None


# The inspection.


def test_the_first_thing_is_to_look_the_source_up():
    decision = Cluster().reconcile()

    assert [manifest["kind"] for manifest in decision.create] == ["Job"]
    assert [ref.kind for ref in decision.own] == ["Job"]
    assert decision.apply == ()
    assert ready(decision.status) == ("False", "Inspecting")


def test_the_inspections_answer_is_kept_on_its_job_and_only_once():
    cluster = Cluster()
    cluster.reconcile()
    cluster.advance()

    first, second = cluster.reconcile(), cluster.reconcile()

    assert [list(values) for values in first.annotate.values()] == [[RESULT]]
    assert second.annotate == {}


@pytest.mark.parametrize("reason", [Reason.RepoNotFound, Reason.GatedRepo, Reason.InvalidToken, Reason.HubUnreachable])
def test_an_inspection_that_failed_is_told_with_the_hubs_reason_and_not_repeated(reason: Reason):
    cluster = Cluster(truth=Truth(inspection=permanent(reason)))

    status = cluster.settle().status

    assert said(status, "WeightsReady").reason == reason
    assert said(status, "Stalled").reason == reason
    assert REFRESH in said(status, "Stalled").message
    assert status.last_failure is not None and status.last_failure.reason == reason
    assert cluster.claims == {}
    assert cluster.rests()


def test_a_new_refresh_value_asks_again_under_another_name():
    cluster = Cluster(truth=Truth(inspection=permanent(Reason.InvalidToken)))
    cluster.settle()
    cluster.truth.inspection = None
    before = cluster.job_named("inspect")

    cluster.refresh("token-renewed")
    status = cluster.settle().status

    assert ready(status) == ("True", "Serving")
    assert status.refreshed == "token-renewed"
    assert before not in cluster.jobs  # given back once nothing needed it


def test_a_changed_spec_tries_a_failed_inspection_again():
    cluster = Cluster(truth=Truth(inspection=permanent()))
    cluster.settle()
    cluster.truth.inspection = None

    cluster.edit(max_model_len=2048)

    assert ready(cluster.settle().status) == ("True", "Serving")


def test_a_secret_that_is_missing_is_waited_for_and_not_stalled():
    cluster = Cluster(truth=Truth(inspection=failure(Reason.SecretNotFound, 'secret "hub" not found')))

    status = cluster.settle().status

    assert ready(status) == ("False", "SecretNotFound")
    assert said(status, "Reconciling").reason == "SecretNotFound"
    cluster.truth.inspection = None
    assert ready(cluster.settle().status) == ("True", "Serving")


def test_an_answer_that_was_lost_with_its_pod_is_asked_for_again():
    cluster = Cluster()
    cluster.reconcile()
    name = cluster.job_named("inspect")
    cluster.jobs[name] = JobSeen(JobState.SUCCEEDED, owned=True)

    decision = cluster.reconcile()

    assert [ref.name for ref in decision.delete] == [name]
    assert ready(cluster.settle().status) == ("True", "Serving")


def test_an_answer_that_somebody_forged_is_a_problem_and_no_crash():
    cluster = Cluster()
    cluster.reconcile()
    cluster.jobs[cluster.job_named("inspect")] = JobSeen(JobState.SUCCEEDED, {"commit": 7}, owned=True)

    status = cluster.settle().status

    assert said(status, "Stalled").reason == "InspectionUnreadable"


def test_code_of_the_repository_needs_a_word_before_anything_is_pulled():
    cluster = Cluster(truth=Truth(custom_code=True))

    status = cluster.settle().status

    assert said(status, "Stalled").reason == "TrustRemoteCodeRequired"
    assert said(status, "WeightsReady").status == "False"
    assert cluster.claims == {}


@pytest.mark.parametrize("word", [True, False])
def test_either_word_about_remote_code_goes_on(word: bool):
    cluster = Cluster(model=a_model(trust_remote_code=word), truth=Truth(custom_code=True))

    assert ready(cluster.settle().status) == ("True", "Serving")


def test_code_that_transformers_has_itself_needs_no_word():
    cluster = Cluster()
    cluster.reconcile()
    answer = an_answer(customCode=True, config=CONFIG | {"model_type": "phi3"})
    cluster.jobs[cluster.job_named("inspect")] = JobSeen(JobState.SUCCEEDED, answer, owned=True)

    assert said(cluster.reconcile().status, "WeightsReady").reason == "Downloading"


@pytest.mark.parametrize("source", ["pvc://models/tiny", "oci://registry.example/tiny@sha256:" + "a" * 64])
def test_a_source_that_is_mounted_is_neither_inspected_nor_pulled(source: str):
    cluster = Cluster(
        model=a_model(model=source, cache={"type": "Image" if source.startswith("oci") else "ExistingClaim"})
    )

    status = cluster.settle().status

    assert ready(status) == ("True", "Serving"), said(status, "Ready").message
    assert cluster.jobs == {} and cluster.claims == {}
    assert said(status, "WeightsReady").reason == "InPlace"


# The fit.


def a_small_device() -> Any:
    profiles = dict(SETTINGS.accelerators)
    profiles["small"] = profiles["nvidia"].model_copy(update={"memory": "1Gi"})
    return SETTINGS.model_copy(update={"accelerators": profiles, "default_accelerator": "small"})


def test_a_model_that_surely_does_not_fit_takes_no_volume_and_no_pod():
    cluster = Cluster(settings=a_small_device())

    status = cluster.settle().status

    assert said(status, "Fits").status == "False"
    assert said(status, "Stalled").reason == said(status, "Fits").reason
    assert status.fit is not None and status.fit.fits is False
    assert cluster.claims == {} and cluster.live == {}


def test_the_annotation_to_ignore_the_fit_goes_on_and_says_so():
    cluster = Cluster(settings=a_small_device())
    cluster.annotate(IGNORE_FIT, "true")

    status = cluster.settle().status

    assert ready(status) == ("True", "Serving")
    assert said(status, "Fits").status == "False"
    assert "ignored" in said(status, "Fits").message


def test_a_change_that_does_not_fit_leaves_the_older_server_alone():
    cluster = a_serving_cluster()
    cluster.settings = a_small_device()
    cluster.edit(max_model_len=4096)

    status = cluster.settle().status

    assert said(status, "Stalled").reason == said(status, "Fits").reason
    assert said(status, "Available").status == "True"
    assert status.url is not None
    assert ready(status)[0] == "False"


def test_a_server_that_runs_is_not_argued_with():
    cluster = a_serving_cluster()
    cluster.settings = a_small_device()

    status = cluster.settle().status

    assert ready(status) == ("True", "Serving")
    assert said(status, "Fits").status == "False"
    assert status.condition("Stalled") is None


def test_a_model_that_fits_says_with_what():
    profiles = dict(SETTINGS.accelerators)
    profiles["large"] = profiles["nvidia"].model_copy(update={"memory": "80Gi", "compute_capability": "9.0"})
    settings = SETTINGS.model_copy(update={"accelerators": profiles, "default_accelerator": "large"})

    status = Cluster(settings=settings).settle().status

    assert said(status, "Fits").status == "True"
    assert "GiB of weights" in said(status, "Fits").message
    assert status.fit is not None and status.fit.fits and status.fit.kv_cache_tokens


# The pull.


def until_the_download(cluster: Cluster) -> str:
    cluster.reconcile()
    cluster.advance()
    cluster.reconcile()
    return cluster.job_named("pull")


def test_the_volume_and_the_download_come_together_and_nothing_serves_yet():
    cluster = Cluster()
    until_the_download(cluster)

    last = cluster.decisions[-1]
    assert [manifest["kind"] for manifest in last.create] == ["PersistentVolumeClaim", "Job"]
    assert last.apply == ()


def test_a_retained_volume_gets_no_owner():
    cluster = Cluster(model=a_model(cache={"retain": True}))
    until_the_download(cluster)

    assert [ref.kind for ref in cluster.decisions[-1].own] == ["Job"]
    assert cluster.settle() and cluster.rests()


def test_progress_is_told_in_percent_bytes_speed_and_time_left():
    cluster = Cluster()
    until_the_download(cluster)
    cluster.advance()

    status = cluster.reconcile().status

    assert said(status, "WeightsReady").message == "50 %, 0.5 of 1.0 GiB, 353 MiB/s, about 5 s left"
    assert status.weights is not None and status.weights.percent == 50


def test_a_download_that_failed_stays_so_with_its_reason():
    cluster = Cluster(truth=Truth(download=permanent(Reason.DiskFull)))

    status = cluster.settle().status

    assert ready(status) == ("False", "DiskFull")
    assert said(status, "Stalled").reason == "DiskFull"
    assert cluster.live == {}
    assert cluster.rests()


def test_a_refresh_tries_a_failed_download_again_once():
    cluster = Cluster(truth=Truth(download=permanent(Reason.DownloadFailed)))
    cluster.settle()

    cluster.refresh("1")
    status = cluster.settle().status
    deletions = [ref for decision in cluster.decisions for ref in decision.delete if ref.name.startswith("pull")]

    assert len(deletions) == 1
    assert said(status, "Stalled").reason == "DownloadFailed"
    cluster.truth.download = None
    cluster.refresh("2")
    assert ready(cluster.settle().status) == ("True", "Serving")


def test_a_volume_that_waits_for_its_first_pod_is_no_problem():
    cluster = Cluster()
    name = until_the_download(cluster)
    cluster.claims = {key: ClaimSeen("Pending", owned=True) for key in cluster.claims}

    status = cluster.reconcile().status

    assert ready(status) == ("False", "Downloading")
    assert cluster.jobs[name].state is JobState.RUNNING


def test_a_volume_that_nobody_provides_is_told():
    cluster = Cluster()
    until_the_download(cluster)
    pending = failure(Reason.VolumePending, "no storage class is the default")
    cluster.claims = {key: ClaimSeen("Pending", owned=True, failure=pending) for key in cluster.claims}

    assert ready(cluster.reconcile().status) == ("False", "VolumePending")


def test_a_volume_that_was_deleted_is_filled_again():
    cluster = Cluster(truth=Truth())
    cluster.settle()
    cluster.claims.clear()

    decision = cluster.reconcile()

    assert [manifest["kind"] for manifest in decision.create] == ["PersistentVolumeClaim"]
    assert [ref.kind for ref in decision.delete] == ["Job"]
    assert ready(cluster.settle().status) == ("True", "Serving")


def test_a_server_of_the_same_commit_serves_on_while_its_download_runs_again():
    cluster = a_serving_cluster()
    del cluster.jobs[cluster.job_named("pull")]

    status = cluster.reconcile().status

    assert ready(status) == ("True", "Serving")
    assert said(status, "Reconciling").reason == "Downloading"
    assert said(status, "WeightsReady").status == "False"
    assert cluster.settle().status.condition("Reconciling") is None


def test_a_server_of_the_same_commit_serves_on_while_its_source_is_looked_up_again():
    cluster = a_serving_cluster()
    cluster.refresh("1")

    status = cluster.reconcile().status

    assert ready(status) == ("True", "Serving")
    assert said(status, "Reconciling").reason == "Inspecting"
    assert status.source is not None and status.source.commit == "a" * 40


def test_a_commit_in_the_status_that_the_deployment_does_not_prove_is_not_believed():
    cluster = a_serving_cluster()
    cluster.jobs.clear()
    forged = cluster.status.model_copy(update={"source": SourceStatus(commit="f" * 40)})
    cluster.model = cluster.model.model_copy(update={"status": forged})

    assert ready(cluster.reconcile().status)[0] == "False"


def test_zero_replicas_bring_the_weights_and_no_server():
    cluster = Cluster(model=a_model(replicas=0))

    status = cluster.settle().status

    assert ready(status) == ("False", "ScaledToZero")
    assert said(status, "WeightsReady").status == "True"
    assert status.condition("Reconciling") is None and status.condition("Stalled") is None
    assert cluster.pods == []


# The servers.


def test_at_rest_nothing_is_written():
    cluster = a_serving_cluster()

    assert cluster.rests()
    assert cluster.decisions[-1].look_again_after == 10


def test_a_model_that_serves_says_where_and_what():
    status = a_serving_cluster().status

    assert status.url == "http://m.demo.svc/v1"
    assert status.served_models == ("tiny",)
    assert status.max_model_len == 4096
    assert status.selector == "vllm-operator.dev/model=m"


def test_the_template_stays_when_only_the_operator_changed():
    cluster = a_serving_cluster()
    settings = cluster.settings.model_dump()
    settings["images"]["server"]["nvidia"] = "registry.example/vllm:newer"
    cluster.settings = type(cluster.settings).model_validate(settings)

    assert cluster.rests()


def test_an_edited_deployment_is_put_back_and_told_once():
    cluster = a_serving_cluster()
    template = cluster.live[cluster.deployment_ref]["spec"]["template"]
    template["spec"]["containers"][0]["image"] = "evil:1"

    decision = cluster.reconcile()

    assert [manifest["kind"] for manifest in decision.apply] == ["Deployment"]
    assert ready(decision.status) == ("False", "Restoring")
    assert [event.reason for event in decision.events if event.reason == "Restored"] == ["Restored"]
    assert ready(cluster.settle().status) == ("True", "Serving")
    assert cluster.rests()


def test_a_deleted_service_is_applied_again():
    cluster = a_serving_cluster()
    del cluster.live[next(ref for ref in cluster.live if ref.kind == "Service")]

    assert [manifest["kind"] for manifest in cluster.reconcile().apply] == ["Service"]
    assert cluster.rests()


def test_a_changed_spec_rolls_out_and_is_not_ready_on_old_pods():
    cluster = a_serving_cluster()
    cluster.edit(max_model_len=2048)

    first = cluster.reconcile().status

    assert ready(first) == ("False", "RollingOut")
    assert said(first, "Available").status == "True"
    assert said(first, "Ready").observed_generation == 2
    final = cluster.settle().status
    assert ready(final) == ("True", "Serving")
    versions = {pod.wanted for pod in cluster.pods}
    assert versions == {cluster.live[cluster.deployment_ref]["metadata"]["annotations"][WANTED]}


def test_ready_goes_at_once_when_a_server_stops_answering():
    cluster = a_serving_cluster()
    pod = cluster.pods[0]
    assert pod.answer is not None
    cluster.pods = [replace(pod, answer=replace(pod.answer, works=False, problem="a completion took 30 s"))]

    status = cluster.reconcile().status

    assert ready(status) == ("False", "NotAnswering")
    assert "a completion took 30 s" in said(status, "Ready").message
    assert said(status, "Reconciling").status == "True"
    assert status.url is None


def test_ready_needs_kubernetes_word_about_the_present_generation():
    cluster = a_serving_cluster()
    cluster.live[cluster.deployment_ref]["metadata"]["generation"] += 1

    assert ready(cluster.reconcile().status)[0] == "False"


def test_an_autoscaler_of_the_deployment_is_not_fought():
    cluster = a_serving_cluster()
    cluster.autoscaled = True
    deployment = cluster.live[cluster.deployment_ref]
    deployment["spec"]["replicas"] = 3
    deployment["metadata"]["generation"] += 1
    cluster.advance()

    decision = cluster.settle()

    assert decision.status.ready_replicas == 3
    assert ready(decision.status) == ("True", "Serving")
    assert cluster.live[cluster.deployment_ref]["spec"]["replicas"] == 3
    assert cluster.rests()


def test_replicas_that_we_own_are_written_again_until_the_autoscaler_has_taken_them():
    cluster = a_serving_cluster()
    cluster.autoscaled = True
    entry = {"manager": "vllm-operator", "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    deployment = cluster.live[cluster.deployment_ref]
    deployment["metadata"]["managedFields"] = [entry]
    template = deployment["spec"]["template"]
    template["spec"]["containers"][0]["image"] = "evil:1"

    manifest: Any = cluster.reconcile().apply[0]

    assert manifest["spec"]["replicas"] == 1


def test_a_number_in_the_spec_is_followed_when_no_autoscaler_owns_it():
    cluster = a_serving_cluster()
    cluster.edit(replicas=2)

    status = cluster.settle().status

    assert status.replicas == 2
    assert ready(status) == ("True", "Serving")


# Failures.


def test_a_server_that_fails_for_good_is_stalled_and_then_stopped_to_free_its_device():
    cluster = Cluster(truth=Truth(crash=permanent()))

    status = cluster.settle().status

    assert said(status, "Stalled").reason == "InvalidArgument"
    assert status.last_failure is not None and status.last_failure.stopped is True
    assert cluster.live[cluster.deployment_ref]["spec"]["replicas"] == 0
    assert cluster.pods == []
    assert cluster.rests()
    stops = [event for decision in cluster.decisions for event in decision.events if event.reason == "ServerStopped"]
    assert len(stops) == 1


def test_a_stopped_server_starts_again_with_a_changed_spec():
    cluster = Cluster(truth=Truth(crash=permanent()))
    cluster.settle()
    cluster.truth.crash = None

    cluster.edit(max_model_len=1024)
    status = cluster.settle().status

    assert ready(status) == ("True", "Serving")
    assert status.last_failure is None  # it was about another spec
    assert STOPPED not in cluster.live[cluster.deployment_ref]["metadata"]["annotations"]


def test_a_stopped_server_starts_again_with_a_new_refresh_value():
    cluster = Cluster(truth=Truth(crash=permanent()))
    cluster.settle()
    cluster.truth.crash = None

    cluster.refresh("driver-updated")
    status = cluster.settle().status

    assert ready(status) == ("True", "Serving")
    assert status.refreshed == "driver-updated"
    assert status.last_failure is not None and status.last_failure.stopped is None  # history


def test_a_refresh_that_does_not_help_stops_the_server_again_and_rests():
    cluster = Cluster(truth=Truth(crash=permanent()))
    cluster.settle()

    cluster.refresh("1")
    status = cluster.settle().status

    assert said(status, "Stalled").reason == "InvalidArgument"
    assert cluster.live[cluster.deployment_ref]["spec"]["replicas"] == 0
    assert cluster.rests()


def test_a_stopped_server_stays_stopped_when_its_status_is_lost():
    cluster = Cluster(truth=Truth(crash=permanent()))
    cluster.settle()
    cluster.model = cluster.model.model_copy(update={"status": Status()})

    status = cluster.settle().status

    assert said(status, "Stalled").reason == "ServerCrashed"
    assert cluster.live[cluster.deployment_ref]["spec"]["replicas"] == 0


def test_nothing_is_stopped_while_an_older_version_serves():
    cluster = a_serving_cluster(rollout={"strategy": "RollingUpdate", "max_surge": "1", "max_unavailable": "0"})
    old = cluster.pods[0].name
    cluster.edit(max_model_len=1024)
    cluster.reconcile()

    new_only = permanent().on("m-002", 1)
    for _ in range(8):
        cluster.advance()
        cluster.pods = [
            pod
            if pod.name == old
            else replace(pod, ready=False, answer=None, restarts=9, failure=new_only.on(pod.name, 1))
            for pod in cluster.pods
            if pod.name == old or not pod.terminating
        ]
        if not any(pod.name == old for pod in cluster.pods):
            break
        decision = cluster.reconcile()

    assert said(decision.status, "Stalled").reason == "InvalidArgument"
    assert said(decision.status, "Available").status == "True"
    assert cluster.live[cluster.deployment_ref]["spec"]["replicas"] == 1


def test_a_passing_failure_is_left_to_kubernetes_back_off():
    cluster = Cluster(truth=Truth(crash=passing()))

    status = cluster.settle().status

    assert ready(status) == ("False", "EngineDied")
    assert said(status, "Reconciling").reason == "EngineDied"
    assert cluster.live[cluster.deployment_ref]["spec"]["replicas"] == 1


def test_a_platform_may_forbid_the_stop():
    crash_policy = SETTINGS.crash_policy.model_copy(update={"stop_permanent": False})
    cluster = Cluster(
        settings=SETTINGS.model_copy(update={"crash_policy": crash_policy}), truth=Truth(crash=permanent())
    )

    status = cluster.settle().status

    assert said(status, "Stalled").reason == "InvalidArgument"
    assert cluster.live[cluster.deployment_ref]["spec"]["replicas"] == 1


@pytest.mark.parametrize("reason", [Reason.ImagePullFailed, Reason.PodRejected])
def test_a_container_that_never_ran_is_stalled_and_not_stopped(reason: Reason):
    cluster = Cluster(truth=Truth(crash=permanent(reason)))

    status = cluster.settle().status

    assert said(status, "Stalled").reason == reason
    assert cluster.live[cluster.deployment_ref]["spec"]["replicas"] == 1


def test_a_crash_that_the_server_got_over_stays_as_history():
    cluster = Cluster(truth=Truth(crash=passing()))
    cluster.settle()
    cluster.truth.crash = None

    status = cluster.settle().status

    assert ready(status) == ("True", "Serving")
    assert status.last_failure is not None and status.last_failure.reason == "EngineDied"
    assert cluster.rests()


def test_a_new_pod_that_finds_no_device_beside_the_old_one_is_told_as_such():
    cluster = a_serving_cluster(rollout={"strategy": "RollingUpdate", "max_surge": "1", "max_unavailable": "0"})
    cluster.edit(max_model_len=1024)
    cluster.reconcile()
    cluster.advance()
    unschedulable = failure(Reason.Unschedulable, "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")
    old, new = sorted(cluster.pods, key=lambda pod: pod.name)
    cluster.pods = [
        replace(old, ready=True, terminating=False),
        replace(new, ready=False, answer=None, failure=unschedulable.on(new.name)),
    ]

    status = cluster.reconcile().status

    assert ready(status) == ("False", "RolloutWaitsForGPU")
    assert "1 nvidia.com/gpu needed, 0 free" in said(status, "Ready").message
    assert said(status, "Reconciling").status == "True"
    assert said(status, "Available").status == "True"


def test_a_first_pod_that_finds_no_device_is_unschedulable():
    unschedulable = failure(Reason.Unschedulable, "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")
    cluster = Cluster(truth=Truth(crash=unschedulable))

    status = cluster.settle().status

    assert ready(status) == ("False", "Unschedulable")
    assert said(status, "Reconciling").reason == "Unschedulable"


# What is no longer needed.


def test_old_weights_are_given_back_only_when_the_new_version_serves():
    cluster = a_serving_cluster()
    old = next(iter(cluster.claims))
    cluster.edit(model="demo/other")
    cluster.truth.commit = "b" * 40

    while ready(cluster.status)[0] != "True" or cluster.status.observed_generation != 2:
        assert old in cluster.claims
        cluster.reconcile()
        cluster.advance()

    cluster.settle()
    assert old not in cluster.claims
    assert len(cluster.claims) == 1 and cluster.rests()


def test_old_weights_are_given_back_at_once_when_nothing_serves():
    cluster = Cluster(truth=Truth(download=permanent(Reason.DiskFull)))
    cluster.settle()
    old = next(iter(cluster.claims))

    cluster.edit(model="demo/other")
    cluster.settle()

    assert old not in cluster.claims


def test_a_volume_that_the_pinned_template_mounts_is_never_given_back():
    cluster = a_serving_cluster()
    claim = next(iter(cluster.claims))
    seen = replace(cluster.see(), stale=(Ref("v1", "PersistentVolumeClaim", claim), Ref("batch/v1", "Job", "old")))

    decision = decide(cluster.model, cluster.plan, seen, START)

    assert [ref.name for ref in decision.release] == ["old"]
