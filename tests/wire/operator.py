"""An operator without kopf on the fake API: the same parts, with the fake's changes in place of the watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.wire.apiserver import KINDS, Kubernetes
from tests.wire.controllers import Controllers
from tests.wire.fixtures import a_cluster, a_vllmmodel
from tests.wire.objects import Change
from vllm_operator.cluster import Cluster
from vllm_operator.handlers import CHILDREN, Doormen
from vllm_operator.metrics import Metrics
from vllm_operator.observe.reading import MANAGED_BY
from vllm_operator.queue import Key, Queue, Schedule
from vllm_operator.run import Options, assembled
from vllm_operator.settings import Settings, load

WATCHED = {plural for _, _, plural in CHILDREN}


@dataclass(slots=True)
class Operator:
    """A running operator and the cluster that it runs against."""

    fake: Kubernetes
    cluster: Cluster
    controllers: Controllers
    doormen: Doormen
    metrics: Metrics

    @property
    def queue(self) -> Queue:
        return self.doormen.queue

    def on_change(self, change: Change) -> None:
        event = {
            "type": change.type,
            "object": {"kind": KINDS[change.place.root, change.place.plural], **change.object},
        }
        if change.place.plural == "vllmmodels":
            self.doormen.model(event)
        elif change.place.plural == "nodes":
            self.doormen.node(event)
        elif change.place.plural == "persistentvolumes":
            self.doormen.volume(event)
        elif change.place.plural in WATCHED and (change.object["metadata"].get("labels") or {}).get(MANAGED_BY):
            self.doormen.child(event)

    async def look(self, name: str = "m") -> float | None:
        """One look, by hand."""
        return await self.doormen.reconciler.look(Key("team", name))

    async def settle(self, name: str = "m", looks: int = 12) -> None:
        """Looks by hand until a look writes nothing."""
        for _ in range(looks):
            before = self.writes()
            await self.look(name)
            if self.writes() == before:
                return
        raise AssertionError(f"{name} is not at rest after {looks} looks: {self.fake.audit[-10:]}")

    async def begin_download(self) -> str:
        """A model `m` whose pull has 420 kB of a megabyte, at 100 kB/s, and stays there; the pull's name."""
        self.controllers.holds.add("pull")
        self.fake.put(a_vllmmodel())
        for _ in range(4):
            await self.look()
        pull = self.fake.all("Job")[1]["metadata"]["name"]
        said = {"version": 1, "bytesDone": 420_000, "bytesTotal": 1_000_000, "bytesPerSecond": 100_000.0}
        self.fake.pod_servers[f"{pull}-pod"] = lambda method, path, body: (200, said)
        return str(pull)

    def writes(self) -> int:
        """Requests so far that changed something, Events aside."""
        return sum(verb not in {"GET", "WATCH"} and "/events" not in path for verb, path in self.fake.audit)

    def condition(self, type: str, name: str = "m") -> tuple[str, str]:
        """Status and reason of a model's condition."""
        model = self.fake.get("VLLMModel", name)
        assert model is not None
        conditions = (model.get("status") or {}).get("conditions") or []
        return next(((c["status"], c["reason"]) for c in conditions if c["type"] == type), ("", ""))

    def status(self, name: str = "m") -> dict[str, Any]:
        model = self.fake.get("VLLMModel", name)
        assert model is not None
        status: dict[str, Any] = model["status"]
        return status


@asynccontextmanager
async def an_operator(
    *, running: bool = False, spacing: float = 0.0, settings: Settings | None = None
) -> AsyncIterator[Operator]:
    """An operator whose servers are asked through the fake's proxy. `running`: its queue works by itself."""
    async with a_cluster() as (fake, cluster):
        metrics = Metrics()
        async with assembled(cluster.connection, Options(probe_via="proxy"), settings or load(None), metrics) as parts:
            queue = Queue(parts.reconciler.look, schedule=Schedule(spacing=spacing))
            doormen = Doormen(queue, parts.reconciler, sweep=parts.sweep)
            made = Operator(fake, cluster, Controllers(fake).start(), doormen, metrics)
            fake.store.listeners.append(made.on_change)
            task = asyncio.create_task(queue.run()) if running else None
            try:
                yield made
            finally:
                if task is not None:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
