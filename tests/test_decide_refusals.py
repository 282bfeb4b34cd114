"""What comes before everything else: what the plan refuses, what is not ours, what is not there, what is leaving."""

from __future__ import annotations

from tests.builders import a_model
from tests.decide_facts import (
    SETTINGS,
    START,
    ready,
    said,
    writes_nothing,
)
from tests.decide_world import Cluster, a_serving_cluster
from vllm_operator.decide import decide
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
