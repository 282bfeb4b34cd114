"""What is decided about live adapters: what is brought, what servers are told, and that the model never pays for it."""

from __future__ import annotations

from typing import Any

from tests.builders import a_model
from tests.decide_facts import Truth, passing, permanent, ready, said
from tests.decide_live import LiveCluster
from vllm_operator.decide.types import AdapterCall
from vllm_operator.diagnose import Reason, failure

SQL = {"name": "sql", "source": "demo/sql"}
CHAT = {"name": "chat", "source": "demo/chat"}


def a_cluster(*adapters: dict[str, str], **changes: Any) -> LiveCluster:
    spec = {key: changes.pop(key) for key in ("replicas", "adapter_cache", "token_secret_ref") if key in changes}
    return LiveCluster(model=a_model(adapter_loading="Live", adapters=adapters, **spec), **changes)


def calls(cluster: LiveCluster) -> list[AdapterCall]:
    return [call for decision in cluster.decisions for call in decision.calls]


def test_a_model_comes_to_rest_with_its_adapters_on_every_server() -> None:
    cluster = a_cluster(SQL, CHAT, replicas=2)
    cluster.settle()

    assert ready(cluster.status) == ("True", "Serving")
    assert said(cluster.status, "AdaptersReady").message == "2 of 2 adapters are on every server."
    assert [len(adapter.pods) for adapter in cluster.status.adapters] == [2, 2]
    assert cluster.rests()


def test_another_list_changes_no_version_of_the_servers() -> None:
    cluster = a_cluster(SQL)
    cluster.settle()
    pods = [(pod.name, pod.wanted) for pod in cluster.pods]
    cluster.edit(adapters=[CHAT])
    cluster.settle()

    assert [(pod.name, pod.wanted) for pod in cluster.pods] == pods
    assert [sorted(had) for had in cluster.loaded.values()] == [["chat"]]
    assert cluster.rests()


def test_one_adapter_under_two_names_is_downloaded_once() -> None:
    cluster = a_cluster(SQL, {"name": "same", "source": "hf://demo/sql"})
    cluster.settle()

    assert len([name for name in cluster.jobs if "sql" in name]) == 2
    assert [sorted(had) for had in cluster.loaded.values()] == [["same", "sql"]]


def test_an_adapter_that_is_refused_is_told_and_the_model_stays_ready() -> None:
    why = failure(Reason.AdapterInvalid, "It does not fit.", retry=False)
    cluster = a_cluster(SQL, CHAT, refuses={"sql": why})
    cluster.settle()

    assert ready(cluster.status) == ("True", "Serving")
    condition = said(cluster.status, "AdaptersReady")
    assert (condition.status, condition.reason) == ("False", "AdapterInvalid")
    assert condition.message.startswith("Adapter sql: It does not fit.")
    assert said(cluster.status, "Stalled").reason == "AdapterInvalid"
    assert [call.name for call in calls(cluster)].count("sql") == 1
    assert cluster.rests()


def test_a_call_that_was_not_answered_is_underway_not_stuck() -> None:
    cluster = a_cluster(SQL, refuses={"sql": failure(Reason.AdapterInvalid, "No answer.", retry=True)})
    cluster.settle()

    assert said(cluster.status, "AdaptersReady").reason == "LoadingAdapters"
    assert cluster.status.condition("Stalled") is None
    assert cluster.status.last_failure is None


def test_a_full_volume_says_what_to_raise() -> None:
    cluster = a_cluster()
    cluster.settle()
    cluster.truth.download = permanent(Reason.DiskFull)
    cluster.edit(adapters=[SQL])
    cluster.settle()

    assert ready(cluster.status) == ("True", "Serving")
    told = said(cluster.status, "AdaptersReady")
    assert (told.reason, "adapterCache.size" in told.message) == ("DiskFull", True)
    failed = cluster.status.last_failure
    assert failed is not None
    assert "adapterCache.size" in (failed.remedy or "")

    cluster.truth.download = None
    cluster.edit(adapter_cache={"size": "20Gi"})
    cluster.settle()
    assert said(cluster.status, "AdaptersReady").status == "True"
    assert len([name for name in cluster.claims if name.startswith("adapters-")]) == 1


def test_another_volume_is_another_version_of_the_servers() -> None:
    cluster = a_cluster(SQL)
    cluster.settle()
    before = {pod.wanted for pod in cluster.pods}
    cluster.edit(adapter_cache={"size": "20Gi"})
    cluster.settle()

    assert {pod.wanted for pod in cluster.pods}.isdisjoint(before)


def test_a_server_that_crashes_is_told_before_its_adapters() -> None:
    cluster = a_cluster(SQL, truth=Truth(crash=passing()))
    cluster.settle()

    assert ready(cluster.status) == ("False", "EngineDied")
    assert said(cluster.status, "Reconciling").reason == "EngineDied"
    assert not calls(cluster)


def test_adapters_of_servers_that_are_not_asked_for_wait() -> None:
    cluster = a_cluster(SQL, replicas=0)
    cluster.settle()

    assert ready(cluster.status) == ("False", "ScaledToZero")
    assert said(cluster.status, "AdaptersReady").reason == "NoServer"
    assert not [name for name in cluster.jobs if "sql" in name]
    assert cluster.rests()
