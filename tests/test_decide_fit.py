"""The fit: a model that surely does not fit takes nothing, and a server that runs is not argued with."""

from __future__ import annotations

from typing import Any

from tests.builders import a_model
from tests.decide_facts import (
    GIB,
    SETTINGS,
    ready,
    said,
)
from tests.decide_world import Cluster, a_serving_cluster
from vllm_operator.decide.annotations import IGNORE_FIT
from vllm_operator.decide.fit import accelerator_of
from vllm_operator.decide.types import NodesSeen, Seen
from vllm_operator.plan import plan_model


def a_small_device() -> Any:
    profiles = dict(SETTINGS.accelerators)
    profiles["small"] = profiles["nvidia"].model_copy(update={"memory": "1Gi"})
    return SETTINGS.model_copy(update={"accelerators": profiles, "default_accelerator": "small"})


def test_a_model_that_surely_does_not_fit_takes_no_volume_and_no_pod():
    cluster = Cluster(settings=a_small_device())

    status = cluster.settle().status

    assert said(status, "Fits").status == "False"
    assert said(status, "Stalled").reason == said(status, "Fits").reason
    assert status.fit is not None and status.fit.fits is False
    assert cluster.claims == {} and cluster.live == {}


def test_the_annotation_to_ignore_the_fit_goes_on_and_says_so():
    cluster = Cluster(settings=a_small_device())
    cluster.annotate(IGNORE_FIT, "true")

    status = cluster.settle().status

    assert ready(status) == ("True", "Serving")
    assert said(status, "Fits").status == "False"
    assert "ignored" in said(status, "Fits").message


def test_a_change_that_does_not_fit_leaves_the_older_server_alone():
    cluster = a_serving_cluster()
    cluster.settings = a_small_device()
    cluster.edit(max_model_len=4096)

    status = cluster.settle().status

    assert said(status, "Stalled").reason == said(status, "Fits").reason
    assert said(status, "Available").status == "True"
    assert status.url is not None
    assert ready(status)[0] == "False"


def test_a_server_that_runs_is_not_argued_with():
    cluster = a_serving_cluster()
    cluster.settings = a_small_device()

    status = cluster.settle().status

    assert ready(status) == ("True", "Serving")
    assert said(status, "Fits").status == "False"
    assert status.condition("Stalled") is None


def test_a_model_that_fits_says_with_what():
    profiles = dict(SETTINGS.accelerators)
    profiles["large"] = profiles["nvidia"].model_copy(update={"memory": "80Gi", "compute_capability": "9.0"})
    settings = SETTINGS.model_copy(update={"accelerators": profiles, "default_accelerator": "large"})

    status = Cluster(settings=settings).settle().status

    assert said(status, "Fits").status == "True"
    assert "GiB of weights" in said(status, "Fits").message
    assert status.fit is not None and status.fit.fits and status.fit.kv_cache_tokens


def test_of_several_accelerators_one_that_fits_is_enough_and_the_others_are_named():
    settings = a_small_device()
    profiles = dict(settings.accelerators)
    profiles["large"] = profiles["nvidia"].model_copy(update={"memory": "80Gi", "compute_capability": "9.0"})
    settings = settings.model_copy(update={"accelerators": profiles})

    status = Cluster(model=a_model(accelerators=["small", "large"]), settings=settings).settle().status

    assert said(status, "Fits").status == "True"
    assert "does not fit on small" in said(status, "Fits").message


def test_what_the_nodes_say_counts_where_nobody_else_knows():
    seen = Seen(nodes=NodesSeen(memory_bytes=GIB, compute_capability="8.0"))
    cluster = Cluster()
    profiles = dict(plan_model(cluster.model, SETTINGS).profiles)

    assert accelerator_of("nvidia", profiles["nvidia"], seen.nodes).memory_bytes == GIB
    assert accelerator_of("nvidia-l4", SETTINGS.accelerators["nvidia-l4"], seen.nodes).memory_bytes != GIB
