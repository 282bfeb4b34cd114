"""The closed list of reasons a model can fail for, and what each one means.

The names are a promise: they stand in `status.lastFailure`, in the `Ready` condition and in Events, and people write alerts
on them. A name may be added, never renamed. The general remedy is what is said when no rule has a more exact one.
"""

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Reason(StrEnum):
    """Every reason the operator can give for a failure."""

    RepoNotFound = "RepoNotFound"
    GatedRepo = "GatedRepo"
    InvalidToken = "InvalidToken"
    RevisionNotFound = "RevisionNotFound"
    HubRateLimited = "HubRateLimited"
    HubUnreachable = "HubUnreachable"
    HubRefused = "HubRefused"
    WeightsMissing = "WeightsMissing"
    WeightsCorrupt = "WeightsCorrupt"
    ModelPathNotFound = "ModelPathNotFound"
    DiskFull = "DiskFull"
    DownloadStalled = "DownloadStalled"
    DownloadFailed = "DownloadFailed"
    SourceNotAllowed = "SourceNotAllowed"
    TrustRemoteCodeRequired = "TrustRemoteCodeRequired"
    UnsupportedArchitecture = "UnsupportedArchitecture"
    ModelConfigInvalid = "ModelConfigInvalid"
    MaxModelLenTooLong = "MaxModelLenTooLong"
    QuantizationUnknown = "QuantizationUnknown"
    QuantizationMismatch = "QuantizationMismatch"
    TensorParallelInvalid = "TensorParallelInvalid"
    InvalidArgument = "InvalidArgument"
    InvalidEnvironment = "InvalidEnvironment"
    AdapterNotFound = "AdapterNotFound"
    AdapterRankTooHigh = "AdapterRankTooHigh"
    AdapterInvalid = "AdapterInvalid"
    ChatTemplateMissing = "ChatTemplateMissing"
    TokenizerMissing = "TokenizerMissing"
    KVCacheTooSmall = "KVCacheTooSmall"
    NoMemoryForKVCache = "NoMemoryForKVCache"
    GPUMemoryInUse = "GPUMemoryInUse"
    GPUOutOfMemory = "GPUOutOfMemory"
    HostOutOfMemory = "HostOutOfMemory"
    SharedMemoryTooSmall = "SharedMemoryTooSmall"
    QuantizationUnsupportedByGPU = "QuantizationUnsupportedByGPU"
    DtypeUnsupportedByGPU = "DtypeUnsupportedByGPU"
    GPUNotSupported = "GPUNotSupported"
    NotEnoughGPUs = "NotEnoughGPUs"
    NoGPUFound = "NoGPUFound"
    NCCLFailed = "NCCLFailed"
    EngineDied = "EngineDied"
    ImagePullFailed = "ImagePullFailed"
    ImageVolumesUnsupported = "ImageVolumesUnsupported"
    ContainerStartFailed = "ContainerStartFailed"
    Unschedulable = "Unschedulable"
    QuotaExceeded = "QuotaExceeded"
    PodRejected = "PodRejected"
    SecretNotFound = "SecretNotFound"
    VolumePending = "VolumePending"
    VolumeAttachConflict = "VolumeAttachConflict"
    ReadOnlyCache = "ReadOnlyCache"
    PortInUse = "PortInUse"
    ServiceLinkClash = "ServiceLinkClash"
    StartupTimeout = "StartupTimeout"
    Evicted = "Evicted"
    NodeLost = "NodeLost"
    RolloutWaitsForGPU = "RolloutWaitsForGPU"
    ServerCrashed = "ServerCrashed"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a reason says, what to do in general, and whether a retry of the same thing may help."""

    group: str
    text: str
    remedy: str
    retry: bool


_GROUPS: Final[dict[str, tuple[tuple[str, str, str, bool], ...]]] = {
    "Access and weights": (
        ("RepoNotFound", "The hub has no such repository, or it is private and the token does not open it.",
         "Check the name in `model`; for a private repository name a Secret in `tokenSecretRef`.", False),
        ("GatedRepo", "The repository asks for consent to its terms, and this token (or no token) has not got it.",
         "Accept the terms on the model's page with the token's account, then name its Secret in `tokenSecretRef`.", False),
        ("InvalidToken", "The hub refused the token itself.",
         "Put a valid token with read access into the Secret named in `tokenSecretRef`.", False),
        ("RevisionNotFound", "The repository exists, the branch, tag or commit does not.",
         "Correct `revision`: a branch, tag or full commit of that repository.", False),
        ("HubRateLimited", "The hub answered 429: too many requests from this address or account.",
         "Nothing to change: it is tried again with growing pauses. A token in `tokenSecretRef` raises the limit.", True),
        ("HubUnreachable", "The hub could not be reached, or answered with a server error.",
         "Check egress, DNS and proxy of the namespace (NetworkPolicy), or set the mirror's address in the settings.", True),
        ("HubRefused", "The hub answered in a way that the weights program does not accept, such as a page in a file's place, or a 403 that is not about the token.",
         "Read the message; check the hub's or mirror's address in the settings.", False),
        ("WeightsMissing", "The model's directory has no weights, or not all files that its index names, or the cache has not got the model.",
         "Check that the source has them all. A claim of your own: put them there; one that the operator made: delete it, and they are pulled afresh.", False),
        ("WeightsCorrupt", "A weights file cannot be read: cut off, a Git LFS pointer, or other than its header says.",
         "On a claim of your own replace the file; one that the operator made: delete it, and all is pulled and verified afresh.", False),
        ("ModelPathNotFound", "The path given as the model does not exist in the container, or has no config.json.",
         "Check the path in `model` against the mounted volume, and that the weights Job has finished.", False),
        ("DiskFull", "A volume, or the node's disk, has no space left.",
         "Raise `cache.size` (or the ephemeral-storage limit in `resources`) and let the download start again.", False),
        ("DownloadStalled", "The download received nothing for longer than the stall timeout.",
         "It resumes by itself; when it repeats, check the network and the hub's or mirror's state.", True),
        ("DownloadFailed", "The weights Job failed or passed its deadline, for a reason that is in its message.",
         "Read the excerpt; raise `download.tries` and `download.stallTimeoutSeconds` on a slow network.", True),
        ("SourceNotAllowed", "The platform's settings do not allow this source.",
         "Use a source that the platform allows, or ask its administrators to add this one.", False),
    ),
    "Model and arguments": (
        ("TrustRemoteCodeRequired", "The repository brings its own Python code, and running it was not allowed.",
         "Read that code; if it can be trusted set `trustRemoteCode: true`, else choose a model vLLM supports itself.", False),
        ("UnsupportedArchitecture", "This vLLM image does not know the model's architecture.",
         "Set `image` to a newer vLLM that supports it, or choose another model.", False),
        ("ModelConfigInvalid", "The model's config.json (or weights against it) is missing parts or contradicts itself.",
         "Check config.json in the repository against the weights; use another revision or repository.", False),
        ("MaxModelLenTooLong", "`maxModelLen` is longer than the model was made for.",
         "Lower `maxModelLen` to the model's own limit, or leave it unset.", False),
        ("QuantizationUnknown", "The image knows no quantization method of that name.",
         "Correct `quantization`, or use an image that has the method (its plugin).", False),
        ("QuantizationMismatch", "`quantization` and the checkpoint do not agree.",
         "Leave `quantization` unset: vLLM reads it from the checkpoint; or choose a checkpoint quantized that way.", False),
        ("TensorParallelInvalid", "The model cannot be split over that many GPUs.",
         "Set `tensorParallelSize` to a number that divides the model's attention heads.", False),
        ("InvalidArgument", "vLLM refused an argument, or arguments that do not go together.",
         "Correct the field, or the entry of `extraArgs`, that the message names.", False),
        ("InvalidEnvironment", "vLLM refused an environment variable.",
         "Correct or remove the entry of `env` that the message names.", False),
        ("AdapterNotFound", "A LoRA adapter's files are not where its source says.",
         "Correct `adapters[].source`: it must hold adapter_config.json and the adapter's weights.", False),
        ("AdapterRankTooHigh", "A LoRA adapter's rank is above the server's limit.",
         "Raise `maxLoRARank` to at least the adapter's rank.", False),
        ("AdapterInvalid", "A LoRA adapter does not fit the base model, or uses what vLLM does not support.",
         "Remove it from `adapters`, or use one trained for this base model without unsupported modules.", False),
        ("ChatTemplateMissing", "The tokenizer has no chat template, so chat requests fail.",
         "Give one in `chatTemplate`, or use the instruct variant of the model.", False),
        ("TokenizerMissing", "The tokenizer's files are missing or cannot be loaded.",
         "Use a repository with its tokenizer files, or name another in `tokenizer`.", False),
    ),
    "Memory and hardware": (
        ("KVCacheTooSmall", "The KV cache left on the GPU cannot hold one request of `maxModelLen` tokens.",
         "Lower `maxModelLen` (the message names the length that fits, where vLLM knows it), raise `gpuMemoryUtilization` or `tensorParallelSize`, or set `kvCacheDtype: fp8`.", False),
        ("NoMemoryForKVCache", "The weights and activations leave no GPU memory for the KV cache.",
         "Raise `gpuMemoryUtilization` or `tensorParallelSize`, quantize the model, or use a larger GPU.", False),
        ("GPUMemoryInUse", "Something else holds memory on the GPU when the server starts.",
         "Free the GPU (an old pod, a neighbour that shares it), or lower `gpuMemoryUtilization`.", True),
        ("GPUOutOfMemory", "The GPU's memory ran out.",
         "Raise `tensorParallelSize`, quantize the model, or lower `gpuMemoryUtilization` and `maxNumSeqs`.", False),
        ("HostOutOfMemory", "The container passed its memory limit and was killed.",
         "Raise `resources.limits.memory` (weights pass through host memory, and /dev/shm counts).", True),
        ("SharedMemoryTooSmall", "/dev/shm is too small for several processes or GPUs.",
         "Have the size of /dev/shm raised (shmSize in the platform's settings), and raise `resources.limits.memory` with it.", False),
        ("QuantizationUnsupportedByGPU", "The GPU is too old for the quantization method or KV cache type.",
         "Choose a checkpoint with another quantization, or a newer GPU in `accelerator`.", False),
        ("DtypeUnsupportedByGPU", "The GPU cannot compute in that data type.",
         "Set `dtype: float16` (or leave it `auto`), or choose a newer GPU in `accelerator`.", False),
        ("GPUNotSupported", "The image has no code for this GPU, or needs a newer driver than the node has.",
         "Use an `image` built for this GPU and driver, or choose another GPU in `accelerator`.", False),
        ("NotEnoughGPUs", "The server wants more GPUs than its container sees.",
         "Lower `tensorParallelSize` × `pipelineParallelSize`, or give the pod that many GPUs.", False),
        ("NoGPUFound", "The container sees no GPU.",
         "Check `accelerator` and the node's GPU driver and device plugin; a CPU server needs a CPU image.", False),
        ("NCCLFailed", "The GPUs could not talk to each other.",
         "Set `env` NCCL_DEBUG=INFO and read the transport it fails on; check /dev/shm, NCCL_SOCKET_IFNAME, NVLink.", True),
        ("EngineDied", "The engine process ended, by itself, by a fault of the GPU or for what image or node lack; where it had served, the API server then ends as if all were well (exit code 0).",
         "It restarts by itself. With no cause in the log suspect host memory: raise `resources.limits.memory`.", True),
    ),
    "Kubernetes": (
        ("ImagePullFailed", "The node cannot pull the image.",
         "Correct `image`, or give the pull Secret in `pod.imagePullSecrets`.", False),
        ("ImageVolumesUnsupported", "The weights are an image, and the cluster or the node cannot mount images as volumes.",
         "Image volumes need Kubernetes 1.35 and containerd 2.1 or CRI-O 1.31; else let `model` name a claim or a repository.", False),
        ("ContainerStartFailed", "The container runtime could not create or start the container.",
         "Read the runtime's words in the message: command of the image, mounts, or the node's GPU runtime.", False),
        ("Unschedulable", "No node can take the pod.",
         "Free or add nodes with the resource named, or change `accelerator`, `resources`, or `pod` placement.", True),
        ("QuotaExceeded", "The namespace's quota does not allow the pod.",
         "Lower `resources` or `replicas`, delete what is not needed, or have the ResourceQuota raised.", True),
        ("PodRejected", "The API server refused to create the pod (Pod Security, a policy, a webhook, limits).",
         "Change what the message names in `pod`, or ask the platform for an exception.", False),
        ("SecretNotFound", "A Secret or ConfigMap, or a key in it, that the pod needs does not exist.",
         "Create it in the model's namespace, or correct its name in the spec (`tokenSecretRef`, `apiKeySecretRef`, `tls` …).", True),
        ("VolumePending", "The volume claim is not bound, or cannot be mounted.",
         "Check `cache.storageClassName`, `cache.accessModes` and `cache.size` against what the cluster provides.", True),
        ("VolumeAttachConflict", "The volume is attached to another node and allows only one.",
         "Use a ReadWriteMany class in `cache`, or wait until the other pod has ended.", True),
        ("ReadOnlyCache", "A cache directory, or the volume of the weights, cannot be written.",
         "The operator mounts writable folders for VLLM_CACHE_ROOT, HF_HOME and HOME: remove what moves them in `env` or `image`.", False),
        ("PortInUse", "The port is taken on that address.",
         "Without host network this passes with a restart; else free the port on the node.", True),
        ("ServiceLinkClash", "A Service named `vllm` puts VLLM_PORT=tcp://… into the pod's environment.",
         "Keep `enableServiceLinks: false` in the pod, or rename the Service.", False),
        ("StartupTimeout", "The server was not ready within its startup budget.",
         "Raise `startupTimeoutSeconds` if it was still loading; else read the excerpt.", True),
        ("Evicted", "The pod was evicted or preempted.",
         "It is created anew. Set requests near the use in `resources`, or `pod.priorityClassName`.", True),
        ("NodeLost", "The pod's node does not answer.",
         "The pod is replaced by itself; check the node.", True),
        ("RolloutWaitsForGPU", "The new pod waits for a GPU that the old pod of the same model still holds.",
         "Set `rollout.strategy: Recreate` so that the old pod ends first, or add a GPU.", True),
    ),
    "Unknown": (
        ("ServerCrashed", "The server ended, and no rule knows why: the excerpt is all there is.",
         "Read the excerpt and the pod's full log. A log that should have been known is worth an issue.", True),
    ),
}  # fmt: skip

MEANINGS: Final = MappingProxyType(
    {
        Reason(name): Meaning(group, text, remedy, retry)
        for group, rows in _GROUPS.items()
        for name, text, remedy, retry in rows
    }
)
"""Reason → what it means; complete (a test says so)."""
