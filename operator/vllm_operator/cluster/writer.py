"""Everything the operator writes, bound to one model: its namespace, its kinds, its ownerReference, or nothing.

Own objects are applied whole (server-side apply, one field manager). Shared objects are created once by whoever comes
first; each model adds and takes back its own ownerReference, and the last one deletes. Every write names the uid of the
object that was seen, so that none reaches a successor of the same name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vllm_operator.api import API_VERSION, KIND
from vllm_operator.cluster.connection import APPLY, MERGE, Connection, Request
from vllm_operator.cluster.errors import Conflict, Gone, OutOfBounds
from vllm_operator.cluster.kinds import (
    DELETABLE,
    MODELS,
    WRITABLE,
    Json,
    kind_of,
    model_owners,
    path_of,
    ref_of,
)
from vllm_operator.decide.types import Ref
from vllm_operator.plan.labels import RETAIN_LABEL, RETAINED_FOR, retain_labels, retained_for

FIELD_MANAGER = "vllm-operator"


@dataclass(frozen=True, slots=True)
class Owner:
    """The model that writes are made for."""

    namespace: str
    name: str
    uid: str

    def reference(self) -> dict[str, str]:
        """Its (non-controller) ownerReference."""
        return {"apiVersion": API_VERSION, "kind": KIND, "name": self.name, "uid": self.uid}


class Writer:
    """Writes for one model. Each raises ApiError (Conflict: look again) or OutOfBounds (a bug)."""

    def __init__(self, connection: Connection, owner: Owner) -> None:
        self._connection = connection
        self._owner = owner

    async def status(self, status: Json, version: str) -> str:
        """Applies the whole status; fields and conditions that are no longer in it go away. The version it made.

        `version` is the model's as it was read: no status is written about another life of it, or another spec. (A
        /status takes no heed of a uid.)
        """
        owner = self._owner
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": owner.name, "namespace": owner.namespace, "resourceVersion": version},
            "status": status,
        }
        live = await self._apply(path_of(MODELS, owner.namespace, owner.name, "status"), body, FIELD_MANAGER)
        return str(live["metadata"]["resourceVersion"])

    async def create(self, manifest: Json, *, owned: bool = False) -> Json | None:
        """The object as created, with this model as its first owner if so; None when there is one of that name already."""
        self._check(manifest)
        path = path_of(kind_of(ref_of(manifest)), self._owner.namespace)
        body = thawed(manifest)
        if owned:
            body["metadata"] = {**body["metadata"], "ownerReferences": [self._owner.reference()]}
        manager = f"{FIELD_MANAGER}-{self._owner.uid}" if owned else FIELD_MANAGER
        try:
            made: Json = await self._connection.call(Request("POST", path, {"fieldManager": manager}, body))
        except Conflict:
            return None
        return made

    async def own(self, ref: Ref, uid: str) -> None:
        """Adds this model's ownerReference to the object of that uid, and touches nothing else."""
        body = self._stub(ref, uid, {"ownerReferences": [self._owner.reference()]})
        # A field manager of its own for each model: one model's apply never takes another's reference away.
        manager = f"{FIELD_MANAGER}-{self._owner.uid}"
        await self._apply(self._path(ref), body, manager)

    async def annotate(self, ref: Ref, annotations: Mapping[str, str], uid: str) -> None:
        """Sets annotations of the object of that uid."""
        body = {"metadata": {"uid": uid, "annotations": dict(annotations)}}
        await self._patch(self._path(ref), body)

    async def apply(self, manifest: Json, uid: str = "", *, dry_run: bool = False) -> Json:
        """Server-side apply of the whole object; with a uid, to that very object and no other of its name.

        What it came to; `dry_run`: what it would come to, with nothing written.
        """
        self._check(manifest)
        body = thawed(manifest)
        if uid:
            body["metadata"] = {**body["metadata"], "uid": uid}
        return await self._apply(self._path(ref_of(manifest)), body, FIELD_MANAGER, dry_run=dry_run)

    async def delete(self, ref: Ref, uid: str, resource_version: str = "") -> None:
        """Deletes the object of that uid (and version); its dependents follow. Fine when it is gone already."""
        preconditions = {"uid": uid, **({"resourceVersion": resource_version} if resource_version else {})}
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": preconditions,
        }
        try:
            await self._connection.call(Request("DELETE", self._path(ref, DELETABLE), body=body))
        except Gone:
            return

    async def release(self, ref: Ref) -> None:
        """Gives this model's ownerReference back; the last owner deletes the object. Fine when it is gone already."""
        try:
            live = await self._connection.call(Request("GET", self._path(ref)))
        except Gone:
            return
        metadata = live["metadata"]
        owners = metadata.get("ownerReferences") or []
        others = [owner for owner in owners if owner.get("uid") != self._owner.uid]
        if len(others) == len(owners) or metadata.get("deletionTimestamp"):
            return
        if not model_owners({"metadata": {"ownerReferences": others}}):
            await self.delete(ref, metadata["uid"], metadata["resourceVersion"])
            return
        # The whole list is replaced, so the version must still be the one that it was read at.
        body = {"metadata": {"resourceVersion": metadata["resourceVersion"], "ownerReferences": others}}
        await self._patch(self._path(ref), body)

    async def grow(self, ref: Ref, size: str, uid: str) -> None:
        """Asks for more of the claim of that uid. Raises Refused or Forbidden where its storage cannot be enlarged."""
        body = {"metadata": {"uid": uid}, "spec": {"resources": {"requests": {"storage": size}}}}
        await self._patch(self._path(ref), body)

    async def retain(self, ref: Ref) -> None:
        """Marks the object as one to be kept for this model, and takes every model's ownerReference off it."""
        await self._rewrite(ref, lambda live: ([], retain_labels(self._owner.uid)))

    async def disown(self, ref: Ref) -> None:
        """Takes this model's ownerReference off the object, and its mark that it is to be kept. The object stays."""
        mine = self._owner.uid

        def without_mine(live: Json) -> tuple[list[Json], dict[str, str | None]]:
            others = retained_for(live["metadata"].get("labels") or {}) - {mine}
            gone = (f"{RETAINED_FOR}{mine}", *(() if others else (RETAIN_LABEL,)))
            return [owner for owner in model_owners(live) if owner["uid"] != mine], dict.fromkeys(gone)

        await self._rewrite(ref, without_mine)

    async def _rewrite(self, ref: Ref, change: Callable[[Json], tuple[list[Json], Mapping[str, str | None]]]) -> None:
        """Replaces the models among the owners, and sets labels (None: takes off). Fine when the object is gone."""
        try:
            live = await self._connection.call(Request("GET", self._path(ref)))
        except Gone:
            return
        metadata = live["metadata"]
        owners, labels = change(live)
        strangers = [one for one in metadata.get("ownerReferences") or [] if one not in model_owners(live)]
        # The whole list is replaced, so the version must still be the one that it was read at.
        body = {
            "metadata": {
                "resourceVersion": metadata["resourceVersion"],
                "ownerReferences": [*strangers, *owners],
                "labels": dict(labels),
            }
        }
        await self._patch(self._path(ref), body)

    def _path(self, ref: Ref, kinds: frozenset[tuple[str, str]] = WRITABLE) -> str:
        if kind_of(ref) not in kinds:
            raise OutOfBounds(f"{ref.kind} {ref.name} is of a kind that the operator never writes")
        return path_of(kind_of(ref), self._owner.namespace, ref.name)

    def _check(self, manifest: Json) -> None:
        metadata = manifest["metadata"]
        if metadata.get("namespace") != self._owner.namespace:
            raise OutOfBounds(
                f"{manifest['kind']} {metadata['name']} is not in the model's namespace {self._owner.namespace}"
            )
        if any(owner.get("uid") != self._owner.uid for owner in metadata.get("ownerReferences") or []):
            raise OutOfBounds(
                f"{manifest['kind']} {metadata['name']} names another owner than the model {self._owner.name}"
            )
        self._path(ref_of(manifest))

    def _stub(self, ref: Ref, uid: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "apiVersion": ref.api_version,
            "kind": ref.kind,
            "metadata": {"name": ref.name, "namespace": self._owner.namespace, "uid": uid, **metadata},
        }

    async def _apply(self, path: str, body: Json, manager: str, *, dry_run: bool = False) -> Json:
        query = {"fieldManager": manager, "force": "true"} | ({"dryRun": "All"} if dry_run else {})
        live: Json = await self._connection.call(Request("PATCH", path, query, body, content_type=APPLY))
        return live

    async def _patch(self, path: str, body: Json) -> None:
        await self._connection.call(Request("PATCH", path, {"fieldManager": FIELD_MANAGER}, body, content_type=MERGE))


def thawed(value: Any) -> Any:
    """The value as plain dicts and lists, which is what the JSON encoder and the client know."""
    if isinstance(value, Mapping):
        return {str(key): thawed(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [thawed(item) for item in value]
    return value
