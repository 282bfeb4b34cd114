"""The servers: what is applied, what Ready means, and what is left alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.decide_facts import (
    ready,
    said,
)
from tests.decide_world import a_serving_cluster
from vllm_operator.decide.annotations import TEMPLATE, WANTED


def test_at_rest_nothing_is_written():
    cluster = a_serving_cluster()

    assert cluster.rests()
    assert cluster.decisions[-1].look_again_after == 5


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


def managed(deployment: dict[str, Any], *annotations: str) -> None:
    """The live object says that our last apply set these annotations."""
    fields = {f"f:{name}": {} for name in annotations}
    entry = {"manager": "vllm-operator", "operation": "Apply", "fieldsV1": {"f:metadata": {"f:annotations": fields}}}
    deployment["metadata"]["managedFields"] = [entry]


def test_a_kept_template_that_somebody_edited_is_not_believed():
    cluster = a_serving_cluster()
    deployment = cluster.live[cluster.deployment_ref]
    honest = deployment["metadata"]["annotations"][TEMPLATE]
    deployment["metadata"]["annotations"][TEMPLATE] = honest.replace("--", "--evil-")
    managed(deployment, WANTED)

    manifest: Any = cluster.reconcile().apply[0]

    assert manifest["metadata"]["annotations"][TEMPLATE] == honest


def test_a_kept_template_of_our_own_is_applied_whatever_the_settings_say_now():
    cluster = a_serving_cluster()
    deployment = cluster.live[cluster.deployment_ref]
    managed(deployment, WANTED, TEMPLATE)
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
