"""The bench's cluster, in a process of its own: the fake API, controllers that take their time, one server for all pods.

The bench tells it over a pipe what a user does; it answers with what the operator did.
"""

from __future__ import annotations

import asyncio
import copy
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.wire.apiserver import KINDS, Kubernetes, running
from tests.wire.controllers import Controllers
from tests.wire.fixtures import a_vllmmodel
from tests.wire.objects import Change, Object
from tests.wire.pods import VLLM, serving

JOB_SECONDS = 1.0  # a Job's pod runs this long, and a server loads its model this long: states in between are met
LOAD_SECONDS = 2.0
A_NODE = {"conditions": [{"type": "Ready", "status": "True"}], "capacity": {"nvidia.com/gpu": "8"}}
# What a starting server has written when the operator looks why it is not ready yet.
LOG = Path(__file__).parents[1] / "diagnose_logs" / "sigterm-idle.log"


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the cluster takes, in seconds."""

    job: float = JOB_SECONDS
    load: float = LOAD_SECONDS


class Machine(Kubernetes):
    """The fake API; its pods have an address at which somebody answers."""

    def edit(self, kind: str, name: str, patch: Object, namespace: str = "team") -> Object:
        if kind == "Pod" and "podIP" in (patch.get("status") or {}):
            patch = {**patch, "status": {**patch["status"], "podIP": "127.0.0.1"}}
        return super().edit(kind, name, patch, namespace)


@dataclass(slots=True, kw_only=True)
class Paced(Controllers):
    """Controllers whose Jobs run and whose servers load for a while."""

    pace: Pace
    port: int  # of the one server behind all pods
    log: str
    loads_forever: bool = False

    def run_job(self, job: Object) -> None:
        Controllers.run_job(self, job)
        self._later(self.pace.job, "Job", job, self.end_job)

    def roll_out(self, deployment: Object) -> None:
        status, generation = deployment.get("status") or {}, deployment["metadata"]["generation"]
        if status.get("observedGeneration") != generation:
            Controllers.roll_out(self, deployment)
            if not self.loads_forever:
                self._later(self.pace.load, "Deployment", deployment, self.make_ready)

    def _later(self, seconds: float, kind: str, body: Object, step: Callable[[str], None]) -> None:
        """The step, unless the object was replaced or changed its generation until then."""
        name, metadata = body["metadata"]["name"], body["metadata"]

        def then() -> None:
            live = self.fake.get(kind, name)
            if live is not None and all(live["metadata"][key] == metadata[key] for key in ("uid", "generation")):
                step(name)

        asyncio.get_running_loop().call_later(seconds, then)

    def make_pod(
        self, name: str, labels: Any, annotations: Any, owner: Object, spec: Object | None = None,
        namespace: str = "team",
    ) -> Object:  # fmt: skip
        if spec is not None:
            spec = copy.deepcopy(spec)
            ports = [port for container in spec["containers"] for port in container.get("ports") or []]
            for port in ports:
                port["containerPort"] = self.port
            self.fake.logs[name, False] = self.log
        return Controllers.make_pod(self, name, labels, annotations, owner, spec, namespace)


@dataclass(slots=True)
class Tally:
    """What the operator's process has asked so far."""

    reads: int = 0
    writes: int = 0
    events: int = 0  # of the writes: Kubernetes Events
    watches: int = 0
    asked: int = 0  # questions to servers
    paths: Counter[str] = field(default_factory=Counter)  # by verb and kind

    def minus(self, before: Tally) -> Tally:
        """What came since."""
        return Tally(
            self.reads - before.reads,
            self.writes - before.writes,
            self.events - before.events,
            self.watches - before.watches,
            self.asked - before.asked,
            self.paths - before.paths,
        )


@dataclass(slots=True)
class World:
    """The user's hand and the audit."""

    fake: Machine
    controllers: Paced
    tally: Tally = field(default_factory=Tally)
    edited_at: dict[str, float] = field(default_factory=dict)
    ready_at: dict[str, float] = field(default_factory=dict)

    def count(self, request: web.Request) -> None:
        """Called by the fake for each request, and only the operator's process sends any."""
        if request.query.get("watch") == "true":
            self.tally.watches += 1
            return
        if request.method == "GET":
            self.tally.reads += 1
        else:
            self.tally.writes += 1
            self.tally.events += request.path.endswith("/events")
        self.tally.paths[f"{request.method} {_kind(request.path)}"] += 1

    def on_change(self, change: Change) -> None:
        """Notes when a model is Ready with the spec that it has."""
        if change.place.plural != "vllmmodels" or change.place.name in self.ready_at:
            return
        status, generation = change.object.get("status") or {}, change.object["metadata"]["generation"]
        if status.get("observedGeneration") == generation and any(
            (c["type"], c["status"]) == ("Ready", "True") for c in status.get("conditions") or []
        ):
            self.ready_at[change.place.name] = time.monotonic()

    def create(self, models: int, nodes: int) -> None:
        """So many models, each of a source of its own: nothing is shared. With nodes, each lies on the disks of all of them."""
        for number in range(nodes):
            self.fake.put(
                {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-{number}"}, "status": A_NODE}
            )
        for number in range(models):
            name = f"model-{number}"
            self.edited_at[name] = time.monotonic()
            cache = {"cache": {"type": "Node"}} if nodes else {}
            self.fake.put(a_vllmmodel(name, model=f"demo/tiny-{number}", **cache))

    def change(self, length: int) -> None:
        """One field of every model."""
        self.ready_at.clear()
        for model in self.fake.all("VLLMModel"):
            self.edited_at[model["metadata"]["name"]] = time.monotonic()
            self.fake.edit("VLLMModel", model["metadata"]["name"], {"spec": {"maxModelLen": length}})

    def load_forever(self) -> None:
        """From now on new servers load their model and do not come to an end with it."""
        self.controllers.loads_forever = True

    def loading(self) -> int:
        """How many Deployments have no ready server."""
        return sum(not (body.get("status") or {}).get("readyReplicas") for body in self.fake.all("Deployment"))

    def delete(self) -> None:
        """Every model; the cluster's garbage collector does the rest."""
        for model in self.fake.all("VLLMModel"):
            self.fake.remove("VLLMModel", model["metadata"]["name"])

    def seen(self) -> Tally:
        """The operator's requests until now."""
        self.tally.asked = len(self.controllers.server.asked)
        return self.tally

    def waits(self) -> list[float]:
        """Seconds from each model's last edit to Ready."""
        return sorted(at - self.edited_at[name] for name, at in self.ready_at.items())

    def left(self) -> int:
        """Objects that are still there, Events and the namespace aside."""
        kinds = (KINDS[place.root, place.plural] for place in self.fake.store.objects)
        return sum(kind not in {"Event", "Namespace", "Node"} for kind in kinds)


def _kind(path: str) -> str:
    """The plural of the kind that a path is about, with its subresource."""
    pieces = path.split("/namespaces/")[-1].strip("/").split("/")
    if "/namespaces/" not in path:
        return pieces[-1]
    return pieces[1] if len(pieces) < 4 else f"{pieces[1]}/{pieces[3]}"


async def _run(pipe: Connection, pace: Pace) -> None:
    fake, server = Machine(), VLLM()
    async with running(fake), serving(server) as target:
        fake.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})
        holds = {"inspect", "pull", "ready"}
        controllers = Paced(fake, holds, server=server, pace=pace, port=target.port, log=LOG.read_text())
        controllers.start()
        world = World(fake, controllers)
        fake.faults.append(world.count)
        fake.store.listeners.append(world.on_change)
        pipe.send(fake.url)
        await _obey(pipe, world)


async def _obey(pipe: Connection, world: World) -> None:
    """Does what it is told until the pipe is closed: a method of the world and its arguments; its result goes back."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            order, *arguments = await loop.run_in_executor(None, pipe.recv)
        except EOFError:
            return
        pipe.send(getattr(world, order)(*arguments))


def main(pipe: Connection, pace: Pace) -> None:
    """Runs until the pipe is closed."""
    # The person's Ctrl-C goes to the whole group; the bench ends this process by closing the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_run(pipe, pace))
