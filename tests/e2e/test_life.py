"""A model's life after it serves: edits, drift, crashes, scale, the end. The server is the quick one with vLLM's manners."""

from __future__ import annotations

import json

import pytest

from tests.e2e.world import TINY, Namespace, await_that

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]


@pytest.fixture
def ready(namespace: Namespace) -> Namespace:
    namespace.apply_fake()
    namespace.await_ready()
    return namespace


def test_an_edit_rolls_out_and_the_new_value_is_served(ready: Namespace) -> None:
    ready.patch("m", maxModelLen=256)

    status = ready.await_ready()

    assert status["maxModelLen"] == 256
    card = await_that(
        lambda: ready.ask("/v1/models")["data"][0], lambda c: c["max_model_len"] == 256, 10, "the new length"
    )
    assert card["id"] == TINY


def test_what_is_deleted_leaves_nothing(ready: Namespace) -> None:
    ready.kubectl("delete", "vllmmodel", "m", "--wait=true", "--timeout=60s")

    kinds = "deployments,services,jobs,persistentvolumeclaims,pods,replicasets"
    await_that(
        lambda: [o["metadata"]["name"] for o in ready.list(kinds)], lambda left: not left, 90, "an empty namespace"
    )


def test_a_hand_in_the_deployment_is_undone(ready: Namespace) -> None:
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "vllm", "image": "example.org/other:1"}]}}}}
    ready.kubectl("patch", "deployment", "m", "-p", json.dumps(patch))

    def image() -> str:
        return str(ready.get("deployment", "m")["spec"]["template"]["spec"]["containers"][0]["image"])

    await_that(image, lambda seen: seen == ready.images["vllm-fake"], 30, "the right image")
    ready.await_ready()


@pytest.mark.parametrize("kind", ["deployment", "service"])
def test_a_deleted_child_comes_back(ready: Namespace, kind: str) -> None:
    uid = ready.get(kind, "m")["metadata"]["uid"]
    ready.kubectl("delete", kind, "m", "--wait=false")

    await_that(lambda: ready.get(kind, "m"), lambda o: o and o["metadata"]["uid"] != uid, 60, f"a new {kind}")
    ready.await_ready()


def test_a_killed_server_loses_ready_and_gets_it_back(ready: Namespace) -> None:
    ready.kubectl("delete", "pod", ready.server_pods()[0]["metadata"]["name"], "--wait=false")

    ready.await_condition("Ready", "False", seconds=30)
    ready.await_ready()


def test_a_server_that_stops_answering_loses_ready_within_fifteen_seconds(ready: Namespace) -> None:
    ready.fault("hang")

    ready.await_condition("Ready", "False", seconds=15)


def test_an_engine_that_dies_with_exit_code_zero_is_a_crash(ready: Namespace) -> None:
    ready.fault("die")

    failure = await_that(
        lambda: ready.status().get("lastFailure", {}), lambda f: f.get("reason") == "EngineDied", 60, "it"
    )
    assert failure["exitCode"] == 0
    ready.await_ready()


def test_kubectl_scale_and_scale_to_zero(ready: Namespace) -> None:
    ready.kubectl("scale", "vllmmodel", "m", "--replicas=2")
    status = ready.await_ready()
    assert status["readyReplicas"] == 2

    ready.kubectl("scale", "vllmmodel", "m", "--replicas=0")
    ready.await_condition("Ready", "False", "ScaledToZero", seconds=60)
    await_that(lambda: len(ready.server_pods()), lambda n: n == 0, 60, "no pod")
    await_that(ready.status, lambda status: "url" not in status, 60, "no address")


def test_a_bad_value_heals_when_it_is_put_right(namespace: Namespace) -> None:
    namespace.apply_fake(model="nobody/nothing")
    namespace.await_condition("WeightsReady", "False", "RepoNotFound")
    assert namespace.get("deployment", "m") == {}

    namespace.patch("m", model=TINY)

    namespace.await_ready()


def test_a_stranger_s_service_is_left_alone_and_said(namespace: Namespace) -> None:
    namespace.kubectl("create", "service", "clusterip", "m", "--tcp=80:80")
    namespace.apply_fake()
    condition = namespace.await_condition("Ready", "False", "NameConflict")
    assert "m" in condition["message"]
    assert "ownerReferences" not in namespace.get("service", "m")["metadata"]

    namespace.kubectl("delete", "service", "m")

    namespace.await_ready()
