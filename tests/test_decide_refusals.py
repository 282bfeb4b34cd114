"""What comes before everything else: what the plan refuses, what is not ours, what is not there, what is leaving."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import a_model
from tests.decide_facts import (
    SETTINGS,
    START,
    Truth,
    permanent,
    ready,
    said,
    writes_nothing,
)
from tests.decide_world import Cluster, a_serving_cluster
from vllm_operator.decide import decide
from vllm_operator.decide.annotations import TEMPLATE
from vllm_operator.decide.types import Ref, Seen
from vllm_operator.plan import plan_model
from vllm_operator.settings import Policy


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


@pytest.mark.parametrize(
    "hinder",
    [
        {"spec": {"model": "other/model"}, "settings": {"policy": Policy(allowed_sources=["demo/*"])}},
        {"spec": {"max_model_len": 4096}, "settings": {"default_accelerator": "small"}},
        {"spec": {"download": {"tries": 2}}, "missing": ("claim weights",)},
        {"spec": {"model": "demo/other"}, "truth": Truth(inspection=permanent())},
        {"spec": {"model": "demo/other"}, "truth": Truth(commit="b" * 40, download=permanent())},
    ],
    ids=["refused", "misfit", "missing", "not inspected", "not downloaded"],
)
def test_zero_replicas_free_the_devices_of_an_older_server_whatever_else_is_wrong(hinder: dict[str, Any]):
    small = SETTINGS.accelerators["nvidia"].model_copy(update={"memory": "1Gi"})
    cluster = a_serving_cluster()
    cluster.settings = SETTINGS.model_copy(
        update={"accelerators": {**SETTINGS.accelerators, "small": small}, **hinder.get("settings", {})}
    )
    cluster.truth = hinder.get("truth", cluster.truth)
    cluster.missing = hinder.get("missing", ())

    cluster.edit(replicas=0, **hinder["spec"])
    cluster.settle()

    assert cluster.pods == []
    assert ready(cluster.status)[0] == "False"
    assert cluster.rests()


def test_fewer_replicas_are_given_at_once_and_more_only_of_what_is_asked_for():
    cluster = a_serving_cluster(replicas=3)
    cluster.missing = ("claim weights",)
    cluster.edit(replicas=2, model="demo/other")
    cluster.settle()
    assert len(cluster.pods) == 2

    cluster.edit(replicas=4)
    cluster.settle()
    assert len(cluster.pods) == 2


def test_a_server_is_scaled_while_its_source_cannot_be_looked_up_again():
    cluster = a_serving_cluster()
    cluster.truth.inspection = permanent()
    cluster.refresh("1")
    cluster.settle()

    cluster.edit(replicas=3)
    cluster.settle()

    assert len(cluster.pods) == 3
    assert ready(cluster.status) == ("True", "Serving")
    assert cluster.rests()


def test_a_stopped_server_is_not_started_by_a_look_at_its_source():
    cluster = Cluster(model=a_model(replicas=2), truth=Truth(crash=permanent()))
    cluster.settle()
    assert cluster.pods == []
    cluster.jobs.clear()

    assert cluster.reconcile().apply == ()


def test_a_template_that_somebody_forged_is_not_made_ours_by_stopping_its_server():
    cluster = a_serving_cluster()
    deployment = cluster.live[cluster.deployment_ref]
    deployment["metadata"]["annotations"][TEMPLATE] = '{"forged": true}'
    deployment["metadata"]["managedFields"] = [{"manager": "someone", "operation": "Update", "fieldsV1": {}}]
    cluster.missing = ("claim weights",)

    cluster.edit(replicas=0, model="demo/other")
    [manifest] = cluster.reconcile().apply

    assert manifest["spec"]["replicas"] == 0
    assert "forged" not in str(manifest)
    assert TEMPLATE not in manifest["metadata"]["annotations"]


def test_an_autoscalers_number_is_left_alone():
    cluster = a_serving_cluster()
    cluster.autoscaled = True
    cluster.missing = ("claim weights",)

    cluster.edit(replicas=0, model="demo/other")

    assert cluster.reconcile().apply == ()
