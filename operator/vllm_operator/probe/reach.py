"""The two ways to a pod's port: straight to its address (in the cluster), or through the API server (from outside).

A pod's answer is a tenant's text: it is bounded in time and size, and nothing it says makes us call another host.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp

from vllm_operator.cluster import Busy, Cluster, ProxyCall

ANSWER_LIMIT = 1024 * 1024  # bytes; /v1/models is a few kB, /metrics some hundred
QUICK_SECONDS = 3.0  # for questions that need no model
CONNECTIONS = 512  # at once; each is a file, of which a container may have as few as 1,024


@dataclass(frozen=True, slots=True)
class Target:
    """One port of one pod."""

    namespace: str
    pod: str
    address: str  # the pod's IP address; may be empty through the proxy
    port: int
    https: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer, cut at its limit. `status` 0: there was none, and `problem` says why."""

    status: int
    body: bytes = b""
    problem: str = ""

    def json(self) -> Any:
        """The body, parsed; None when it is no JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


class Reach(Protocol):
    """A way to ask a pod. Never raises for what the pod does."""

    async def ask(self, target: Target, path: str, body: dict[str, Any] | None = None,
                  *, seconds: float = QUICK_SECONDS) -> Reply: ...  # fmt: skip

    async def close(self) -> None: ...


class Direct:
    """Straight to the pod's address. TLS is not verified: the certificate names the Service, not the address, and the
    address comes from the pod's own status; what is asked holds no secret."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, target: Target, path: str, body: dict[str, Any] | None = None,
                  *, seconds: float = QUICK_SECONDS) -> Reply:  # fmt: skip
        """The pod's reply within so many seconds. Redirects are not followed: they would lead anywhere."""
        host = f"[{target.address}]" if ":" in target.address else target.address
        url = f"{'https' if target.https else 'http'}://{host}:{target.port}{path}"
        method = "GET" if body is None else "POST"
        try:
            async with (
                asyncio.timeout(seconds),
                self._opened().request(method, url, json=body, ssl=False, allow_redirects=False) as response,
            ):
                return Reply(response.status, await _read(response))
        except TimeoutError:
            return Reply(0, problem=f"no answer in {seconds:g} s")
        except aiohttp.ClientConnectorError:
            return Reply(0, problem="connection refused")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Reply(0, problem=type(error).__name__)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # A tenant's compressed answer could be a thousand times its size: ask for none, unpack none.
                headers={"Accept-Encoding": "identity", "User-Agent": "vllm-operator"},
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.TCPConnector(limit=CONNECTIONS, force_close=True),
            )
        return self._session

    async def close(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(65536):
        body += chunk
        if len(body) >= ANSWER_LIMIT:
            response.close()
            break
    return bytes(body[:ANSWER_LIMIT])


class Through:
    """Through the API server's pod proxy, for an operator that runs outside the cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def ask(self, target: Target, path: str, body: dict[str, Any] | None = None,
                  *, seconds: float = QUICK_SECONDS) -> Reply:  # fmt: skip
        """The pod's reply within so many seconds."""
        call = ProxyCall(target.namespace, target.pod, target.port, path, target.https, body, seconds, ANSWER_LIMIT)
        try:
            answer = await self._cluster.through_proxy(call)
        except Busy:
            return Reply(0, problem=f"no answer in {seconds:g} s")
        if answer.status == 503 and b"error trying to reach service" in answer.body:
            return Reply(0, problem="connection refused")  # the API server's words, not the pod's
        return Reply(answer.status, answer.body)

    async def close(self) -> None:
        """Nothing of its own to close."""
