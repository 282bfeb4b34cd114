"""A pod's HTTP server for tests: vLLM's routes and texts (0.32), and ways to get them wrong. In the test's own loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from vllm_operator.probe import Target


@dataclass(slots=True)
class VLLM:
    """What a server of vLLM answers; the same for a real port and for the API server's proxy."""

    names: tuple[str, ...] = ("tiny",)
    max_model_len: int = 2048
    adapters: dict[str, str] = field(default_factory=dict)  # name and path
    refuses: dict[str, tuple[int, str]] = field(default_factory=dict)  # adapters that it will not load, and its words
    knows_in_place: bool = True  # releases before load_inplace do not
    pooling: bool = False
    key_required: bool = False
    health: int = 200
    broken: bool = False  # healthy, but no request goes through
    asked: list[str] = field(default_factory=list)

    def __call__(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        self.asked.append(f"{method} {path}")
        if path == "/health":
            return self.health, {}
        if path.startswith("/v1") and self.key_required:
            return 401, {"error": "Unauthorized"}
        if path == "/v1/models":
            return 200, {"object": "list", "data": self._cards()}
        if path.endswith("load_lora_adapter"):
            return self._change(path, json.loads(body))
        if path == "/tokenize":
            return 200, {"count": 1, "max_model_len": self.max_model_len, "tokens": [1]}
        return self._request(path, json.loads(body or b"{}"))

    def _cards(self) -> list[dict[str, Any]]:
        cards = [{"id": name, "parent": None, "max_model_len": self.max_model_len} for name in self.names]
        card = {"parent": self.names[0], "max_model_len": None}
        return cards + [{**card, "id": name, "root": path} for name, path in self.adapters.items()]

    def _change(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        name = body["lora_name"]
        if path == "/v1/unload_lora_adapter":
            if self.adapters.pop(name, None) is None:
                return 404, _error(404, f"The lora adapter '{name}' cannot be found.")
            return 200, "Success"
        if name in self.refuses:
            return self.refuses[name][0], _error(*self.refuses[name])
        if name in self.adapters and not (body.get("load_inplace") and self.knows_in_place):
            return 400, _error(400, f"The lora adapter '{name}' has already been loaded.")
        self.adapters[name] = body["lora_path"]
        return 200, "Success"

    def _request(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        suitable = "input" in body if self.pooling else "prompt" in body
        served = {"/v1/embeddings", "/pooling"} if self.pooling else {"/v1/completions"}
        if path == "/invocations":
            if not suitable:
                return 415, {"error": {"message": "Cannot find suitable handler for request."}}
        elif path not in served:
            return 404, {"detail": "Not Found"}
        if body.get("model") not in self.names:
            return 404, {"error": {"message": f"The model `{body.get('model')}` does not exist."}}
        if self.broken:
            return 500, {"error": {"message": "EngineCore encountered an issue."}}
        return 200, {"object": "list"}


def _error(code: int, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "x", "code": code}}


@asynccontextmanager
async def listening(answer: Callable[[web.Request], Any]) -> AsyncIterator[Target]:
    """A port on 127.0.0.1 with any handler."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield Target("team", "p", "127.0.0.1", runner.addresses[0][1])
    finally:
        await runner.cleanup()


@asynccontextmanager
async def serving(server: VLLM) -> AsyncIterator[Target]:
    """A port on 127.0.0.1 that answers as this server."""

    async def answer(request: web.Request) -> web.Response:
        status, said = server(request.method, request.path, await request.read())
        return web.json_response(said, status=status)

    async with listening(answer) as target:
        yield target


async def never(request: web.Request) -> web.Response:
    """A handler that does not answer."""
    await asyncio.sleep(30)
    return web.Response()
