"""The client of the API server: what it writes, what it refuses to write, and which errors it tells apart."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from tests.wire.apiserver import Kubernetes
from tests.wire.fixtures import a_cluster, a_job, a_vllmmodel
from vllm_operator.cluster import (
    ApiError,
    Busy,
    Cluster,
    Conflict,
    Forbidden,
    Gone,
    OutOfBounds,
    Owner,
    Refused,
    Writer,
)
from vllm_operator.cluster.kinds import JOBS
from vllm_operator.decide.types import Ref

JOB = Ref("batch/v1", "Job", "pull-x")


def a_config_map(name: str, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "team", **metadata},
        "data": {},
    }


def writer_of(cluster: Cluster, name: str = "m") -> Writer:
    return Writer(cluster.connection, Owner("team", name, f"uid-of-{name}"))


def owners(fake: Kubernetes, kind: str, name: str) -> list[str]:
    found = fake.get(kind, name)
    assert found is not None
    return [owner["name"] for owner in found["metadata"].get("ownerReferences", [])]


async def test_what_is_absent_is_none() -> None:
    async with a_cluster() as (_, cluster):
        assert await cluster.model("team", "m") is None


async def test_creating_what_exists_is_fine_and_says_so() -> None:
    async with a_cluster() as (_, cluster):
        made = await writer_of(cluster, "m").create(a_job())
        again = await writer_of(cluster, "n").create(a_job())

    assert made is not None
    assert made["metadata"]["uid"]
    assert again is None


async def test_models_add_their_ownership_without_taking_each_others() -> None:
    async with a_cluster() as (fake, cluster):
        uid = fake.put(a_job())["metadata"]["uid"]
        await writer_of(cluster, "m").own(JOB, uid)
        await writer_of(cluster, "n").own(JOB, uid)

    assert owners(fake, "Job", "pull-x") == ["m", "n"]
    managers = [entry["manager"] for entry in fake.get("Job", "pull-x")["metadata"]["managedFields"]]  # type: ignore[index]
    assert managers == ["vllm-operator-uid-of-m", "vllm-operator-uid-of-n"]


async def test_owning_a_successor_of_what_was_seen_is_a_conflict() -> None:
    async with a_cluster() as (fake, cluster):
        fake.put(a_job())
        with pytest.raises(Conflict):
            await writer_of(cluster).own(JOB, "uid-of-another-life")


async def test_the_last_owner_deletes_and_the_others_only_let_go() -> None:
    async with a_cluster() as (fake, cluster):
        uid = fake.put(a_job())["metadata"]["uid"]
        for name in ("m", "n"):
            await writer_of(cluster, name).own(JOB, uid)
        await writer_of(cluster, "m").release(JOB)
        assert owners(fake, "Job", "pull-x") == ["n"]
        await writer_of(cluster, "m").release(JOB)
        assert owners(fake, "Job", "pull-x") == ["n"], "who owns nothing releases nothing"
        await writer_of(cluster, "n").release(JOB)
        await writer_of(cluster, "n").release(JOB)

    assert fake.get("Job", "pull-x") is None


async def test_a_release_that_crosses_another_models_claim_is_a_conflict() -> None:
    """Between the read and the delete another model becomes an owner: the delete must not happen."""
    async with a_cluster() as (fake, cluster):
        uid = fake.put(a_job())["metadata"]["uid"]
        await writer_of(cluster, "m").own(JOB, uid)

        def another_owner_comes(request: web.Request) -> None:
            if request.method == "DELETE" and owners(fake, "Job", "pull-x") == ["m"]:
                fake.edit("Job", "pull-x", {"metadata": {"labels": {"touched": "yes"}}})

        fake.faults.append(another_owner_comes)
        with pytest.raises(Conflict):
            await writer_of(cluster, "m").release(JOB)

    assert fake.get("Job", "pull-x") is not None


async def test_a_delete_reaches_only_the_object_that_was_seen() -> None:
    async with a_cluster() as (fake, cluster):
        uid = fake.put(a_job())["metadata"]["uid"]
        with pytest.raises(Conflict):
            await writer_of(cluster).delete(JOB, "uid-of-another-life")
        await writer_of(cluster).delete(JOB, uid)
        await writer_of(cluster).delete(JOB, uid)

    assert fake.get("Job", "pull-x") is None


async def test_annotations_are_added_to_the_object_that_was_seen() -> None:
    async with a_cluster() as (fake, cluster):
        uid = fake.put(a_job(annotations={"kept": "yes"}))["metadata"]["uid"]
        await writer_of(cluster).annotate(JOB, {"result": "{}"}, uid)
        with pytest.raises(Conflict):
            await writer_of(cluster).annotate(JOB, {"result": "no"}, "uid-of-another-life")

    assert fake.get("Job", "pull-x")["metadata"]["annotations"] == {"kept": "yes", "result": "{}"}  # type: ignore[index]


async def test_an_apply_creates_changes_and_is_forced_under_one_manager() -> None:
    async with a_cluster() as (fake, cluster):
        writer = writer_of(cluster)
        await writer.apply(a_config_map("c"))
        uid = fake.get("ConfigMap", "c")["metadata"]["uid"]  # type: ignore[index]
        await writer.apply(a_config_map("c", labels={"new": "yes"}), uid)
        with pytest.raises(Conflict):
            await writer.apply(a_config_map("c"), "uid-of-another-life")

    assert all("fieldManager=vllm-operator&force=true" in path for verb, path in fake.audit if verb == "PATCH")
    assert fake.get("ConfigMap", "c")["metadata"]["labels"] == {"new": "yes"}  # type: ignore[index]


async def test_a_status_is_replaced_whole_and_only_on_the_model_that_was_read() -> None:
    async with a_cluster() as (fake, cluster):
        fake.put(a_vllmmodel())
        read = fake.edit("VLLMModel", "m", {"status": {"url": "old"}})["metadata"]["resourceVersion"]
        await writer_of(cluster).status({"replicas": 1}, read)
        with pytest.raises(Conflict):
            await writer_of(cluster).status({"replicas": 2}, read)

    assert fake.get("VLLMModel", "m")["status"] == {"replicas": 1}  # type: ignore[index]


@pytest.mark.parametrize(
    "manifest",
    [
        a_config_map("c", namespace="kube-system"),
        a_config_map("c", ownerReferences=[{"uid": "another", "kind": "VLLMModel", "name": "x"}]),
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "namespace": "team"}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "team"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "team"}},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r", "namespace": "team"}},
        a_config_map("../secrets/s"),
    ],
    ids=["other namespace", "other owner", "cluster-scoped", "pod", "secret", "role", "path"],
)
async def test_writes_that_are_not_the_models_never_leave_the_process(manifest: dict[str, Any]) -> None:
    async with a_cluster() as (fake, cluster):
        with pytest.raises(OutOfBounds):
            await writer_of(cluster).create(manifest)
        with pytest.raises(OutOfBounds):
            await writer_of(cluster).apply(manifest)

    assert fake.audit == []


async def test_a_namespace_on_its_way_out_is_gone_and_not_a_quota() -> None:
    message = 'jobs.batch "pull-x" is forbidden: unable to create new content because it is being terminated'
    causes = [
        {
            "reason": "NamespaceTerminating",
            "message": "namespace team is being terminated",
            "field": "metadata.namespace",
        }
    ]
    async with a_cluster() as (fake, cluster):
        answer = {"kind": "Status", "message": message, "details": {"causes": causes}}
        fake.faults.append(lambda request: web.json_response(answer, status=403))
        with pytest.raises(Gone, match="being terminated"):
            await writer_of(cluster).create(a_job())


async def test_a_kind_that_the_admission_does_not_know_yet_is_not_now_and_no_verdict() -> None:
    message = (
        'services "m" is forbidden: cannot set blockOwnerDeletion in this case because cannot find RESTMapping for '
        "APIVersion vllm-operator.dev/v1alpha1 Kind VLLMModel: no matches for kind"
    )
    async with a_cluster() as (fake, cluster):
        fake.faults.append(lambda request: web.json_response({"kind": "Status", "message": message}, status=403))
        with pytest.raises(Busy, match="RESTMapping"):
            await writer_of(cluster).create(a_job())


async def test_a_manifest_that_the_server_does_not_understand_is_refused_and_not_tried_for_ever() -> None:
    message = (
        "failed to create typed patch object (default/x; apps/v1, Kind=Deployment): "
        ".spec.template.spec.affinity.nodeAffinty: field not declared in schema"
    )
    async with a_cluster() as (fake, cluster):
        fake.faults.append(lambda request: web.json_response({"kind": "Status", "message": message}, status=500))
        with pytest.raises(Refused, match="nodeAffinty"):
            await writer_of(cluster).create(a_job())


async def test_references_to_foreign_kinds_are_not_deleted_or_released() -> None:
    async with a_cluster() as (fake, cluster):
        with pytest.raises(OutOfBounds):
            await writer_of(cluster).delete(Ref("v1", "Secret", "s"), "uid")
        with pytest.raises(OutOfBounds):
            await writer_of(cluster).release(Ref("v1", "Pod", "p"))
        with pytest.raises(OutOfBounds):
            await writer_of(cluster).release(Ref("v1", "Namespace", "team"))

    assert fake.audit == []


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, Busy),
        (403, Forbidden),
        (404, Gone),
        (409, Conflict),
        (410, Gone),
        (429, Busy),
        (500, Busy),
        (503, Busy),
    ],
)
async def test_each_refusal_has_its_type_and_the_servers_words(status: int, error: type[ApiError]) -> None:
    async with a_cluster() as (fake, cluster):
        answer = {"kind": "Status", "message": "exceeded quota: gpus"}
        fake.faults.append(lambda request: web.json_response(answer, status=status, headers={"Retry-After": "7"}))
        with pytest.raises(error, match="exceeded quota") as caught:
            await cluster.all(JOBS, "team")

    assert caught.value.retry_after == 7.0
