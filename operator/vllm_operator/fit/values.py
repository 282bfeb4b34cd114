"""What goes into a fit and what comes out: plain frozen values, no behaviour beyond reading them out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

GIB = 1 << 30
MIB = 1 << 20

Reason = Literal[
    "KVCacheTooSmall",
    "NoMemoryForKVCache",
    "QuantizationUnsupportedByGPU",
    "DtypeUnsupportedByGPU",
    "TensorParallelInvalid",
    "MaxModelLenTooLong",
    "QuantizationMismatch",
    "QuantizationUnknown",
]


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One GPU (or MIG slice, or other device) as its driver reports it.

    `memory_bytes` is the total that CUDA or ROCm shows to a process, less than the number on the box; None where it
    depends on the pod (CPU). `compute_capability` is "8.9" style, None where there is none. `peers` tells whether
    several of them can share one model (MIG slices cannot).
    """

    name: str
    memory_bytes: int | None
    compute_capability: str | None = None
    vendor: str = "nvidia"
    peers: bool = True

    @property
    def capability(self) -> int | None:
        """Compute capability as vLLM compares it (8.9 is 89); None where there is none."""
        major, _, minor = (self.compute_capability or "").partition(".")
        if not major.isdigit() or (minor and not minor.isdigit()):
            return None
        return int(major) * 10 + int(minor or 0)


@dataclass(frozen=True, slots=True)
class Arguments:
    """The engine arguments that move memory; None means vLLM's default for that accelerator.

    `max_model_len` -1 means "as long as fits", as in vLLM. `estimates_cuda_graphs` says that the engine takes an
    estimate of its CUDA graphs off the budget with every model runner (newer releases do; 0.26, which the figures
    were measured on, does so with the older runner only).
    """

    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    enable_expert_parallel: bool = False
    max_model_len: int | None = None
    gpu_memory_utilization: float | None = None
    kv_cache_dtype: str | None = None
    dtype: str | None = None
    quantization: str | None = None
    allow_deprecated_quantization: bool = False
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    enforce_eager: bool = False
    cpu_offload_gb: float = 0.0
    kv_cache_memory_bytes: int | None = None
    block_size: int | None = None
    runner: str | None = None
    enable_lora: bool = False
    max_loras: int = 1
    max_lora_rank: int = 16
    enable_prefix_caching: bool | None = None
    estimates_cuda_graphs: bool = False
    # How many items of a modality a prompt may hold (limitMMPerPrompt), and the pixels of a picture (max_pixels).
    limits: Mapping[str, int] = field(default_factory=dict)
    max_pixels: int | None = None
    # Which of its two model runners VLLM_USE_V2_MODEL_RUNNER chooses; None leaves it to the release.
    old_runner: bool | None = None
    # vLLM's name of how it speculates; "" for not at all.
    speculative_method: str = ""
    # A second model for speculation, per GPU: its weights, and what it adds to the cache of one token.
    draft_weights_bytes: int = 0
    draft_kv_bytes_per_token: int = 0


@dataclass(frozen=True, slots=True)
class WeightsSummary:
    """What the safetensors headers say: bytes of all tensors, and parameters per dtype (`{"BF16": 8030261248}`)."""

    total_bytes: int
    by_dtype: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why the engine would refuse or run out of memory, as a reason, a sentence, and changes worth trying."""

    reason: Reason
    message: str
    changes: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class Budget:
    """Where one GPU's memory goes, in bytes; what the verdict was reached with."""

    total: int
    requested: int
    weights: int
    activations: int
    non_torch: int
    cuda_graphs: int
    available_kv: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the model fits, with the numbers per GPU.

    `fits` is None when something is not known; `note` then says what is missing, otherwise what was assumed.
    `remedies` are ready sentences in the words of the spec, `remedied` the same as arguments, each one re-judged.
    `largest_max_model_len` is bounded by the model's own limit; 0 when not even one token fits.
    """

    accelerator: str
    fits: bool | None
    note: str = ""
    reason: Reason | None = None
    message: str = ""
    remedies: tuple[str, ...] = ()
    remedied: tuple[Arguments, ...] = ()
    weights_bytes: int | None = None
    kv_bytes_per_token: int | None = None
    kv_cache_tokens: int | None = None
    largest_max_model_len: int | None = None
    max_concurrency: float | None = None
    smallest_tensor_parallel_size: int | None = None
    utilization_needed: float | None = None
    max_model_len: int | None = None
    budget: Budget | None = None

    def as_json(self) -> dict[str, object]:
        """The verdict with camelCase keys; bytes and tokens per GPU, null where not known."""
        return {
            "accelerator": self.accelerator,
            "fits": self.fits,
            "reason": self.reason,
            "message": self.message,
            "note": self.note,
            "weightsBytes": self.weights_bytes,
            "kvBytesPerToken": self.kv_bytes_per_token,
            "kvCacheTokens": self.kv_cache_tokens,
            "maxModelLen": self.max_model_len,
            "largestMaxModelLen": self.largest_max_model_len,
            "maxConcurrency": self.max_concurrency,
            "smallestTensorParallelSize": self.smallest_tensor_parallel_size,
            "utilizationNeeded": self.utilization_needed,
            "remedies": list(self.remedies),
        }
