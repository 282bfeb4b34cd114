"""Which layer keeps what between tokens: keys and values of all tokens, of a window, a recurrent state, or nothing."""

from dataclasses import dataclass
from typing import Literal

from vllm_operator.fit.architectures import Family
from vllm_operator.fit.fields import Fields

LayerKind = Literal["full", "sliding", "chunked", "recurrent", "both", "crossed", "none"]

NAMES: dict[str, LayerKind] = {
    "full_attention": "full",
    "attention": "full",
    "global": "full",
    "chunked_attention": "chunked",
    "sliding_attention": "sliding",
    "mamba": "recurrent",
    "mamba2": "recurrent",
    "linear_attention": "recurrent",
    # The sparse attention of DeepSeek 3.2 reads few tokens and keeps them all.
    "indexed_attention": "full",
    "deepseek_sparse_attention": "full",
    "conv": "recurrent",
    "hybrid": "both",
    "mlp": "none",
    "dense": "none",
    "moe": "none",
}
FULL: LayerKind = "full"
KIMI_LINEAR = "kimi_linear"
INTERVALS = ("qwen3_next", "qwen3_5", "qwen4_exp")
"""Families whose every fourth layer, or so, has attention."""
LETTERS: dict[str, LayerKind] = {"M": "recurrent", "*": "full", "-": "none", "E": "none"}


CHUNK = 2048
"""What vLLM takes for a recurrent layer that tells of no chunks (its get_mamba_chunk_size)."""


@dataclass(frozen=True, slots=True)
class Recurrent:
    """A recurrent layer's state and width; `state_dtype` is empty where the state has the model's dtype.

    `rank` is that of Mamba 1's time step. `whole_gates`: how many of Kimi's two gates go through no
    narrower width. `chunk`: tokens that Mamba 2 works on at once.
    """

    kind: Literal["mamba1", "mamba2", "conv", "delta", "kimi", "lightning"]
    inner: int
    heads: int
    head_dim: int
    groups: int
    state: int
    kernel: int
    state_dtype: str = ""
    rank: int = 0
    chunk: int = CHUNK
    whole_gates: int = 0

    def state_bytes(self, tensor_parallel: int, dtype_bytes: int) -> int:
        """Bytes of one request's state in one layer on one GPU.

        Source: vLLM's MambaStateShapeCalculator. Convolution: (kernel - 1) × channels, state: heads × head_dim ×
        state size, both split by tensor parallelism, with groups repeated where they cannot be split.
        """
        wide = {"float32": 4, "float16": 2, "bfloat16": 2}.get(self.state_dtype, dtype_bytes)
        rows = self.kernel - 1
        if self.kind == "conv":
            return rows * (self.inner // tensor_parallel) * dtype_bytes
        if self.kind == "mamba1":
            share = self.inner // tensor_parallel
            return rows * share * dtype_bytes + share * self.state * wide
        if self.kind == "lightning":
            return (self.heads // tensor_parallel) * self.head_dim * self.state * wide
        groups = self.groups if self.groups % tensor_parallel == 0 else tensor_parallel
        channels = self.inner + 2 * groups * self.state
        held = (self.heads // tensor_parallel) * self.head_dim * self.state
        return rows * (channels // tensor_parallel) * dtype_bytes + held * wide


def read_kinds(text: Fields, rules: Family, layers: int, model_type: str) -> tuple[LayerKind, ...]:
    """One kind a layer. A name that is not known is noted as missing and read as full attention."""
    if rules.crossed:
        return _full_at(set(), layers, "crossed")
    named = text.texts("layer_types") or text.texts("layers_block_type")
    if named:
        return _named(text, rules, named, layers)
    pattern = text.text("hybrid_override_pattern")
    if pattern:
        return _lettered(text, pattern, layers)
    if rules.recurrent or model_type.startswith(INTERVALS) or model_type == KIMI_LINEAR:
        return _recurrent(text, layers, model_type)
    return _windowed(text, rules, layers)


def _named(text: Fields, rules: Family, named: tuple[str, ...], layers: int) -> tuple[LayerKind, ...]:
    unknown = sorted(set(named) - set(NAMES))
    if unknown:
        text.missing.append(f"layer_types {unknown[0]} (not one the fit knows)")
    if len(named) < layers:
        text.missing.append("layer_types for every layer")
    kinds = tuple(NAMES.get(name, FULL) for name in named[:layers])
    if "chunked" in kinds and not read_chunk(text):
        kinds = tuple(FULL if kind == "chunked" else kind for kind in kinds)
    if rules.window.ends_full:
        kinds = (*kinds[:-1], FULL)
    if "sliding" not in kinds or rules.encoder:
        return kinds
    window = read_window(text, rules)
    if window is None:
        text.missing.append("sliding_window")
    return tuple(FULL if kind == "sliding" and not window else kind for kind in kinds)


def read_window(text: Fields, rules: Family) -> int | None:
    """Tokens in the window of sliding layers; 0 where the config switches it off (null or 0), None where none is told."""
    if text.is_null("sliding_window") or text.whole("sliding_window", least=0) == 0:
        return 0
    return text.whole("sliding_window") or rules.defaults.get("sliding_window")


def read_chunk(text: Fields) -> int:
    """Tokens that Llama 4's local layers see at most, themselves and those before in their chunk; 0 for all."""
    return 0 if text.is_null("attention_chunk_size") else text.whole("attention_chunk_size") or 8192


def _lettered(text: Fields, pattern: str, layers: int) -> tuple[LayerKind, ...]:
    if len(pattern) < layers or set(pattern) - set(LETTERS):
        text.missing.append("hybrid_override_pattern for every layer")
    return tuple(LETTERS.get(letter, FULL) for letter in pattern[:layers])


def _recurrent(text: Fields, layers: int, model_type: str) -> tuple[LayerKind, ...]:
    """Attention among recurrent layers where the config lists no types: each family counts in its own way."""
    if model_type in ("mamba", "mamba2", "falcon_mamba"):
        return _full_at(set(), layers, "recurrent")
    if model_type == "falcon_h1":
        return _full_at(set(), layers, "both")
    if model_type == "jamba":
        period, offset = text.whole("attn_layer_period") or 8, text.whole("attn_layer_offset", least=0)
        at = 4 if offset is None else offset
        return _full_at({i for i in range(layers) if i % period == at}, layers, "recurrent")
    if model_type.startswith(INTERVALS):
        every = text.whole("full_attention_interval") or 4
        return _full_at({i for i in range(layers) if (i + 1) % every == 0}, layers, "recurrent")
    if model_type == KIMI_LINEAR:
        # Counted from 1.
        return _full_at(
            {i - 1 for i in text.part("linear_attn_config").wholes("full_attn_layers")}, layers, "recurrent"
        )
    if "attn_layer_indices" in text or "full_attn_idxs" in text:
        return _full_at({*text.wholes("attn_layer_indices"), *text.wholes("full_attn_idxs")}, layers, "recurrent")
    text.missing.append("layer_types")
    return (FULL,) * layers


def _windowed(text: Fields, rules: Family, layers: int) -> tuple[LayerKind, ...]:
    if not read_window(text, rules) or (rules.window.switch and not text.flag(rules.window.switch)):
        return (FULL,) * layers
    if rules.window.switch:
        first = text.whole("max_window_layers", least=0)
        return _full_at(set(range(layers if first is None else min(first, layers))), layers, "sliding")
    letters = text.text("sliding_window_pattern")
    if letters:
        return _full_at({i for i in range(layers) if letters[i % len(letters)] == "G"}, layers, "sliding")
    every = text.whole("sliding_window_pattern", "_sliding_window_pattern") or rules.window.every
    full = {i for i in range(layers) if every > 1 and (i + 1) % every == 0}
    return _full_at(full | {layers - 1} if rules.window.ends_full else full, layers, "sliding")


def _full_at(places: set[int], layers: int, others: LayerKind) -> tuple[LayerKind, ...]:
    return tuple(FULL if i in places else others for i in range(layers))


def read_recurrent(text: Fields, rules: Family, model_type: str) -> Recurrent | None:
    """The recurrent layers' dimensions, told by whichever family's field names are there."""
    if "linear_num_value_heads" in text:
        return _delta(text)
    if model_type == "bailing_hybrid" and "linear_attn_config" not in text:
        heads, wide = text.need("num_attention_heads"), text.need("head_dim")
        return Recurrent("lightning", heads * wide, heads, wide, heads, wide, 1)
    if "linear_attn_config" in text:
        return _kimi_delta(text.part("linear_attn_config"))
    if rules.recurrent == "conv":
        inner = text.whole("conv_dim") or text.need("hidden_size")
        return Recurrent("conv", inner, 0, 0, 0, 0, text.need("conv_L_cache", default=3))
    if rules.recurrent == "mamba1":
        return _mamba1(text, model_type)
    if rules.recurrent == "mamba2" or "mamba_n_heads" in text:
        return _mamba2(text, model_type)
    text.missing.append("the state size of its recurrent layers")
    return None


def _delta(text: Fields) -> Recurrent:
    """Gated delta net (Qwen3-Next): keys and values of their own head counts, state key_dim × value_dim a head."""
    values, value_dim = text.need("linear_num_value_heads"), text.need("linear_value_head_dim")
    keys, key_dim = text.need("linear_num_key_heads"), text.need("linear_key_head_dim")
    kernel = text.need("linear_conv_kernel_dim", default=4)
    return Recurrent(
        "delta", values * value_dim, values, value_dim, keys, key_dim, kernel, text.text("mamba_ssm_dtype")
    )


def _kimi_delta(text: Fields) -> Recurrent:
    """Kimi's delta attention: one width for queries, keys and values, the state always in 32 bits (kda_state_shape)."""
    heads, wide = text.need("num_heads"), text.need("head_dim")
    kernel = text.need("short_conv_kernel_size", default=4)
    whole = text.whole("whole_gates") or int(text.flag("use_full_rank_gate"))
    return Recurrent("kimi", heads * wide, heads, wide, heads, wide, kernel, "float32", whole_gates=whole)


def _mamba1(text: Fields, model_type: str) -> Recurrent:
    hidden = text.need("hidden_size")
    if model_type == "jamba":
        inner = (text.whole("mamba_expand") or 2) * hidden
        state, kernel = text.need("mamba_d_state", default=16), text.need("mamba_d_conv", default=4)
        rank = text.whole("mamba_dt_rank")
    else:
        inner = text.whole("intermediate_size") or (text.whole("expand") or 2) * hidden
        state, kernel = text.need("state_size", default=16), text.need("conv_kernel", default=4)
        rank = text.whole("time_step_rank")
    return Recurrent("mamba1", inner, 0, 0, 0, state, kernel, rank=rank or -(-hidden // 16))


def _mamba2(text: Fields, model_type: str) -> Recurrent:
    hidden = text.need("hidden_size")
    heads = text.need("mamba_n_heads", "mamba_num_heads", "num_heads")
    inner = text.whole("mamba_d_ssm") or 0
    if not inner and model_type == "nemotron_h":
        inner = heads * text.need("mamba_head_dim")
    inner = inner or int((text.number("mamba_expand", "expand") or 2) * hidden)
    head_dim = text.whole("mamba_d_head", "mamba_head_dim") or inner // max(heads, 1)
    kept = text.text("mamba_ssm_cache_dtype") or ("float32" if model_type == "nemotron_h" else "")
    return Recurrent(
        "mamba2",
        inner,
        heads,
        head_dim,
        text.need("mamba_n_groups", "n_groups", default=1),
        text.need("mamba_d_state", "ssm_state_size", "state_size"),
        text.need("mamba_d_conv", "conv_kernel", default=4),
        kept if model_type == "nemotron_h" else "",
        chunk=text.whole("mamba_chunk_size", "chunk_size") or CHUNK,
    )
