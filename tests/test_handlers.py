"""kopf at the rim, for real, on a fake API: events become keys, and nothing that a tenant writes can stop that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.wire.apiserver import Kubernetes
from tests.wire.fixtures import a_cluster, a_vllmmodel
from vllm_operator.cluster import Cluster
from vllm_operator.handlers import Doormen, watch
from vllm_operator.interest import Interests
from vllm_operator.metrics import Metrics
from vllm_operator.plan.labels import MODEL_LABEL
from vllm_operator.plan.names import short_name
from vllm_operator.queue import Key, Queue
from vllm_operator.run import Options, assembled
from vllm_operator.settings import load

M = Key("team", "m")
FORGED = {"kopf.zalando.org/last-handled-configuration": "{not json", "kopf.zalando.org/model_changed": "[1"}


@dataclass(slots=True)
class Watched:
    """A watching process: the fake API, and the keys that came."""

    fake: Kubernetes
    keys: asyncio.Queue[Key]
    doormen: Doormen

    async def next(self) -> Key:
        async with asyncio.timeout(10):
            return await self.keys.get()


@asynccontextmanager
async def watching(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    prepare: Callable[[Kubernetes], Any] = lambda fake: None,
    namespaces: tuple[str, ...] = (),
    liveness: str | None = None,
    unwell: Callable[[], str] = lambda: "",
) -> AsyncIterator[Watched]:
    async with a_cluster() as (fake, cluster):
        log_in(monkeypatch, folder, fake)
        fake.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})
        prepare(fake)
        async with doormen_of(cluster, unwell) as (doormen, keys):
            task = asyncio.create_task(watch(doormen, namespaces, liveness))
            try:
                yield Watched(fake, keys, doormen)
            finally:
                task.cancel()
                async with asyncio.timeout(20):
                    await asyncio.gather(task, return_exceptions=True)


def log_in(monkeypatch: pytest.MonkeyPatch, folder: Path, fake: Kubernetes) -> None:
    """A kubeconfig for the fake, as kopf's login reads it."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "fake",
        "clusters": [{"name": "fake", "cluster": {"server": fake.url}}],
        "users": [{"name": "me", "user": {"token": "t"}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "me"}}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


@asynccontextmanager
async def doormen_of(cluster: Cluster, unwell: Callable[[], str]) -> AsyncIterator[tuple[Doormen, asyncio.Queue[Key]]]:
    """Doormen whose queue only notes what it is given."""
    keys: asyncio.Queue[Key] = asyncio.Queue()

    async def note(key: Key) -> float | None:
        keys.put_nowait(key)
        return None

    queue = Queue(note)
    async with assembled(cluster.connection, Options(probe_via="proxy"), load(None), Metrics()) as parts:
        task = asyncio.create_task(queue.run())
        try:
            yield Doormen(queue, parts.reconciler, unwell), keys
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_models_that_exist_and_that_come_are_queued(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with watching(monkeypatch, tmp_path, lambda fake: fake.put(a_vllmmodel())) as watched:
        assert await watched.next() == M
        watched.fake.put(a_vllmmodel("n"))
        assert await watched.next() == Key("team", "n")
        watched.fake.edit("VLLMModel", "m", {"spec": {"replicas": 2}})
        assert await watched.next() == M
        watched.fake.remove("VLLMModel", "n")
        assert await watched.next() == Key("team", "n")

        assert {verb for verb, _ in watched.fake.audit} == {"GET", "WATCH"}, "kopf itself writes nothing"


async def test_forged_annotations_silence_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A malformed annotation of kopf's own would stop even plain event handlers, had its storages not been replaced."""
    async with watching(monkeypatch, tmp_path) as watched:
        forged = a_vllmmodel()
        forged["metadata"]["annotations"] = FORGED
        watched.fake.put(forged)
        assert await watched.next() == M
        watched.fake.edit("VLLMModel", "m", {"spec": {"replicas": 2}})
        assert await watched.next() == M

        assert "PATCH" not in {verb for verb, _ in watched.fake.audit}


async def test_children_bring_their_owners_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ours = {"app.kubernetes.io/managed-by": "vllm-operator"}
    owners = [
        {"apiVersion": "vllm-operator.dev/v1alpha1", "kind": "VLLMModel", "name": n, "uid": n} for n in ("m", "n")
    ]

    def a_claim(name: str, **metadata: Any) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": "team", **metadata},
        }

    async with watching(monkeypatch, tmp_path) as watched:
        watched.fake.put(a_claim("not-ours", ownerReferences=owners))
        watched.fake.put(a_claim("shared", labels=ours, ownerReferences=owners))

        assert {await watched.next(), await watched.next()} == {M, Key("team", "n")}
        assert watched.keys.empty()
        selected = [
            path
            for verb, path in watched.fake.audit
            if verb == "WATCH"
            and "vllmmodels" not in path
            and "namespaces" not in path
            and "customresource" not in path
        ]
        assert selected
        assert all("labelSelector=app.kubernetes.io" in path for path in selected)


def test_the_pods_of_shared_jobs_concern_all_models_that_follow_the_job() -> None:
    interests = Interests()
    interests.learn(M, frozenset({("Job", "pull-x")}))
    interests.learn(Key("team", "n"), frozenset({("Job", "pull-x"), ("PersistentVolumeClaim", "weights-x")}))
    labels = {"batch.kubernetes.io/job-name": "pull-x"}
    pod = {"kind": "Pod", "metadata": {"name": "p", "namespace": "team", "labels": labels}}
    elsewhere = {"kind": "Pod", "metadata": {"name": "p", "namespace": "other", "labels": labels}}
    assert interests.keys_of(pod) == {M, Key("team", "n")}
    assert interests.keys_of(elsewhere) == frozenset()

    interests.learn(M, frozenset())
    interests.forget(Key("team", "n"))
    assert interests.keys_of(pod) == frozenset()


def test_a_servers_pod_concerns_its_model_even_where_the_name_had_to_be_cut() -> None:
    long = Key("team", "a-model-with-a-name-that-is-much-longer-than-any-label-value-may-be-in-kubernetes")
    interests = Interests()
    interests.learn(long, frozenset())
    pod = {"kind": "Pod", "metadata": {"namespace": "team", "labels": {MODEL_LABEL: short_name(long.name)}}}
    unmet = {"kind": "Pod", "metadata": {"namespace": "team", "labels": {MODEL_LABEL: "m"}}}

    assert interests.keys_of(pod) == {long}
    assert Interests().keys_of(unmet) == {M}


async def test_with_named_namespaces_nothing_of_cluster_scope_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with watching(monkeypatch, tmp_path, namespaces=("team",)) as watched:
        watched.fake.put(a_vllmmodel())
        assert await watched.next() == M
        resources = [path for _, path in watched.fake.audit if "?" in path]

        assert resources
        assert all("/namespaces/team/" in path for path in resources)


async def test_a_user_without_a_name_can_watch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In the container uid 65532 has no entry in /etc/passwd, and kopf would ask for one."""

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 65532")

    monkeypatch.setattr("getpass.getuser", nobody)
    async with watching(monkeypatch, tmp_path) as watched:
        watched.fake.put(a_vllmmodel())
        assert await watched.next() == M


async def test_liveness_follows_the_process_own_judgement(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> None:
    wrong = ["the last full list of models is 1900 s old"]
    port = unused_tcp_port_factory()

    async def asked() -> int:
        async with aiohttp.ClientSession() as session:
            for _ in range(400):
                try:
                    async with session.get(f"http://127.0.0.1:{port}/healthz") as response:
                        return response.status
                except aiohttp.ClientConnectorError:
                    await asyncio.sleep(0.01)
        raise AssertionError("nobody listens")

    async with watching(monkeypatch, tmp_path, liveness=f"127.0.0.1:{port}", unwell=lambda: wrong[0]):
        assert await asked() == 500
    wrong[0] = ""
    port = unused_tcp_port_factory()
    async with watching(monkeypatch, tmp_path, liveness=f"127.0.0.1:{port}", unwell=lambda: wrong[0]):
        assert await asked() == 200
