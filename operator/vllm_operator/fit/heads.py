"""The attention heads of each layer, and the latent that some models keep instead of keys and values."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from vllm_operator.fit.architectures import MULTI_HEAD_LATENT, Family
from vllm_operator.fit.dialects import LARGEST_LAYERS
from vllm_operator.fit.fields import Fields
from vllm_operator.fit.layers import LayerKind


@dataclass(frozen=True, slots=True)
class Heads:
    """One layer's heads: how many make queries and keys, and the width of a key and of a value.

    `shared`: the layer reads the keys and values of an earlier one and has none. `joined`: its values are its keys, of
    which the files hold one and vLLM two. `rank`: the width that queries are made through, 0 where they are made at once.
    """

    query: int
    kv: int
    dim: int
    value: int
    shared: bool = False
    joined: bool = False
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Latent:
    """Multi-head latent attention: dimensions of the shared latent and of the heads made from it.

    `unfolded`: it is not what is kept, but the keys and values made from it. `gates`: width of the gate of the heads' outputs, all heads together.
    `unindexed`: layers that read what an earlier one's index has chosen, and have none.
    """

    kv_rank: int
    rope_dim: int
    nope_dim: int
    value_dim: int
    query_rank: int | None
    indexer_dim: int
    indexer_heads: int
    indexer_width: int
    unfolded: bool = False
    gates: int = 0
    unindexed: frozenset[int] = frozenset()


def read_heads(text: Fields, rules: Family, kinds: tuple[LayerKind, ...], hidden: int) -> tuple[Heads, ...]:
    """The heads of every layer; those of a layer without attention mean nothing."""
    if rules.mlp == "none" and not any(kind != "recurrent" for kind in kinds):
        return (Heads(0, 0, 0, 0),) * len(kinds)
    base = _base(text, rules, hidden)
    found = [_of_kind(text, rules, base, kind) for kind in kinds]
    if "per_layer_config" in text:
        found = _stated(text, found)
    first = len(kinds) - shared_layers(text, rules)
    return tuple(replace(heads, shared=i >= first > 0) for i, heads in enumerate(found))


def shared_layers(text: Fields, rules: Family) -> int:
    """How many layers, the last ones, read the keys and values of earlier ones."""
    told = text.whole("num_kv_shared_layers", least=0)
    return rules.defaults.get("num_kv_shared_layers", 0) if told is None else told


def _base(text: Fields, rules: Family, hidden: int) -> Heads:
    default = rules.defaults
    query = text.need(
        "num_attention_heads", "n_head", "n_heads", "num_heads", default=default.get("num_attention_heads")
    )
    dim = text.whole("head_dim", "kv_channels", "attention_head_dim") or default.get("head_dim") or 0
    if rules.unfolded:
        dim = text.need("qk_nope_head_dim") + text.need("qk_rope_head_dim")
    if not dim:
        dim = max(1, hidden // query) if query else 0
    value = text.whole("v_head_dim") or dim if rules.own_values else dim
    return Heads(query, _kv_heads(text, rules, query), dim, value, rank=text.whole("share_q_dim") or 0)


def _kv_heads(text: Fields, rules: Family, heads: int) -> int:
    """KV heads of the whole model; one where the config says multi-query (Falcon's flag counts only in the old form)."""
    if rules.multi_query and not text.flag("new_decoder_architecture") and text.flag("multi_query", default=True):
        return 1
    names = ("n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num", "num_attention_groups")
    if not any(name in text for name in names):
        return min(rules.defaults.get("num_key_value_heads", heads), heads) or heads
    found = text.whole(*names)
    if found is None:
        text.need("num_key_value_heads")
    return found or 1


def _of_kind(text: Fields, rules: Family, base: Heads, kind: LayerKind) -> Heads:
    """The heads of layers of one kind, where the family names them apart (Gemma 4's full layers, MiMo's sliding ones)."""
    names = rules.own_heads.get(kind)
    if names is None:
        return base
    joined = text.flag("attention_k_eq_v") and kind == "full"
    kv = base.kv if "attention_k_eq_v" in text and not joined else _told(text, rules, names, "kv", base.kv)
    dim = _told(text, rules, names, "dim", base.dim)
    value = _told(text, rules, names, "value", dim) if rules.own_values else dim
    return Heads(_told(text, rules, names, "query", base.query), kv, dim, value, joined=joined)


def _told(text: Fields, rules: Family, names: Mapping[str, str], what: str, otherwise: int) -> int:
    name = names.get(what, "")
    return text.whole(name) or rules.defaults.get(name) or otherwise


def _stated(text: Fields, found: list[Heads]) -> list[Heads]:
    """What newer files state layer by layer (`per_layer_config: {"05": {head_dim: 512}}`)."""
    for name, told in _entries(text.raw("per_layer_config")):
        at = int(name) if name.isdecimal() else -1
        if not 0 <= at < len(found):
            text.missing.append(f"per_layer_config of a layer {name[:8]}")
            continue
        heads, own = found[at], Fields(told)
        dim = own.whole("head_dim") or heads.dim
        found[at] = replace(
            heads,
            query=own.whole("num_attention_heads") or heads.query,
            kv=own.whole("num_key_value_heads") or heads.kv,
            dim=dim,
            value=dim if heads.value == heads.dim else heads.value,
        )
    return found


def _entries(raw: object) -> list[tuple[str, object]]:
    return [(str(name), told) for name, told in raw.items()] if isinstance(raw, Mapping) else []


def _unindexed(text: Fields) -> frozenset[int]:
    """Layers without an index (GLM 5.2): by a pattern of letters, or all but each so-many-th behind the first few."""
    pattern, every = text.text("index_topk_pattern"), text.whole("index_topk_freq") or 1
    if pattern:
        return frozenset(i for i, letter in enumerate(pattern) if letter == "S")
    offset = text.whole("index_skip_topk_offset", least=0)
    first = 2 if offset is None else offset
    layers = min(text.whole("num_hidden_layers") or 0, LARGEST_LAYERS)
    return frozenset(i for i in range(layers) if max(i - first + 1, 0) % every)


def _gates(text: Fields) -> int:
    """A gate for every output (Kimi K3), or for every head (Ling 3), or none."""
    heads = text.whole("num_attention_heads") or 0
    kind = text.text("gated_attention_proj_granularity_type")
    if text.flag("mla_use_output_gate") or kind == "element_wise":
        return heads * (text.whole("v_head_dim") or 0)
    return heads if kind == "head_wise" else 0


def read_latent(text: Fields, rules: Family, model_type: str) -> Latent | None:
    """The latent that keys and values are made through, whether it is kept or they are; else None."""
    if "kv_lora_rank" not in text or not (rules.unfolded or model_type in MULTI_HEAD_LATENT):
        return None
    indexer = text.whole("index_head_dim") or 0
    # A pooled key is not one of every token: see `index`.
    kept = 0 if rules.index else indexer
    return Latent(
        kv_rank=text.need("kv_lora_rank"),
        rope_dim=0 if text.whole("qk_rope_head_dim", least=0) == 0 else text.need("qk_rope_head_dim"),
        nope_dim=text.need("qk_nope_head_dim"),
        value_dim=text.need("v_head_dim"),
        query_rank=text.whole("q_lora_rank"),
        # The sparse indexer keeps one fp8 key a token and layer, with a 4-byte scale for every 128 values.
        indexer_dim=kept + -(-kept // 128) * 4,
        indexer_heads=text.whole("index_n_heads") or 64,
        indexer_width=indexer,
        unfolded=rules.unfolded,
        gates=_gates(text),
        unindexed=_unindexed(text),
    )
