"""What must exist for a model, with every choice already made: the parts that templates place.

Frozen: same model and settings, same plan. A part names its object wholly (labels, names, sizes); templates decide nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from vllm_operator.api import VLLMModel
from vllm_operator.api.source import Source
from vllm_operator.settings import Profile, Settings

Json = Mapping[str, object]


class ProblemReason(StrEnum):
    """Why a plan cannot be carried out: only what the operator alone can see (the API server refused the rest)."""

    INVALID_SPEC = "InvalidSpec"
    IMAGE_NOT_ALLOWED = "ImageNotAllowed"
    SOURCE_NOT_ALLOWED = "SourceNotAllowed"
    TRUST_REMOTE_CODE_NOT_ALLOWED = "TrustRemoteCodeNotAllowed"
    ENV_NOT_ALLOWED = "EnvNotAllowed"
    IMAGE_UNKNOWN = "ImageUnknown"
    LIVE_ADAPTERS_NOT_ALLOWED = "LiveAdaptersNotAllowed"
    ACCELERATOR_UNKNOWN = "AcceleratorUnknown"
    CACHE_NOT_ALLOWED = "CacheNotAllowed"
    CACHE_TOO_SMALL = "CacheTooSmall"
    INSPECTION_UNREADABLE = "InspectionUnreadable"


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason not to go on. The message names the field, the remedy says what to change."""

    reason: ProblemReason
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Placement:
    """Where pods may run: the user's wishes and the accelerator's, merged."""

    node_selector: Mapping[str, str]
    affinity: Json
    tolerations: tuple[Json, ...]
    runtime_class_name: str | None = None
    priority_class_name: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A repository that is looked up or pulled: the model, its draft model, or an adapter."""

    role: str  # "model", "draft", or the adapter's name
    source: Source
    revision: str | None
    request: Json  # what the weights program is asked, without commit and destination
    is_adapter: bool = False
    tokenizer: Source | None = None  # pulled with it, from elsewhere


@dataclass(frozen=True, slots=True)
class JobPlan:
    """One Job of the weights program, shared by all models of the namespace that ask the same."""

    name: str
    namespace: str
    action: str  # inspect | pull
    labels: Mapping[str, str]
    annotations: Mapping[str, str]  # REQUEST_ANNOTATION among them: another value means another question
    image: str
    image_pull_policy: str | None
    image_pull_secrets: tuple[Json, ...]
    env: tuple[Json, ...]
    claim_name: str | None
    backoff_limit: int  # pods after the first
    progress_port: int
    placement: Placement
    volumes: tuple[Json, ...] = ()  # beside its claim and /tmp
    mounts: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True)
class ClaimPlan:
    """The volume that keeps the weights, sized from what the inspection found."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    size: str
    size_bytes: int
    storage_class_name: str | None
    access_modes: tuple[str, ...]
    retain: bool  # the claim outlives its models: it gets no ownerReferences


@dataclass(frozen=True, slots=True)
class AdapterPlan:
    """An adapter that running servers load: what is asked about it before its commit is known."""

    name: str
    part: Part
    inspect: JobPlan


@dataclass(frozen=True, slots=True)
class AdapterPullPlan:
    """Where a live adapter comes to lie, and the Job that brings it there. `problem`: its inspection cannot be read."""

    name: str
    commit: str
    path: str  # in the servers' pods; another commit has another path
    pull: JobPlan | None
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class NodesPlan:
    """Weights on the nodes' own disks. The claim's volume is a folder of whichever node the pod runs on."""

    label: str  # on the nodes that have the weights whole; its value says of which life of the claim
    placement: Placement  # of the servers, before that label is asked for
    devices: Mapping[str, int]  # extended resources that a server asks its node for
    at_a_time: int  # nodes
    pull: JobPlan  # of no node yet


@dataclass(frozen=True, slots=True)
class VolumePlan:
    """The volume of one life of a claim: a folder by the same name on each node."""

    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    claim_namespace: str
    claim_name: str
    claim_uid: str
    path: str
    size: str
    storage_class_name: str
    access_modes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FolderJobPlan:
    """A Job of the platform's that makes, or removes, a volume's folder on one node."""

    name: str
    namespace: str
    action: str  # prepare | clear
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    owner: Json  # the volume
    image: str
    image_pull_policy: str | None
    image_pull_secrets: tuple[Json, ...]
    node: str
    root: str
    folder: str  # below the root
    capability: str  # the one that this takes


@dataclass(frozen=True, slots=True)
class WeightsPlan:
    """Where the weights come to lie, and what brings them there. No claim, no pull: they are somewhere already."""

    problems: tuple[Problem, ...]
    commit: str | None  # of the model's own repository
    commits: tuple[str, ...]  # of everything that is pulled, the model's first
    bytes: int | None  # of all parts together; None when nobody counted
    claim: ClaimPlan | None
    claim_name: str | None  # the claim that pods mount: ours, or the user's
    pull: JobPlan | None
    pull_in_pod: JobPlan | None  # without a claim: each pod pulls for itself, before its server starts
    model_path: str  # what vLLM is given: a path in the pod, or an address that it streams from
    tokenizer_path: str | None
    adapter_paths: tuple[tuple[str, str], ...]  # (name, path in the pod)
    draft_path: str | None  # of the draft model, where speculativeConfig names one
    volumes: tuple[Json, ...]  # that the server's pods mount for all this
    mounts: tuple[Json, ...]
    streamed: bool  # the server reads the bucket itself
    adapter_commits: tuple[tuple[str, str], ...] = ()  # (name, commit) of those that are pulled with the model
    nodes: NodesPlan | None = None  # the nodes' own disks; then `pull` is None, and each node has its own


@dataclass(frozen=True, slots=True)
class ConfigMapPlan:
    """A chat template written into the spec, kept under the hash of its text."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    owner: Json
    data: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """The one address of all servers of a model."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    owner: Json
    selector: Mapping[str, str]
    port: int
    port_name: str
    app_protocol: str


@dataclass(frozen=True, slots=True)
class DeploymentPlan:
    """The servers. `replicas` None leaves the number to whoever owns it (an autoscaler)."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    owner: Json
    replicas: int | None
    strategy: Json
    progress_deadline_seconds: int
    selector: Mapping[str, str]
    pod_labels: Mapping[str, str]
    pod_annotations: Mapping[str, str]
    placement: Placement
    supplemental_groups: tuple[int, ...]
    image_pull_secrets: tuple[Json, ...]
    resource_claims: tuple[Json, ...]
    grace_seconds: int
    pull: JobPlan | None  # as an init container
    image: str
    image_pull_policy: str | None
    args: tuple[str, ...]
    env: tuple[Json, ...]
    resources: Json
    startup_probe: Json
    readiness_probe: Json
    liveness_probe: Json
    stop_sleep_seconds: int
    volumes: tuple[Json, ...]
    mounts: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """Everything that serves one model."""

    problems: tuple[Problem, ...]
    wanted: str  # the hash of what the user asked for; equal: the live pod template stays
    deployment: DeploymentPlan
    service: ServicePlan
    chat_template: ConfigMapPlan | None
    url: str
    served_models: tuple[str, ...]
    startup_seconds: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A model read against the settings. With problems, nothing of it is to be carried out.

    `inspect` is None where nothing can be looked up (a claim, an image, a node's path). `parts` are what servers start
    with; `adapters` are loaded while they run, from `adapter_claim`, which is None where the spec does not ask for that.
    """

    model: VLLMModel
    settings: Settings
    problems: tuple[Problem, ...]
    source: Source | None
    parts: tuple[Part, ...]
    profiles: tuple[tuple[str, Profile], ...]  # accelerators in the user's order, by name
    inspect: JobPlan | None
    adapters: tuple[AdapterPlan, ...] = ()
    adapter_claim: ClaimPlan | None = None
