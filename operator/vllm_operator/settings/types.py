"""What a platform team decides for all models: images, accelerators, addresses, policies, defaults.

One YAML document in camelCase; every key has a default, an unknown key is an error. docs/settings.md tells each one.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

Reference = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$", max_length=512)]
Size = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*(k|Ki|M|Mi|G|Gi|T|Ti)?$")]
Endpoint = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/$]+(/[^\s$]*)?$")]
Seconds = Annotated[int, Field(ge=1, le=86_400)]
LabelValue = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$")]

# Variables that tune speed and logs. Not among them: whatever opens an endpoint, loads code, names another hub or
# carries a secret (VLLM_SERVER_DEV_MODE, VLLM_PLUGINS, VLLM_ALLOW_INSECURE_SERIALIZATION, PYTHON*, LD_*, HF_*).
SAFE_ENV = (
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_MODULE_LOADING",
    "GLOO_SOCKET_IFNAME",
    "HIP_FORCE_DEV_KERNARG",
    "HSA_*",
    "LANG",
    "LC_ALL",
    "MALLOC_*",
    "MAX_JOBS",
    "MKL_*",
    "NCCL_*",
    "OMP_*",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_HIP_ALLOC_CONF",
    "RAY_CGRAPH_get_timeout",
    "RAY_DEDUP_LOGS",
    "RCCL_*",
    "TIKTOKEN_ENCODINGS_BASE",
    "TOKENIZERS_PARALLELISM",
    "TORCH_NCCL_*",
    "TZ",
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN",
    "VLLM_ALLREDUCE_USE_SYMM_MEM",
    "VLLM_CPU_*",
    "VLLM_DEEP_GEMM_*",
    "VLLM_DISABLE_COMPILE_CACHE",
    "VLLM_ENABLE_STARTUP_PLAN",
    "VLLM_ENGINE_ITERATION_TIMEOUT_S",
    "VLLM_ENGINE_READY_TIMEOUT_S",
    "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS",
    "VLLM_FLASHINFER_*",
    "VLLM_FUSED_MOE_*",
    "VLLM_HTTP_TIMEOUT_KEEP_ALIVE",
    "VLLM_LOG_STATS_INTERVAL",
    "VLLM_MARLIN_*",
    "VLLM_MAX_N_SEQUENCES",
    "VLLM_MOE_*",
    "VLLM_MQ_MAX_CHUNK_BYTES_MB",
    "VLLM_ROCM_*",
    "VLLM_RPC_TIMEOUT",
    "VLLM_SLEEP_*",
    "VLLM_TPU_*",
    "VLLM_USE_DEEP_GEMM",
    "VLLM_USE_FLASHINFER_*",
    "VLLM_USE_TRITON_*",
    "VLLM_USE_V2_MODEL_RUNNER",
    "VLLM_WORKER_MULTIPROC_METHOD",
    "VLLM_XLA_*",
)


class _Section(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid", protected_namespaces=()
    )


class Toleration(_Section):
    """A taint that pods of an accelerator accept, as in a pod."""

    key: str | None = None
    operator: Annotated[str, StringConstraints(pattern="^(Exists|Equal)$")] | None = None
    value: str | None = None
    effect: Annotated[str, StringConstraints(pattern="^(NoSchedule|PreferNoSchedule|NoExecute)$")] | None = None
    toleration_seconds: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The toleration as a pod has it."""
        return self.model_dump(by_alias=True, exclude_none=True)


class Profile(_Section):
    """An accelerator: how a pod asks for it, where it is found, and which image of vLLM runs on it."""

    vendor: str = "nvidia"
    resource_name: str | None = None  # None: nothing to ask for (CPU)
    memory: Size | None = None  # of one device; None: known by name, from the node, or not at all
    compute_capability: Annotated[str, StringConstraints(pattern=r"^[0-9]+\.[0-9]+$")] | None = None
    node_selector: dict[str, LabelValue | list[LabelValue]] = Field(default_factory=dict)  # a list: any of these values
    node_hints: dict[str, LabelValue] = Field(default_factory=dict)  # of nodes that have one; downloads prefer them
    tolerations: list[Toleration] = Field(default_factory=list)
    runtime_class_name: str | None = None
    image: Reference | None = None  # None: images.server of the vendor
    env: dict[str, str] = Field(default_factory=dict)
    args: list[str] = Field(default_factory=list)
    count: int = Field(1, ge=1, le=64)  # devices for one rank
    supplemental_groups: list[int] = Field(default_factory=list)


class Images(_Section):
    """Where images come from."""

    server: dict[str, Reference] = Field(default_factory=dict)  # by vendor, merged over the built-in ones
    weights: Reference = "vllm-operator-weights:0.1.0"


class Hub(_Section):
    endpoint: Endpoint | None = None


class S3(_Section):
    endpoint: Endpoint | None = None
    region: str | None = None


class TrustedCertificates(_Section):
    """A ConfigMap that every namespace of models has, and its key with the authorities that downloads trust."""

    config_map: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
    key: Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]{1,253}$")] = "ca.crt"


class Sources(_Section):
    """Addresses of the places that models come from, other than the hub, and who may vouch for all of them."""

    s3: S3 = S3()
    gs: Hub = Hub()
    modelscope: Hub = Hub()
    trusted_certificates: TrustedCertificates | None = None  # None: those that the weights image trusts


class Policy(_Section):
    """What tenants may ask for. An empty list of images or sources allows every one."""

    allowed_images: list[str] = Field(default_factory=list)
    allow_trust_remote_code: bool = True
    allowed_sources: list[str] = Field(default_factory=list)
    allowed_env: list[str] = Field(default_factory=lambda: list(SAFE_ENV))
    allow_node_paths: bool = False
    allow_live_adapters: bool = False
    # An empty list would mean every host to vLLM: servers could be made to fetch from inside the cluster.
    allowed_media_domains: list[str] = Field(default_factory=lambda: ["media.invalid"], min_length=1)


class NodeCache(_Section):
    """Where on each node weights may be kept (`cache.type: Node`), and who makes the folders there."""

    path: Annotated[str, StringConstraints(pattern=r"^(/[A-Za-z0-9_][A-Za-z0-9._-]*){2,}$", max_length=200)]
    nodes_at_a_time: Annotated[int, Field(ge=1, le=1000)] = 8  # that one model's weights are pulled to
    namespace: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")] | None = None
    image_pull_secrets: list[str] = Field(default_factory=list)  # of that namespace


class Defaults(_Section):
    """Values for what a model leaves open."""

    storage_class_name: str | None = None
    startup_timeout_seconds: Seconds | None = None  # None: from the bytes to be read
    shutdown_timeout_seconds: Seconds = 60
    pre_stop_seconds: Annotated[int, Field(ge=0, le=600)] = 10
    image_pull_policy: Annotated[str, StringConstraints(pattern="^(Always|IfNotPresent|Never)$")] | None = None
    shm_size: Size | None = None  # None: 1Gi, or 2Gi for each rank of a tensor-parallel group
    cpu_request: Annotated[str, StringConstraints(pattern=r"^[0-9]+m?$")] = "1"
    memory_request: Size = "4Gi"  # what the server's processes take beside shared memory and offloading
    read_speed: Size = "100M"  # bytes a second that storage gives to a loading server
    temporary_size: Size = "16Gi"  # of the pod's writable folders: compile caches, temporary files


class CrashPolicy(_Section):
    """When a server that keeps failing is stopped."""

    stop_permanent: bool = True
    tries: int = Field(3, ge=1, le=100)


class Probe(_Section):
    period_seconds: Seconds = 10
    timeout_seconds: Seconds = 5
    failure_threshold: Annotated[int, Field(ge=1, le=1000)] = 3


class Probes(_Section):
    """How the kubelet asks a server. The startup probe's number of tries follows from the startup budget."""

    startup: Probe = Probe(timeout_seconds=5)
    readiness: Probe = Probe(period_seconds=5, failure_threshold=2)
    liveness: Probe = Probe(timeout_seconds=10)


class Settings(_Section):
    """The whole document."""

    images: Images = Images()
    accelerators: dict[str, Profile] = Field(default_factory=dict)
    default_accelerator: str = "nvidia"
    hub: Hub = Hub()
    sources: Sources = Sources()
    policy: Policy = Policy()
    node_cache: NodeCache | None = None  # None: cache.type Node is not offered
    defaults: Defaults = Defaults()
    crash_policy: CrashPolicy = CrashPolicy()
    probes: Probes = Probes()
    cluster_domain: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")] | None = None
    child_annotations: dict[str, str] = Field(default_factory=dict)
