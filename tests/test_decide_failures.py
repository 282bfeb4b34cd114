"""Servers that fail: what is told, what is left to Kubernetes, and what is stopped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.decide_facts import (
    SETTINGS,
    Truth,
    passing,
    permanent,
    ready,
    said,
)
from tests.decide_world import Cluster, a_serving_cluster
from vllm_operator.api import Status
from vllm_operator.decide import decide
from vllm_operator.decide.annotations import STOPPED
from vllm_operator.decide.types import PodSeen
from vllm_operator.diagnose import Reason, failure


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


@pytest.mark.parametrize(
    "refusal",
    [
        failure(Reason.Unschedulable, "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),
        failure(Reason.QuotaExceeded, "exceeded quota: q, requested: requests.nvidia.com/gpu=1, used: requests.nvidia.com/gpu=1"),
    ],
    ids=["nodes", "quota"],
)  # fmt: skip
def test_a_new_pod_that_finds_no_device_beside_the_old_one_is_told_as_such(refusal):
    cluster = a_serving_cluster(rollout={"strategy": "RollingUpdate", "max_surge": "1", "max_unavailable": "0"})
    cluster.edit(max_model_len=1024)
    cluster.reconcile()
    cluster.advance()
    old, new = sorted(cluster.pods, key=lambda pod: pod.name)
    cluster.pods = [
        replace(old, ready=True, terminating=False),
        replace(new, ready=False, answer=None, failure=refusal.on(new.name)),
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


def test_what_befell_a_pod_that_is_gone_is_told_after_what_hinders_the_next_one():
    cluster = Cluster()
    cluster.settle()
    evicted = replace(cluster.pods[0], ready=False, answer=None, failure=failure(Reason.Evicted, "Evicted.").on("m-1"))
    quota = failure(Reason.QuotaExceeded, "The quota gpu is used up.")
    seen = cluster.see()
    assert seen.deployment is not None
    seen = replace(seen, pods=(evicted,), deployment=replace(seen.deployment, ready_replicas=0, failure=quota))

    status = decide(cluster.model, cluster.plan, seen, cluster.now).status

    assert ready(status) == ("False", "QuotaExceeded")


def a_rollout_without_a_device(**spec: Any) -> tuple[Cluster, PodSeen]:
    """A new pod that finds no device beside the old one, which serves; each on a volume that both may mount."""
    cluster = a_serving_cluster(cache={"access_modes": ("ReadWriteMany",)}, **spec)
    cluster.edit(max_model_len=1024)
    cluster.reconcile()
    cluster.advance()
    old, new = sorted(cluster.pods, key=lambda pod: pod.name)
    refusal = failure(Reason.Unschedulable, "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")
    waiting = replace(new, ready=False, answer=None, failure=refusal.on(new.name))
    cluster.pods = [replace(old, ready=True, terminating=False), waiting]
    return cluster, waiting


def strategy_of(cluster: Cluster) -> Any:
    return cluster.live[cluster.deployment_ref]["spec"]["strategy"]


def test_by_default_a_rollout_does_not_wait_for_ever_for_the_device_that_its_own_old_pod_holds():
    cluster, waiting = a_rollout_without_a_device()
    first = cluster.reconcile()

    assert ready(first.status) == ("False", "RolloutWaitsForGPU")
    assert "within two minutes, or the old server gives way" in said(first.status, "Ready").message
    assert strategy_of(cluster)["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}

    cluster.pods = [cluster.pods[0], replace(waiting, waits_long=True)]
    second = cluster.reconcile()

    assert strategy_of(cluster)["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert [event.reason for event in second.events] == ["RollingOut"]
    assert not cluster.reconcile().apply

    cluster.pods = [replace(waiting, failure=None)]
    third = cluster.reconcile()
    assert strategy_of(cluster)["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert "Restored" not in {event.reason for event in third.events}


def test_a_rollout_waits_as_long_as_its_user_wants_it_to():
    cluster, waiting = a_rollout_without_a_device(rollout={"max_surge": "1"})
    cluster.pods = [cluster.pods[0], replace(waiting, waits_long=True)]

    assert ready(cluster.reconcile().status) == ("False", "RolloutWaitsForGPU")
    assert strategy_of(cluster)["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_a_crash_for_good_is_stopped_beside_a_pod_that_cannot_even_start():
    cluster = a_serving_cluster(replicas=2)
    first, second = sorted(cluster.pods, key=lambda pod: pod.name)
    unable = failure(Reason.ImagePullFailed, "No such image.", retry=False).on(first.name)
    cluster.pods = [
        replace(first, ready=False, answer=None, failure=unable),
        replace(second, ready=False, answer=None, failure=permanent().on(second.name, 1), restarts=9),
    ]

    status = cluster.reconcile().status

    assert said(status, "Stalled").reason == "InvalidArgument"
    assert cluster.live[cluster.deployment_ref]["spec"]["replicas"] == 0


def test_with_several_replicas_a_rollout_that_waits_says_what_is_true_of_it():
    cluster = a_serving_cluster(replicas=2, cache={"access_modes": ("ReadWriteMany",)})
    first, second = sorted(cluster.pods, key=lambda pod: pod.name)
    refusal = failure(Reason.Unschedulable, "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")
    cluster.edit(max_model_len=1024)
    cluster.reconcile()
    wanted = cluster.see().deployment
    assert wanted is not None
    new = replace(second, name="m-9", wanted=wanted.wanted, ready=False, answer=None, failure=refusal.on("m-9"))
    cluster.pods = [first, replace(new, waits_long=True)]

    status = cluster.reconcile().status

    assert ready(status) == ("False", "RolloutWaitsForGPU")
    assert "gives way" not in said(status, "Ready").message
