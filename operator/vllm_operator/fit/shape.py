"""The shape of a model, read from config.json: what memory depends on and nothing else.

Names and defaults follow vLLM's own reading (transformers_utils/model_arch_config_convertor.py). What cannot be read
is named in `ModelShape.missing`; the numbers that rest on it are then not to be used.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from vllm_operator.fit.architectures import GENERATING, MULTI_HEAD_LATENT, POOLING, Family, families
from vllm_operator.fit.blocks import SharedBlocks, read_blocks
from vllm_operator.fit.compressed import Compressed, read_compressed
from vllm_operator.fit.convolutions import Convolutions, read_convolutions
from vllm_operator.fit.dialects import LARGEST_LAYERS, canonical
from vllm_operator.fit.encoders import Encoder, encoder_notes, read_encoders
from vllm_operator.fit.experts import Experts, read_experts
from vllm_operator.fit.fields import Fields
from vllm_operator.fit.gemma import PerLayer, read_per_layer
from vllm_operator.fit.heads import Heads, Latent, read_heads, read_latent
from vllm_operator.fit.index import Index, read_index
from vllm_operator.fit.layers import LayerKind, Recurrent, read_chunk, read_kinds, read_recurrent, read_window
from vllm_operator.fit.length import context_lengths, rope_rows, yarn_lengths
from vllm_operator.fit.streams import Ngrams, Streams, read_ngrams, read_streams
from vllm_operator.fit.widths import read_width, read_widths

TEXT_PARTS = ("text_config", "llm_config", "language_config", "thinker_config")
UNREAD = (
    *("block_configs", "compress_ratios", "num_kv_shared_layers", "linear_attn_config", "hidden_size_per_layer_input"),
    *("ple_layer_ids", "engram_layer_ids"),
    # What Kimi K3 has and Kimi Linear has not.
    *("routed_expert_hidden_size", "attn_res_block_size"),
)


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Everything the fit needs to know of a model; sizes in elements and tokens.

    `longest` is the most that max_model_len may be, `usual` what it is when unset; `embedding` the width of the
    embedding where it differs from the hidden size (OPT-350m).
    """

    model_type: str
    architectures: tuple[str, ...]
    family: Family | None
    layers: int
    hidden: int
    vocab: int
    attention: tuple[Heads, ...]
    intermediate: int
    widths: tuple[int, ...]
    tied: bool
    kinds: tuple[LayerKind, ...]
    window: int
    recurrent: Recurrent | None
    made_through: Latent | None
    experts: Experts | None
    per_layer: PerLayer | None
    compressed: Compressed | None
    index: Index | None
    streams: Streams | None
    ngrams: Ngrams | None
    blocks: SharedBlocks | None
    convolutions: Convolutions | None
    encoders: tuple[Encoder, ...]
    longest: int
    usual: int
    rope_bytes: int
    dtype: str
    quantization: Mapping[str, object]
    draft_layers: int
    embedding: int
    missing: tuple[str, ...]
    assumed: tuple[str, ...]

    @property
    def is_encoder(self) -> bool:
        return self.family is not None and self.family.encoder

    @property
    def pools(self) -> bool:
        """Whether vLLM serves it as a pooling model of its own accord."""
        first = next(iter(self.architectures), "")
        return first.endswith(POOLING) and not first.endswith(GENERATING)

    @property
    def is_crossed(self) -> bool:
        """Whether a decoder keeps keys and values of an encoder's output, too."""
        return "crossed" in self.kinds

    @property
    def latent(self) -> Latent | None:
        """The latent that is kept for every token; None where keys and values are."""
        return None if self.made_through is None or self.made_through.unfolded else self.made_through

    @property
    def heads(self) -> int:
        """The most heads that make queries in a layer; 0 without attention."""
        return max((heads.query for heads in self.attention), default=0)

    @property
    def kv_heads(self) -> int:
        """KV heads of the first layer."""
        return self.attention[0].kv if self.attention else 0

    @property
    def head_dim(self) -> int:
        """The widest key."""
        return max((heads.dim for heads in self.attention), default=0)

    @property
    def has_attention(self) -> bool:
        return any(kind in ("full", "sliding", "chunked", "both", "crossed") for kind in self.kinds)


def read_shape(config: Mapping[str, object]) -> ModelShape:
    """The shape told by a config.json; never raises, see `missing`."""
    root = Fields(config)
    part = _text_part(root)
    model_type = part.text("model_type") or root.text("model_type")
    text = canonical(part, model_type)
    family = _family(root, model_type)
    rules = (family or Family(mlp="gated")).within(nested=part is not root)
    layers, hidden = _layers(text, rules, model_type), _need(text, rules, "hidden_size", "n_embd", "d_model")
    kinds = read_kinds(text, rules, layers, model_type)
    heads = read_heads(text, rules, kinds, hidden)
    experts = read_experts(text, layers, model_type)
    width = read_width(text, rules, hidden, model_type, experts)
    longest, usual = context_lengths(text, rules, model_type)
    encoders, ngrams = read_encoders(root, text, rules), read_ngrams(text, rules)
    _refuse_unread(text, root, rules)
    return ModelShape(
        model_type=model_type,
        architectures=root.texts("architectures"),
        family=family,
        layers=layers,
        hidden=hidden,
        vocab=_need(text, rules, "vocab_size", "padded_vocab_size"),
        attention=heads,
        intermediate=width,
        widths=read_widths(text, layers, width),
        tied=_tied(text, root, rules),
        kinds=kinds,
        window=read_chunk(text) if "chunked" in kinds else read_window(text, rules) or 0,
        recurrent=read_recurrent(text, rules, model_type) if any(k in ("recurrent", "both") for k in kinds) else None,
        made_through=read_latent(text, rules, model_type),
        experts=experts,
        per_layer=read_per_layer(text, rules),
        compressed=read_compressed(text, rules, layers),
        index=read_index(text, rules, kinds),
        streams=read_streams(text, rules),
        ngrams=ngrams,
        blocks=read_blocks(text, rules, hidden),
        convolutions=read_convolutions(text, rules),
        encoders=encoders,
        longest=longest,
        usual=usual,
        rope_bytes=_tables(text, rules, layers) or _rope_bytes(text, rules, model_type, kinds, heads),
        dtype=root.text("torch_dtype", "dtype") or text.text("torch_dtype", "dtype"),
        quantization=_quantization(root, text),
        draft_layers=text.whole("num_nextn_predict_layers") or 0,
        embedding=text.whole("word_embed_proj_dim") or hidden,
        missing=tuple(dict.fromkeys(root.missing)),
        assumed=_assumed(encoders, yarn_lengths(text, rules), ngrams),
    )


def _family(root: Fields, model_type: str) -> Family | None:
    """The family of this name; one that the fit does not know is noted as missing."""
    family = families().get(model_type)
    if family is None:
        named = f"model_type {model_type} (not one the fit knows)" if model_type else "model_type"
        elsewhere = root.text("text_model_id")
        root.missing.append(f"the config of {elsewhere[:96]}, which text_model_id names" if elsewhere else named)
    return family


def _text_part(root: Fields) -> Fields:
    for name in TEXT_PARTS:
        part = root.part(name)
        if name in root:
            return part.part("text_config") if "text_config" in part else part
    return root


def _layers(text: Fields, rules: Family, model_type: str) -> int:
    """Number of layers; Nemotron-H may tell it by the list of its layers' kinds alone."""
    named = len(text.texts("layers_block_type")) if model_type == "nemotron_h" else 0
    if named and "num_hidden_layers" not in text:
        return min(named, LARGEST_LAYERS)
    return min(_need(text, rules, "num_hidden_layers", "n_layer", "n_layers", "num_layers"), LARGEST_LAYERS)


def _need(text: Fields, rules: Family, *names: str) -> int:
    return text.need(*names, default=rules.defaults.get(names[0]))


def _tied(text: Fields, root: Fields, rules: Family) -> bool:
    for part in (text, root):
        if isinstance(part.raw("tie_word_embeddings"), bool):
            return part.flag("tie_word_embeddings")
    return rules.tied


def _rope_bytes(
    text: Fields, rules: Family, model_type: str, kinds: tuple[LayerKind, ...], heads: tuple[Heads, ...]
) -> int:
    """Bytes of the rotary tables in 16 bits; the second, if any, is as wide as the sliding layers' heads."""
    if text.flag("mla_use_nope"):
        return 0
    first, second = rope_rows(text, rules)
    widest = max((each.dim for each in heads), default=0)
    sliding = max((each.dim for kind, each in zip(kinds, heads, strict=True) if kind == "sliding"), default=widest)
    # Ernie's models of images have a table in each layer, where all others share one.
    first *= len(kinds) if rules.rope_each_layer else 1
    return 2 * (
        first * _rotary_dim(text, rules, model_type, widest) + second * _rotary_dim(text, rules, model_type, sliding)
    )


def _tables(text: Fields, rules: Family, layers: int) -> int:
    """Bytes of rotary tables in 32 bits, for all positions of the config; 0 for a family that has them in 16."""
    compressed = read_compressed(text, rules, layers)
    if compressed is None:
        return 0
    return 4 * text.need("max_position_embeddings") * compressed.rope_dim * compressed.tables


def _rotary_dim(text: Fields, rules: Family, model_type: str, head_dim: int) -> int:
    if model_type in MULTI_HEAD_LATENT or rules.unfolded:
        return text.whole("qk_rope_head_dim") or head_dim
    share = text.number("partial_rotary_factor", "rotary_pct") or text.part("rope_parameters").number(
        "partial_rotary_factor"
    )
    return text.whole("rotary_dim") or int(head_dim * min(share or 1.0, 1.0))


def _quantization(root: Fields, text: Fields) -> Mapping[str, object]:
    for part in (root, text):
        for name in ("quantization_config", "compression_config"):
            found = part.raw(name)
            if isinstance(found, Mapping):
                told = text.text("expert_dtype") or root.text("expert_dtype")
                return {"expert_dtype": told, **found} if told else found
    return {}


def _refuse_unread(text: Fields, root: Fields, rules: Family) -> None:
    """Names what would change the memory but is not modelled, so that nobody mistakes the rest for the whole."""
    for name in UNREAD:
        known = name in rules.reads
        if name in text and text.raw(name) not in (0, [], {}) and not known:
            root.missing.append(f"a model of {name}")
    if not rules.crossed and (root.flag("is_encoder_decoder") or "decoder_layers" in root):
        root.missing.append("the cross-attention cache of an encoder-decoder")
    if isinstance(text.raw("num_key_value_heads"), list):
        root.missing.append("num_key_value_heads per layer")


def _assumed(encoders: tuple[Encoder, ...], lengths: tuple[int, int], ngrams: Ngrams | None) -> tuple[str, ...]:
    notes = []
    stated, scaled = lengths
    if scaled not in (0, stated):
        notes.append(
            f"with yarn, vLLM 0.32 serves the {stated} tokens that the config states, earlier releases {scaled}"
        )
    notes += encoder_notes(encoders)
    if ngrams is not None:
        held = f"{ngrams.host_bytes / (1 << 30):.0f} GiB of embeddings of runs of tokens"
        notes.append(f"{held} lie in the node's memory, for each engine")
    return tuple(notes)
