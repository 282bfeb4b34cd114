"""The whole process but for its main function: elected, watching, serving metrics, and ended in good order."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from kubernetes.aio import client

from tests.test_handlers import log_in
from tests.wire.apiserver import Kubernetes, running
from tests.wire.controllers import Controllers
from tests.wire.fixtures import a_vllmmodel
from vllm_operator.queue import Key
from vllm_operator.resync import Resync
from vllm_operator.run import Options, operate
from vllm_operator.settings import load


def ready(fake: Kubernetes, name: str) -> bool:
    model = fake.get("VLLMModel", name)
    conditions = ((model or {}).get("status") or {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


async def until_ready(fake: Kubernetes, name: str) -> None:
    async with asyncio.timeout(30):
        for _ in range(3000):
            if ready(fake, name):
                return
            await asyncio.sleep(0.01)


async def test_an_operator_is_elected_serves_and_lets_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POD_NAMESPACE", "team")
    monkeypatch.setenv("POD_NAME", "operator-1")
    async with running() as fake:
        log_in(monkeypatch, tmp_path, fake)
        Controllers(fake).start()
        fake.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})
        fake.put(a_vllmmodel("early"))
        configuration = client.Configuration()
        configuration.host = fake.url
        options = Options(probe_via="proxy", metrics="127.0.0.1:0", leader_elect=True)
        task = asyncio.create_task(operate(options, load(None), configuration))
        await until_ready(fake, "early")
        fake.put(a_vllmmodel("late"))
        await until_ready(fake, "late")
        lease = fake.get("Lease", "vllm-operator")
        assert lease is not None
        assert lease["spec"]["holderIdentity"].startswith("operator-1_")

        task.cancel()
        async with asyncio.timeout(20):
            await asyncio.gather(task, return_exceptions=True)
        assert fake.get("Lease", "vllm-operator")["spec"]["holderIdentity"] == ""  # type: ignore[index]


def held_by_another(fake: Kubernetes) -> None:
    spec: dict[str, Any] = {"holderIdentity": "another", "leaseDurationSeconds": 3600}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "vllm-operator"}}
    fake.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})
    fake.put(lease | {"spec": spec})


async def healthz(port: int) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session:
        for _ in range(1000):
            try:
                async with session.get(f"http://127.0.0.1:{port}/healthz") as response:
                    return response.status, await response.text()
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.01)
    raise AssertionError("nobody listens")


async def test_who_waits_for_the_lease_is_alive_and_goes_on_being_so_when_it_leads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> None:
    """Else the kubelet restarts it again and again, with growing pauses, and nobody is there when the leader goes."""
    monkeypatch.setenv("POD_NAMESPACE", "team")
    async with running() as fake:
        log_in(monkeypatch, tmp_path, fake)
        Controllers(fake).start()
        held_by_another(fake)
        configuration = client.Configuration()
        configuration.host = fake.url
        port = unused_tcp_port_factory()
        options = Options(probe_via="proxy", liveness=f"127.0.0.1:{port}", leader_elect=True)
        task = asyncio.create_task(operate(options, load(None), configuration))
        try:
            assert await healthz(port) == (200, "waits for the Lease")

            fake.edit("Lease", "vllm-operator", {"spec": {"holderIdentity": ""}})
            fake.put(a_vllmmodel("m"))
            await until_ready(fake, "m")
            status, said = await healthz(port)
            assert status == 200
            assert "waits" not in said
        finally:
            task.cancel()
            async with asyncio.timeout(20):
                await asyncio.gather(task, return_exceptions=True)


async def test_who_waits_for_the_lease_ends_when_it_is_told_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first process of a container does not hear a SIGTERM that it has no handler for: it would be killed after its grace."""
    monkeypatch.setenv("POD_NAMESPACE", "team")
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as of a container's first process
    try:
        async with running() as fake:
            held_by_another(fake)
            configuration = client.Configuration()
            configuration.host = fake.url
            task = asyncio.create_task(operate(Options(leader_elect=True), load(None), configuration))
            async with asyncio.timeout(10):
                for _ in range(1000):
                    if fake.audit:
                        break
                    await asyncio.sleep(0.01)
                os.kill(os.getpid(), signal.SIGTERM)
                await task
            assert fake.get("Lease", "vllm-operator")["spec"]["holderIdentity"] == "another"  # type: ignore[index]
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_the_full_list_brings_back_what_is_and_what_was(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.wire.operator import an_operator

    async with an_operator() as op:
        op.fake.put(a_vllmmodel("gone"))
        await op.settle("gone")
        op.fake.store.listeners.remove(op.on_change)
        op.fake.remove("VLLMModel", "gone")
        op.fake.put(a_vllmmodel("new"))
        resync = Resync(op.cluster, op.queue, op.doormen.reconciler)
        await resync.list_once()

        due = {op.queue._schedule.take(float("inf")), op.queue._schedule.take(float("inf"))}
        assert due == {Key("team", "gone"), Key("team", "new")}
        assert await op.look("gone") is None


async def test_the_list_is_overdue_after_three_that_failed() -> None:
    from tests.wire.operator import an_operator

    async with an_operator() as op:
        now = 0.0
        resync = Resync(op.cluster, op.queue, op.doormen.reconciler, every=600.0, clock=lambda: now)
        now = 1700.0
        assert not resync.is_overdue
        now = 1900.0
        assert resync.is_overdue
        await resync.list_once()
        assert not resync.is_overdue
