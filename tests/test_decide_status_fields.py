"""No field of the status is declared and never written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

from tests.builders import a_model
from tests.decide_facts import SETTINGS, Truth, permanent
from tests.decide_live import LiveCluster
from tests.decide_world import Cluster
from tests.golden.canned import settings as given
from tests.golden.canned import some_weights
from vllm_operator.api import Base, Status, WeightsStatus
from vllm_operator.decide.progress import nodes_status
from vllm_operator.decide.types import NodeCacheSeen, NodeSeen


def leaves(model: type[Base], prefix: str = "") -> Iterator[str]:
    """Every field of a status that holds a value of its own, by its path."""
    for name, info in model.model_fields.items():
        inner = [part for part in (info.annotation, *nested(info.annotation)) if isinstance(part, type)]
        below = next((part for part in inner if issubclass(part, Base)), None)
        yield from leaves(below, f"{prefix}{name}.") if below else (f"{prefix}{name}",)


def nested(annotation: Any) -> Iterator[Any]:
    for part in get_args(annotation):
        yield part
        yield from nested(part)


def written(value: Any, prefix: str = "") -> Iterator[str]:
    """The paths at which a dumped status says something."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from written(item, f"{prefix}.{key}" if prefix else key)
    elif isinstance(value, list | tuple) and value:
        yield from (path for item in value for path in written(item, prefix))
    elif value not in (None, [], ()):
        yield prefix


def on_nodes() -> WeightsStatus:
    """What is said of weights on the nodes' own disks."""
    weights = some_weights(given(nodeCache={"path": "/srv/weights"}), cache={"type": "Node"})
    return nodes_status(None, weights, NodeCacheSeen(None, (NodeSeen("a", "uid", True, "life"),)), "life")


def test_every_field_of_the_status_is_written_in_some_life():
    large = SETTINGS.accelerators["nvidia"].model_copy(update={"memory": "80Gi"})
    settings = SETTINGS.model_copy(
        update={
            "accelerators": SETTINGS.accelerators | {"large": large},
            "default_accelerator": "large",
        }
    )
    lives = [
        Cluster(model=a_model(revision="v1", adapters=({"name": "sql", "source": "demo/sql"},)), settings=settings),
        Cluster(model=a_model(max_model_len=100_000), settings=settings),
        Cluster(settings=settings.model_copy(update={"default_accelerator": "nvidia"})),
        Cluster(truth=Truth(crash=replace(permanent(), excerpt="the log's words")), settings=settings),
        Cluster(truth=Truth(download=permanent()), settings=settings),
        LiveCluster(model=a_model(adapter_loading="Live", replicas=0, adapters=({"name": "a", "source": "demo/a"},))),
    ]
    for cluster in lives:
        cluster.refresh("1")
        cluster.settle()

    statuses = [decision.status for cluster in lives for decision in cluster.decisions]
    statuses.append(Status(weights=on_nodes()))
    found = {path for status in statuses for path in written(status.model_dump(mode="json"))}
    assert set(leaves(Status)) - found == set()
