"""Names that people still write and vLLM no longer has, each with what to write instead.

Nothing is dropped in silence: the CRD keeps each old field, with its type, only to refuse it with this answer, and
`extraArgs` answers the old flag alike. Removals were read from the parsers of vLLM 0.32 and 0.33.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

JsonType = Literal["integer", "number", "string", "boolean", "object", "array"]


@dataclass(frozen=True, slots=True)
class OldField:
    """A field of `spec` that is refused: the JSON type people gave it, and the answer."""

    type: JsonType
    answer: str


_GONE = "vLLM removed it"
_ENGINE = "vLLM's present engine has no such setting; remove it"
_OPERATOR = "the operator sets it"

# Old arguments of vLLM. Their flags (`--swap-space`) get the same answers in extraArgs.
OLD_ARGUMENTS: Mapping[str, OldField] = {
    "swapSpace": OldField("number", f"{_GONE}; kvOffloadingSize keeps KV blocks in host memory (GiB)"),
    "maxContextLenToCapture": OldField(
        "integer", f"{_GONE}; see maxCudagraphCaptureSize (tokens of a batch), enforceEager"
    ),
    "maxSeqLenToCapture": OldField(
        "integer", f"{_GONE}; see maxCudagraphCaptureSize (tokens of a batch), enforceEager"
    ),
    "cudaGraphSizes": OldField(
        "array", f"{_GONE}; use maxCudagraphCaptureSize, or --cudagraph-capture-sizes in extraArgs"
    ),
    "task": OldField("string", f"{_GONE}; use runner (generate, pooling) and convert (embed, classify)"),
    "ropeScaling": OldField("object", f"{_GONE}; use hfOverrides: {{rope_parameters: ...}}"),
    "ropeTheta": OldField("number", f"{_GONE}; use hfOverrides: {{rope_parameters: {{rope_theta: ...}}}}"),
    "guidedDecodingBackend": OldField("string", f"{_GONE}; use structuredOutputsConfig: {{backend: ...}}"),
    "numSchedulerSteps": OldField("integer", f"{_ENGINE}: scheduling is asynchronous by default"),
    "multiStepStreamOutputs": OldField("boolean", f"{_ENGINE}: scheduling is asynchronous by default"),
    "schedulerDelayFactor": OldField("number", _ENGINE),
    "preemptionMode": OldField("string", f"{_ENGINE}: preempted requests are computed again"),
    "useV2BlockManager": OldField("boolean", _ENGINE),
    "numLookaheadSlots": OldField("integer", f"{_ENGINE}; use speculativeConfig: {{num_speculative_tokens: ...}}"),
    "disableAsyncOutputProc": OldField("boolean", _ENGINE),
    "enableReasoning": OldField("boolean", f"{_GONE}; reasoningParser alone turns it on"),
    "device": OldField("string", f"{_GONE}; use accelerator (cpu, nvidia, ...), which brings the right image"),
    "disableLogRequests": OldField("boolean", "requests are not logged unless enableLogRequests is true"),
    "disableFrontendMultiprocessing": OldField("boolean", _ENGINE),
    "workerUseRay": OldField("boolean", f"{_GONE}; use distributedExecutorBackend: ray"),
    "engineUseRay": OldField("boolean", f"{_GONE}; use distributedExecutorBackend: ray"),
    "tokenizerPoolSize": OldField("integer", _ENGINE),
    "tokenizerPoolType": OldField("string", _ENGINE),
    "speculativeModel": OldField("string", f"{_GONE}; use speculativeConfig: {{model: ...}}"),
    "numSpeculativeTokens": OldField("integer", "use speculativeConfig: {num_speculative_tokens: ...}"),
    "speculativeDraftTensorParallelSize": OldField(
        "integer", f"{_GONE}; use speculativeConfig: {{draft_tensor_parallel_size: ...}}"
    ),
    "ngramPromptLookupMax": OldField(
        "integer", f"{_GONE}; use speculativeConfig: {{method: ngram, prompt_lookup_max: ...}}"
    ),
    "ngramPromptLookupMin": OldField(
        "integer", f"{_GONE}; use speculativeConfig: {{method: ngram, prompt_lookup_min: ...}}"
    ),
    "specDecodingAcceptanceMethod": OldField("string", f"{_GONE}; use speculativeConfig"),
    "qloraAdapterNameOrPath": OldField("string", f"{_GONE}; use adapters"),
    "loraExtraVocabSize": OldField("integer", f"{_GONE}: adapters with their own vocabulary are not served"),
    "longLoraScalingFactors": OldField("array", _GONE),
    "enablePromptAdapter": OldField("boolean", f"{_GONE}; use adapters (LoRA)"),
    "maxPromptAdapters": OldField("integer", f"{_GONE}; use adapters (LoRA)"),
    "maxPromptAdapterToken": OldField("integer", f"{_GONE}; use adapters (LoRA)"),
    "maxNumPartialPrefills": OldField("integer", _ENGINE),
    "maxLongPartialPrefills": OldField("integer", _ENGINE),
    "calculateKvScales": OldField("boolean", f"{_GONE} in 0.28: scales come from the checkpoint"),
    "overrideAttentionDtype": OldField("string", f"{_GONE} in 0.28; use kvCacheDtype"),
    "disableMmPreprocessorCache": OldField("boolean", f"{_GONE}; use mmProcessorCacheGB: 0"),
    "mmPreprocessorCacheGb": OldField("number", f"{_GONE}; use mmProcessorCacheGB"),
    "logitsProcessorPattern": OldField("string", _GONE),
    "overrideNeuronConfig": OldField("object", f"{_GONE}: it belongs to a package of its own"),
    "overridePoolerConfig": OldField("object", f"{_GONE}; use --pooler-config in extraArgs"),
}

# Names that vLLM does have, and that are another field here.
ELSEWHERE: Mapping[str, OldField] = {
    "downloadDir": OldField("string", "the operator pulls weights before the server starts; say where with cache"),
    "useTqdmOnLoad": OldField("boolean", "the server logs its progress anyway; --use-tqdm-on-load is for extraArgs"),
    "host": OldField("string", _OPERATOR),
    "port": OldField("integer", f"{_OPERATOR}: the Service listens on port 80"),
    "apiKey": OldField("string", "keys belong into a Secret; use apiKeySecretRef"),
    "hfToken": OldField("string", "tokens belong into a Secret; use tokenSecretRef"),
    "loraModules": OldField("array", "use adapters"),
    "sslKeyfile": OldField("string", "use tls: {secretName: ...}"),
    "sslCertfile": OldField("string", "use tls: {secretName: ...}"),
    "kvCacheMemoryBytes": OldField("integer", "use kvCacheMemory, a quantity such as 20Gi"),
    "shutdownTimeout": OldField("integer", "use shutdownTimeoutSeconds"),
    "nnodes": OldField("integer", "a server runs on one node; use replicas for more servers"),
    "cpuOffloadGb": OldField("number", "write cpuOffloadGB"),
    "enableLora": OldField("boolean", "write enableLoRA"),
    "maxLoras": OldField("integer", "write maxLoRAs"),
    "maxLoraRank": OldField("integer", "write maxLoRARank"),
    "maxCpuLoras": OldField("integer", "write maxCPULoRAs"),
    "limitMmPerPrompt": OldField("object", "write limitMMPerPrompt"),
    "mmProcessorCacheGb": OldField("number", "write mmProcessorCacheGB"),
}

# Every field that is kept only to be answered.
OLD_FIELDS: Mapping[str, OldField] = {**OLD_ARGUMENTS, **ELSEWHERE}

# What clients may send and vLLM reads from no defaults, or reads under another name: below overrideGenerationConfig.
_PER_REQUEST = "vLLM takes no default for it; clients send it with each request"
OLD_OVERRIDES: Mapping[str, OldField] = {
    "maxTokens": OldField("integer", "write maxNewTokens"),
    "minTokens": OldField("integer", _PER_REQUEST),
    "stop": OldField("array", _PER_REQUEST),
    "stopTokenIds": OldField("array", _PER_REQUEST),
}

_PLUGIN = "it left vLLM for a plugin that the stock image does not hold"

# Values of enumerated fields that are answered, not merely refused. By JSON name of the field.
OLD_VALUES: Mapping[str, Mapping[str, str]] = {
    "quantization": {
        "squeezellm": f"{_GONE}; take an awq, gptq, fp8 or compressed-tensors checkpoint",
        "gguf": f"{_PLUGIN} (vllm-gguf-plugin); take a safetensors checkpoint",
        "bitsandbytes": f"{_PLUGIN} (vllm-bnb-plugin); use fp8 or int8_per_channel_weight_only instead",
        "aqlm": f"{_GONE}; take an awq, gptq, fp8 or compressed-tensors checkpoint",
        "marlin": f"{_GONE} as a name; leave quantization unset, the kernel is chosen by itself",
        "deepspeedfp": f"{_GONE}; use fp8",
        "tpu_int8": f"{_GONE}; use int8_per_channel_weight_only",
        "ipex": f"{_GONE}; leave quantization unset",
        "hqq": f"{_GONE}; take an awq, gptq, fp8 or compressed-tensors checkpoint",
        "neuron_quant": f"{_GONE}: it belongs to a package of its own",
        "ptpc_fp8": f"{_GONE}; use fp8_per_channel",
        "auto-round": "write inc, vLLM's name for it",
        "compressed_tensors": "write compressed-tensors",
        "none": "leave quantization out",
    },
    "dtype": {
        "fp16": "write float16",
        "bf16": "write bfloat16",
        "fp32": "write float32",
        "fp8": "it is no type of activations; use quantization: fp8, or kvCacheDtype: fp8",
    },
    "kvCacheDtype": {"int8": "write int8_per_token_head", "int4": "write int4_per_token_head"},
    "tokenizerMode": {"slow": f"{_GONE}; use auto or hf"},
    "loadFormat": {
        "gguf": f"{_PLUGIN} (vllm-gguf-plugin); take a safetensors checkpoint",
        "bitsandbytes": f"{_PLUGIN} (vllm-bnb-plugin)",
    },
    "distributedExecutorBackend": {"external_launcher": "it is for programs that embed vLLM; use mp, ray or uni"},
    "runner": {"draft": "the engine uses it for draft models itself; use generate or pooling"},
    "convert": {"reward": f"{_GONE}; use classify"},
}


def old_flag(name: str) -> str:
    """The flag of an old argument: `--swap-space` for `swapSpace`."""
    return "--" + "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name)
