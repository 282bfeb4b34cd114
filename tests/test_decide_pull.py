"""The pull: the volume, the download, its progress and its end; and what is given back when it is no longer needed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.builders import a_model
from tests.decide_facts import (
    START,
    Truth,
    passing,
    permanent,
    ready,
    said,
)
from tests.decide_world import Cluster, a_serving_cluster
from vllm_operator.api import SourceStatus
from vllm_operator.decide import decide
from vllm_operator.decide.annotations import AWAITS_WEIGHTS, COMMITS
from vllm_operator.decide.types import ClaimSeen, JobState, Ref
from vllm_operator.diagnose import Reason, failure


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


def test_a_volume_that_is_to_be_retained_from_now_on_loses_its_owner_and_stays():
    cluster = a_serving_cluster()
    cluster.edit(cache={"retain": True})

    decision = cluster.reconcile()

    assert [ref.kind for ref in decision.retain] == ["PersistentVolumeClaim"]
    assert decision.release == () and decision.delete == ()
    assert ready(cluster.settle().status) == ("True", "Serving")
    assert cluster.rests()


def test_progress_is_told_in_percent_bytes_speed_and_time_left():
    cluster = Cluster()
    until_the_download(cluster)
    cluster.advance()

    status = cluster.reconcile().status

    assert said(status, "WeightsReady").message == "50 %, 0.5 of 1.0 GiB, 350 MiB/s, about 5 s left"
    assert status.weights is not None and status.weights.percent == 50


def test_a_download_that_failed_stays_so_with_its_reason():
    cluster = Cluster(truth=Truth(download=permanent(Reason.DiskFull)))

    status = cluster.settle().status

    assert ready(status) == ("False", "DiskFull")
    assert said(status, "Stalled").reason == "DiskFull"
    assert cluster.live == {}
    assert cluster.rests()


def test_a_download_whose_tries_are_used_up_says_so_with_the_last_cause():
    cluster = Cluster(truth=Truth(download=passing(Reason.HubRateLimited)))

    status = cluster.settle().status

    assert said(status, "WeightsReady").reason == "DownloadFailed"
    assert "the last one because of HubRateLimited" in said(status, "WeightsReady").message
    assert ready(status) == ("False", "HubRateLimited")
    assert status.last_failure is not None and status.last_failure.reason == "HubRateLimited"
    assert cluster.rests()


def test_a_volume_that_waits_for_its_first_pod_is_no_problem():
    cluster = Cluster()
    name = until_the_download(cluster)
    cluster.claims = {key: ClaimSeen("Pending", owned=True) for key in cluster.claims}

    status = cluster.reconcile().status

    assert ready(status) == ("False", "Downloading")
    assert cluster.jobs[name].state is JobState.RUNNING


def test_a_download_whose_pod_is_refused_is_stalled_though_its_job_says_nothing():
    cluster = Cluster()
    name = until_the_download(cluster)
    refused = failure(Reason.PodRejected, 'violates PodSecurity "restricted:latest"')
    cluster.jobs[name] = replace(cluster.jobs[name], failure=refused)

    status = cluster.reconcile().status

    assert said(status, "Stalled").reason == "PodRejected"
    assert said(status, "WeightsReady").reason == "PodRejected"


def test_a_changed_spec_replaces_a_download_that_cannot_start():
    cluster = Cluster()
    name = until_the_download(cluster)
    cluster.jobs[name] = replace(cluster.jobs[name], failure=failure(Reason.Unschedulable, "no node has gpu=a"))
    cluster.edit(pod={"node_selector": {"gpu": "b"}})

    decision = cluster.reconcile()

    assert [ref.name for ref in decision.delete] == [name]
    assert ready(cluster.settle().status) == ("True", "Serving")


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


def test_no_server_starts_on_the_new_and_empty_volume():
    cluster = a_serving_cluster()
    cluster.claims.clear()
    cluster.pods.clear()

    decision = cluster.reconcile()

    (deployment,) = [manifest for manifest in decision.apply if manifest["kind"] == "Deployment"]
    assert deployment["spec"]["replicas"] == 0
    assert decision.events == () or all(event.reason != "Restored" for event in decision.events)
    assert cluster.reconcile().status.condition("WeightsReady").status == "False"
    assert cluster.live[cluster.deployment_ref]["spec"]["replicas"] == 0
    assert ready(cluster.settle().status) == ("True", "Serving")
    assert AWAITS_WEIGHTS not in cluster.live[cluster.deployment_ref]["metadata"]["annotations"]


def test_a_server_that_is_ready_outlives_its_volume():
    cluster = a_serving_cluster()
    cluster.claims.clear()

    decision = cluster.reconcile()

    assert [manifest for manifest in decision.apply if manifest["kind"] == "Deployment"] == []
    assert ready(decision.status) == ("True", "Serving")


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.SUCCEEDED, JobState.FAILED])
def test_a_download_lets_go_of_a_volume_that_is_being_deleted(state: JobState):
    """Kubernetes keeps a claim while a pod names it, also a pod that has ended."""
    cluster = Cluster()
    name = until_the_download(cluster)
    cluster.jobs[name] = replace(cluster.jobs[name], state=state)
    cluster.claims = {key: replace(claim, deleting=True) for key, claim in cluster.claims.items()}

    first, second = cluster.reconcile(), cluster.reconcile()

    assert [ref.name for ref in first.delete] == [name]
    assert (first.own, second.delete) == ((), ())
    assert ready(second.status) == ("False", "WaitingForVolume")
    cluster.claims.clear()
    assert ready(cluster.settle().status) == ("True", "Serving")


def test_a_server_of_the_same_commit_serves_on_while_its_download_runs_again():
    cluster = a_serving_cluster()
    del cluster.jobs[cluster.job_named("pull")]

    status = cluster.reconcile().status

    assert ready(status) == ("True", "Serving")
    assert said(status, "Reconciling").reason == "Downloading"
    assert said(status, "WeightsReady").status == "False"
    assert cluster.settle().status.condition("Reconciling") is None


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"adapters": ({"name": "a", "source": "demo/a"}, {"name": "b", "source": "demo/b"})},
        {"tokenizer": "demo/words"},
    ],
    ids=["alone", "adapters", "tokenizer"],
)
def test_a_server_of_the_same_commit_serves_on_while_its_source_is_looked_up_again(spec: Any):
    cluster = a_serving_cluster(**spec)
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


def test_a_deployment_of_an_older_operator_proves_its_version_by_the_models_commit():
    cluster = a_serving_cluster()
    del cluster.live[cluster.deployment_ref]["metadata"]["annotations"][COMMITS]
    cluster.refresh("1")

    assert ready(cluster.reconcile().status) == ("True", "Serving")


def test_zero_replicas_bring_the_weights_and_no_server():
    cluster = Cluster(model=a_model(replicas=0))

    status = cluster.settle().status

    assert ready(status) == ("False", "ScaledToZero")
    assert said(status, "WeightsReady").status == "True"
    assert status.condition("Reconciling") is None and status.condition("Stalled") is None
    assert cluster.pods == []


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
