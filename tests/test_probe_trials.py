"""The one real request to a server is on its way while looks come and go.

Looks at all models share a few places: twenty servers that hang in their first request would keep every other model waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from tests.wire.pods import VLLM, listening
from vllm_operator.decide.types import ServerAnswer
from vllm_operator.probe import Direct, Prober, Question, Target, server, trials


@dataclass(slots=True)
class Cold:
    """A server that answers no request before it is warm."""

    vllm: VLLM = field(default_factory=VLLM)
    warm: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    requests: int = 0

    async def answer(self, request: web.Request) -> web.Response:
        if request.path == "/v1/completions":
            self.requests += 1
            self.asked.set()
            await self.warm.wait()
        status, said = self.vllm(request.method, request.path, await request.read())
        return web.json_response(said, status=status)


@asynccontextmanager
async def asking(cold: Cold) -> AsyncIterator[tuple[Prober, Target]]:
    reach = Direct()
    prober = Prober(reach)
    async with listening(cold.answer) as target:
        yield prober, target
        await prober.close()
        await reach.close()


async def until_it_works(prober: Prober, target: Target) -> ServerAnswer:
    while not (answer := await prober.ask(target, "uid", 0, Question())).works:
        pass
    return answer


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "PATIENCE_SECONDS", 0.02)


async def test_a_first_request_that_takes_long_is_sent_once_and_holds_no_look() -> None:
    cold = Cold()
    async with asking(cold) as (prober, target):
        waiting = [await prober.ask(target, "uid", 0, Question()) for _ in range(3)]
        cold.warm.set()
        answer = await until_it_works(prober, target)

    assert cold.requests == 1
    assert {(seen.healthy, seen.works, seen.problem) for seen in waiting} == {(True, False, trials.PENDING)}
    assert answer.served_models == ("tiny",)


async def test_a_server_that_hangs_is_told_in_the_same_words_while_it_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each other word would be a write of the status."""
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.1)
    cold = Cold()
    async with asking(cold) as (prober, target):
        words = [(await prober.ask(target, "uid", 0, Question())).problem for _ in range(40)]

    said = "a test request to /v1/completions has no answer in 0.1 s"
    assert words[0] == trials.PENDING
    assert set(words[words.index(said) :]) == {said}
    assert cold.requests > 1


async def test_a_request_that_is_on_its_way_when_the_server_falls_ill_counts_no_more() -> None:
    cold = Cold()
    async with asking(cold) as (prober, target):
        await prober.ask(target, "uid", 0, Question())
        cold.vllm.health = 503
        await prober.ask(target, "uid", 0, Question())
        cold.vllm.health = 200
        cold.warm.set()
        await until_it_works(prober, target)

    assert cold.requests == 2


async def test_another_life_of_a_server_is_sent_a_request_of_its_own() -> None:
    cold = Cold()
    async with asking(cold) as (prober, target):
        await prober.ask(target, "uid", 0, Question())
        cold.warm.set()
        while not (await prober.ask(target, "uid", 1, Question())).works:
            pass

    assert cold.requests == 2


async def test_a_server_that_goes_while_it_is_asked_ends_no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "PATIENCE_SECONDS", 30.0)
    cold = Cold()
    async with asking(cold) as (prober, target):
        look = asyncio.create_task(prober.ask(target, "uid", 0, Question()))
        await cold.asked.wait()
        prober.forget(frozenset({"uid"}))
        answer = await look

    assert (answer.works, answer.problem) == (False, trials.PENDING)
