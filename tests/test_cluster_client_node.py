"""The client against a real API server: what the fake only approximates (apply, preconditions, ownership) is so."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio import client, config

from vllm_operator.api import API_VERSION, GROUP, KIND, PLURAL
from vllm_operator.cluster import Cluster, Conflict, Connection, Owner, Request, Writer
from vllm_operator.cluster.kinds import CLAIMS, CONFIG_MAPS, JOBS, MODELS, SCALED_OBJECTS, path_of
from vllm_operator.crd import crd
from vllm_operator.decide.types import Event, EventType, Ref
from vllm_operator.events import Recorder

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NODE = Path(__file__).parent.parent / ".cluster" / "kubeconfig"
CLAIM = Ref("v1", "PersistentVolumeClaim", "weights-x")


@asynccontextmanager
async def a_namespace() -> AsyncIterator[tuple[Cluster, str]]:
    """A client of the node, and a namespace that goes away again."""
    configuration = client.Configuration()
    kubeconfig = os.environ.get("KUBECONFIG", str(NODE))
    await config.load_kube_config(kubeconfig, client_configuration=configuration)  # type: ignore[no-untyped-call]
    name = f"client-{uuid.uuid4().hex[:8]}"
    async with Connection(configuration) as connection:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await connection.call(Request("POST", "/api/v1/namespaces", body=body))
        try:
            yield Cluster(connection), name
        finally:
            await connection.call(Request("DELETE", f"/api/v1/namespaces/{name}"))


def a_claim(namespace: str) -> dict[str, Any]:
    """A claim that nobody will bind."""
    spec = {"storageClassName": "", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    metadata = {"name": CLAIM.name, "namespace": namespace, "labels": {"app.kubernetes.io/managed-by": "client-test"}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def a_config_map(namespace: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": namespace}, "data": data}


async def models(cluster: Cluster, namespace: str, *names: str) -> list[Writer]:
    """Writers for models that exist: the garbage collector takes what only absent ones own."""
    await a_definition(cluster.connection)
    writers = []
    for name in names:
        # A source that needs neither a Job nor a volume, should an operator be at work here.
        body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name, "namespace": namespace},
                "spec": {"model": "pvc://nowhere/model", "replicas": 0}}  # fmt: skip
        made = await cluster.connection.call(Request("POST", path_of(MODELS, namespace), body=body))
        writers.append(Writer(cluster.connection, Owner(namespace, name, made["metadata"]["uid"])))
    return writers


async def a_definition(connection: Connection) -> None:
    """The CRD, where nothing has brought it yet."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    answer = await connection.send(Request("GET", f"{path}/{PLURAL}.{GROUP}"))
    if answer.status == 404:
        await connection.call(Request("POST", path, body=crd()))
    for _ in range(100):
        if (await connection.send(Request("GET", f"/apis/{API_VERSION}"))).status == 200:
            return
        await asyncio.sleep(0.1)


async def owners(cluster: Cluster, namespace: str) -> list[str]:
    live = await cluster.get(CLAIMS, namespace, CLAIM.name)
    assert live is not None
    return sorted(owner["name"] for owner in live["metadata"].get("ownerReferences") or [])


async def test_ownership_is_added_taken_back_and_ended_by_the_last() -> None:
    async with a_namespace() as (cluster, namespace):
        m, n = await models(cluster, namespace, "m", "n")
        made = await m.create(a_claim(namespace))
        assert made is not None
        assert await n.create(a_claim(namespace)) is None
        uid = made["metadata"]["uid"]
        await cluster.connection.call(
            Request("PATCH", f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{CLAIM.name}",
                    body={"metadata": {"finalizers": ["test/keeps-it"]}}, content_type="application/merge-patch+json")
        )  # fmt: skip
        await m.own(CLAIM, uid)
        await n.own(CLAIM, uid)
        assert await owners(cluster, namespace) == ["m", "n"]
        await m.own(CLAIM, uid)
        assert await owners(cluster, namespace) == ["m", "n"], "an apply by one takes nothing from the other"
        await m.release(CLAIM)
        assert await owners(cluster, namespace) == ["n"]
        await n.release(CLAIM)
        live = await cluster.get(CLAIMS, namespace, CLAIM.name)
        assert live is not None
        assert live["metadata"]["deletionTimestamp"], "the last owner deleted it"
        await cluster.connection.call(
            Request("PATCH", f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{CLAIM.name}",
                    body={"metadata": {"finalizers": None}}, content_type="application/merge-patch+json")
        )  # fmt: skip


async def test_no_write_reaches_another_object_of_the_same_name() -> None:
    async with a_namespace() as (cluster, namespace):
        (m,) = await models(cluster, namespace, "m")
        await m.create(a_claim(namespace))
        await m.apply(a_config_map(namespace, key="1"))
        stale, config_map = str(uuid.uuid4()), Ref("v1", "ConfigMap", "c")
        for write in (
            m.own(CLAIM, stale),
            m.annotate(CLAIM, {"a": "b"}, stale),
            m.delete(CLAIM, stale),
            m.apply(a_config_map(namespace, key="2"), stale),
            m.delete(config_map, stale),
        ):
            with pytest.raises(Conflict):
                await write
        live = await cluster.get(CONFIG_MAPS, namespace, "c")

    assert live is not None
    assert live["data"] == {"key": "1"}


async def test_owning_what_is_gone_makes_nothing() -> None:
    async with a_namespace() as (cluster, namespace):
        (m,) = await models(cluster, namespace, "m")
        with pytest.raises(Conflict):
            await m.own(CLAIM, str(uuid.uuid4()))

        assert await cluster.get(CLAIMS, namespace, CLAIM.name) is None


async def test_an_apply_takes_away_what_it_no_longer_names() -> None:
    async with a_namespace() as (cluster, namespace):
        (m,) = await models(cluster, namespace, "m")
        await m.apply(a_config_map(namespace, old="1", kept="1"))
        live = await cluster.get(CONFIG_MAPS, namespace, "c")
        assert live is not None
        await m.apply(a_config_map(namespace, kept="1"), live["metadata"]["uid"])
        live = await cluster.get(CONFIG_MAPS, namespace, "c")

    assert live is not None
    assert live["data"] == {"kept": "1"}


async def test_lists_come_as_metadata_and_an_absent_api_is_nothing() -> None:
    async with a_namespace() as (cluster, namespace):
        (m,) = await models(cluster, namespace, "m")
        await m.create(a_claim(namespace))
        found = await cluster.all(
            CLAIMS, namespace, labels="app.kubernetes.io/managed-by=client-test", metadata_only=True
        )

        assert [(item["kind"], item["metadata"]["name"], "spec" in item) for item in found] == [
            ("PersistentVolumeClaim", CLAIM.name, False)
        ]
        assert await cluster.all(JOBS, namespace) == []
        assert await cluster.all_if_served(SCALED_OBJECTS, namespace) == []
        assert len(await cluster.nodes()) >= 1


async def test_events_are_taken_and_counted_up() -> None:
    async with a_namespace() as (cluster, namespace):
        owner = Owner(namespace, "m", str(uuid.uuid4()))
        for _ in range(2):
            await Recorder(cluster.connection).tell(owner, Event(EventType.WARNING, "EngineDied", "It died."))
        found = await cluster.events(namespace, owner.uid)

    assert [(event["reason"], event["count"]) for event in found] == [("EngineDied", 2)]


async def test_a_status_replaces_the_crds_default_and_is_taken_back_whole() -> None:
    async with a_namespace() as (cluster, namespace):
        (m,) = await models(cluster, namespace, "m")
        fresh = await cluster.model(namespace, "m")
        assert fresh is not None
        assert fresh["status"]["conditions"][0]["reason"] == "Pending", "the CRD's default"
        version = await m.status(a_status("Ready", "Stalled"), fresh["metadata"]["resourceVersion"])
        await m.status(a_status("Ready"), version)
        live = await cluster.model(namespace, "m")
        assert live is not None
        assert [(c["type"], c["status"]) for c in live["status"]["conditions"] if c["reason"] == "Test"] == [
            ("Ready", "False")
        ]
        with pytest.raises(Conflict):
            await m.status(a_status("Stalled"), version)


def a_status(*types: str) -> dict[str, Any]:
    conditions = [
        {"type": type, "status": "False", "reason": "Test", "message": "", "observedGeneration": 1,
         "lastTransitionTime": "2026-11-21T10:00:00Z"} for type in types
    ]  # fmt: skip
    return {"observedGeneration": 1, "conditions": conditions}
