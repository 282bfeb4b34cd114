"""What the client reads from the API server: pages, metadata, logs, optional APIs, and answers that never come."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from tests.wire.fixtures import a_cluster, a_job, a_vllmmodel
from vllm_operator.cluster import (
    Busy,
    Cluster,
    Connection,
)
from vllm_operator.cluster.connection import Request
from vllm_operator.cluster.kinds import AUTOSCALERS, CLAIMS, CONFIG_MAPS, JOBS, MODELS, PODS, SCALED_OBJECTS, path_of
from vllm_operator.cluster.reader import LOG_TAIL_BYTES, PAGE
from vllm_operator.decide.types import Ref

JOB = Ref("batch/v1", "Job", "pull-x")


async def test_a_long_list_is_read_page_by_page_and_names_its_kind() -> None:
    async with a_cluster() as (fake, cluster):
        for number in range(PAGE + 20):
            fake.put(a_vllmmodel(f"m{number}"))
        found = await cluster.all(MODELS)

    assert len({model["metadata"]["name"] for model in found}) == PAGE + 20
    assert fake.verbs()["GET"] == 2
    assert found[0]["kind"] == "VLLMModel"


async def test_a_list_is_selected_by_labels() -> None:
    async with a_cluster() as (fake, cluster):
        fake.put(a_job("a", labels={"x": "1"}))
        fake.put(a_job("b", labels={"x": "2"}))
        found = await cluster.all(JOBS, "team", labels="x=2")

    assert [job["metadata"]["name"] for job in found] == ["b"]


async def test_an_optional_api_that_is_absent_is_asked_for_once() -> None:
    async with a_cluster() as (fake, cluster):
        first = await cluster.all_if_served(SCALED_OBJECTS, "team")
        second = await cluster.all_if_served(SCALED_OBJECTS, "team")
        assert await cluster.all_if_served(AUTOSCALERS, "team") == []

    assert (first, second, len(fake.audit)) == ([], [], 2)


async def test_nodes_are_asked_for_once_a_minute() -> None:
    now = 100.0
    async with a_cluster() as (fake, plain):
        cluster = Cluster(plain.connection, clock=lambda: now)
        fake.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {"gpu": "yes"}}})
        await cluster.nodes()
        found = await cluster.nodes()
        assert len(fake.audit) == 1
        now = 161.0
        await cluster.nodes()

    assert found[0]["metadata"]["labels"] == {"gpu": "yes"}
    assert len(fake.audit) == 2


async def test_who_is_not_known_for_a_moment_has_not_lost_an_api_for_ten_minutes() -> None:
    """An autoscaler that is overlooked would have its replicas written over."""
    async with a_cluster() as (fake, cluster):
        fake.faults.append(lambda request: web.json_response({"message": "Unauthorized"}, status=401))
        with pytest.raises(Busy, match="Unauthorized"):
            await cluster.all_if_served(AUTOSCALERS, "team")
        fake.faults.clear()
        fake.put({"apiVersion": AUTOSCALERS[0], "kind": AUTOSCALERS[1], "metadata": {"name": "h", "namespace": "team"}})

        assert len(await cluster.all_if_served(AUTOSCALERS, "team")) == 1


async def test_an_answer_that_never_comes_is_busy_not_a_hang() -> None:
    async with a_cluster() as (fake, cluster):
        fake.faults.append(lambda request: asyncio.sleep(5))
        with pytest.raises(Busy, match="no answer"):
            await cluster.connection.send(Request("GET", path_of(JOBS, "team"), timeout=0.05))


async def test_no_server_at_all_is_busy() -> None:
    async with a_cluster() as (_, cluster):
        configuration = cluster.connection._given
        configuration.host = "http://127.0.0.1:1"
        async with Connection(configuration) as nowhere:
            with pytest.raises(Busy):
                await Cluster(nowhere).all(CLAIMS, "team")


async def test_requests_are_counted_by_verb_and_status() -> None:
    counted: list[tuple[str, int]] = []
    async with a_cluster() as (_, cluster):
        connection = Connection(cluster.connection._given, count=lambda *call: counted.append(call))
        await Cluster(connection).get(CONFIG_MAPS, "team", "none")
        await connection.close()

    assert counted == [("GET", 404)]


async def test_a_short_log_is_read_once_and_whole() -> None:
    async with a_cluster() as (fake, cluster):
        fake.logs["p", False] = "one\ntwo\n"
        assert await cluster.log("team", "p", "vllm") == "one\ntwo\n"

    assert len(fake.audit) == 1


async def test_a_long_log_keeps_its_end_and_its_beginning() -> None:
    async with a_cluster() as (fake, cluster):
        fake.logs["p", True] = "vLLM API server version 0.32.0\n" + "noise\n" * 50_000 + "ValueError: the cause\n"
        log = await cluster.log("team", "p", "vllm", previous=True)

    assert log.startswith("vLLM API server version")
    assert log.endswith("ValueError: the cause\n")
    assert len(log) < 2 * LOG_TAIL_BYTES


async def test_a_log_that_is_not_there_yet_is_empty() -> None:
    async with a_cluster() as (_, cluster):
        assert await cluster.log("team", "p", "vllm") == ""


async def test_a_pod_is_named_as_the_proxy_wants_it() -> None:
    assert (
        path_of(PODS, "team", "https:p:8000", "proxy/health")
        == "/api/v1/namespaces/team/pods/https:p:8000/proxy/health"
    )
