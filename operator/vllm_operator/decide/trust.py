"""Does a repository need its own Python code to run? Having some is not needing it.

Many repositories still bring the code (`auto_map`) with which their model was first published, although transformers has
long had it. `trust_remote_code=False` then simply means that the library's own code is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from vllm_operator.plan import Plan

# Model types that repositories bring code for and that vLLM 0.32's transformers reads without it (CONFIG_MAPPING_NAMES,
# compared with the list of the fit). Not in it: chatglm, kimi_k2 and others whose tokenizers are code.
BUILT_IN: Final = frozenset((
    "apertus", "arcee", "bamba", "bert", "bloom", "camembert", "cohere", "cohere2", "deepseek_v2", "deepseek_v3",
    "deepseek_v32", "dots1", "ernie4_5", "ernie4_5_moe", "exaone4", "falcon", "falcon_h1", "falcon_mamba", "gemma",
    "gemma2", "gemma3", "gemma3_text", "glm", "glm4", "glm4_moe", "glm4_moe_lite", "glm_moe_dsa", "gpt2",
    "gpt_bigcode", "gpt_neox", "gpt_oss", "gptj", "granite", "granitemoe", "granitemoehybrid", "granitemoeshared",
    "helium", "hunyuan_v1_dense", "hunyuan_v1_moe", "jamba", "lfm2", "lfm2_moe", "llama", "llama4_text", "mamba",
    "mamba2", "minimax_m2", "ministral", "ministral3", "mistral", "mixtral", "modernbert", "mpt", "nemotron",
    "nemotron_h", "nomic_bert", "olmo", "olmo2", "olmo3", "olmoe", "opt", "phi", "phi3", "phimoe", "qwen2",
    "qwen2_5_vl", "qwen2_moe", "qwen2_vl", "qwen3", "qwen3_moe", "qwen3_next", "roberta", "seed_oss", "smollm3",
    "stablelm", "starcoder2",
))  # fmt: skip


def needs_trust(plan: Plan, answer: Mapping[str, object]) -> bool:
    """The repository cannot run without code of its own, and the spec does not say whether it may.

    `trustRemoteCode: false` in the spec is an answer, too: then vLLM is left to say what it thinks of the model.
    """
    part = model_part(plan, answer)
    config = part.get("config")
    kind = config.get("model_type") if isinstance(config, Mapping) else None
    return part.get("customCode") is True and plan.model.spec.trust_remote_code is None and kind not in BUILT_IN


def model_part(plan: Plan, answer: Mapping[str, object]) -> Mapping[str, object]:
    """The model's own part of an inspection's answer: the first of several; empty where only adapters were inspected."""
    if not plan.parts or not plan.parts[0].source.is_pulled:
        return {}
    parts = answer.get("parts")
    if isinstance(parts, list | tuple):
        return parts[0] if parts and isinstance(parts[0], Mapping) else {}
    return answer
