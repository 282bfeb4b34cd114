"""What the operator learns by asking servers, and that no server can hurt it by its answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from tests.wire.fixtures import a_cluster
from tests.wire.pods import VLLM, listening, never, serving
from vllm_operator.probe import Direct, Prober, Question, Target, Through
from vllm_operator.probe.reach import ANSWER_LIMIT


@asynccontextmanager
async def a_prober() -> AsyncIterator[Prober]:
    reach = Direct()
    prober = Prober(reach)
    try:
        yield prober
    finally:
        await prober.close()
        await reach.close()


async def ask(server: VLLM, question: Question | None = None) -> Any:
    async with serving(server) as target, a_prober() as prober:
        return await prober.ask(target, "uid", 0, question or Question(names=server.names))


async def test_a_server_that_works_says_what_it_serves() -> None:
    answer = await ask(VLLM(names=("tiny", "alias"), max_model_len=4096, adapters={"french": "/adapters/french"}))

    assert (answer.healthy, answer.works, answer.problem) == (True, True, "")
    assert answer.served_models == ("tiny", "alias")
    assert answer.max_model_len == 4096
    assert answer.adapters == {"french": "/adapters/french"}


async def test_before_ready_one_token_is_generated_and_never_again() -> None:
    server = VLLM()
    async with serving(server) as target, a_prober() as prober:
        for _ in range(3):
            await prober.ask(target, "uid", 0, Question())

    assert server.asked.count("POST /v1/completions") == 1


async def test_after_a_restart_the_server_has_to_work_again() -> None:
    server = VLLM()
    async with serving(server) as target, a_prober() as prober:
        await prober.ask(target, "uid", 0, Question())
        await prober.ask(target, "uid", 1, Question())
        await prober.ask(target, "another pod", 0, Question())

    assert server.asked.count("POST /v1/completions") == 3


@pytest.mark.parametrize("runner", ["pooling", "auto", None])
async def test_a_pooling_model_is_asked_for_an_embedding(runner: str | None) -> None:
    server = VLLM(pooling=True)
    answer = await ask(server, Question(runner=runner))

    assert answer.works
    assert server.asked[-2] == "POST /v1/embeddings"


@pytest.mark.parametrize("pooling", [False, True])
async def test_with_an_api_key_the_open_routes_are_used(pooling: bool) -> None:
    server = VLLM(pooling=pooling, key_required=True, max_model_len=8192)
    answer = await ask(server, Question(names=("tiny",), key_required=True))

    assert (answer.works, answer.max_model_len, answer.served_models) == (True, 8192, ("tiny",))
    assert not any("/v1" in asked for asked in server.asked)


async def test_a_healthy_server_whose_model_fails_does_not_work_and_says_why() -> None:
    answer = await ask(VLLM(broken=True))

    assert (answer.healthy, answer.works) == (True, False)
    assert answer.problem == "a test request to /v1/completions answers 500: EngineCore encountered an issue."


async def test_a_server_with_another_name_does_not_work() -> None:
    answer = await ask(VLLM(names=("other",), key_required=True), Question(names=("tiny",), key_required=True))

    assert not answer.works
    assert "does not exist" in answer.problem


async def test_a_server_without_any_route_to_try_counts_as_working() -> None:
    """Speech to text has no route that a line of text could be sent to."""

    async def only_transcriptions(request: web.Request) -> web.Response:
        cards = {"data": [{"id": "whisper", "max_model_len": 448}]}
        known = {"/health": {}, "/v1/models": cards}
        return web.json_response(
            known.get(request.path, {"detail": "Not Found"}), status=200 if request.path in known else 404
        )

    async with listening(only_transcriptions) as target, a_prober() as prober:
        assert (await prober.ask(target, "uid", 0, Question())).works


async def test_of_an_answer_only_what_a_status_can_hold_is_believed() -> None:
    """The server may be the tenant's own: a name of a megabyte, or a length beyond 64 bits, would come to stand in etcd."""
    cards = [
        {"id": "m" * 100_000, "max_model_len": 10**30},
        {"id": ["a", "list"], "max_model_len": True},
        {"id": "tiny", "max_model_len": -1},
        {"id": "alias", "max_model_len": 4096},
        {"id": "a" * 100_000, "parent": "tiny", "root": "/adapters/a"},
        {"id": "french", "parent": "tiny", "root": "/" * 100_000},
    ]

    async def boasts(request: web.Request) -> web.Response:
        return web.json_response({"data": cards} if request.path == "/v1/models" else {"choices": []})

    async with listening(boasts) as target, a_prober() as prober:
        answer = await prober.ask(target, "uid", 0, Question())

    assert answer.served_models == ("tiny", "alias")
    assert answer.max_model_len == 4096
    assert list(answer.adapters) == ["french"]
    assert len(answer.adapters["french"]) <= 512


async def test_an_unhealthy_server_is_reported_at_once() -> None:
    server = VLLM()
    async with serving(server) as target, a_prober() as prober:
        await prober.ask(target, "uid", 0, Question())
        server.health = 503
        answer = await prober.ask(target, "uid", 0, Question())

    assert (answer.healthy, answer.works, answer.problem) == (False, False, "/health answers 503")


async def test_many_servers_that_hang_take_no_connection_from_one_that_answers() -> None:
    """One model may have hundreds of servers, and another's would seem silent."""
    reach = Direct()
    async with listening(never) as silent, serving(VLLM()) as target:
        hung = [asyncio.create_task(reach.ask(silent, "/health", seconds=30)) for _ in range(200)]
        await asyncio.sleep(0)
        reply = await reach.ask(target, "/health", seconds=10)
        for task in hung:
            task.cancel()
        await asyncio.gather(*hung, return_exceptions=True)
        await reach.close()

    assert reply.status == 200


async def test_nobody_there_is_a_problem_not_an_error() -> None:
    async with a_prober() as prober:
        answer = await prober.ask(Target("team", "p", "127.0.0.1", 1), "uid", 0, Question())

    assert (answer.healthy, answer.problem) == (False, "connection refused")


async def test_one_silence_of_a_server_that_worked_is_forgiven() -> None:
    server, asked = VLLM(), 0

    async def once_silent(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += request.path == "/health"
        if request.path == "/health" and asked == 2:
            assert request.transport is not None
            request.transport.close()
        status, said = server(request.method, request.path, await request.read())
        return web.json_response(said, status=status)

    async with listening(once_silent) as target, a_prober() as prober:
        answers = [await prober.ask(target, "uid", 0, Question()) for _ in range(2)]

    assert [answer.works for answer in answers] == [True, True]
    assert asked == 3


async def test_a_server_that_stays_silent_counts_as_ill_at_once() -> None:
    async with a_prober() as prober:
        async with serving(VLLM()) as target:
            await prober.ask(target, "uid", 0, Question())
        answer = await prober.ask(target, "uid", 0, Question())

    assert not answer.works
    assert not answer.healthy


async def test_a_server_without_its_tokenizer_says_so_in_its_refusal() -> None:
    server = VLLM()

    async def refusing(request: web.Request) -> web.Response:
        if request.path == "/v1/completions":
            error = {"message": "The decoder prompt cannot be empty", "type": "BadRequestError", "code": 400}
            return web.json_response({"error": error}, status=400)
        status, said = server(request.method, request.path, await request.read())
        return web.json_response(said, status=status)

    async with listening(refusing) as target, a_prober() as prober:
        answer = await prober.ask(target, "uid", 0, Question())

    assert (answer.healthy, answer.works) == (True, False)
    assert answer.refusal is not None
    assert answer.refusal.reason == "TokenizerMissing"


async def test_the_size_of_the_kv_cache_is_read_from_the_metrics() -> None:
    async def with_metrics(request: web.Request) -> web.Response:
        if request.path == "/metrics":
            text = 'vllm:cache_config_info{block_size="16",engine="0",kv_cache_size_tokens="123456",x="y"} 1.0\n'
            return web.Response(text=text)
        status, said = VLLM()(request.method, request.path, await request.read())
        return web.json_response(said, status=status)

    async with listening(with_metrics) as target, a_prober() as prober:
        answer = await prober.ask(target, "uid", 0, Question())

    assert answer.kv_cache_tokens == 123456


async def test_a_server_that_never_answers_is_left_in_time() -> None:
    async with listening(never) as target, a_prober() as prober:
        reply = await prober.reach.ask(target, "/health", seconds=0.05)

    assert (reply.status, reply.problem) == (0, "no answer in 0.05 s")


async def test_an_endless_answer_is_cut() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(200):
            await response.write(b"x" * 65536)
        return response

    async with listening(endless) as target, a_prober() as prober:
        reply = await prober.reach.ask(target, "/v1/models")

    assert len(reply.body) == ANSWER_LIMIT


async def test_a_redirect_is_not_followed() -> None:
    visited: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        visited.append(request.path)
        raise web.HTTPFound("/secret")

    async with listening(elsewhere) as target, a_prober() as prober:
        answer = await prober.ask(target, "uid", 0, Question())

    assert (visited, answer.healthy) == (["/health"], False)


@pytest.mark.parametrize("said", ["[]", "null", '{"data": [1, {"id": 2}]}', '{"data": {}}', "[" * 100_000, "\xff"])
async def test_nonsense_in_an_answer_is_a_problem_not_an_error(said: str) -> None:
    async def nonsense(request: web.Request) -> web.Response:
        return web.Response(body=said.encode("latin-1"))

    async with listening(nonsense) as target, a_prober() as prober:
        answer = await prober.ask(target, "uid", 0, Question())

    assert answer.healthy
    assert answer.max_model_len is None


async def test_from_outside_pods_are_asked_through_the_api_server() -> None:
    server = VLLM(adapters={"french": "/adapters/french"})
    async with a_cluster() as (fake, cluster):
        fake.pod_servers["p"] = server
        prober = Prober(Through(cluster))
        answer = await prober.ask(Target("team", "p", "", 8000, https=True), "uid", 0, Question())
        nobody = await prober.ask(Target("team", "q", "", 8000), "other", 0, Question())

    assert (answer.works, answer.adapters) == (True, {"french": "/adapters/french"})
    assert fake.audit[0] == ("GET", "/api/v1/namespaces/team/pods/https:p:8000/proxy/health")
    assert (nobody.healthy, nobody.problem) == (False, "connection refused")
