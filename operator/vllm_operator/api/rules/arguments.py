"""Rules between vLLM's arguments: what the engine and the server would refuse, or silently not do."""

from __future__ import annotations

from vllm_operator.api.rules.rule import Rule, needs, wants

_POOLING = "!(has(self.runner) && self.runner == 'pooling')"
_LIVE = "(has(self.adapterLoading) && self.adapterLoading == 'Live')"
_LORA = f"(has(self.adapters) && size(self.adapters) > 0 || has(self.enableLoRA) && self.enableLoRA || {_LIVE})"
_WORLD = " * ".join(
    f"(has(self.{field}) ? self.{field} : 1)"
    for field in ("tensorParallelSize", "pipelineParallelSize", "dataParallelSize")
)
# What a checkpoint's own method, or the GPU, forbids beside it is known only when the model was inspected: the fit says it.
IN_FLOAT32 = ("compressed-tensors", "torchao")
IN_BFLOAT16_ONLY = ("gpt_oss_mxfp4", "modelopt_mxfp8", "fp_quant")

ENGINE = (
    Rule(
        "!has(self.quantization) || !has(self.dtype) || !(self.dtype in ['float', 'float32']) || "
        f"self.quantization in {list(IN_FLOAT32)}",
        "dtype: weights of this quantization are computed in float16 or bfloat16; leave dtype unset",
        "dtype",
    ),
    Rule(
        f"!has(self.quantization) || !(self.quantization in {list(IN_BFLOAT16_ONLY)}) || !has(self.dtype) || "
        "self.dtype in ['auto', 'bfloat16']",
        "dtype: weights of this quantization are computed in bfloat16; leave dtype unset",
        "dtype",
    ),
    Rule(
        "!has(self.quantization) || !(self.quantization in ['fbgemm_fp8', 'fp_quant']) || has(self.extraArgs) && "
        "self.extraArgs.exists(a, a.replace('_', '-') == '--allow-deprecated-quantization')",
        "quantization: deprecated in vLLM; use fp8, or add --allow-deprecated-quantization to extraArgs",
        "quantization",
    ),
    needs(
        "speculativeConfig",
        "has(self.speculativeConfig.method) || has(self.speculativeConfig.model)",
        "speculativeConfig: needs method (ngram, eagle3, ...) or model (the draft model)",
    ),
    needs(
        "speculativeConfig",
        "!has(self.speculativeConfig.method) || self.speculativeConfig.method != 'custom_class'",
        "speculativeConfig: custom_class would run code that the image does not vouch for",
    ),
    needs(
        "speculativeConfig",
        "!has(self.speculativeConfig.method) || !(self.speculativeConfig.method in "
        "['draft_model', 'eagle', 'eagle3', 'medusa', 'mlp_speculator']) || has(self.speculativeConfig.model)",
        "speculativeConfig: this method needs model, the draft model",
    ),
    needs(
        "speculativeConfig",
        "!has(self.speculativeConfig.method) || !(self.speculativeConfig.method in ['ngram', 'draft_model']) || "
        "has(self.speculativeConfig.num_speculative_tokens)",
        "speculativeConfig: this method needs num_speculative_tokens",
    ),
    needs(
        "structuredOutputsConfig",
        "!has(self.structuredOutputsConfig.reasoning_parser_plugin)",
        "structuredOutputsConfig: reasoning_parser_plugin would run code that the image does not vouch for",
    ),
    needs(
        "compilationConfig",
        "!has(self.compilationConfig.inductor_passes) && "
        "(!has(self.compilationConfig.backend) || !self.compilationConfig.backend.contains('.'))",
        "compilationConfig: a backend or pass by its Python name would run code that the image does not vouch for",
    ),
    needs(
        "kvCacheMemory",
        "!isQuantity(string(self.kvCacheMemory)) || quantity(string(self.kvCacheMemory)).compareTo(quantity('1Mi')) >= 0 "
        "&& quantity(string(self.kvCacheMemory)).compareTo(quantity('16Ti')) <= 0",
        "kvCacheMemory: from 1Mi to 16Ti on each device; a number alone is bytes, so write the unit: 20Gi",
    ),
    Rule(
        "!has(self.maxNumBatchedTokens) || !has(self.maxModelLen) || !has(self.enableChunkedPrefill) || "
        "self.enableChunkedPrefill || type(self.maxModelLen) == string || self.maxNumBatchedTokens >= self.maxModelLen",
        "maxNumBatchedTokens: at least maxModelLen while enableChunkedPrefill is false",
        "maxNumBatchedTokens",
    ),
    Rule(
        "!has(self.maxNumBatchedTokens) || !has(self.maxNumSeqs) || self.maxNumBatchedTokens >= self.maxNumSeqs",
        "maxNumBatchedTokens: at least maxNumSeqs, for each sequence has a token in a step",
        "maxNumBatchedTokens",
    ),
    needs("kvOffloadingBackend", "has(self.kvOffloadingSize)", "kvOffloadingBackend: needs kvOffloadingSize"),
    needs(
        "maxCudagraphCaptureSize",
        "!(has(self.enforceEager) && self.enforceEager)",
        "maxCudagraphCaptureSize: enforceEager captures no CUDA graphs; keep one of the two",
    ),
    needs(
        "compilationConfig",
        "!(has(self.enforceEager) && self.enforceEager)",
        "compilationConfig: enforceEager compiles nothing; keep one of the two",
    ),
    wants(
        "enableExpertParallel",
        "has(self.tensorParallelSize) && self.tensorParallelSize > 1 || "
        "has(self.dataParallelSize) && self.dataParallelSize > 1",
        "enableExpertParallel: needs tensorParallelSize or dataParallelSize above 1",
    ),
    Rule(f"{_WORLD} <= 64", "tensorParallelSize x pipelineParallelSize x dataParallelSize: at most 64, on one node"),
    Rule(
        "!has(self.accelerator) || !self.accelerator.contains('-mig-') || (has(self.tensorParallelSize) ? "
        "self.tensorParallelSize : 1) * (has(self.pipelineParallelSize) ? self.pipelineParallelSize : 1) == 1",
        "tensorParallelSize: slices of a GPU (MIG) cannot share a model; use 1, or an accelerator of whole GPUs",
        "tensorParallelSize",
    ),
    Rule(
        "!has(self.distributedExecutorBackend) || self.distributedExecutorBackend != 'ray' || has(self.image)",
        "distributedExecutorBackend: the stock image holds no Ray; use mp, or name an image that holds it",
        "distributedExecutorBackend",
    ),
    Rule(
        "!has(self.distributedExecutorBackend) || self.distributedExecutorBackend != 'uni' || "
        "(has(self.tensorParallelSize) ? self.tensorParallelSize : 1) * "
        "(has(self.pipelineParallelSize) ? self.pipelineParallelSize : 1) == 1",
        "distributedExecutorBackend: uni runs one worker; use mp with parallel sizes above 1",
        "distributedExecutorBackend",
    ),
    wants(
        "enableSleepMode",
        "!has(self.accelerator) || self.accelerator != 'cpu'",
        "enableSleepMode: a server on the CPU has no device memory to free",
    ),
)

LORA_RULES = (
    *(
        needs(field, _LORA, f"{field}: needs adapters, adapterLoading: Live, or enableLoRA: true")
        for field in ("maxLoRAs", "maxLoRARank", "maxCPULoRAs")
    ),
    needs(
        "enableLoRA",
        "self.enableLoRA || !has(self.adapters) || size(self.adapters) == 0",
        "enableLoRA: adapters need it; leave it out, or remove adapters",
    ),
    needs(
        "maxCPULoRAs",
        "self.maxCPULoRAs >= (has(self.maxLoRAs) ? self.maxLoRAs : 1)",
        "maxCPULoRAs: at least maxLoRAs",
    ),
    needs("enableLoRA", f"self.enableLoRA || !{_LIVE}", "enableLoRA: adapterLoading Live needs it; leave it out"),
    Rule(
        f"!{_LIVE} || !has(self.apiKeySecretRef)",
        "adapterLoading: Live cannot go with apiKeySecretRef: the operator reads no Secret, and so could not load anything",
        "adapterLoading",
    ),
    Rule(
        f"!{_LIVE} || !has(self.dataParallelSize) || self.dataParallelSize == 1",
        "adapterLoading: Live cannot go with dataParallelSize above 1: vLLM then has several front ends, and would load "
        "an adapter into one of them",
        "adapterLoading",
    ),
    Rule(
        f"!{_LIVE} || !has(self.adapters) || "
        "self.adapters.all(a, !(a.source.startsWith('pvc://') || a.source.startsWith('oci://') || a.source.startsWith('file://')))",
        "adapterLoading: Live downloads adapters; one in pvc://, oci:// or file:// would have to be mounted when the server "
        "starts; use Static",
        "adapterLoading",
    ),
    Rule(f"!has(self.adapterCache) || {_LIVE}", "adapterCache: belongs to adapterLoading Live", "adapterCache"),
    Rule(
        "!has(self.adapters) || !has(self.servedModelName) || "
        "self.adapters.all(a, !self.servedModelName.exists(n, n == a.name))",
        "adapters: a name is in servedModelName, too; clients could not tell them apart",
        "adapters",
    ),
)

SERVER = (
    *(
        needs(field, _POOLING, f"{field}: belongs to text generation, and runner is pooling")
        for field in (
            *("toolCallParser", "enableAutoToolChoice", "reasoningParser", "speculativeConfig", "generationConfig"),
            *("overrideGenerationConfig", "structuredOutputsConfig"),
        )
    ),
    wants("enableAutoToolChoice", "has(self.toolCallParser)", "enableAutoToolChoice: needs toolCallParser"),
    Rule(
        "!has(self.convert) || !(self.convert in ['embed', 'classify']) || !has(self.runner) || self.runner != 'generate'",
        "convert: embed and classify make a pooling model; set runner to pooling or leave it out",
        "convert",
    ),
    Rule(
        "!has(self.limitMMPerPrompt) || self.limitMMPerPrompt.all(k, k.matches('^[a-z_]{1,32}$'))",
        "limitMMPerPrompt: keys are modalities: image, video, audio",
        "limitMMPerPrompt",
    ),
    Rule(
        "!has(self.limitMMPerPrompt) || self.limitMMPerPrompt.all(k, !(k in ['images', 'videos', 'audios', 'picture']))",
        "limitMMPerPrompt: vLLM's names are image, video and audio; it ignores others",
        "limitMMPerPrompt",
    ),
    Rule(
        "!(has(self.accelerator) && has(self.accelerators))",
        "accelerators: set accelerator or accelerators, not both",
        "accelerators",
    ),
)

TEMPLATE = (
    Rule(
        "has(self.inline) != has(self.configMapKeyRef)",
        "chatTemplate: set either inline or configMapKeyRef",
    ),
)
