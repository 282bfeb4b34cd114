"""kopf at the rim: it logs in, watches, reconnects and answers the liveness probe. Handlers put keys into the queue.

Nothing of kopf's own memory is used. Its annotations can be forged by whoever may write the object, and a malformed one
would silence even the plain event handlers; so both of its storages store nothing, and no handler needs a finalizer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import kopf

from vllm_operator.api import GROUP, PLURAL, VERSION
from vllm_operator.interest import Interests
from vllm_operator.observe.places import fingerprint
from vllm_operator.observe.reading import MANAGED_BY
from vllm_operator.plan.labels import JOB_LABEL, MANAGER, VOLUME_LABEL
from vllm_operator.queue import Key, Queue
from vllm_operator.reconcile import Reconciler
from vllm_operator.sweep import Sweep

log = logging.getLogger(__name__)

# Kinds whose events are worth a look: with our label, chosen by the server.
CHILDREN = (
    ("apps", "v1", "deployments"),
    ("batch", "v1", "jobs"),
    ("", "v1", "pods"),
    ("", "v1", "services"),
    ("", "v1", "configmaps"),
    ("", "v1", "persistentvolumeclaims"),
)
VOLUMES = ("", "v1", "persistentvolumes")
Watching = Callable[[], str]  # "" while all is well, else what is wrong


class NoDiff(kopf.DiffBaseStorage):
    """Stores nothing: there is no difference to handle, only a world to look at."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[Any] | None = None) -> kopf.BodyEssence:
        """Nothing of the object is remembered."""
        return kopf.BodyEssence({})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Nothing was remembered."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Nothing is written."""


class NoProgress(kopf.ProgressStorage):
    """Stores nothing: no handler ever has progress."""

    def fetch(self, *, key: Any, body: kopf.Body) -> Any:
        """Nothing was remembered."""
        return None

    def store(self, *, key: Any, record: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        """Nothing is written."""

    def purge(self, *, key: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        """Nothing is removed."""

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Nothing is touched."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """There is nothing to clear."""
        return essence


@dataclass(frozen=True, slots=True)
class Doormen:
    """What handlers need: where keys go, whom an event concerns, and whether the process is well."""

    queue: Queue
    reconciler: Reconciler
    is_unwell: Watching = lambda: ""
    sweep: Sweep | None = None  # of the nodes' own disks, where the platform has set a folder of them apart
    nodes: dict[str, object] = field(default_factory=dict)  # by name, what matters of each

    @property
    def interests(self) -> Interests:
        """Whom events concern."""
        return self.reconciler.interests

    def model(self, event: Mapping[str, Any]) -> None:
        """An event about a model."""
        metadata = event["object"].get("metadata") or {}
        key = Key(str(metadata.get("namespace")), str(metadata.get("name")))
        if event.get("type") == "MODIFIED" and self.reconciler.is_own_echo(key, str(metadata.get("resourceVersion"))):
            return
        self._due(key)

    def child(self, event: Mapping[str, Any]) -> None:
        """An event about an object with our label."""
        for key in self.interests.keys_of(event["object"]):
            self._due(key)
        labels = (event["object"].get("metadata") or {}).get("labels") or {}
        if VOLUME_LABEL in labels and JOB_LABEL in labels:
            self._nodes_changed()  # a Job that made or removed a folder on a node

    def node(self, event: Mapping[str, Any]) -> None:
        """An event about a node. Most are heartbeats, which change nothing that matters."""
        name = str((event["object"].get("metadata") or {}).get("name"))
        seen = fingerprint(event["object"]) if event.get("type") != "DELETED" else None
        if self.nodes.get(name) == seen:
            return
        self.nodes[name] = seen
        if seen is None:
            del self.nodes[name]
        self._nodes_changed()

    def volume(self, event: Mapping[str, Any]) -> None:
        """An event about a volume on the nodes' own disks: perhaps its claim is gone."""
        if self.sweep is not None:
            self.sweep.nodes_changed()

    def _nodes_changed(self) -> None:
        if self.sweep is None:
            return
        self.sweep.nodes_changed()
        for key in self.interests.of_nodes():
            self._due(key)

    def _due(self, key: Key) -> None:
        self.reconciler.changed(key)
        self.queue.add(key)


def settings() -> kopf.OperatorSettings:
    """kopf's settings. Times are in seconds."""
    made = kopf.OperatorSettings()
    made.persistence.diffbase_storage = NoDiff()
    made.persistence.progress_storage = NoProgress()
    made.peering.standalone = True
    made.posting.enabled = False
    made.networking.request_timeout = 30  # of a list; a watch may last
    made.networking.connect_timeout = 5
    made.networking.error_backoffs = (1, 1, 2, 3, 5, 8, 8, 8)  # back within 8 s of the API server's return
    made.watching.server_timeout = 600  # asked of the API server; kopf itself gives up a watch that is silent for 70 s
    made.watching.chunk_size = 500  # objects in one answer
    for group, version, plural in (*CHILDREN, VOLUMES):
        kind = (group, version, plural) if group else (version, plural)
        made.watching.label_selectors[kind] = f"{MANAGED_BY}={MANAGER}"
    return made


def registry(doormen: Doormen) -> kopf.OperatorRegistry:
    """The handlers: one for models, one for everything that belongs to them, one for the liveness probe."""
    made = kopf.OperatorRegistry()

    async def model_changed(event: Mapping[str, Any], **_: Any) -> None:
        doormen.model(event)

    async def child_changed(event: Mapping[str, Any], **_: Any) -> None:
        doormen.child(event)

    async def fresh(**_: Any) -> str:
        wrong = doormen.is_unwell()
        if wrong:
            # Any other exception would make the probe wait for kopf's back-off of a minute.
            raise kopf.PermanentError(wrong)
        return "fresh"

    kopf.on.login(registry=made)(kopf.login_via_client)
    kopf.on.event(GROUP, VERSION, PLURAL, registry=made)(model_changed)
    for group, version, plural in CHILDREN:
        kopf.on.event(group, version, plural, registry=made)(child_changed)
    if doormen.sweep is not None:
        _on_nodes(doormen, made)
    kopf.on.probe(id="fresh", registry=made)(fresh)
    return made


def _on_nodes(doormen: Doormen, made: kopf.OperatorRegistry) -> None:
    """Two more, where weights may be on the nodes' own disks."""

    async def node_changed(event: Mapping[str, Any], **_: Any) -> None:
        doormen.node(event)

    async def volume_changed(event: Mapping[str, Any], **_: Any) -> None:
        doormen.volume(event)

    kopf.on.event("", "v1", "nodes", registry=made)(node_changed)
    kopf.on.event(*VOLUMES, registry=made)(volume_changed)


async def watch(doormen: Doormen, namespaces: Collection[str] = (), liveness: str | None = None) -> None:
    """Watches until SIGTERM or SIGINT, or until kopf gives up (then it raises, and the process is to end).

    `liveness` is HOST:PORT of the probe's endpoint, which answers at /healthz.
    """
    made = settings()
    # With a fixed list of namespaces nothing of cluster scope is read: no rights on namespaces or CRDs are needed.
    made.scanning.disabled = bool(namespaces)
    await kopf.operator(
        registry=registry(doormen),
        settings=made,
        # Else kopf asks for the user's name, and uid 65532 of a container has none.
        identity=cast(Any, "vllm-operator"),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=sorted(namespaces),
        liveness_endpoint=f"http://{liveness}/healthz" if liveness else None,
    )
