"""The operator's process: its parts put together, and ended together.

Whatever part ends by itself ends the process: Kubernetes restarts it, and nothing of it was more than memory.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from vllm_operator.cluster import Cluster, Connection
from vllm_operator.commands.rendering import settings_of
from vllm_operator.commands.wrong import WrongInput
from vllm_operator.diagnose import prepare
from vllm_operator.events import Recorder
from vllm_operator.handlers import Doormen, watch
from vllm_operator.lease import Lease
from vllm_operator.metrics import Metrics, served
from vllm_operator.observe import Observer
from vllm_operator.observe.explain import Explainer
from vllm_operator.probe import Direct, Prober, Through
from vllm_operator.queue import Queue
from vllm_operator.reconcile import Reconciler
from vllm_operator.resync import Resync
from vllm_operator.settings import Settings
from vllm_operator.standby import waited_for
from vllm_operator.sweep import Sweep

log = logging.getLogger(__name__)

OVERDUE_SECONDS = 600.0  # a key that waited this long: the queue stands still (a run ends within two minutes)
CLOCKS_APART_SECONDS = 300.0  # the wall clock jumped: transition times and tokens cannot be trusted
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True, slots=True)
class Options:
    """The flags of `vllm-operator run`."""

    namespaces: tuple[str, ...] = ()
    settings: str | None = None
    probe_via: str = "pod"
    liveness: str | None = None
    metrics: str | None = None
    leader_elect: bool = False
    log_level: str = "info"


@dataclass(frozen=True, slots=True)
class Parts:
    """A running operator's parts."""

    queue: Queue
    reconciler: Reconciler
    resync: Resync
    metrics: Metrics
    sweep: Sweep | None = None


def run(options: Options) -> int:
    """Runs the operator until it is told to end. Raises WrongInput for flags and settings that cannot be used."""
    settings = settings_of(options.settings)
    for flag, value in (("--liveness", options.liveness), ("--metrics", options.metrics)):
        if value is not None:
            host_and_port(flag, value)
    logging.basicConfig(
        level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    for noisy in ("kopf", "aiohttp.access"):  # a line for every event and every liveness probe
        logging.getLogger(noisy).setLevel("DEBUG" if options.log_level == "debug" else "WARNING")
    from kubernetes.aio.config import ConfigException

    prepare()
    try:
        asyncio.run(operate(options, settings))
    except ConfigException as error:
        raise WrongInput(f"no cluster to connect to (neither a service account nor KUBECONFIG): {error}") from error
    return 0


def host_and_port(flag: str, text: str) -> tuple[str, int]:
    """The parts of HOST:PORT. Raises WrongInput that names the flag."""
    host, separator, port = text.rpartition(":")
    if not separator or not host or not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise WrongInput(f"{flag}: {text!r} is not HOST:PORT, such as 0.0.0.0:8080")
    return host.strip("[]"), int(port)


async def operate(options: Options, settings: Settings, configuration: Any = None) -> None:
    """The whole life of the process. `configuration` is the client's, else what the pod or the kubeconfig says."""
    clocks = time.time() - time.monotonic()
    async with AsyncExitStack() as stack:
        metrics = Metrics()
        if options.metrics is not None:
            await stack.enter_async_context(served(metrics, *host_and_port("--metrics", options.metrics)))
        lease = await stack.enter_async_context(_leading(configuration, options)) if options.leader_elect else None
        if options.leader_elect and lease is None:
            return
        guard = lease.guard if lease is not None else _no_guard
        connection = Connection(configuration, count=metrics.requested, before_write=guard)
        await stack.enter_async_context(connection)
        parts = await stack.enter_async_context(assembled(connection, options, settings, metrics))

        def is_unwell() -> str:
            return _is_unwell(parts, lease, time.time() - time.monotonic() - clocks)

        doormen = Doormen(parts.queue, parts.reconciler, is_unwell, parts.sweep)
        forever = [parts.queue.run(), parts.resync.run()] + ([lease.keep()] if lease is not None else [])
        forever += [parts.sweep.run()] if parts.sweep is not None else []
        await _until_the_first_ends(watch(doormen, options.namespaces, options.liveness), *forever)


@asynccontextmanager
async def assembled(
    connection: Connection, options: Options, settings: Settings, metrics: Metrics
) -> AsyncIterator[Parts]:
    """The parts, put together; they run nothing yet."""
    settings = at_home(settings)
    cluster = Cluster(connection)
    reach = Through(cluster) if options.probe_via == "proxy" else Direct()
    prober = Prober(reach)
    observer = Observer(cluster, prober, explainer=Explainer(cluster))
    reconciler = Reconciler(cluster, observer, Recorder(connection), settings, metrics=metrics)
    queue = Queue(reconciler.look)
    reconciler.on_gone = queue.forget
    metrics.queue_length, metrics.longest_wait = queue.__len__, queue.longest_wait
    sweep = Sweep(cluster, settings) if settings.node_cache is not None else None
    try:
        yield Parts(queue, reconciler, Resync(cluster, queue, reconciler, options.namespaces), metrics, sweep)
    finally:
        await prober.close()
        await reach.close()


@asynccontextmanager
async def _leading(configuration: Any, options: Options) -> AsyncIterator[Lease | None]:
    """Waits until this process leads; lets go at the end. None where it is told to end before that.

    The Lease's requests have a connection of their own.
    """
    async with Connection(configuration) as connection:
        identity = f"{os.environ.get('POD_NAME') or socket.gethostname()}_{uuid4()}"
        lease = Lease(connection, own_namespace(), identity)
        log.info("%s waits for the Lease", identity)
        liveness = host_and_port("--liveness", options.liveness) if options.liveness is not None else None
        leads = await waited_for(lease.acquire(), liveness)
        try:
            yield lease if leads else None
        finally:
            await lease.release()


def at_home(settings: Settings) -> Settings:
    """The settings, with the operator's own namespace for Jobs on nodes where they name none."""
    cache = settings.node_cache
    if cache is None or cache.namespace is not None:
        return settings
    return settings.model_copy(update={"node_cache": cache.model_copy(update={"namespace": own_namespace()})})


def own_namespace() -> str:
    """The namespace that the operator's Lease is in."""
    if name := os.environ.get("POD_NAMESPACE"):
        return name
    return NAMESPACE_FILE.read_text(encoding="utf-8").strip() if NAMESPACE_FILE.exists() else "default"


def _no_guard() -> None:
    """Nobody else can lead."""


def _is_unwell(parts: Parts, lease: Lease | None, apart: float) -> str:
    """What is wrong with this process; "" while all is well."""
    if parts.resync.is_overdue:
        return f"the last full list of models is {parts.resync.age:.0f} s old"
    if parts.queue.longest_wait() > OVERDUE_SECONDS:
        return f"a model has waited for {parts.queue.longest_wait():.0f} s"
    if abs(apart) > CLOCKS_APART_SECONDS:
        return f"the wall clock moved by {apart:.0f} s against the monotonic one"
    if lease is not None and not lease.is_held:
        return "the Lease is not held any more"
    return ""


async def _until_the_first_ends(*parts: Coroutine[Any, Any, None]) -> None:
    """Runs all parts; when one ends, by itself or by an error, the others are cancelled and waited for."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
