"""Of a model's config.json, what a memory fit needs, in as many bytes as there are. Pure.

Lossy step by step: first what no fit reads (vocabularies, token lists), then long lists, then what is beside the text
model, at last all but the keys that sizes are computed from.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

Config = dict[str, Any]

NEVER = re.compile(
    r"id2label|label2id|vocab|_name_or_path|.*_tokens|.*_token_ids?|.*_token|bad_words.*|task_specific_params|auto_map|"
    r"transformers_version|long_factor|short_factor|ignore|ignored_layers|modules_to_not_convert|exclude_modules|"
    r"sparsity_config|kv_cache_quant_algo_map|quantized_layers"
)
ESSENTIAL = re.compile(
    r"model_type|architectures|num_.*|n_.*|.*hidden_size|hidden_dim|.*intermediate_size|ffn_.*|d_model|d_ff|d_kv|head_dim|dim|"
    r".*_head_dim|kv_lora_rank|q_lora_rank|qk_.*|v_head_dim|mamba_.*|ssm_.*|conv_kernel|state_size|linear_.*|"
    r"vocab_size|tie_word_embeddings|(torch_)?dtype|max_position_embeddings|max_seq_len|model_max_length|rope_.*|"
    r"sliding_window.*|use_sliding_window|max_window_layers|layer_types(_counts)?|layers_block_type|"
    r"hybrid_override_pattern|full_attention_interval|attn_layer_.*|attention_chunk_size|no_rope_layer.*|"
    r"text_config|llm_config|language_config|decoder|quantization_config|r|peft_type|base_model_name_or_path|is_encoder_decoder|"
    r"moe_.*|first_k_dense_replace|index_.*|cross_attention_.*|.*_layer_types|bits|group_size|quant_method|multi_query"
)
LEAST = re.compile(
    r"model_type|architectures|num_(hidden_layers|attention_heads|key_value_heads|experts|local_experts)|n_layer|n_head|"
    r"n_routed_experts|hidden_size|n_embd|intermediate_size|moe_intermediate_size|head_dim|kv_lora_rank|qk_rope_head_dim|"
    r"vocab_size|(torch_)?dtype|max_position_embeddings|sliding_window|layer_types_counts|text_config|llm_config|"
    r"quantization_config|quant_method|bits|tie_word_embeddings|peft_type|base_model_name_or_path"
)
SHORT_STRING = 96
SHORT_LIST = 8
LONG_LIST = 128
DEEPEST = 16
LARGEST_NUMBER = 1 << 63
TEXT_MODELS = ("text_config", "llm_config", "language_config", "decoder")


def reductions(config: Config) -> list[Callable[[], Config]]:
    """From the whole of what is kept to nothing, each smaller than the one before; the first that fits is taken."""
    kept = _kept(config, LONG_LIST)
    counted = _with_counts(config)
    return [
        lambda: kept,
        lambda: _kept(counted, LONG_LIST),
        lambda: _kept(counted, SHORT_LIST),
        lambda: _matching(_kept(counted, SHORT_LIST), ESSENTIAL),
        lambda: _matching(_kept(counted, 4), LEAST),
        dict,
    ]


def quantization_of(config: Mapping[str, Any], extra: Mapping[str, Any] | None = None) -> Config:
    """`method`, `bits`, `groupSize`, `format`: what is known of a checkpoint's quantization; empty without one."""
    found = _quantization_config(config) or (dict(extra) if extra else {})
    found = found.get("quantization", found) if isinstance(found.get("quantization"), dict) else found
    if not found:
        return {}
    weights = _first_group_weights(found)
    method = found.get("quant_method") or found.get("quant_algo")
    answer = {
        "method": str(method).lower() if method else None,
        "bits": found.get("bits") or weights.get("num_bits") or found.get("w_bit"),
        "groupSize": found.get("group_size") or weights.get("group_size"),
        "format": found.get("fmt") or found.get("format") or weights.get("type"),
    }
    return {
        key: value
        for key, value in answer.items()
        if isinstance(value, int | float) or (isinstance(value, str) and len(value) <= SHORT_STRING)
    }


def _quantization_config(config: Mapping[str, Any]) -> Config:
    for holder in (config, *(config[name] for name in TEXT_MODELS if isinstance(config.get(name), dict))):
        for key in ("quantization_config", "compression_config"):
            if isinstance(holder.get(key), dict):
                return dict(holder[key])
    return {}


def _first_group_weights(found: Mapping[str, Any]) -> Config:
    groups = found.get("config_groups")
    if not isinstance(groups, dict):
        return {}
    for group in groups.values():
        if isinstance(group, dict) and isinstance(group.get("weights"), dict):
            return dict(group["weights"])
    return {}


def _kept(config: Mapping[str, Any], longest_list: int) -> Config:
    answer = {}
    for key, value in config.items():
        if NEVER.fullmatch(str(key)) or value is None:
            continue
        if key == "config_groups" and isinstance(value, dict):
            answer[key] = {name: _group(group) for name, group in list(value.items())[:4]}
        elif isinstance(value, dict):
            if inner := _kept(value, longest_list):
                answer[key] = inner
        elif _is_short(value, longest_list):
            answer[key] = value
    return answer


def _group(group: object) -> Config:
    if not isinstance(group, dict):
        return {}
    return {key: _kept(value, 4) for key, value in group.items() if isinstance(value, dict)}


def _is_short(value: object, longest_list: int) -> bool:
    if isinstance(value, str):
        return len(value) <= SHORT_STRING
    if isinstance(value, list):
        return len(value) <= longest_list and all(
            _is_short(item, SHORT_LIST) and not isinstance(item, dict) for item in value
        )
    return isinstance(value, int | float | bool)


def _with_counts(config: Mapping[str, Any]) -> Config:
    """Lists of layer kinds become `layer_types_counts`."""
    answer: Config = {}
    for key, value in config.items():
        if isinstance(value, dict):
            answer[key] = _with_counts(value)
        elif key in ("layer_types", "layers_block_type") and isinstance(value, list):
            answer["layer_types_counts"] = dict(Counter(str(kind) for kind in value))
        else:
            answer[key] = value
    return answer


def _matching(config: Mapping[str, Any], keys: re.Pattern[str]) -> Config:
    answer: Config = {}
    for key, value in config.items():
        if not keys.fullmatch(key):
            continue
        inside = isinstance(value, dict) and key in (*TEXT_MODELS, "quantization_config")
        answer[key] = _matching(value, keys) if inside else value
    return answer


def tamed(value: Any, depth: int = DEEPEST) -> Any:
    """Of JSON that anybody may have written, what every reader of JSON takes: no NaN, no number or nesting without end."""
    match value:
        case dict():
            return {key: tamed(item, depth - 1) for key, item in value.items()} if depth else None
        case list():
            return [tamed(item, depth - 1) for item in value] if depth else None
        case bool() | str():
            return value
        case int():
            return value if abs(value) < LARGEST_NUMBER else None
        case float():
            return value if isfinite(value) else None
        case _:
            return None


def compact(value: object) -> bytes:
    """JSON without blanks. Halves of characters, which JSON can name and UTF-8 cannot, are question marks."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")
