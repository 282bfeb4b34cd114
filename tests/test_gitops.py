"""What Argo CD says of a model: the chart's health check in a Lua as bare as Argo CD's, on statuses as they are decided."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lupa import LuaRuntime

from tests.decide_facts import Truth, permanent
from tests.decide_world import Cluster, a_serving_cluster
from vllm_operator.api import Status

CHECK = Path("charts/vllm-operator/files/argocd-health.lua").read_text("utf-8")


def health(status: Status | None, *, generation: int = 1, replicas: int = 1) -> tuple[str, str]:
    """What Argo CD shows: its health and the message. Its Lua has base, package and table alone."""
    lua = LuaRuntime(unpack_returned_tuples=True)
    lua.execute("string = nil; math = nil; io = nil; os = nil; debug = nil; utf8 = nil")
    document: dict[str, Any] = {"metadata": {"generation": generation}, "spec": {"replicas": replicas}}
    if status is not None:
        document["status"] = status.as_json()
    lua.globals()["obj"] = lua.table_from(document, recursive=True)
    answer = lua.execute(CHECK)
    return str(answer["status"]), str(answer["message"])


def seen(cluster: Cluster) -> tuple[str, str]:
    model = cluster.model
    return health(cluster.status, generation=model.metadata.generation, replicas=model.spec.replicas)


def test_a_model_that_nobody_looked_at_is_progressing() -> None:
    assert health(None)[0] == "Progressing"
    assert health(Status())[0] == "Progressing"
    assert seen(Cluster())[0] == "Progressing"


def test_a_model_that_is_brought_up_is_progressing_with_the_reason() -> None:
    cluster = Cluster()
    cluster.reconcile()

    assert seen(cluster) == ("Progressing", seen(cluster)[1])
    assert ": " in seen(cluster)[1]


def test_a_served_model_is_healthy() -> None:
    assert seen(a_serving_cluster())[0] == "Healthy"


def test_an_edit_is_progressing_until_it_was_looked_at_and_rolled_out() -> None:
    cluster = a_serving_cluster()
    cluster.edit(max_model_len=777)

    assert seen(cluster)[0] == "Progressing"
    cluster.settle()
    assert seen(cluster)[0] == "Healthy"


@pytest.mark.parametrize("truth", [{"inspection": permanent()}, {"crash": permanent()}])
def test_what_is_stuck_is_degraded_and_says_why(truth: dict[str, Any]) -> None:
    cluster = Cluster(truth=Truth(**truth))
    cluster.settle()
    found, message = seen(cluster)

    assert found == "Degraded"
    assert message.startswith("InvalidArgument: ")


def test_a_model_without_servers_is_suspended() -> None:
    cluster = a_serving_cluster()
    cluster.edit(replicas=0)
    cluster.settle()

    assert seen(cluster)[0] == "Suspended"
