"""Telling servers to load and unload adapters: what is sent, what is remembered of a refusal, and for how long."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from aiohttp import web

from tests.wire.pods import VLLM, listening, serving
from vllm_operator.decide.types import AdapterCall
from vllm_operator.probe import AdapterLoader, Direct, Server, Target
from vllm_operator.probe.adapters import FIRST_PAUSE, LONGEST_PAUSE

LOAD = AdapterCall("p", "sql", "/adapters/sql")


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def a_loader(clock: Clock | None = None) -> AsyncIterator[AdapterLoader]:
    reach = Direct()
    try:
        yield AdapterLoader(reach, clock=clock or Clock())
    finally:
        await reach.close()


def life(target: Target, restarts: int = 0) -> list[Server]:
    return [Server(target, "uid", restarts)]


async def test_a_server_is_told_by_name_and_path() -> None:
    said: list[tuple[str, object]] = []

    async def remembering(request: web.Request) -> web.Response:
        said.append((request.path, json.loads(await request.read())))
        return web.Response(text="Success")

    async with listening(remembering) as target, a_loader() as loader:
        calls = [AdapterCall("p", "old"), LOAD, AdapterCall("p", "chat", "/adapters/v2", replaces=True)]
        await loader.carry_out([*calls, AdapterCall("another", "sql", "/x")], life(target))

    assert said == [
        ("/v1/unload_lora_adapter", {"lora_name": "old"}),
        ("/v1/load_lora_adapter", {"lora_name": "sql", "lora_path": "/adapters/sql"}),
        ("/v1/load_lora_adapter", {"lora_name": "chat", "lora_path": "/adapters/v2", "load_inplace": True}),
    ]


@pytest.mark.parametrize(
    ("status", "message", "reason"),
    [
        (404, "Loading lora sql failed: No adapter found for /adapters/sql", "AdapterNotFound"),
        (500, "LoRA rank 64 is greater than max_lora_rank 16.", "AdapterRankTooHigh"),
        (500, "vLLM only supports modules_to_save being None.", "AdapterInvalid"),
        (400, "The lora adapter 'sql' conflicts with a served base model.", "AdapterInvalid"),
    ],
)
async def test_a_refusal_is_kept_as_long_as_the_server_lives(status: int, message: str, reason: str) -> None:
    async with serving(VLLM(refuses={"sql": (status, message)})) as target, a_loader(Clock()) as loader:
        await loader.carry_out([LOAD], life(target))

        refusal = loader.refusals("uid", 0)["sql"]
        assert (refusal.failure.reason, refusal.failure.retry, refusal.path) == (reason, False, "/adapters/sql")
        assert (refusal.is_due, loader.any_due(["uid"])) == (False, False)
        assert loader.refusals("uid", 1) == {}


async def test_words_that_no_rule_knows_are_told_as_they_are() -> None:
    async with serving(VLLM(refuses={"sql": (500, "The moon is too full.")})) as target, a_loader() as loader:
        await loader.carry_out([LOAD], life(target))

        assert loader.refusals("uid", 0)["sql"].failure.message == "vLLM answers 500: The moon is too full."


async def test_a_server_that_cannot_load_while_it_runs_says_so() -> None:
    async def lacking(request: web.Request) -> web.Response:
        return web.json_response({"detail": "Not Found"}, status=404)

    async with listening(lacking) as target, a_loader() as loader:
        await loader.carry_out([LOAD], life(target))

        failure = loader.refusals("uid", 0)["sql"].failure
        assert "adapterLoading: Static" in failure.remedy


async def test_what_was_not_answered_is_tried_again_after_growing_pauses() -> None:
    clock, nobody = Clock(), Target("team", "p", "127.0.0.1", 1)
    async with a_loader(clock) as loader:
        pauses = []
        for _ in range(9):
            await loader.carry_out([LOAD], life(nobody))
            assert not loader.any_due(["uid"])
            began = clock.now
            while not loader.any_due(["uid"]):
                clock.now += FIRST_PAUSE
            pauses.append(clock.now - began)

        assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
        assert pauses[-1] == LONGEST_PAUSE
        assert "connection refused" in loader.refusals("uid", 0)["sql"].failure.message


async def test_what_is_gone_already_is_unloaded() -> None:
    async with serving(VLLM()) as target, a_loader() as loader:
        await loader.carry_out([AdapterCall("p", "sql")], life(target))

        assert loader.refusals("uid", 0) == {}


async def test_an_adapter_that_is_looked_up_anew_is_begun_anew() -> None:
    async with serving(VLLM(refuses={"sql": (500, "no"), "chat": (500, "no")})) as target, a_loader() as loader:
        await loader.carry_out([LOAD, AdapterCall("p", "chat", "/adapters/chat")], life(target))

        assert set(loader.refusals("uid", 0, unknown=["sql"])) == {"chat"}
        loader.forget(frozenset({"uid"}))
        assert loader.refusals("uid", 0) == {}


async def test_a_pod_that_takes_its_time_does_not_hold_the_model_for_ever() -> None:
    clock, server = Clock(), VLLM()

    async def slow(request: web.Request) -> web.Response:
        clock.now += 25.0
        status, said = server(request.method, request.path, await request.read())
        return web.json_response(said, status=status)

    async with listening(slow) as target, a_loader(clock) as loader:
        await loader.carry_out([AdapterCall("p", f"a{n}", f"/adapters/{n}") for n in range(9)], life(target))

    assert list(server.adapters) == ["a0", "a1", "a2"]
