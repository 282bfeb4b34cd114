"""Everything the operator reads from the API server. Reads are live: nothing here answers from a watch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from vllm_operator.cluster.connection import Connection, Request
from vllm_operator.cluster.errors import Forbidden, Gone, error_of
from vllm_operator.cluster.kinds import EVENTS, MODELS, NODES, PODS, Json, path_of

PAGE = 500  # objects in one answer; a list without a limit is one huge response
LOG_TAIL_BYTES = 64 * 1024  # the root cause lies 4 to 10 kB before the end (vLLM 0.32, measured); room for tracebacks
LOG_TAIL_LINES = 2000
LOG_HEAD_BYTES = 8 * 1024  # the arguments that vLLM read, and its version
NODES_FRESH_SECONDS = 60.0  # labels of GPU feature discovery change when nodes come and go
ABSENT_FRESH_SECONDS = 600.0  # an optional API (KEDA) is looked for again after this
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"


@dataclass(frozen=True, slots=True)
class ProxyCall:
    """A question to one pod's port; with a body it is a POST. `timeout` in seconds, `limit` in bytes."""

    namespace: str
    pod: str
    port: int
    path: str
    https: bool
    body: Json | None
    timeout: float
    limit: int


@dataclass(frozen=True, slots=True)
class ProxyAnswer:
    """What a pod's server said through the API server."""

    status: int
    body: bytes


class Cluster:
    """Reads of one cluster. `clock` is monotonic."""

    def __init__(self, connection: Connection, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.connection = connection
        self._clock = clock
        self._nodes: tuple[float, tuple[Json, ...]] | None = None
        self._whole_nodes: tuple[float, tuple[Json, ...]] | None = None
        self._absent: dict[tuple[str, str], float] = {}

    async def get(self, kind: tuple[str, str], namespace: str, name: str) -> Json | None:
        """The object as it lives, or None."""
        try:
            found: Json = await self.connection.call(Request("GET", path_of(kind, namespace, name)))
        except Gone:
            return None
        return found

    async def model(self, namespace: str, name: str) -> Json | None:
        """The VLLMModel as it lives, or None."""
        return await self.get(MODELS, namespace, name)

    async def all(
        self, kind: tuple[str, str], namespace: str | None = None, *, labels: str = "", fields: str = "",
        metadata_only: bool = False,
    ) -> list[Json]:  # fmt: skip
        """All objects of a kind (no namespace: of all namespaces), fetched page by page."""
        query = {"limit": str(PAGE), "labelSelector": labels, "fieldSelector": fields}
        query = {name: value for name, value in query.items() if value}
        found: list[Json] = []
        while True:
            page = await self.connection.call(
                Request(
                    "GET",
                    path_of(kind, namespace),
                    query,
                    accept=METADATA_ONLY if metadata_only else "application/json",
                )
            )
            # Items of a list carry no apiVersion and kind, or those of bare metadata.
            found += ({**item, "apiVersion": kind[0], "kind": kind[1]} for item in page.get("items") or [])
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return found
            query["continue"] = token

    async def all_if_served(self, kind: tuple[str, str], namespace: str) -> list[Json]:
        """As `all`, for an API that a cluster may lack or that may be closed to the operator: then nothing."""
        if self._absent.get(kind, float("-inf")) > self._clock():
            return []
        try:
            return await self.all(kind, namespace)
        except (Gone, Forbidden):
            self._absent[kind] = self._clock() + ABSENT_FRESH_SECONDS
            return []

    async def nodes(self) -> tuple[Json, ...]:
        """The metadata of all nodes, at most a minute old. Nothing where the operator may not list nodes."""
        now = self._clock()
        if self._nodes is None or self._nodes[0] <= now:
            try:
                found = tuple(await self.all(NODES, metadata_only=True))
            except Forbidden:
                found = ()
            self._nodes = (now + NODES_FRESH_SECONDS, found)
        return self._nodes[1]

    async def node(self, name: str) -> Json | None:
        """One node as it lives; empty when there is none of that name, None where the operator may not read nodes."""
        try:
            return await self.get(NODES, "", name) or {}
        except Forbidden:
            return None

    async def whole_nodes(self) -> tuple[Json, ...]:
        """All nodes with their specs and status, at most a minute old, and no older than `nodes_changed`. Raises ApiError."""
        now = self._clock()
        if self._whole_nodes is None or self._whole_nodes[0] <= now:
            self._whole_nodes = (now + NODES_FRESH_SECONDS, tuple(await self.all(NODES)))
        return self._whole_nodes[1]

    def nodes_changed(self) -> None:
        """Something of a node is another: its labels, taints, devices, or whether it takes pods."""
        self._whole_nodes = None

    async def events(self, namespace: str, uid: str) -> list[Json]:
        """The Events about one object."""
        return await self.all(EVENTS, namespace, fields=f"involvedObject.uid={uid}")

    async def log(self, namespace: str, pod: str, container: str, *, previous: bool = False) -> str:
        """The container's log: its end (64 KiB) and, when that is not all, its beginning. Empty when there is none."""
        query = {"container": container, "tailLines": str(LOG_TAIL_LINES)}
        if previous:
            query["previous"] = "true"
        tail = await self._log(namespace, pod, query, LOG_TAIL_BYTES)
        if len(tail) < LOG_TAIL_BYTES and tail.count(b"\n") < LOG_TAIL_LINES:
            return tail.decode("utf-8", "replace")
        del query["tailLines"]
        head = await self._log(namespace, pod, {**query, "limitBytes": str(LOG_HEAD_BYTES)}, LOG_HEAD_BYTES)
        return head.decode("utf-8", "replace") + "\n[…]\n" + tail.decode("utf-8", "replace")

    async def _log(self, namespace: str, pod: str, query: Mapping[str, str], limit: int) -> bytes:
        path = path_of(PODS, namespace, pod, "log")
        answer = await self.connection.send(Request("GET", path, query, accept="*/*", limit=limit))
        if answer.status in {400, 404}:  # not started yet, no previous container, or the pod is gone
            return b""
        if answer.status != 200:
            raise error_of(answer.status, answer.body, answer.headers, f"GET {path}")
        return answer.body

    async def through_proxy(self, call: ProxyCall) -> ProxyAnswer:
        """What a pod answers through the API server's proxy. Raises Busy when the server itself cannot be asked."""
        target = f"https:{call.pod}:{call.port}" if call.https else f"{call.pod}:{call.port}"
        request = Request(
            "GET" if call.body is None else "POST",
            path_of(PODS, call.namespace, target, f"proxy{quote(call.path)}"),
            body=call.body,
            accept="*/*",
            timeout=call.timeout,
            limit=call.limit,
        )
        answer = await self.connection.send(request)
        return ProxyAnswer(answer.status, answer.body)
