"""A volume claim as it is seen: bound or not, and what hinders it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from vllm_operator.api import quantity_bytes
from vllm_operator.cluster import Cluster
from vllm_operator.cluster.kinds import Json, model_owners
from vllm_operator.decide.types import ClaimSeen
from vllm_operator.diagnose import look_at_claim
from vllm_operator.observe.explain import MODIFIED, PROVISIONING_SECONDS
from vllm_operator.observe.reading import age_seconds, condition_is_true, is_deleting, is_owned, metadata_of
from vllm_operator.plan.labels import retained_for


class ClaimLooker:
    """Looks at claims; Events are asked for only of one that is not bound."""

    def __init__(self, cluster: Cluster, now: Callable[[], datetime]) -> None:
        self._cluster = cluster
        self._now = now

    async def look(self, live: Json, uid: str) -> ClaimSeen:
        """The claim as it is seen by the model with that uid."""
        status = live.get("status") or {}
        bound = status.get("phase") == "Bound"
        events = [] if bound and not _is_growing(live) else await self._events_of(live)
        return ClaimSeen(
            phase=str(status.get("phase") or "Pending"),
            capacity_bytes=_bytes(status, "capacity"),
            failure=look_at_claim(live, events),
            owned=is_owned(live, uid),
            deleting=is_deleting(live),
            uid=str(metadata_of(live)["uid"]),
            created=str(metadata_of(live).get("creationTimestamp") or ""),
            requested_bytes=_bytes((live.get("spec") or {}).get("resources") or {}, "requests"),
            is_growing=_is_growing(live),
            has_owners=bool(model_owners(live)),
            retained_for=retained_for(metadata_of(live).get("labels") or {}),
        )

    async def _events_of(self, claim: Json) -> list[Json]:
        """What hinders the claim. That a provisioner was called is no news before it has had its time."""
        found = await self._cluster.events(str(metadata_of(claim)["namespace"]), str(metadata_of(claim)["uid"]))
        late = age_seconds(claim, self._now()) > PROVISIONING_SECONDS
        told = [event for event in found if MODIFIED not in str(event.get("message"))]
        return [event for event in told if late or event.get("type") == "Warning"]


def _bytes(holder: Json, key: str) -> int | None:
    said = (holder.get(key) or {}).get("storage")
    return quantity_bytes(str(said)) if said else None


def _is_growing(live: Json) -> bool:
    """Whether more was asked for than there is. What is left for the next pod that mounts it keeps no pod waiting."""
    status, asked = live.get("status") or {}, _bytes((live.get("spec") or {}).get("resources") or {}, "requests")
    there = _bytes(status, "capacity")
    if status.get("phase") != "Bound" or asked is None or there is None or asked <= there:
        return False
    return not condition_is_true(live, "FileSystemResizePending")
