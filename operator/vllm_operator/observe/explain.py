"""Why a pod fails. Its log and events are read only when its status calls for them, and not more often than needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from vllm_operator.cluster import ApiError, Cluster
from vllm_operator.cluster.kinds import Json
from vllm_operator.diagnose import FOLDER_IS_GONE, SERVERS, Failure, Reason, fatal_while_starting, look_at_pod
from vllm_operator.observe.reading import age_seconds, condition_is_true, is_deleting, metadata_of

PROVISIONING_SECONDS = 60.0  # clouds make a volume in some ten seconds
TAKEN_SECONDS = 20.0  # a kubelet that is there takes a pod within a second or two
HANG_SECONDS = 30.0  # a server that ends by itself does so within seconds of its fatal line
MODIFIED = "the object has been modified"  # two writers met, and Kubernetes tries again at once: no news
AGAIN_SECONDS = (
    13.0  # a starting server's log is read this often: an engine can fail for good and not end; less than three looks
)


@dataclass(frozen=True, slots=True)
class _Explained:
    version: str
    at: float
    failure: Failure | None
    fatal_since: float | None = None  # it runs, and its log holds a fatal error, since then


def _now() -> datetime:
    return datetime.now(UTC)


class Explainer:
    """Remembers each pod's explanation until the pod changes, and for a quarter of a minute at most."""

    def __init__(
        self, cluster: Cluster, *, clock: Callable[[], float] = time.monotonic, now: Callable[[], datetime] = _now
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self.now = now
        self._known: dict[str, _Explained] = {}

    def forget(self, uids: frozenset[str]) -> None:
        """Drops what is remembered of pods that are gone."""
        for uid in uids:
            self._known.pop(uid, None)

    def hangs(self, pod: Json) -> bool:
        """True when the pod logged a fatal error while it started, and has not ended for half a minute."""
        known = self._known.get(str(metadata_of(pod).get("uid")))
        since = known.fatal_since if known is not None else None
        return since is not None and self._clock() - since >= HANG_SECONDS

    async def explain(self, pod: Json, siblings: Sequence[Json] = ()) -> Failure | None:
        """Why the pod fails; None while it works or waits as pods do. Raises ApiError only when the server is busy."""
        if is_deleting(pod) or condition_is_true(pod, "Ready"):
            return None
        metadata = metadata_of(pod)
        uid, version, at = str(metadata.get("uid")), str(metadata.get("resourceVersion")), self._clock()
        known = self._known.get(uid)
        if known is not None and known.version == version and at - known.at < AGAIN_SECONDS:
            return known.failure
        failure, is_fatal = await self._look(pod, siblings)
        if failure is not None and MODIFIED in f"{failure.message} {failure.excerpt}":
            failure = None
        if failure is not None and failure.reason is Reason.VolumePending and not _folder_is_gone(failure):
            # That a volume is not there yet is no news before its provisioner has had its time.
            failure = failure if age_seconds(pod, self.now()) > PROVISIONING_SECONDS else None
        before = known.fatal_since if known is not None else None
        self._known[uid] = _Explained(
            version, at, failure, (before if before is not None else at) if is_fatal else None
        )
        return failure

    async def _look(self, pod: Json, siblings: Sequence[Json]) -> tuple[Failure | None, bool]:
        """Why it fails, and whether its present run has failed for good and goes on all the same."""
        statuses = _statuses(pod)
        events = await self._events(pod) if _calls_for_events(pod, statuses) else []
        log = previous = None
        is_fatal = False
        status = _of_interest(statuses)
        if status is not None:
            state = status.get("state") or {}
            if "running" in state or "terminated" in state:
                log = await self._log(pod, status, previous=False)
            # Also of one that runs again: what ended the run before is only in that run's log.
            if (status.get("lastState") or {}).get("terminated"):
                previous = await self._log(pod, status, previous=True)
            is_fatal = "running" in state and bool(log) and fatal_while_starting(log or "") is not None
        kubelet_is_away = status is not None and log is None and previous is None
        # A kubelet that takes a pod writes its containers' status at once.
        is_not_taken = not statuses and age_seconds(pod, self.now()) > TAKEN_SECONDS
        unreachable = kubelet_is_away or is_not_taken
        node = await self._node(pod) if unreachable or _calls_for_its_node(pod, statuses, events) else None
        found = look_at_pod(pod, events, log, previous, self.now(), siblings=siblings, node=node, logged=_name(status))
        return found, is_fatal

    async def _node(self, pod: Json) -> Json | None:
        name = (pod.get("spec") or {}).get("nodeName")
        return await self._cluster.node(str(name)) if name else None

    async def _events(self, pod: Json) -> list[Json]:
        metadata = metadata_of(pod)
        return await self._cluster.events(str(metadata["namespace"]), str(metadata["uid"]))

    async def _log(self, pod: Json, status: Json, *, previous: bool) -> str | None:
        metadata = metadata_of(pod)
        try:
            return await self._cluster.log(
                str(metadata["namespace"]), str(metadata["name"]), str(status["name"]), previous=previous
            )
        except ApiError:
            return None  # the kubelet may be away; the status still says something


def _folder_is_gone(failure: Failure) -> bool:
    return FOLDER_IS_GONE in f"{failure.message} {failure.excerpt}"


def _statuses(pod: Json) -> list[Json]:
    """The containers' statuses, init containers first, as they run."""
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _of_interest(statuses: list[Json]) -> Json | None:
    """The container whose log is to be read: the server's, else one that ended badly, else any that has run.

    The kubelet sorts them by name, and others put containers of their own into a pod.
    """
    run = [status for status in statuses if _has_run(status)]
    return min(run, key=lambda status: (_name(status) not in SERVERS, not _ended_badly(status)), default=None)


def _name(status: Json | None) -> str:
    return str((status or {}).get("name") or "")


def _has_run(status: Json) -> bool:
    """Whether a container that is not done well has a log to read."""
    state = status.get("state") or {}
    ended = (state.get("terminated") or {}).get("exitCode")
    if "terminated" in state:
        return ended != 0 or not status.get("ready")
    return "running" in state or bool((status.get("lastState") or {}).get("terminated"))


def _calls_for_its_node(pod: Json, statuses: list[Json], events: list[Json]) -> bool:
    """Ended badly, taken away, or unreachable: only the node says whether it was its doing."""
    status = pod.get("status") or {}
    if status.get("phase") in {"Failed", "Unknown"} or condition_is_true(pod, "DisruptionTarget"):
        return True
    if any(event.get("reason") == "NodeNotReady" for event in events):
        return True
    # A pod whose containers are all ready and that is not ready itself stands on a node that went away.
    servers = status.get("containerStatuses") or []
    return (bool(servers) and all(found.get("ready") for found in servers)) or any(map(_ended_badly, statuses))


def _ended_badly(status: Json) -> bool:
    ends = ((status.get(key) or {}).get("terminated") or {} for key in ("state", "lastState"))
    return any(end.get("exitCode") not in (None, 0) for end in ends)


def _calls_for_events(pod: Json, statuses: list[Json]) -> bool:
    """Not placed, not started, or restarted: only the events say why (a volume, a probe, an eviction)."""
    if (pod.get("status") or {}).get("phase") != "Running":
        return True
    return any((status.get("restartCount") or 0) > 0 or "waiting" in (status.get("state") or {}) for status in statuses)
