"""What a vLLM server says when it is asked: is it well, what does it serve, and does a real request go through.

/health never runs the model, so a server counts as working only after one request did. With an API key, /v1 is closed to
the operator (which reads no Secrets); /tokenize and /invocations are not, and serve the same model (vLLM 0.32).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from vllm_operator.decide.types import ServerAnswer
from vllm_operator.diagnose import look_at_answer
from vllm_operator.probe.adapters import AdapterLoader
from vllm_operator.probe.reach import Reach, Reply, Target
from vllm_operator.probe.trials import Outcome, Trials

SECOND_SECONDS = (
    2.0  # for a server that was well and is silent: with the first 3 s and the look that tells, 13 s in all
)
REQUEST_SECONDS = 30.0  # the first request may compile kernels
_KV_TOKENS = re.compile(rb'vllm:cache_config_info\{[^}]*kv_cache_size_tokens="(\d+)"')
_NAMES = 128  # of served models and adapters that are kept from an answer
_LONGEST_NAME = 256  # twice what the spec allows
_LONGEST_PATH = 512
_MOST_TOKENS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Question:
    """What is known of a server before it is asked."""

    names: tuple[str, ...] = ()  # the names it was told to serve
    runner: str | None = None  # spec.runner; None is auto
    key_required: bool = False


@dataclass(frozen=True, slots=True)
class _Known:
    """What is remembered of one life of a server."""

    restarts: int
    answer: ServerAnswer


class Prober:
    """Asks servers, and remembers which of them have worked (by the pod's uid and its restarts)."""

    def __init__(self, reach: Reach) -> None:
        self.reach = reach
        self.loader = AdapterLoader(reach)
        self._known: dict[str, _Known] = {}
        self._trials = Trials()

    async def close(self) -> None:
        """Ends the requests that are on their way."""
        await self._trials.close()

    def forget(self, uids: frozenset[str]) -> None:
        """Drops what is remembered of pods that are gone."""
        self.loader.forget(uids)
        for uid in uids:
            self._known.pop(uid, None)
            self._trials.forget(uid)

    async def ask(self, target: Target, uid: str, restarts: int, question: Question) -> ServerAnswer:
        """The server's present answer. Never raises for what the server does."""
        known = self._known.get(uid)
        if known is not None and known.restarts != restarts:
            known = None
        health = await self.reach.ask(target, "/health")
        if health.status == 0 and known is not None:
            # Long tokenization blocks a server's event loop: one that was well is asked twice before it counts as ill.
            health = await self.reach.ask(target, "/health", seconds=SECOND_SECONDS)
        answer = await self._answer(target, health, question, known.answer if known else None)
        if answer.problem:
            self._trials.forget(uid)  # what it answered while it was well counts no more
        elif not answer.works:
            answer = await self._tried(target, uid, restarts, question, answer)
        if answer.works:
            self._known[uid] = _Known(restarts, answer)
            self._trials.forget(uid)
        else:
            self._known.pop(uid, None)  # it has to work again before it counts as working
        return answer

    async def _answer(
        self, target: Target, health: Reply, question: Question, before: ServerAnswer | None
    ) -> ServerAnswer:
        """What it says of itself; with neither `works` nor a problem it is well and has yet to be tried."""
        if health.status != 200:
            return ServerAnswer(healthy=False, problem=health.problem or f"/health answers {health.status}")
        described = await self._described(target, question)
        if described.problem:
            return described
        if before is not None and before.works:
            names = described.served_models or before.served_models
            return replace(described, works=True, served_models=names, kv_cache_tokens=before.kv_cache_tokens)
        return described

    async def _tried(
        self, target: Target, uid: str, restarts: int, question: Question, described: ServerAnswer
    ) -> ServerAnswer:
        """The answer of a server that is well: it works once a real request went through."""
        names = described.served_models or question.names
        model = names[0] if names else ""
        problem, refusal = await self._trials.outcome(
            uid, restarts, lambda: self._real_request(target, model, question)
        )
        if problem:
            return replace(described, problem=problem, refusal=refusal)
        return replace(described, works=True, served_models=names, kv_cache_tokens=await self._kv_cache_tokens(target))

    async def _described(self, target: Target, question: Question) -> ServerAnswer:
        """Its names and its context length."""
        if question.key_required:
            return await self._described_without_key(target, question)
        reply = await self.reach.ask(target, "/v1/models")
        cards = _cards(reply.json())
        if reply.status != 200 or not cards:
            return ServerAnswer(healthy=True, problem=f"/v1/models: {reply.problem or f'answers {reply.status}'}")
        served = [card for card in cards if not card.get("parent")]
        adapters = [card for card in cards if card.get("parent")]
        lengths = (_length(card.get("max_model_len")) for card in served)
        return ServerAnswer(
            healthy=True,
            served_models=tuple(card["id"] for card in served)[:_NAMES],
            max_model_len=next((length for length in lengths if length is not None), None),
            adapters={card["id"]: str(card.get("root") or "")[:_LONGEST_PATH] for card in adapters[:_NAMES]},
        )

    async def _described_without_key(self, target: Target, question: Question) -> ServerAnswer:
        body = {"model": question.names[0] if question.names else None, "prompt": "Hi"}
        said = (await self.reach.ask(target, "/tokenize", body)).json()
        length = said.get("max_model_len") if isinstance(said, dict) else None
        return ServerAnswer(healthy=True, max_model_len=_length(length))

    async def _real_request(self, target: Target, model: str, question: Question) -> Outcome:
        """Sends one request through the model."""
        for path, body in _requests(model, question):
            reply = await self.reach.ask(target, path, body, seconds=REQUEST_SECONDS)
            if reply.status == 200:
                return "", None
            if not _is_not_for_this_model(reply):
                why = look_at_answer(reply.status, reply.body.decode(errors="replace"))
                return f"a test request to {path} {_what_went_wrong(reply)}", why
        return "", None  # none of the routes exists (speech to text, say): there is nothing that we could send

    async def _kv_cache_tokens(self, target: Target) -> int | None:
        found = _KV_TOKENS.search((await self.reach.ask(target, "/metrics")).body)
        return int(found[1]) if found and len(found[1]) < 16 else None


def _requests(model: str, question: Question) -> Iterator[tuple[str, dict[str, Any]]]:
    """The requests to try, the likeliest first. Which routes exist depends on what the model can do."""
    completion: dict[str, Any] = {"model": model, "prompt": "Hi", "max_tokens": 1, "temperature": 0}
    embedding: dict[str, Any] = {"model": model, "input": "Hi"}
    if question.key_required:
        bodies = [embedding] if question.runner == "pooling" else [completion, embedding]
        yield from (("/invocations", body) for body in bodies)
        return
    if question.runner != "pooling":
        yield "/v1/completions", completion
    if question.runner != "generate":
        yield "/v1/embeddings", embedding
        yield "/pooling", embedding
        yield "/classify", embedding
        yield "/score", {"model": model, "text_1": "Hi", "text_2": "Hi"}


def _is_not_for_this_model(reply: Reply) -> bool:
    """Whether the route is absent, or not for models of this kind; an unknown model's name is another matter."""
    text = reply.body[:4096]
    if reply.status == 404:
        return b"does not exist" not in text
    unsuitable = b"does not support" in text or b"suitable handler" in text
    return reply.status in {405, 415, 501} or (reply.status in {400, 422} and unsuitable)


def _what_went_wrong(reply: Reply) -> str:
    if reply.status == 0:
        return f"has {reply.problem}"
    said = reply.json()
    error = said.get("error") if isinstance(said, dict) else None
    message = error.get("message") if isinstance(error, dict) else ""
    text = f": {' '.join(str(message).split())[:200]}" if message else ""
    return f"answers {reply.status}{text}"


def _cards(said: Any) -> list[Mapping[str, Any]]:
    """The models of an answer that have a name. Names come to stand in the status, and the server may be the tenant's own."""
    data = said.get("data") if isinstance(said, dict) else None
    cards = [card for card in data if isinstance(card, dict)] if isinstance(data, list) else []
    return [card for card in cards if isinstance(card.get("id"), str) and len(card["id"]) <= _LONGEST_NAME]


def _length(said: Any) -> int | None:
    """A context length in tokens; None for what is none."""
    return said if type(said) is int and 0 < said <= _MOST_TOKENS else None
