"""What the API server does with objects: versions, patches, selectors, and the collection of what lost its owners.

An approximation that is good where the operator leans on it: server-side apply merges maps and replaces lists (but
ownerReferences are merged by uid, and a status is replaced whole), and records the applying manager's fields.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]


class Rejected(Exception):
    """The HTTP status and the reason of a refusal."""

    def __init__(self, status: int, reason: str, message: str, field: str = "") -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message
        self.details = (
            {"causes": [{"reason": "FieldValueInvalid", "message": message, "field": field}]} if field else {}
        )


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where an object lives: `apis/apps/v1`, `deployments`, namespace (empty: cluster-scoped) and name."""

    root: str
    plural: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the watch's history."""

    version: int
    type: str
    place: Place
    object: Object


@dataclass(slots=True)
class Store:
    """All objects, and the history of their changes."""

    objects: dict[Place, Object] = field(default_factory=dict)
    history: list[Change] = field(default_factory=list)
    listeners: list[Callable[[Change], None]] = field(default_factory=list)
    _versions: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _uids: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _seconds: Iterator[int] = field(default_factory=itertools.count)
    version: int = 0
    webhooks: list[Callable[[Object], None]] = field(default_factory=list)  # mutating ones, asked of every apply

    def create(self, place: Place, body: Object, manager: str = "", operation: str = "Update") -> Object:
        if place in self.objects:
            raise Rejected(409, "AlreadyExists", f"{place.plural} {place.name!r} already exists")
        made = copy.deepcopy(body)
        metadata = made.setdefault("metadata", {})
        metadata |= {"name": place.name, "uid": f"uid-{next(self._uids)}", "creationTimestamp": self.now()}
        if place.namespace:
            metadata["namespace"] = place.namespace
        metadata["generation"] = 1
        if manager:
            _note_manager(made, body, manager, operation)
        if operation == "Apply":
            self.admit(made)
        self._put(place, made, "ADDED")
        return made

    def now(self) -> str:
        """A second after it was last asked for."""
        second = next(self._seconds)
        return f"2026-11-21T10:{second // 60 % 60:02}:{second % 60:02}Z"

    def change(self, place: Place, edit: Callable[[Object], None], expect: Mapping[str, Any]) -> Object:
        """Edits an object in place of a patch; `expect` is the patch's metadata with its preconditions."""
        live = self.find(place)
        if expect.get("uid") not in (None, "", live["metadata"]["uid"]):
            raise Rejected(422, "Invalid", "metadata.uid: Invalid value: field is immutable", "metadata.uid")
        self.check(live, expect)
        changed = copy.deepcopy(live)
        edit(changed)
        kept = {key: live["metadata"].get(key) for key in ("uid", "creationTimestamp", "resourceVersion", "generation")}
        changed["metadata"] |= kept
        if _same(changed, live):
            return live  # nothing changed: no new version, no event
        if changed.get("spec") != live.get("spec"):
            changed["metadata"]["generation"] = live["metadata"]["generation"] + 1
        self._put(place, changed, "MODIFIED")
        return changed

    def apply(self, place: Place, body: Object, manager: str, sub: str) -> Object:
        """Server-side apply to an object that exists."""
        return self.change(place, lambda live: self._applied(live, body, manager, sub), body["metadata"])

    def dry_run(self, place: Place, body: Object, manager: str) -> Object:
        """What an apply would come to."""
        if place not in self.objects:
            made = copy.deepcopy(body)
            self.admit(made)
            return made
        live = copy.deepcopy(self.find(place))
        kept = dict(live["metadata"])
        self._applied(live, body, manager, "")
        live["metadata"] |= {key: kept[key] for key in ("uid", "resourceVersion", "generation")}
        return live

    def _applied(self, live: Object, body: Object, manager: str, sub: str) -> None:
        apply(live, body, manager, sub)
        if not sub:
            self.admit(live)

    def admit(self, body: Object) -> None:
        for webhook in self.webhooks:
            webhook(body)

    def find(self, place: Place) -> Object:
        if place not in self.objects:
            raise Rejected(404, "NotFound", f"{place.plural} {place.name!r} not found")
        return self.objects[place]

    def check(self, live: Object, expect: Mapping[str, Any]) -> None:
        for key in ("uid", "resourceVersion"):
            if expect.get(key) not in (None, "", live["metadata"][key]):
                raise Rejected(
                    409, "Conflict", f"the {key} in the precondition is {expect[key]}, not {live['metadata'][key]}"
                )

    def delete(self, place: Place, expect: Mapping[str, Any]) -> None:
        live = self.find(place)
        self.check(live, expect)
        del self.objects[place]
        self._tell("DELETED", place, live)
        self._collect(live["metadata"]["uid"])

    def _collect(self, gone: str) -> None:
        """The garbage collector: what loses its last owner goes, too."""
        for place, found in list(self.objects.items()):
            owners = found["metadata"].get("ownerReferences") or []
            if place in self.objects and owners and all(owner["uid"] == gone for owner in owners):
                self.delete(place, {})
            elif any(owner["uid"] == gone for owner in owners):
                left = [owner for owner in owners if owner["uid"] != gone]
                self._put(place, {**found, "metadata": {**found["metadata"], "ownerReferences": left}}, "MODIFIED")

    def _put(self, place: Place, body: Object, type: str) -> None:
        self.objects[place] = body
        self._tell(type, place, body)

    def _tell(self, type: str, place: Place, body: Object) -> None:
        self.version = next(self._versions)
        body["metadata"]["resourceVersion"] = str(self.version)
        change = Change(self.version, type, place, copy.deepcopy(body))
        self.history.append(change)
        for listener in list(self.listeners):
            listener(change)


def _same(one: Object, other: Object) -> bool:
    return _without_managers(one) == _without_managers(other)


def _without_managers(body: Object) -> Object:
    return {**body, "metadata": {key: value for key, value in body["metadata"].items() if key != "managedFields"}}


def apply(live: Object, body: Object, manager: str, subresource: str) -> None:
    """Server-side apply, approximately."""
    if subresource == "status":
        live["status"] = copy.deepcopy(body.get("status"))
        return
    owners = {o["uid"]: o for o in live["metadata"].get("ownerReferences") or []}
    owners |= {o["uid"]: o for o in body["metadata"].get("ownerReferences") or []}
    if sum(bool(owner.get("controller")) for owner in owners.values()) > 1:
        raise Rejected(422, "Invalid", "metadata.ownerReferences: Only one reference can have Controller set to true")
    merge(live, {key: value for key, value in body.items() if key != "status"})
    _give_up_labels(live, body["metadata"].get("labels") or {}, manager)
    if owners:
        live["metadata"]["ownerReferences"] = list(owners.values())
    _note_manager(live, body, manager, "Apply")


def _give_up_labels(live: Object, labels: Mapping[str, str], manager: str) -> None:
    """Labels of this manager's last apply that it no longer names go; those that it names are its own from now on."""
    for entry in live["metadata"].get("managedFields") or []:
        owned = entry["fieldsV1"].get("f:metadata", {}).get("f:labels", {})
        for field_name in list(owned):
            key = field_name.removeprefix("f:")
            if entry["manager"] == manager and entry["operation"] == "Apply" and key not in labels:
                live["metadata"].get("labels", {}).pop(key, None)
            elif entry["manager"] != manager and key in labels:
                del owned[field_name]


def _note_manager(live: Object, body: Object, manager: str, operation: str) -> None:
    entries = live["metadata"].get("managedFields") or []
    entries = [e for e in entries if (e["manager"], e["operation"]) != (manager, operation)]
    fields = _fields({key: value for key, value in body.items() if key not in {"apiVersion", "kind", "status"}})
    for key in ("name", "namespace", "uid", "resourceVersion"):
        fields.get("f:metadata", {}).pop(f"f:{key}", None)
    entries.append({"manager": manager, "operation": operation, "fieldsType": "FieldsV1", "fieldsV1": fields})
    live["metadata"]["managedFields"] = entries


def _fields(value: Any) -> dict[str, Any]:
    return {f"f:{key}": _fields(item) for key, item in value.items()} if isinstance(value, dict) and value else {}


def merge(live: Object, patch: Mapping[str, Any]) -> None:
    """JSON merge patch: null deletes, maps merge, everything else replaces."""
    for key, value in patch.items():
        if value is None:
            live.pop(key, None)
        elif isinstance(value, dict) and isinstance(live.get(key), dict):
            merge(live[key], value)
        else:
            live[key] = copy.deepcopy(value)


def merged(one: Object, other: Mapping[str, Any]) -> Object:
    """Both patches in one."""
    both = copy.deepcopy(one)
    merge(both, other)
    return both


def replace(live: Object, body: Object) -> None:
    """A PUT: the whole object is another."""
    live.clear()
    live.update(copy.deepcopy(body))


def matches(body: Object, labels: str, fields: str) -> bool:
    """Whether an object is selected by equality selectors on its labels and fields."""
    own = body["metadata"].get("labels") or {}
    by_label = all(own.get(key) == value for key, value in _pairs(labels))
    return by_label and all(str(_at(body, key)) == value for key, value in _pairs(fields))


def _pairs(selector: str) -> list[tuple[str, str]]:
    pairs = (part.partition("=") for part in selector.split(",") if part)
    return [(key, value.lstrip("=")) for key, _, value in pairs]


def _at(body: Any, path: str) -> Any:
    for key in path.split("."):
        body = body.get(key, "") if isinstance(body, dict) else ""
    return body
