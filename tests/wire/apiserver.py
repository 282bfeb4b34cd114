"""The HTTP side: paths, verbs, watches, logs, the pod proxy, discovery, an audit of every request, and faults on demand.

One event loop, no threads; the port is the kernel's choice.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.wire.objects import Change, Object, Place, Rejected, Store, matches, merge, merged, replace

KINDS = {
    ("api/v1", "pods"): "Pod",
    ("api/v1", "services"): "Service",
    ("api/v1", "configmaps"): "ConfigMap",
    ("api/v1", "persistentvolumeclaims"): "PersistentVolumeClaim",
    ("api/v1", "events"): "Event",
    ("api/v1", "nodes"): "Node",
    ("api/v1", "persistentvolumes"): "PersistentVolume",
    ("api/v1", "namespaces"): "Namespace",
    ("apis/apps/v1", "deployments"): "Deployment",
    ("apis/batch/v1", "jobs"): "Job",
    ("apis/autoscaling/v2", "horizontalpodautoscalers"): "HorizontalPodAutoscaler",
    ("apis/coordination.k8s.io/v1", "leases"): "Lease",
    ("apis/apiextensions.k8s.io/v1", "customresourcedefinitions"): "CustomResourceDefinition",
    ("apis/vllm-operator.dev/v1alpha1", "vllmmodels"): "VLLMModel",
}
CLUSTER_SCOPED = {"nodes", "persistentvolumes", "namespaces", "customresourcedefinitions"}
Fault = Callable[[web.Request], web.Response | Awaitable[None] | None]
PodServer = Callable[[str, str, bytes], tuple[int, Any]]  # method, path, body -> status, JSON


@dataclass(slots=True)
class Kubernetes:
    """The fake: its objects, its audit, and what pods say."""

    store: Store = field(default_factory=Store)
    audit: list[tuple[str, str]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    logs: dict[tuple[str, bool], str] = field(default_factory=dict)  # (pod, previous)
    pod_servers: dict[str, PodServer] = field(default_factory=dict)
    url: str = ""

    def put(self, body: Object, **metadata: Any) -> Object:
        """Creates an object as a test's hand would."""
        body = {**body, "metadata": {**body["metadata"], **metadata}}
        return self.store.create(self.place_of(body), body)

    def edit(self, kind: str, name: str, patch: Object, namespace: str = "team") -> Object:
        """Merges a patch into an object, as controllers do with its status."""
        place = self.place(kind, name, namespace)
        if kind == "VLLMModel" and patch.keys() & {"spec", "metadata"}:
            by_hand = {"manager": "kubectl-edit", "operation": "Update", "time": self.store.now(), "fieldsV1": {}}
            patch = merged(patch, {"metadata": {"managedFields": [by_hand]}})
        return self.store.change(place, lambda live: merge(live, patch), {})

    def remove(self, kind: str, name: str, namespace: str = "team") -> None:
        """Deletes an object and what it owned."""
        self.store.delete(self.place(kind, name, namespace), {})

    def get(self, kind: str, name: str, namespace: str = "team") -> Object | None:
        """The object as it is stored."""
        return self.store.objects.get(self.place(kind, name, namespace))

    def all(self, kind: str) -> list[Object]:
        """All objects of a kind, in order of name."""
        return [found for place, found in sorted(self.store.objects.items()) if KINDS[place.root, place.plural] == kind]

    def place(self, kind: str, name: str, namespace: str = "team") -> Place:
        root, plural = next(key for key, value in KINDS.items() if value == kind)
        return Place(root, plural, "" if plural in CLUSTER_SCOPED else namespace, name)

    def place_of(self, body: Object) -> Place:
        return self.place(body["kind"], body["metadata"]["name"], body["metadata"].get("namespace", "team"))

    def verbs(self) -> Counter[str]:
        """How often each verb was asked for, watches aside."""
        return Counter(verb for verb, _ in self.audit if verb != "WATCH")

    async def handle(self, request: web.Request) -> web.StreamResponse:
        verb = "WATCH" if request.query.get("watch") == "true" else request.method
        self.audit.append((verb, request.path_qs))
        for fault in list(self.faults):
            answer = fault(request)
            if isinstance(answer, web.Response):
                return answer
            if answer is not None:
                await answer
        try:
            return await self.route(request)
        except Rejected as error:
            body = {"kind": "Status", "code": error.status, "reason": error.reason, "message": error.message}
            body |= {"details": error.details}
            return web.json_response(body, status=error.status)

    async def route(self, request: web.Request) -> web.StreamResponse:
        pieces = [piece for piece in request.path.split("/") if piece]
        found = discovery(pieces)
        if found is not None:
            return web.json_response(found)
        root, rest = ("/".join(pieces[:2]), pieces[2:]) if pieces[0] == "api" else ("/".join(pieces[:3]), pieces[3:])
        namespace = ""
        if rest[:1] == ["namespaces"] and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        plural, name, *sub = [*rest, ""] if len(rest) == 1 else rest
        if (root, plural) not in KINDS:
            raise Rejected(404, "NotFound", "the server could not find the requested resource")
        place = Place(root, plural, namespace, name)
        if not name:
            return await self.collection(request, place)
        if sub and sub[0] in {"log", "proxy"}:
            return await self.of_pod(request, place, sub)
        return await self.object(request, place, sub[0] if sub else "")

    async def collection(self, request: web.Request, place: Place) -> web.StreamResponse:
        if request.method == "POST":
            body = await request.json()
            there = Place(place.root, place.plural, place.namespace, body["metadata"]["name"])
            return web.json_response(self.store.create(there, body, request.query.get("fieldManager", "")), status=201)
        if request.query.get("watch") == "true":
            return await self.watch(request, place)
        items = [found for at, found in sorted(self.store.objects.items()) if self.selected(request, place, at, found)]
        start, limit = int(request.query.get("continue", 0)), int(request.query.get("limit", 0)) or len(items) or 1
        metadata = {"resourceVersion": str(self.store.version)}
        if start + limit < len(items):
            metadata["continue"] = str(start + limit)
        page = items[start : start + limit]
        if "PartialObjectMetadataList" in request.headers.get("Accept", ""):
            page = [{"metadata": item["metadata"]} for item in page]
        kind = KINDS[place.root, place.plural]
        version = place.root.split("/", 1)[1]
        return web.json_response({"kind": f"{kind}List", "apiVersion": version, "metadata": metadata, "items": page})

    def selected(self, request: web.Request, place: Place, at: Place, body: Object) -> bool:
        if (at.root, at.plural) != (place.root, place.plural) or (place.namespace and at.namespace != place.namespace):
            return False
        return matches(body, request.query.get("labelSelector", ""), request.query.get("fieldSelector", ""))

    async def watch(self, request: web.Request, place: Place) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        changes: asyncio.Queue[Change] = asyncio.Queue()
        since = int(request.query.get("resourceVersion") or 0)
        for change in self.store.history:
            if change.version > since:
                changes.put_nowait(change)
        self.store.listeners.append(changes.put_nowait)
        try:
            while True:
                change = await changes.get()
                if self.selected(request, place, change.place, change.object):
                    await response.write(json.dumps({"type": change.type, "object": change.object}).encode() + b"\n")
        except ConnectionError:
            return response
        finally:
            self.store.listeners.remove(changes.put_nowait)

    async def object(self, request: web.Request, place: Place, sub: str) -> web.Response:
        if request.method == "GET":
            return web.json_response(self.store.find(place))
        body = await request.json() if request.can_read_body else {}
        if request.method == "DELETE":
            self.store.delete(place, body.get("preconditions") or {})
            return web.json_response({"kind": "Status", "status": "Success"})
        if request.method == "PUT":
            changed = self.store.change(place, lambda live: replace(live, body), body["metadata"])
            return web.json_response(changed)
        if "apply-patch" not in request.headers["Content-Type"]:
            changed = self.store.change(place, lambda live: merge(live, body), body.get("metadata") or {})
            return web.json_response(changed)
        if request.query.get("dryRun") == "All":
            return web.json_response(self.store.dry_run(place, body, request.query["fieldManager"]))
        return web.json_response(self.applied(place, body, request.query["fieldManager"], sub))

    def applied(self, place: Place, body: Object, manager: str, sub: str) -> Object:
        if place not in self.store.objects and not sub:
            if body["metadata"].get("uid"):
                raise Rejected(409, "Conflict", f"{place.name!r} with that uid is gone")
            return self.store.create(place, body, manager, "Apply")
        return self.store.apply(place, body, manager, sub)

    async def of_pod(self, request: web.Request, place: Place, sub: list[str]) -> web.Response:
        if sub[0] == "log":
            text = self.logs.get((place.name, request.query.get("previous") == "true"))
            if text is None:
                raise Rejected(400, "BadRequest", f"container in pod {place.name!r} is waiting to start")
            lines = text.splitlines(keepends=True)[-int(request.query.get("tailLines", 10**9)) :]
            return web.Response(text="".join(lines)[: int(request.query.get("limitBytes", 10**9))])
        name = place.name.split(":")
        server = self.pod_servers.get(name[1] if name[0] in {"http", "https"} else name[0])
        if server is None:
            raise Rejected(503, "ServiceUnavailable", "error trying to reach service: connection refused")
        status, answer = server(request.method, "/" + "/".join(sub[1:]), await request.read())
        return web.json_response(answer, status=status)


def discovery(pieces: list[str]) -> Object | None:
    """What kopf asks before it watches: the version, the groups, and each group's resources."""
    roots = sorted({root for root, _ in KINDS})
    if pieces == ["version"]:
        return {"major": "1", "minor": "36", "gitVersion": "v1.36.3"}
    if pieces == ["api"]:
        return {"kind": "APIVersions", "versions": ["v1"]}
    if pieces == ["apis"]:
        names = [root.split("/")[1:] for root in roots if root.startswith("apis/")]
        versions = [(group, {"groupVersion": f"{group}/{version}", "version": version}) for group, version in names]
        return {"kind": "APIGroupList", "groups": [
            {"name": group, "versions": [version], "preferredVersion": version} for group, version in versions
        ]}  # fmt: skip
    if "/".join(pieces) in roots:
        here = [(plural, kind) for (root, plural), kind in KINDS.items() if root == "/".join(pieces)]
        return {"kind": "APIResourceList", "groupVersion": "/".join(pieces[1:]), "resources": [
            {"name": plural, "singularName": kind.lower(), "kind": kind, "namespaced": plural not in CLUSTER_SCOPED,
             "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"]} for plural, kind in here
        ]}  # fmt: skip
    return None


@asynccontextmanager
async def running(fake: Kubernetes | None = None) -> AsyncIterator[Kubernetes]:
    """A fake API server that listens on 127.0.0.1."""
    fake = fake or Kubernetes()
    app = web.Application(client_max_size=16 * 2**20)
    app.router.add_route("*", "/{path:.*}", fake.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handle_signals=False)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    fake.url = f"http://127.0.0.1:{port}"
    try:
        yield fake
    finally:
        await runner.cleanup()
