"""Somebody who can only create VLLMModels gains nothing else, and tools that only know Kubernetes find what they expect."""

from __future__ import annotations

import json

import pytest

from tests.e2e.world import API_VERSION, TINY, Namespace, await_that, kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def test_forged_annotations_of_the_framework_have_no_effect(namespace: Namespace) -> None:
    forged = {
        "kopf.zalando.org/last-handled-configuration": "{not json",
        "kopf.dev/last-handled-configuration": '{"spec":{}}',
        "vllm-operator.dev/wanted": "x",
    }
    namespace.apply_fake(annotations=forged, replicas=0)

    namespace.await_condition("WeightsReady", "True")


def test_the_operator_leaves_spec_labels_annotations_and_finalizers_alone(namespace: Namespace) -> None:
    namespace.apply_fake()
    namespace.await_ready()

    model = namespace.get("vllmmodel", "m")

    assert model["metadata"]["generation"] == 1
    assert set(model["metadata"]["annotations"]) == {"kubectl.kubernetes.io/last-applied-configuration"}
    assert "finalizers" not in model["metadata"]
    assert "labels" not in model["metadata"]


def test_kubectl_wait_diff_and_a_second_apply_agree(namespace: Namespace) -> None:
    spec = {"model": TINY, "accelerator": "cpu", "image": namespace.images["vllm-fake"], "replicas": 1}
    spec["resources"] = {"requests": {"cpu": "10m", "memory": "32Mi"}}
    body = json.dumps(
        {
            "apiVersion": API_VERSION,
            "kind": "VLLMModel",
            "metadata": {"name": "m", "namespace": namespace.name},
            "spec": spec,
        }
    )
    namespace.kubectl("apply", "--server-side", "-f", "-", input=body)

    namespace.kubectl("wait", "--for=condition=Ready", "vllmmodel/m", "--timeout=120s")

    assert namespace.kubectl("diff", "--server-side", "-f", "-", input=body) == ""
    assert "serverside-applied" in namespace.kubectl("apply", "--server-side", "-f", "-", input=body)


def test_the_status_default_keeps_tools_from_calling_a_new_model_healthy(namespace: Namespace) -> None:
    body = {"apiVersion": API_VERSION, "kind": "VLLMModel", "metadata": {"name": "m"}, "spec": {"model": TINY}}
    text = namespace.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", input=json.dumps(body))
    conditions = {c["type"]: c for c in json.loads(text)["status"]["conditions"]}

    assert conditions["Ready"]["status"] == "Unknown"
    assert conditions["Ready"]["reason"] == "Pending"


def test_a_bad_model_does_not_delay_a_good_one(namespace: Namespace) -> None:
    for n in range(10):
        namespace.apply_fake(f"bad{n}", model=f"nobody/nothing-{n}")
    namespace.apply_fake("good")

    namespace.await_ready("good")


def test_every_pod_of_a_model_is_restricted_and_none_has_a_token(namespace: Namespace) -> None:
    namespace.apply_fake()
    namespace.await_ready()

    for pod in namespace.list("pods"):
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["enableServiceLinks"] is False
        assert not any("projected" in volume for volume in pod["spec"].get("volumes", []))
        for container in pod["spec"]["containers"]:
            assert "sh" not in (container.get("command") or [])


def test_columns_tell_the_story(namespace: Namespace) -> None:
    namespace.apply_fake()
    namespace.await_ready()

    header, row = namespace.kubectl("get", "vllm").splitlines()

    assert header.split()[:4] == ["NAME", "READY", "REASON", "MODEL"]
    assert row.split()[:2] == ["m", "True"]


def test_a_namespace_on_its_way_out_is_not_worked_on_hotly(namespace: Namespace) -> None:
    namespace.apply_fake()
    namespace.await_ready()

    kubectl("delete", "namespace", namespace.name, "--wait=false")

    gone = lambda: kubectl("get", "namespace", namespace.name, "--ignore-not-found", "-o", "name")  # noqa: E731
    await_that(gone, lambda text: not text.strip(), 90, "the end of the namespace")
