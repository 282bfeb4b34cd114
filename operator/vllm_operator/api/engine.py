"""The engine's arguments: how vLLM loads, splits, caches and schedules a model.

Each field keeps vLLM's own name in camelCase, with vLLM's bounds, and vLLM's meaning as help text.
Unset means vLLM's default; nothing here fills one in.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from vllm_operator.api.base import Base, Bool, Int, JsonObject, Number, Quantity
from vllm_operator.api.source import SOURCE_FORMS, check_source

# What quantization/__init__.py of vLLM 0.32 and 0.33 registers (the same list in both).
Quantization = Literal[
    "awq",
    "auto_awq",
    "awq_marlin",
    "gptq",
    "auto_gptq",
    "gptq_marlin",
    "fp8",
    "online",
    "fp8_per_tensor",
    "fp8_per_block",
    "fp8_per_channel",
    "int8_per_channel_weight_only",
    "nvfp4_per_token",
    "compressed-tensors",
    "modelopt",
    "modelopt_fp4",
    "modelopt_mxfp8",
    "modelopt_mixed",
    "mxfp4",
    "mxfp8",
    "gpt_oss_mxfp4",
    "deepseek_v4_fp8",
    "quark",
    "torchao",
    "inc",
    "moe_wna16",
    "experts_int8",
    "humming",
    "fbgemm_fp8",
    "fp_quant",
]
Dtype = Literal["auto", "half", "float16", "bfloat16", "float", "float32"]
KvCacheDtype = Literal[
    "auto",
    "float16",
    "bfloat16",
    "fp8",
    "fp8_e4m3",
    "fp8_e5m2",
    "fp8_inc",
    "fp8_ds_mla",
    "nvfp4_ds_mla",
    "turboquant_k8v4",
    "turboquant_4bit_nc",
    "turboquant_k3v4_nc",
    "turboquant_3bit_nc",
    "ultraquant_4bit",
    "int4_per_token_head",
    "int8_per_token_head",
    "fp8_per_token_head",
    "nvfp4",
    "nvfp4_4over6",
    # Since vLLM 0.33.
    "octave_k3v3",
    "octave_k3v3_compact",
    "octave_k3v4",
]
LoadFormat = Literal[
    "auto",
    "hf",
    "safetensors",
    "pt",
    "npcache",
    "mistral",
    "dummy",
    "fastsafetensors",
    "instanttensor",
    "runai_streamer",
    "runai_streamer_sharded",
    "sharded_state",
    "tensorizer",
    "modelexpress",
    "ipc_cache",
]
MaxLoRARank = Literal[1, 8, 16, 32, 64, 128, 256, 320, 512]

# A source is checked by a rule of the CRD, whose message lists the forms; here by the validator.
SourceText = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(check_source)]
# A word that becomes the value of a flag or of a hub request: never begins with a dash, holds no "$(".
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:+-]*$", max_length=128)]
Revision = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./+-]*$", max_length=128)]
_MOST_TOKENS = 2**31 - 1


def _context_length(value: object) -> object:
    """The same value, when it is a length: the alternatives of a union would each complain in their own words."""
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST_TOKENS):
        return value
    raise ValueError(f"{value!r} is no context length; write tokens as a number without quotes, such as 8192, or auto")


ContextLength = Annotated[
    Int | Literal["auto"],
    BeforeValidator(_context_length),
    # Twice: Kubernetes has no alternatives; the bounds hold for numbers, the pattern for text.
    Field(
        json_schema_extra={
            "x-kubernetes-int-or-string": True,
            "pattern": "^auto$",
            "minimum": 1,
            "maximum": _MOST_TOKENS,
        }
    ),
]


class EngineArguments(Base):
    """Arguments of the engine, flat in `spec`."""

    model: SourceText = Field(description=f"Where the weights are: {SOURCE_FORMS}.")
    revision: Revision | None = Field(None, description="Branch, tag or commit of the model's repository.")
    tokenizer: SourceText | None = Field(
        None, description="Where the tokenizer is, in the forms of model. Unset: in the model."
    )
    tokenizer_revision: Revision | None = Field(
        None, description="Branch, tag or commit of the tokenizer's repository."
    )
    tokenizer_mode: Word | None = Field(
        None, description="auto, hf, mistral, deepseek_v32, deepseek_v4, cohere …: who tokenizes and renders chats."
    )
    code_revision: Revision | None = Field(
        None, description="Branch, tag or commit of the repository with the model's own code (trustRemoteCode)."
    )
    hf_overrides: JsonObject | None = Field(
        None, description="Merged into the model's config.json: rope_parameters, architectures …, as in config.json."
    )
    trust_remote_code: Bool | None = Field(
        None, description="Run the Python code that the model's repository brings. The platform may forbid it."
    )
    dtype: Dtype | None = Field(
        None, description="Type of weights and activations. auto: bfloat16 for bfloat16 checkpoints, else float16."
    )
    quantization: Quantization | None = Field(
        None,
        description="Unset: as config.json says, which is right for quantized checkpoints. fp8 and the fp8_per_… quantize a 16-bit checkpoint while it loads.",
    )
    kv_cache_dtype: KvCacheDtype | None = Field(
        None, description="Type of the KV cache. auto: the model's. fp8 halves its bytes per token."
    )
    seed: Int | None = Field(None, ge=0, le=2**32 - 1, description="Seed of the random numbers; vLLM's default is 0.")
    max_model_len: ContextLength | None = Field(
        None,
        description="Context length in tokens, prompt and output together. Unset: config.json's. auto: as much of it as the "
        "KV cache holds; status.maxModelLen then says how much.",
    )
    gpu_memory_utilization: Number | None = Field(
        None,
        gt=0,
        le=1,
        description="Share of the device's whole memory that vLLM may use; it must be free at the start. vLLM's default is 0.92.",
    )
    kv_cache_memory: Quantity | None = Field(
        None,
        description="Bytes of KV cache on each device, such as 20Gi; gpuMemoryUtilization then only says what must be free at the start.",
    )
    block_size: Int | None = Field(
        None,
        ge=1,
        le=16384,
        description="Tokens in a block of the KV cache. Unset: the attention backend's choice (often 16).",
    )
    cpu_offload_gb: Number | None = Field(
        None,
        ge=0,
        le=16384,
        description="GiB of weights on each device that stay in host memory; slow, and needs the memory.",
    )
    kv_offloading_size: Number | None = Field(
        None,
        gt=0,
        le=16384,
        description="GiB of host memory for KV blocks that leave the device; the pod needs that much more.",
    )
    kv_offloading_backend: Literal["native", "lmcache"] | None = Field(None, description="Who moves the KV blocks.")
    tensor_parallel_size: Int | None = Field(
        None, ge=1, le=1024, description="Devices that share each layer; it must divide the attention heads."
    )
    pipeline_parallel_size: Int | None = Field(
        None, ge=1, le=1024, description="Groups of devices that share the layers."
    )
    data_parallel_size: Int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Engines in one server, for mixtures of experts; use replicas for other models.",
    )
    enable_expert_parallel: Bool | None = Field(None, description="Split the layers' experts, not their tensors.")
    distributed_executor_backend: Literal["mp", "ray", "uni"] | None = Field(
        None, description="How workers run. mp: processes; uni: in the engine; ray: needs Ray in the image."
    )
    disable_custom_all_reduce: Bool | None = Field(
        None, description="Use NCCL's all-reduce, for machines with broken P2P."
    )
    max_num_seqs: Int | None = Field(
        None,
        ge=1,
        le=65536,
        description="Sequences in one step. vLLM's default: 256, or 1024 on devices of 70 GiB and more.",
    )
    max_num_batched_tokens: Int | None = Field(
        None,
        ge=1,
        le=2**31 - 1,
        description="Tokens in one step. vLLM's default: 2048, 8192 or 16384, by the device's memory.",
    )
    enable_chunked_prefill: Bool | None = Field(
        None, description="Split long prompts over steps; vLLM's default is on where the model allows it."
    )
    enable_prefix_caching: Bool | None = Field(
        None, description="Keep KV blocks of common beginnings; vLLM's default is on where the model allows it."
    )
    scheduling_policy: Literal["fcfs", "priority"] | None = Field(
        None, description="Who goes first: the first come, or by priority."
    )
    enforce_eager: Bool | None = Field(
        None, description="No torch.compile and no CUDA graphs: the quickest start, and slower tokens."
    )
    max_cudagraph_capture_size: Int | None = Field(
        None, ge=0, le=65536, description="Largest batch, in tokens, for which a CUDA graph is captured."
    )
    optimization_level: Int | None = Field(
        None, ge=0, le=3, description="0 starts quickest, 3 serves quickest; vLLM's default is 2."
    )
    compilation_config: JsonObject | None = Field(
        None, description="vLLM's compilation settings: mode, cudagraph_mode …."
    )
    attention_backend: Word | None = Field(
        None, description="FLASH_ATTN, FLASHINFER, TRITON_ATTN …. Unset: vLLM chooses."
    )
    load_format: LoadFormat | None = Field(
        None, description="How weights are read; auto: safetensors, else .bin files."
    )
    enable_lora: Bool | None = Field(None, description="Serve LoRA adapters; on when adapters are listed.")
    max_loras: Int | None = Field(None, ge=1, le=1024, description="Adapters in one batch; vLLM's default is 1.")
    max_lora_rank: MaxLoRARank | None = Field(None, description="Highest rank of an adapter; vLLM's default is 16.")
    max_cpu_loras: Int | None = Field(
        None, ge=1, le=4096, description="Adapters kept in host memory; at least maxLoRAs."
    )
    speculative_config: JsonObject | None = Field(
        None,
        description="Speculative decoding: method or model, num_speculative_tokens …, under vLLM's own names. A draft "
        "model is a source as in model; it is pulled with it.",
    )
    enable_sleep_mode: Bool | None = Field(
        None,
        description="Allow the weights to leave the device while the server sleeps. Its routes (/sleep, /wake_up) exist only "
        "where the platform sets VLLM_SERVER_DEV_MODE=1 in the accelerator's env.",
    )
