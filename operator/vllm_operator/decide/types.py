"""What was seen of a model in the cluster, and what is to be done about it.

Facts on one side, intentions on the other: no client, no clock, no decisions in here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from vllm_operator.api import Status
from vllm_operator.diagnose import Failure
from vllm_operator.plan.nodes import Folder

Manifest = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Ref:
    """One object of the model's namespace, by kind and name."""

    api_version: str
    kind: str
    name: str


class JobState(StrEnum):
    """How far a Job has come; a Job has two ends."""

    ABSENT = "absent"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Progress:
    """What a running pull said of itself: bytes, and bytes per second."""

    bytes_done: int
    bytes_total: int
    bytes_per_second: float


@dataclass(frozen=True, slots=True)
class JobSeen:
    """A Job of the weights program. `answer` is its termination message, parsed, when it ended well.

    An inspection that succeeded with neither answer nor failure lost its pod before anybody read it: it is run again.
    An answer that cannot be read is a failure. A pull needs no answer.
    """

    state: JobState = JobState.ABSENT
    answer: Mapping[str, object] | None = None
    answer_is_kept: bool = False  # the annotation holds it already
    failure: Failure | None = None
    progress: Progress | None = None
    tries: int = 0  # pods that failed so far
    owned: bool = False  # carries this model's ownerReference
    deleting: bool = False  # has a deletionTimestamp
    made_with: str = ""  # its MADE_WITH_ANNOTATION: the platform's settings of that time
    created: str = ""  # in Kubernetes' own format, which sorts


@dataclass(frozen=True, slots=True)
class ClaimSeen:
    """A PersistentVolumeClaim: its phase (Pending, Bound, Lost) and capacity in bytes."""

    phase: str
    capacity_bytes: int | None = None
    failure: Failure | None = None
    owned: bool = False
    deleting: bool = False
    uid: str = ""
    created: str = ""
    requested_bytes: int | None = None
    is_growing: bool = False  # it is to get larger, and nobody but its provisioner is at work
    growth_refused: str = ""  # why the API server did not let it get larger when it was last asked
    has_owners: bool = False  # of any model: with the last of them it goes
    retained_for: frozenset[str] = frozenset()  # uids of models that it is to outlive


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """A node that may run the model, and how far its own copy of the weights has come."""

    name: str
    uid: str
    usable: bool  # takes pods now: Ready, not cordoned, not on its way out
    mark: str = ""  # the value of the claim's label on it
    prepare: JobSeen = field(default_factory=JobSeen)  # makes the folder
    pull: JobSeen = field(default_factory=JobSeen)


@dataclass(frozen=True, slots=True)
class NodeCacheSeen:
    """What there is of weights on the nodes' own disks: the claim's volume, and the nodes in order of name."""

    volume: Folder | None = None
    nodes: tuple[NodeSeen, ...] = ()
    life: str = ""  # of the claim; "" where there is none


@dataclass(frozen=True, slots=True)
class Mark:
    """A label that a node is to carry (value), or no longer (None). `life` is which life of the claim it is about."""

    node: str
    uid: str
    label: str
    life: str
    is_set: bool


@dataclass(frozen=True, slots=True)
class ServerAnswer:
    """What one pod's server said when it was asked."""

    healthy: bool
    served_models: tuple[str, ...] = ()
    max_model_len: int | None = None
    works: bool = False  # one real request went through the model
    problem: str = ""  # why not, in a few words
    kv_cache_tokens: int | None = None
    adapters: Mapping[str, str] = field(default_factory=dict)  # name and path of each that is loaded
    refusal: Failure | None = None  # why it refuses a request that should work, where its answer tells


@dataclass(frozen=True, slots=True)
class Refusal:
    """A server did not load the adapter at `path` ("": did not unload it). `is_due`: it may be asked again now."""

    path: str
    failure: Failure
    is_due: bool = False


@dataclass(frozen=True, slots=True)
class AdapterCall:
    """What a pod's server is to be told: to load the adapter at `path`, or to unload it (""). `replaces` another path's."""

    pod: str
    name: str
    path: str = ""
    replaces: bool = False


@dataclass(frozen=True, slots=True)
class AdapterSeen:
    """The Jobs of an adapter that is loaded live."""

    inspect: JobSeen = field(default_factory=JobSeen)
    pull: JobSeen = field(default_factory=JobSeen)


@dataclass(frozen=True, slots=True)
class PodSeen:
    """A pod of the model's Deployment."""

    name: str
    wanted: str  # the annotation of the template that it came from
    ready: bool  # by its readiness probe
    terminating: bool = False
    restarts: int = 0
    started: bool = False  # the startup probe has passed
    answer: ServerAnswer | None = None  # None: not asked (not running)
    failure: Failure | None = None
    refusals: Mapping[str, Refusal] = field(default_factory=dict)  # of live adapters, by name
    hangs: bool = False  # it has logged a fatal error while starting, and for half a minute did not end
    node: str = ""
    waits_long: bool = False  # no node has taken it for so long that none is about to come free


@dataclass(frozen=True, slots=True)
class DeploymentSeen:
    """The model's Deployment as it lives. `live` keeps its metadata.managedFields: they tell what we own of it."""

    live: Manifest
    wanted: str
    template: Mapping[str, object] | None  # the pod template that the annotation keeps
    replicas: int  # asked for
    ready_replicas: int
    updated_replicas: int
    generation: int
    observed_generation: int
    failure: Failure | None = None
    waits_long: bool = False  # its pod has been refused for as long


@dataclass(frozen=True, slots=True)
class DeviceSeen:
    """One kind of accelerator on nodes that could run the model, as their labels tell it (GPU feature discovery).

    `shared_by`: pods that the node's device plugin gives the same device to.
    """

    memory_bytes: int | None = None
    compute_capability: str | None = None
    product: str | None = None
    is_slice: bool = False
    shared_by: int = 1


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that one look at the cluster found."""

    inspect: JobSeen = field(default_factory=JobSeen)
    claim: ClaimSeen | None = None
    pull: JobSeen = field(default_factory=JobSeen)
    deployment: DeploymentSeen | None = None
    live: Mapping[Ref, Manifest] = field(
        default_factory=dict
    )  # own objects that exist (Deployment, Service, ConfigMap)
    strangers: tuple[Ref, ...] = ()  # objects with a name we need and another owner
    pods: tuple[PodSeen, ...] = ()
    devices: Mapping[str, tuple[DeviceSeen, ...]] = field(default_factory=dict)  # by the accelerator's name
    stale: tuple[Ref, ...] = ()  # shared or own objects of this model that its plan no longer names
    # An autoscaler targets the Deployment itself. One that targets the VLLMModel writes spec.replicas, which is followed.
    autoscaled: bool = False
    # Own objects that are not their manifest, but what the cluster's admission made of it: that manifest's digest.
    admitted: Mapping[Ref, str] = field(default_factory=dict)
    adapters: Mapping[str, AdapterSeen] = field(default_factory=dict)  # live ones, by name
    adapter_claim: ClaimSeen | None = None
    missing: tuple[str, ...] = ()  # things that the spec names and the namespace lacks: "claim models"
    cache: NodeCacheSeen = field(default_factory=NodeCacheSeen)


class EventType(StrEnum):
    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True)
class Event:
    """An Event to tell, once per change."""

    type: EventType
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now. Executed in the order of the fields; nothing here means nothing is written."""

    status: Status
    create: tuple[Manifest, ...] = ()  # shared objects: POST, "already exists" is fine
    own: tuple[Ref, ...] = ()  # shared objects that must get this model's ownerReference
    annotate: Mapping[Ref, Mapping[str, str]] = field(default_factory=dict)
    apply: tuple[Manifest, ...] = ()  # own objects: server-side apply of the whole
    delete: tuple[Ref, ...] = ()  # own or solely owned objects (a failed Job that is to run again)
    release: tuple[Ref, ...] = ()  # shared objects that this model stops using
    grow: Mapping[Ref, str] = field(default_factory=dict)  # claims that are to ask for more
    retain: tuple[Ref, ...] = ()  # shared objects that are to outlive their models: no model owns them any more
    disown: tuple[Ref, ...] = ()  # shared objects that this model neither owns nor retains any more; they stay
    unmark: tuple[Mark, ...] = ()  # before anything else: no pod comes to a node that lost its weights
    discard: tuple[str, ...] = ()  # Jobs of the platform's namespace, by name, that are to run again
    establish: tuple[
        Manifest, ...
    ] = ()  # beyond the namespace: the volume on the nodes, the Jobs that make its folders
    mark: tuple[Mark, ...] = ()
    events: tuple[Event, ...] = ()
    calls: tuple[AdapterCall, ...] = ()  # servers that are to load or unload adapters
    look_again_after: float | None = None  # seconds
    # Nothing is to be written, and until then (seconds) only events and what the servers say can change anything.
    rests_for: float | None = None
    decided_at: datetime | None = None
