"""The mixture of experts told by a config.json: how many, how wide, which layers; each family says it in its own way."""

from dataclasses import dataclass

from vllm_operator.fit.fields import Fields


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of experts. `latent` is the width they work in where it is not the hidden size (0: it is)."""

    count: int
    per_token: int
    intermediate: int
    shared_intermediate: int
    layers: frozenset[int]
    latent: int = 0


def read_experts(text: Fields, layers: int, model_type: str) -> Experts | None:
    """The experts, or None for a dense model. A width that is not told is noted as missing."""
    count = _first(text, "num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")
    if not count or count < 2:
        return None
    wide = _first(text, "moe_intermediate_size", "expert_intermediate_size", "expert_hidden_dim") or text.need(
        "intermediate_size"
    )
    return Experts(
        count=count,
        per_token=_first(
            text, "num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "moe_k", "top_k_experts"
        )
        or 1,
        intermediate=wide,
        shared_intermediate=_shared(text, wide, model_type),
        layers=frozenset(_expert_layers(text, layers, model_type)),
        latent=text.whole("moe_latent_size", "routed_expert_hidden_size") or 0,
    )


def _first(text: Fields, *names: str) -> int | None:
    """A number, or the first of a list that has one a layer (Hunyuan's, Ernie's; vLLM reads them so too)."""
    for name in names:
        listed = text.wholes(name)
        found = listed[0] if listed else text.whole(name)
        if found:
            return found
    return None


def _shared(text: Fields, wide: int, model_type: str) -> int:
    """Width of the experts that every token takes, 0 for none."""
    if model_type == "llama4_text":
        return wide
    if model_type == "gemma4_text":
        # Its dense MLP runs beside the experts, in the same layers.
        return text.need("intermediate_size")
    if model_type == "hunyuan_v1_moe":
        # transformers builds one shared MLP of this width whatever the config says.
        return text.need("intermediate_size")
    shared = text.whole("shared_expert_intermediate_size")
    each = text.whole("moe_shared_expert_intermediate_size") or 0
    if each and model_type in (
        "nemotron_h",
        "bailing_moe",
        "bailing_moe_v2",
        "bailing_hybrid",
        "sarvam_moe",
        "sarvam_mla",
    ):
        number = text.whole("n_shared_experts", "num_shared_experts", least=0)
        return each * (1 if number is None else number)
    return (
        shared
        or each
        or text.whole("shared_intermediate_size")
        or (text.whole("n_shared_experts", "moe_num_shared_experts", "num_shared_experts") or 0) * wide
    )


def _expert_layers(text: Fields, layers: int, model_type: str) -> list[int]:
    """The layers that have experts."""
    pattern = text.text("hybrid_override_pattern")
    if pattern:
        return [i for i, kind in enumerate(pattern[:layers]) if kind == "E"]
    named = text.texts("layers_block_type") if model_type == "nemotron_h" else text.texts("mlp_layer_types")
    if named and "first_k_dense_replace" not in text:
        return [i for i, kind in enumerate(named[:layers]) if kind in ("sparse", "moe")]
    if model_type == "jamba":
        period, offset = text.whole("expert_layer_period") or 2, text.whole("expert_layer_offset", least=0)
        return [i for i in range(layers) if i % period == (1 if offset is None else offset) % period]
    first = text.whole("first_k_dense_replace", "moe_layer_start_index", "num_dense_layers", least=0) or 0
    last = text.whole("moe_layer_end_index", least=0)
    step = text.whole("decoder_sparse_step", "moe_layer_freq", "interleave_moe_layer_step", "moe_layer_interval") or 1
    dense = set(text.wholes("mlp_only_layers"))
    # DeepSeek counts layers from 0, all others from 1.
    lead = 0 if text.whole("moe_layer_freq") else 1
    reach = range(first, layers if last is None else min(last + 1, layers))
    return [i for i in reach if (i + lead) % step == 0 and i not in dense]
