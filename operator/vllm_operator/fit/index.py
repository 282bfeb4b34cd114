"""The index of sparse attention where it is kept beside keys and values: small keys by which a layer chooses what it reads."""

from collections.abc import Iterator
from dataclasses import dataclass

from vllm_operator.fit.architectures import Family
from vllm_operator.fit.fields import Fields
from vllm_operator.fit.layers import LayerKind
from vllm_operator.fit.matrix import Matrix


@dataclass(frozen=True, slots=True)
class Index:
    """Which layers have one, the bytes of a key, how many tokens share it, and what a request keeps of the last ones.

    `projected`: elements that make it from a hidden state, for each of its width; `reads`: entries chosen for a token.
    """

    layers: frozenset[int]
    key_bytes: int
    pooled: int
    ring_bytes: int
    projected: int
    reads: int = 0

    def matrices(self, hidden: int) -> Iterator[Matrix]:
        """What makes its queries and keys, whole on every GPU."""
        yield Matrix(self.projected * hidden, len(self.layers), split="none", inputs=hidden)


def read_index(text: Fields, rules: Family, kinds: tuple[LayerKind, ...]) -> Index | None:
    """The index, or None for a family without one. DeepSeek's, where the latent is kept, is part of `Latent`."""
    full = frozenset(i for i, kind in enumerate(kinds) if kind == "full")
    match rules.index:
        case "beside":
            return _beside(text, full)
        case "pooled":
            return _pooled(text, full)
        case "compressed":
            return _compressed(text, full)
        case _:
            return None


def _beside(text: Fields, full: frozenset[int]) -> Index | None:
    """MiniMax M3: one key of 16 bits a token in every sparse layer."""
    told = Fields(text.raw("sparse_attention_config"), "sparse_attention_config.", text.missing)
    if not told.flag("use_sparse_attention", default=True):
        return None
    marks = told.wholes("sparse_attention_freq")
    wide, heads = told.need("sparse_index_dim"), told.need("sparse_num_index_heads")
    layers = frozenset(i for i in full if not marks or (i < len(marks) and marks[i]))
    return Index(layers, 2 * wide, 1, 0, (heads + 1) * wide)


def _pooled(text: Fields, full: frozenset[int]) -> Index:
    """GLM 5 Next: one key of 8 bits with its scale for so many tokens; of those not yet pooled, keys and weights."""
    wide, pooled = text.need("index_head_dim"), text.need("index_kpool", default=16)
    return Index(full, wide + -(-wide // 128) * 4, pooled, pooled * 2 * wide * 2, wide)


def _compressed(text: Fields, full: frozenset[int]) -> Index | None:
    """Qwen 4: one key of 16 bits for so many tokens, and the last of them as they are."""
    if "indexer_head_dim" not in text:
        return None
    wide, pooled = text.need("indexer_head_dim"), text.need("indexer_compress_ratio")
    heads = text.need("indexer_n_heads")
    reads = text.need("indexer_budget") + pooled
    return Index(full, 2 * wide, pooled, pooled * 2 * wide, (heads + 1) * wide, reads)
