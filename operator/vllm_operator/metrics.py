"""What the operator tells Prometheus about itself, served from its own event loop."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from vllm_operator.api import SourceStatus, Status, WeightsStatus
from vllm_operator.queue import Key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# A look takes some ten milliseconds; one that asks a slow server, seconds.
BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)

_NO_SOURCE, _NO_WEIGHTS = SourceStatus(), WeightsStatus()
_OF_A_MODEL: tuple[tuple[str, str, Callable[[Status], float | None]], ...] = (
    ("bytes", "Bytes of a model's weights.", lambda status: (status.source or _NO_SOURCE).bytes),
    ("done_bytes", "Bytes of them that are on the volume.", lambda status: (status.weights or _NO_WEIGHTS).bytes_done),
    ("percent", "How far the download is; 100 when verified.", lambda status: (status.weights or _NO_WEIGHTS).percent),
    ("bytes_per_second", "Speed of a running download.", lambda status: (status.weights or _NO_WEIGHTS).bytes_per_second),
    ("eta_seconds", "Time that a running download still takes.", lambda status: (status.weights or _NO_WEIGHTS).eta_seconds),
)  # fmt: skip


class Metrics:
    """The operator's own numbers. Names are a promise: dashboards and alerts use them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._looks = Counter(
            "vllm_operator_reconciles", "Looks at models, by how they ended.", ["result"], registry=self.registry
        )
        self._seconds = Histogram(
            "vllm_operator_reconcile_duration_seconds", "How long a look took.", registry=self.registry, buckets=BUCKETS
        )
        self._requests = Counter(
            "vllm_operator_api_requests", "Requests to the API server.", ["verb", "code"], registry=self.registry
        )
        self._statuses: dict[Key, Status] = {}
        self.queue_length: Callable[[], int] = lambda: 0
        self.longest_wait: Callable[[], float] = lambda: 0.0
        self.registry.register(self)

    def looked(self, result: str, seconds: float) -> None:
        """A look ended: "full", "probe" (servers only) or "error"."""
        self._looks.labels(result).inc()
        self._seconds.observe(seconds)

    def requested(self, verb: str, status: int) -> None:
        """A request to the API server ended with that HTTP status; 0 is no answer."""
        self._requests.labels(verb, str(status)).inc()

    def model(self, key: Key, status: Status) -> None:
        """What is told of a model now."""
        self._statuses[key] = status

    def gone(self, key: Key) -> None:
        """The model is gone."""
        self._statuses.pop(key, None)

    def collect(self) -> Iterable[Metric]:
        """The gauges that are counted when somebody asks."""
        yield GaugeMetricFamily("vllm_operator_queue_length", "Models that wait for a look.", value=self.queue_length())
        yield GaugeMetricFamily(
            "vllm_operator_queue_longest_wait_seconds",
            "How long the most overdue one has waited.",
            value=self.longest_wait(),
        )
        yield self._models()
        for name, what, value in _OF_A_MODEL:
            yield self._of_each_model(name, what, value)

    def _of_each_model(self, name: str, what: str, value: Callable[[Status], float | None]) -> Metric:
        """One gauge a model that has the number now; it goes with its model."""
        gauge = GaugeMetricFamily(f"vllm_operator_model_weights_{name}", what, labels=["namespace", "name"])
        for key, status in sorted(self._statuses.items()):
            found = value(status)
            if found is not None:
                gauge.add_metric([key.namespace, key.name], found)
        return gauge

    def _models(self) -> Metric:
        models = GaugeMetricFamily(
            "vllm_operator_models", "Models by condition.", labels=["condition", "status", "reason"]
        )
        tally = Tally((c.type, c.status, c.reason) for status in self._statuses.values() for c in status.conditions)
        for labels, number in sorted(tally.items()):
            models.add_metric(list(labels), number)
        return models


@asynccontextmanager
async def served(metrics: Metrics, host: str, port: int) -> AsyncIterator[int]:
    """Serves /metrics while the context lasts; the port that it got."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/metrics", answer)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
