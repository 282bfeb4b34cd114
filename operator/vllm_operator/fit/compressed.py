"""DeepSeek V4's attention: a window of whole keys in each layer, and beside it one key for every stretch of tokens.

Source: vLLM's models/deepseek_v4 and deepseek_v41 (attention.py, compressor.py) and v1/attention/backends/mla/sparse_swa.py.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from vllm_operator.fit.architectures import Family
from vllm_operator.fit.fields import Fields
from vllm_operator.fit.packed import Page

SHORT = 4
"""Tokens that share a key where an index chooses what is read; the other layers share one among `LONG`."""

LONG = 128
BLOCK = 256
WINDOW_BLOCK = 64
STATE_BLOCKS = {SHORT: 4, LONG: 8}
HOPPER_BLOCK = 64
RING = 8
STRIDE = 576
"""Pages are multiples of these bytes (FlashMLA's packing)."""


@dataclass(frozen=True, slots=True)
class Compressed:
    """How many tokens share a key in each layer (none where it is less than 2), and the widths around it.

    `sources`: in V4.1, the layers whose keys the others read; there a ratio of 1 counts, too, and of 0 does not.
    `indexed`: layers that choose what they read.
    """

    ratios: tuple[int, ...]
    window: int
    width: int
    rope_dim: int
    query_rank: int
    groups: int
    output_rank: int
    index_heads: int
    index_width: int
    indexed: int
    sources: tuple[int, ...] = ()

    def count(self, ratio: int) -> int:
        """Layers of this ratio."""
        return self.ratios.count(ratio)

    @property
    def tables(self) -> int:
        """Rotary tables: layers that compress have another base than those that do not."""
        return len({ratio > (0 if self.sources else 1) for ratio in self.ratios})

    @property
    def closest(self) -> int:
        """The fewest tokens that share a key."""
        return min(self.shared_by(), default=SHORT if SHORT in self.ratios else LONG)

    @property
    def row(self) -> int:
        """Bytes of a key: 8 bits but for what is rotated, and scales."""
        return self.width - self.rope_dim + 2 * self.rope_dim + 8

    @property
    def index_row(self) -> int:
        return self.index_width + -(-self.index_width // 128) * 4

    def shared_by(self) -> Counter[int]:
        """V4.1's sources by how many tokens share one of their keys."""
        return Counter(max(self.ratios[i], 1) for i in self.sources if i < len(self.ratios))

    def rows(self) -> Iterator[tuple[int, int]]:
        """(rows that make keys and their weights, layers); of short stretches they make those of the one before, too."""
        for ratio, count in self.shared_by().items():
            yield (2 if ratio > 1 else 1) * self.width, count
        for ratio, width, count in self.compressors() if not self.sources else ():
            yield 2 * (1 + (ratio == SHORT)) * width, count

    def compressors(self) -> Iterator[tuple[int, int, int]]:
        """(ratio, width of a key, layers) of each kind of compressor; an index has one of its own."""
        yield SHORT, self.width, self.count(SHORT)
        yield SHORT, self.index_width, self.count(SHORT)
        yield LONG, self.width, self.count(LONG)

    def pages(self) -> tuple[Page, ...]:
        """What the layers keep, in 8 bits: windows, shared keys, the index's, and the states of stretches not yet whole."""
        if self.sources:
            return self._sourced()
        row, key = self.row, self.index_row
        found = [Page("sliding", WINDOW_BLOCK, _page(WINDOW_BLOCK * row), len(self.ratios), self.window)]
        found += [Page("full", BLOCK, _page(BLOCK // ratio * row), self.count(ratio)) for ratio in (SHORT, LONG)]
        found.append(Page("full", BLOCK, _page(BLOCK // SHORT * key), self.count(SHORT)))
        for ratio, width, count in self.compressors():
            reach = 1 + (ratio == SHORT)
            block = STATE_BLOCKS[ratio]
            # Sums and weights in 32 bits.
            found.append(Page("sliding", block, _page(block * reach * width * 2 * 4), count, reach * ratio))
        return tuple(page for page in found if page.count)

    def _sourced(self) -> tuple[Page, ...]:
        """V4.1's, in Hopper's blocks; the ring holds the last keys and weights of a stretch in 32 bits."""
        block, window = HOPPER_BLOCK, HOPPER_BLOCK // 2
        found = [Page("sliding", window, _page(window * self.row), len(self.ratios), self.window)]
        for ratio, count in self.shared_by().items():
            found.append(Page("full", block, _page(block // ratio * self.row), count))
            found.append(Page("full", block, _page(block // ratio * self.index_row), count))
            found.append(Page("ring", RING, RING * 2 * self.width * 4, count * (ratio > 1)))
        return tuple(page for page in found if page.count)


def _page(size: int) -> int:
    return -(-size // STRIDE) * STRIDE


def read_compressed(text: Fields, rules: Family, layers: int) -> Compressed | None:
    """The compression, or None for a family without; a ratio that vLLM does not know is noted as missing."""
    if "compress_ratios" not in rules.reads:
        return None
    ratios, sources = text.wholes("compress_ratios")[:layers], text.wholes("kv_source_layer_ids")
    if len(ratios) < layers or set(ratios) - ({0, 1, 2} if sources else {0, 1, SHORT, LONG}):
        text.missing.append(f"compress_ratios of 0, {'1 or 2' if sources else '4 or 128'} for every layer")
    return Compressed(
        ratios=ratios,
        window=text.need("sliding_window"),
        width=text.need("head_dim"),
        rope_dim=text.need("qk_rope_head_dim"),
        query_rank=text.need("q_lora_rank"),
        groups=text.need("o_groups"),
        output_rank=text.need("o_lora_rank"),
        index_heads=text.need("index_n_heads"),
        index_width=text.need("index_head_dim"),
        indexed=len(text.wholes("index_source_layer_ids")) if sources else ratios.count(SHORT),
        sources=sources,
    )
