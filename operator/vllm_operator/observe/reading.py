"""Taking apart what the API server said: small questions to plain JSON, no requests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from vllm_operator.cluster.kinds import Json, owner_uids
from vllm_operator.plan.labels import MANAGER

MANAGED_BY = "app.kubernetes.io/managed-by"


def metadata_of(body: Json) -> Json:
    """The metadata of a live object."""
    found: Json = body.get("metadata") or {}
    return found


def annotation(body: Json, key: str) -> str:
    """An annotation's value; "" when it is not there."""
    return str((metadata_of(body).get("annotations") or {}).get(key, ""))


def is_deleting(body: Json) -> bool:
    """Whether the object is on its way out."""
    return bool(metadata_of(body).get("deletionTimestamp"))


def is_owned(body: Json, uid: str) -> bool:
    """Whether the object carries the ownerReference of the model with that uid."""
    return uid in owner_uids(body)


def is_ours(body: Json) -> bool:
    """Whether the operator made it: its label says so."""
    return bool((metadata_of(body).get("labels") or {}).get(MANAGED_BY) == MANAGER)


def condition_is_true(body: Json, *types: str) -> bool:
    """Whether one of these conditions is True."""
    conditions = (body.get("status") or {}).get("conditions") or []
    return any(c.get("type") in types and c.get("status") == "True" for c in conditions)


def seconds_as(body: Json, type_: str, status: str, now: datetime) -> float:
    """Seconds since a condition has had that status; 0 where it has not, or does not say since when."""
    conditions = (body.get("status") or {}).get("conditions") or []
    found = next((c for c in conditions if c.get("type") == type_ and c.get("status") == status), None)
    since = str((found or {}).get("lastTransitionTime") or "")
    return age_seconds({"metadata": {"creationTimestamp": since}}, now) if since else 0.0


def count(body: Json, *path: str) -> int:
    """The number at a path; 0 when it is not there."""
    found: Any = body
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, int) else 0


def parsed(text: str) -> Json | None:
    """The JSON object in a text, or None."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def container_state(pod: Json, name: str = "") -> Json:
    """The status of the pod's container of that name (the first one when no name is given); {} when there is none."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return next((status for status in statuses if not name or status.get("name") == name), {})


def age_seconds(body: Json, now: datetime) -> float:
    """Seconds since the object was created; 0 when it does not say."""
    try:
        created = datetime.fromisoformat(str(metadata_of(body).get("creationTimestamp")))
    except ValueError:
        return 0.0
    return (now - created).total_seconds() if created.tzinfo is not None else 0.0


def newest(bodies: list[Json]) -> Json | None:
    """The object that was created last."""
    return max(
        bodies,
        key=lambda body: (str(metadata_of(body).get("creationTimestamp")), str(metadata_of(body).get("name"))),
        default=None,
    )
