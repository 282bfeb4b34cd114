"""Residual streams side by side (hyper-connections), and embeddings of runs of tokens that lie in the host's memory."""

from collections.abc import Iterator
from dataclasses import dataclass

from vllm_operator.fit.architectures import Family
from vllm_operator.fit.fields import Fields
from vllm_operator.fit.matrix import Matrix


@dataclass(frozen=True, slots=True)
class Streams:
    """So many streams, mixed before and after every block. `rank`: the width they are mixed through, 0 for at once.

    `ends`: they are mixed once more at the end of the model.
    """

    count: int
    rank: int
    ends: bool


@dataclass(frozen=True, slots=True)
class Ngrams:
    """Tables of embeddings of the last few tokens together: rows of all of them, their width, and the layers that read them.

    `joined`: width of all that a token looks up. `eighths`: kept in 8 bits.
    """

    rows: int
    width: int
    layers: int
    joined: int
    eighths: bool = False

    @property
    def elements(self) -> int:
        """Values and, where they are kept in 8 bits, a scale for each 32 of them."""
        return self.rows * self.width * (33 if self.eighths else 32) // 32

    @property
    def host_bytes(self) -> int:
        return self.elements * (1 if self.eighths else 2)


def read_streams(text: Fields, rules: Family) -> Streams | None:
    """The streams, or None for a family that has one."""
    if not rules.streams:
        return None
    rank = text.whole("hc_lowrank") or 0
    return Streams(text.need("hc_mult", "hc_count"), rank, rules.streams == "ended")


def stream_matrices(streams: Streams, hidden: int, layers: int) -> Iterator[Matrix]:
    """Twice in each layer, whole on every GPU. Those mixed at once are kept in 32 bits, which is little."""
    wide = streams.count * hidden
    if streams.rank:
        # What a block adds to each stream is told by as many rows, padded to 16.
        rows = 2 * streams.rank + -(-streams.count // 16) * 16
        yield Matrix(rows * wide, 2 * layers, split="none", linear=False)
        yield Matrix(2 * streams.rank * wide, int(streams.ends), split="none", linear=False)
        return
    yield Matrix(streams.count * (2 + streams.count) * wide, 2 * layers, split="none", linear=False)
    yield Matrix(streams.count * wide, int(streams.ends), split="none", linear=False)


def read_ngrams(text: Fields, rules: Family) -> Ngrams | None:
    """Qwen 4's embeddings of pairs and triples of tokens; None where no layer reads any.

    Each head's table has the next prime number of rows from the base up, which is the base within a millionth.
    """
    if "engram_layer_ids" in rules.reads:
        return _engram(text)
    layers = len(text.wholes("ple_layer_ids"))
    if "ple_layer_ids" not in rules.reads or not layers:
        return None
    heads = (text.need("ngram_size") - 1) * text.need("heads_per_ngram")
    joined = text.need("ple_embed_dim")
    return Ngrams(text.need("ngram_vocab_size_base") * heads * layers, joined // max(heads, 1), layers, joined)


def _engram(text: Fields) -> Ngrams | None:
    """DeepSeek V4.1's, whose rows the config states."""
    layers = len(text.wholes("engram_layer_ids"))
    if not layers:
        return None
    heads, wide = (text.need("engram_max_ngram_size") - 1) * text.need("engram_n_heads"), text.need("engram_head_dim")
    return Ngrams(sum(text.wholes("engram_num_embeddings")), wide, layers, heads * wide, eighths=True)


def ngram_matrices(ngrams: Ngrams, hidden: int, streams: Streams | None) -> Iterator[Matrix]:
    """The tables, which vLLM keeps pinned in the host's memory, and what brings a row to every stream."""
    yield Matrix(ngrams.elements, 1, "host", linear=False)
    count = streams.count if streams is not None else 1
    yield Matrix((count + 1) * hidden * ngrams.joined, ngrams.layers, split="none", inputs=ngrams.joined)
