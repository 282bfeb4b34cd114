"""One HTTP request to the API server: authenticated, with a timeout, counted, and with typed errors.

The official client's `kubernetes.aio` brings the credentials (service account or kubeconfig), TLS and the connection
pool; objects stay the JSON that they are, because server-side apply is about exactly the fields that were written.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from vllm_operator.cluster.errors import Busy, error_of

TIMEOUT_SECONDS = 20.0  # the API server gives up after 60 s; a look has 120 s for all its calls
ANSWER_LIMIT = 64 * 1024 * 1024  # a page of 500 objects stays far below
LOGIN_AGAIN_SECONDS = 10.0
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"

Counter = Callable[[str, int], None]  # verb, HTTP status (0: no answer)


@dataclass(frozen=True, slots=True)
class Request:
    """One call. `limit`: at most the last so many bytes of the answer are kept; `timeout` in seconds."""

    method: str
    path: str
    query: Mapping[str, str] | None = None
    body: Any = None
    content_type: str = "application/json"
    accept: str = "application/json"
    timeout: float = TIMEOUT_SECONDS
    limit: int = ANSWER_LIMIT

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, read to its end."""

    status: int
    body: bytes
    headers: Mapping[str, str]


async def _configuration() -> Any:
    """The client's configuration: the pod's service account, else the kubeconfig. Raises its ConfigException."""
    from kubernetes.aio import client, config

    found: Any = client.Configuration()
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        config.load_incluster_config(found)  # type: ignore[no-untyped-call]
    else:
        await config.load_kube_config(client_configuration=found, persist_config=False)  # type: ignore[no-untyped-call]
    found.connection_pool_maxsize = 64  # requests at once, however many looks there are
    # Else the session looks for proxies and a .netrc at every request, in a thread: a quarter of the CPU time of a look.
    found.client_session_kwargs = {"trust_env": False}
    found.proxy = found.proxy or proxy_of(found.host)
    return found


def proxy_of(url: str) -> str | None:
    """The proxy that the environment (HTTPS_PROXY, HTTP_PROXY, NO_PROXY) asks for on the way to a URL; None for none."""
    there = urlsplit(url)
    return None if proxy_bypass(there.hostname or "") else getproxies().get(there.scheme)


class Connection:
    """Requests to one API server. Close it with `async with` or `close()`."""

    def __init__(
        self,
        configuration: Any = None,
        *,
        count: Counter = lambda verb, status: None,
        before_write: Callable[[], None] = lambda: None,
    ) -> None:
        self._given = configuration
        self._api: Any = None
        self._count = count
        self._before_write = before_write
        self._logged_in_at = 0.0
        self._login = asyncio.Lock()

    async def __aenter__(self) -> Connection:
        await self._client()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        if self._api is not None:
            await self._api.close()
            self._api = None

    async def _client(self) -> Any:
        async with self._login:
            if self._api is None:
                from kubernetes.aio import client

                configuration = self._given if self._given is not None else await _configuration()
                self._api = client.ApiClient(configuration)
                self._api.user_agent = "vllm-operator"
                self._logged_in_at = time.monotonic()
            return self._api

    async def _login_again(self, old: Any) -> bool:
        """Credentials end (rotated certificates, exec plugins): read them anew, but not at every refusal."""
        if self._given is not None or time.monotonic() - self._logged_in_at < LOGIN_AGAIN_SECONDS:
            return False
        if self._api is old:
            self._api = None  # calls in progress end with the old credentials
            await old.close()
        return True

    async def send(self, request: Request) -> Answer:
        """The server's answer, whatever its status.

        Raises Busy when there is no answer in time.
        """
        api = await self._client()
        if request.method != "GET":
            self._before_write()
        answer = await self._send(api, request)
        if answer.status == 401 and await self._login_again(api):
            answer = await self._send(await self._client(), request)
        return answer

    async def _send(self, api: Any, request: Request) -> Answer:
        status = 0
        headers = {"Content-Type": request.content_type, "Accept": request.accept}
        timeout = aiohttp.ClientTimeout(total=request.timeout)
        try:
            async with asyncio.timeout(request.timeout):
                _, url, headers, _, _ = await api.param_serialize(
                    request.method, request.path, header_params=headers, auth_settings=["BearerToken"]
                )
                url = f"{url}?{urlencode(request.query)}" if request.query else url
                response = await api.call_api(request.method, url, headers, body=request.body, _request_timeout=timeout)
                status = response.status
                return Answer(status, await _read(response.response, request.limit), response.headers)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise Busy(0, f"{request}: no answer ({error or type(error).__name__})") from error
        finally:
            self._count(request.method, status)

    async def call(self, request: Request) -> Any:
        """The parsed answer of a call that succeeded. Raises ApiError otherwise."""
        answer = await self.send(request)
        if not 200 <= answer.status < 300:
            raise error_of(answer.status, answer.body, answer.headers, str(request))
        try:
            return json.loads(answer.body)
        except ValueError as error:
            raise Busy(answer.status, f"{request}: the answer is no JSON") from error


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The last `limit` bytes of the body, so that no log and no proxied server fills the operator's memory."""
    kept = bytearray()
    try:
        async for chunk in response.content.iter_chunked(65536):
            kept += chunk
            if len(kept) > 2 * limit:
                del kept[:-limit]
    finally:
        response.release()
    return bytes(kept[-limit:])
