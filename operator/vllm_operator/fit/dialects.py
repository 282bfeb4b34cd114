"""Families that tell their shape in words of their own, told again in the usual ones.

Each takes the text part of a config.json and gives what it adds to it or puts in its place; nothing that is not there is
made up, so that what is missing stays missing. Source: the model classes of vLLM.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import zip_longest

from vllm_operator.fit.fields import Fields

Told = Mapping[str, object]

FULL = "full_attention"
LARGEST_LAYERS = 1024
"""More layers than any model has; a larger number is taken for damage (and would cost time)."""


def canonical(text: Fields, model_type: str) -> Fields:
    """The same config in the usual words; itself for a family that uses them."""
    tell = DIALECTS.get(model_type)
    return text if tell is None else text.saying({name: value for name, value in tell(text).items() if value})


def _bailing(text: Fields) -> Told:
    """Ling and Ring from 2.5 on: each group of layers ends with attention, and from 3 on so do those left over.

    3's recurrent layers are Kimi's, with both gates whole.
    """
    layers, every = min(text.whole("num_hidden_layers") or 0, LARGEST_LAYERS), text.need("layer_group_size")
    third = any("V3" in name for name in text.texts("architectures")) or "no_kda_lora" in text
    rest = layers // every * every if third else layers
    if third and not text.flag("no_kda_lora"):
        text.missing.append("no_kda_lora: true, as vLLM asks")
    own = {
        "num_heads": text.whole("num_attention_heads"),
        "head_dim": text.whole("head_dim"),
        "short_conv_kernel_size": text.whole("short_conv_kernel_size"),
        "whole_gates": 2,
    }
    return {
        "layer_types": _marked([(i + 1) % every == 0 or i >= rest for i in range(layers)], FULL, "linear_attention"),
        "linear_attn_config": own if third else None,
        "kv_lora_rank": text.whole("kv_lora_rank") or 512,
    }


def _aria(text: Fields) -> Told:
    """Its experts have the width that others' dense MLPs have."""
    return {"moe_intermediate_size": text.whole("intermediate_size")}


def _molmo(text: Fields) -> Told:
    """Its MLP's width counts gate and value together."""
    wide = text.whole("intermediate_size")
    return {"intermediate_size": wide // 2 if wide else None}


def _zamba(text: Fields) -> Told:
    """Zamba 2 names Mamba's dimensions in its own way; attention has twice the hidden size to read."""
    heads = text.whole("num_attention_heads") or 1
    return {
        "mamba_n_heads": text.whole("n_mamba_heads"),
        "mamba_d_head": text.whole("mamba_headdim"),
        "mamba_n_groups": text.whole("mamba_ngroups"),
        "head_dim": text.whole("attention_head_dim") or 2 * (text.whole("hidden_size") or 0) // heads,
    }


def _dbrx(text: Fields) -> Told:
    attention, expert = Fields(text.raw("attn_config")), Fields(text.raw("ffn_config"))
    return {
        "num_key_value_heads": attention.whole("kv_n_heads"),
        "intermediate_size": expert.whole("ffn_hidden_size"),
        "num_local_experts": expert.whole("moe_num_experts"),
        "num_experts_per_tok": expert.whole("moe_top_k"),
    }


def _mimo(text: Fields) -> Told:
    """MiMo V2 marks its sliding layers, and those with experts, by ones."""
    sliding, sparse = text.wholes("hybrid_layer_pattern"), text.wholes("moe_layer_freq")
    return {
        "layer_types": text.texts("layer_types") or _marked(sliding, "sliding_attention", "full_attention"),
        "mlp_layer_types": text.texts("mlp_layer_types") or _marked(sparse, "sparse", "dense"),
        "sliding_window": text.whole("sliding_window", "sliding_window_size"),
    }


def _step(text: Fields) -> Told:
    """Step 3 and 3.5 list the layers with experts in a text; 3.5's sliding layers have a setting of their own."""
    sliding = Fields(text.raw("attention_other_setting"))
    apart = sliding.text("attention_type") == "sliding_attention"
    return {
        "max_position_embeddings": text.whole("max_position_embeddings", "max_position_embedding"),
        "num_experts": text.whole("n_routed_experts", "moe_num_experts"),
        "num_experts_per_tok": text.whole("num_experts_per_tok", "moe_top_k"),
        "shared_expert_intermediate_size": text.whole("share_expert_dim"),
        "mlp_layer_types": text.texts("mlp_layer_types") or _enumerated(text, "moe_layers_enum"),
        "swa_num_attention_heads": sliding.whole("num_attention_heads") if apart else None,
        "swa_num_key_value_heads": sliding.whole("num_attention_groups") if apart else None,
        "swa_head_dim": sliding.whole("head_dim") if apart else None,
    }


def _longcat(text: Fields) -> Told:
    """Each of its layers has two attentions and two dense MLPs, and one set of experts."""
    layers, wide = text.whole("num_layers", "num_hidden_layers"), text.whole("ffn_hidden_size", "intermediate_size")
    return {
        "num_hidden_layers": 2 * layers if layers else None,
        "intermediate_size": wide,
        "shared_expert_intermediate_size": wide,
        "moe_intermediate_size": text.whole("expert_ffn_hidden_size", "moe_intermediate_size"),
        "decoder_sparse_step": 2,
    }


def _laguna(text: Fields) -> Told:
    heads = text.wholes("num_attention_heads_per_layer")
    return {"per_layer_config": {str(i): {"num_attention_heads": count} for i, count in enumerate(heads)}}


def _ernie_vl(text: Fields) -> Told:
    """Ernie 4.5's models of images have a second set of experts, as many and narrower, in the layers of the first."""
    wide, number = text.wholes("moe_intermediate_size"), text.wholes("moe_num_experts")
    if len(wide) != 2 or len(set(number or (0,))) != 1:
        return {}
    return {
        "moe_intermediate_size": sum(wide),
        "shared_expert_intermediate_size": (text.whole("moe_num_shared_experts") or 0) * wide[0],
        "moe_layer_start_index": min(text.wholes("moe_layer_start_index"), default=None),
        "moe_layer_end_index": max(text.wholes("moe_layer_end_index"), default=None),
    }


def _inkling(text: Fields) -> Told:
    """Inkling lists its sliding layers, and the first ones without experts; transformers names each layer's attention."""
    layers, local = min(text.whole("num_hidden_layers") or 0, LARGEST_LAYERS), set(text.wholes("local_layer_ids"))
    named = text.texts("layer_types")
    sliding = [name == "hybrid_sliding" for name in named] or [i in local for i in range(layers)]
    if not named and not local:
        text.missing.append("local_layer_ids")
    return {
        "layer_types": _marked(sliding, "sliding_attention", FULL),
        "sliding_window": text.whole("sliding_window_size", "sliding_window"),
        "first_k_dense_replace": text.whole("dense_mlp_idx"),
    }


def _llama4(text: Fields) -> Told:
    """Llama 4's layers without positions, every fourth unless marked by zeros, see all tokens; the others a chunk."""
    layers = min(text.whole("num_hidden_layers") or 0, LARGEST_LAYERS)
    every, marks = text.whole("no_rope_layer_interval") or 4, text.wholes("no_rope_layers")
    local = [mark != 0 for mark in marks] or [(i + 1) % every != 0 for i in range(layers)]
    return {"layer_types": text.texts("layer_types") or _marked(local, "chunked_attention", "full_attention")}


def _minimax(text: Fields) -> Told:
    """MiniMax M3 marks its layers with experts by ones."""
    return {
        "mlp_layer_types": text.texts("mlp_layer_types") or _marked(text.wholes("moe_layer_freq"), "sparse", "dense")
    }


def _glm_next(text: Fields) -> Told:
    """GLM 5 Next lists its layers with attention, from 0, or names all; transformers tells the others' heads in fields of their own."""
    told = Fields(text.raw("linear_attn_config"))
    full, layers = set(told.wholes("full_attn_layers")), min(text.whole("num_hidden_layers") or 0, LARGEST_LAYERS)
    if not full and "layer_types" not in text:
        text.missing.append("layer_types")
    listed = _marked([i in full for i in range(layers)], "indexed_attention", "linear_attention")
    own = {
        "num_heads": text.whole("linear_num_heads"),
        "head_dim": text.whole("linear_head_dim"),
        "short_conv_kernel_size": text.whole("linear_conv_kernel_dim"),
    }
    return {
        "layer_types": text.texts("layer_types") or listed,
        "linear_attn_config": text.raw("linear_attn_config") or own,
        "mla_use_nope": text.whole("qk_rope_head_dim", least=0) == 0,
    }


def _hunyuan4(text: Fields) -> Told:
    """Hunyuan 4 has an index where a layer's attention is named sparse, and its own where it is not another's."""
    names, kinds = text.texts("layer_types"), text.texts("indexer_types")
    own = [name == "deepseek_sparse_attention" and kind != "shared" for name, kind in zip_longest(names, kinds)]
    gates = "head_wise" if text.text("gating_type") == "headwise" else "element_wise"
    return {
        # What is empty would leave what the file says.
        "index_head_dim": text.whole("index_head_dim") if any(own) else -1,
        "index_topk_pattern": "".join("F" if mark else "S" for mark in own),
        "gated_attention_proj_granularity_type": gates if text.flag("gated_mla", default=True) else None,
    }


def _nemotron_nas(text: Fields) -> Told:
    """Nemotron's searched models tell of every layer how many heads share a key, how wide its MLP is, and what it lacks."""
    blocks = text.parts("block_configs")
    heads, hidden = text.whole("num_attention_heads") or 1, text.whole("hidden_size") or 1
    attention = [block.part("attention") for block in blocks]
    grouped = [part.whole("n_heads_in_group") or 1 for part in attention]
    absent = [part.flag("no_op") or part.flag("replace_with_linear") for part in attention]
    if any(
        part.flag("replace_with_linear") for block in blocks for part in (block.part("attention"), block.part("ffn"))
    ):
        text.missing.append("block_configs with linear layers in place of others")
    if len(blocks) != text.whole("num_hidden_layers"):
        text.missing.append("block_configs for every layer")
    return {
        "layer_types": _marked(absent, "mlp", "full_attention"),
        "per_layer_config": {str(i): {"num_key_value_heads": max(1, heads // each)} for i, each in enumerate(grouped)},
        "mlp_widths": [_searched_width(block.part("ffn"), hidden) for block in blocks],
    }


def _searched_width(ffn: Fields, hidden: int) -> int:
    """vLLM's _ffn_mult_to_intermediate_size: two thirds of the multiple, rounded up to 256."""
    if ffn.flag("no_op"):
        return 0
    multiple = ffn.number("ffn_mult")
    return ffn.whole("intermediate_size") or -(-int(2 * (multiple or 0) * hidden / 3) // 256) * 256


def _whisper(text: Fields) -> Told:
    return {
        "num_hidden_layers": text.whole("decoder_layers"),
        "num_attention_heads": text.whole("decoder_attention_heads"),
        "intermediate_size": text.whole("decoder_ffn_dim"),
    }


def _marked(marks: Iterable[int], one: str, other: str) -> list[str]:
    return [one if mark else other for mark in marks]


def _enumerated(text: Fields, name: str) -> list[str]:
    """The kinds of all layers where those with experts are listed by number; all but the first where none are."""
    layers = min(text.whole("num_hidden_layers") or 0, LARGEST_LAYERS)
    listed = text.text(name)
    sparse = {int(part) for part in listed.split(",") if part.strip().isdecimal()} or set(text.wholes(name))
    if not listed and name not in text:
        sparse = set(range(1, layers))
    return ["sparse" if i in sparse else "dense" for i in range(layers)]


DIALECTS: Mapping[str, Callable[[Fields], Told]] = {
    "aria_text": _aria,
    "bailing_hybrid": _bailing,
    "dbrx": _dbrx,
    "ernie4_5_moe_vl": _ernie_vl,
    "glm5_next": _glm_next,
    "glm5_next_text": _glm_next,
    "hy_v4": _hunyuan4,
    "inkling_mm_model": _inkling,
    "inkling_text": _inkling,
    "laguna": _laguna,
    "llama4_text": _llama4,
    "longcat_flash": _longcat,
    "mimo_v2": _mimo,
    "mimo_v2_flash": _mimo,
    "minimax_m3": _minimax,
    "minimax_m3_vl": _minimax,
    "molmo": _molmo,
    "nemotron-nas": _nemotron_nas,
    "step3_text": _step,
    "step3p5": _step,
    "whisper": _whisper,
    "zamba2": _zamba,
}
