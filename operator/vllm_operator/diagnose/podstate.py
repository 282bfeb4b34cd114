"""What of a pod's status matters when it fails, read once from the plain dicts of the Kubernetes API."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

SERVERS: Final = frozenset({"vllm", "server"})
"""Names that the server's container has."""

WEIGHTS: Final = "weights"
"""The container of the weights program, in Jobs and before the server."""

_GPU_WORDS: Final = ("/gpu", "/mig-", "gpu.intel.com", "/npu", "/tpu", "nvidia.com", "amd.com", "habana.ai", "neuron")


@dataclass(frozen=True, slots=True)
class Container:
    """One container: what it waits for, and how its latest run ended."""

    name: str
    init: bool
    ready: bool
    running: bool
    restarts: int
    waiting: str = ""
    waiting_message: str = ""
    ended: str = ""
    ended_message: str = ""
    exit_code: int | None = None
    ended_before: bool = False
    """True when it is the run before the present one that ended."""
    memory_limit: str = ""
    image: str = ""
    began: str = ""
    finished: str = ""
    """Of the run that ended, as Kubernetes writes times; empty where it does not say."""

    @property
    def is_server(self) -> bool:
        """True for the container that the pod is there for, not for one that somebody put beside it."""
        return not self.init and self.name in SERVERS


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its reason and message, and when it was last seen."""

    reason: str
    message: str
    seen: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a pod, Job or claim."""

    type: str
    status: str
    reason: str
    message: str
    since: str


@dataclass(frozen=True, slots=True)
class PodState:
    """A pod as the diagnosis sees it."""

    name: str
    phase: str
    reason: str
    message: str
    conditions: tuple[Condition, ...]
    containers: tuple[Container, ...]
    events: tuple[Event, ...]
    of_job: bool
    deleting: bool
    node: str
    template_hash: str
    requests: Mapping[str, str]
    created: str
    image_volumes: Mapping[str, str] = field(default_factory=dict)
    """Reference by name of the volumes that are images."""

    @classmethod
    def of(cls, pod: Mapping[str, Any], events: Iterable[Mapping[str, Any]] = ()) -> "PodState":
        """The state in a pod and the events about it; what is missing reads as empty."""
        metadata, spec, status = (_mapping(pod.get(key)) for key in ("metadata", "spec", "status"))
        owners = {str(owner.get("kind")) for owner in _mappings(metadata.get("ownerReferences"))}
        labels = _mapping(metadata.get("labels"))
        return cls(
            name=_text(metadata.get("name")),
            phase=_text(status.get("phase")),
            reason=_text(status.get("reason")),
            message=_text(status.get("message")),
            conditions=conditions_of(status),
            containers=tuple(_containers(spec, status)),
            events=events_of(events, uid=_text(metadata.get("uid"))),
            of_job="Job" in owners or _text(spec.get("restartPolicy")) in ("Never", "OnFailure"),
            deleting=bool(metadata.get("deletionTimestamp")),
            node=_text(spec.get("nodeName")),
            template_hash=_text(labels.get("pod-template-hash")),
            requests=_requests(spec),
            created=_text(metadata.get("creationTimestamp")),
            image_volumes={
                _text(volume.get("name")): _text(_mapping(volume["image"]).get("reference"))
                for volume in _mappings(spec.get("volumes"))
                if "image" in volume
            },
        )

    def condition(self, kind: str) -> Condition | None:
        """The condition of that type, if it is there."""
        return next((condition for condition in self.conditions if condition.type == kind), None)

    def last(self, *reasons: str) -> Event | None:
        """The newest event with one of the reasons."""
        return next((event for event in reversed(self.events) if event.reason in reasons), None)

    @property
    def gpus(self) -> tuple[str, str] | None:
        """The GPU resource that the pod asks for, and how many; None when it asks for none."""
        return next(((name, amount) for name, amount in self.requests.items() if is_gpu(name)), None)

    @property
    def ready(self) -> bool:
        """True when Kubernetes calls the pod ready."""
        condition = self.condition("Ready")
        return condition is not None and condition.status == "True"


def is_gpu(resource: str) -> bool:
    """True for the extended resources of GPUs and their slices."""
    return any(word in resource for word in _GPU_WORDS)


def conditions_of(status: Mapping[str, Any]) -> tuple[Condition, ...]:
    """The conditions in a status."""
    return tuple(
        Condition(*(_text(raw.get(key)) for key in ("type", "status", "reason", "message", "lastTransitionTime")))
        for raw in _mappings(status.get("conditions"))
    )


def events_of(events: Iterable[Mapping[str, Any]], uid: str = "") -> tuple[Event, ...]:
    """Events of both API groups, oldest first; those about another object (by uid) are left out."""
    found = []
    for raw in events:
        about = _mapping(raw.get("involvedObject") or raw.get("regarding"))
        if uid and about.get("uid") and about["uid"] != uid:
            continue
        series = _mapping(raw.get("series"))
        seen = next(
            (
                _text(stamp)
                for stamp in (
                    series.get("lastObservedTime"),
                    raw.get("lastTimestamp"),
                    raw.get("eventTime"),
                    raw.get("firstTimestamp"),
                )
                if stamp
            ),
            "",
        )
        count = raw.get("count") or series.get("count") or 1
        found.append(
            Event(
                _text(raw.get("reason")),
                _text(raw.get("message") or raw.get("note")),
                seen,
                count if isinstance(count, int) else 1,
            )
        )
    return tuple(sorted(found, key=lambda event: event.seen))


def seconds_between(earlier: str, now: datetime) -> float | None:
    """Seconds from a Kubernetes timestamp to now; None when it cannot be read."""
    try:
        then = datetime.fromisoformat(earlier.replace("Z", "+00:00"))
    except ValueError:
        return None
    return (now - (then if then.tzinfo else then.replace(tzinfo=UTC))).total_seconds()


def _containers(spec: Mapping[str, Any], status: Mapping[str, Any]) -> Iterable[Container]:
    limits = {
        _text(raw.get("name")): _text(_mapping(_mapping(raw.get("resources")).get("limits")).get("memory"))
        for key in ("initContainers", "containers")
        for raw in _mappings(spec.get(key))
    }
    for key in ("initContainerStatuses", "containerStatuses"):
        for raw in _mappings(status.get(key)):
            yield _container(raw, key.startswith("init"), limits)


def _container(raw: Mapping[str, Any], init: bool, limits: Mapping[str, str]) -> Container:
    state, before = _mapping(raw.get("state")), _mapping(raw.get("lastState"))
    waiting = _mapping(state.get("waiting"))
    ended = _mapping(state.get("terminated"))
    ended_before = not ended and bool(before.get("terminated"))
    ended = ended or _mapping(before.get("terminated"))
    code = ended.get("exitCode")
    restarts = raw.get("restartCount")
    return Container(
        name=_text(raw.get("name")),
        init=init,
        ready=raw.get("ready") is True,
        running="running" in state,
        restarts=restarts if isinstance(restarts, int) else 0,
        waiting=_text(waiting.get("reason")),
        waiting_message=_text(waiting.get("message")),
        ended=_text(ended.get("reason")) or ("Error" if ended else ""),
        ended_message=_text(ended.get("message")),
        exit_code=code if isinstance(code, int) else None,
        ended_before=ended_before,
        memory_limit=limits.get(_text(raw.get("name")), ""),
        image=_text(raw.get("image")),
        began=_text(ended.get("startedAt")),
        finished=_text(ended.get("finishedAt")),
    )


def _requests(spec: Mapping[str, Any]) -> dict[str, str]:
    total: dict[str, str] = {}
    for raw in _mappings(spec.get("containers")):
        resources = _mapping(raw.get("resources"))
        total |= {
            str(name): _text(amount)
            for key in ("limits", "requests")
            for name, amount in _mapping(resources.get(key)).items()
        }
    return total


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return (
        [item for item in value if isinstance(item, Mapping)]
        if isinstance(value, Sequence) and not isinstance(value, str)
        else []
    )


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return "" if value is None else str(value)
