"""Transformers that the layers of a model take turns with (Zamba 2)."""

from collections.abc import Iterator
from dataclasses import dataclass

from vllm_operator.fit.architectures import Family
from vllm_operator.fit.fields import Fields
from vllm_operator.fit.matrix import Matrix


@dataclass(frozen=True, slots=True)
class SharedBlocks:
    """So many transformers, which read `wide` values a token and make `heads_wide` of each of query, key and value.

    `adapted`: the width that a layer's own change to their MLP goes through, 0 for none.
    """

    count: int
    wide: int
    heads_wide: int
    intermediate: int
    adapted: int

    def matrices(self, hidden: int, layers: int) -> Iterator[Matrix]:
        """Each of them once, and what every layer that uses one has of its own."""
        yield Matrix(3 * self.heads_wide * self.wide, self.count, inputs=self.wide)
        yield Matrix(self.heads_wide * hidden, self.count, inputs=self.heads_wide, across=True)
        yield Matrix(2 * self.intermediate * hidden, self.count, inputs=hidden)
        yield Matrix(self.intermediate * hidden, self.count, inputs=self.intermediate, across=True)
        yield Matrix(hidden * hidden, layers, split="none", inputs=hidden)
        yield Matrix(self.adapted * (hidden + 2 * self.intermediate), layers, split="none", linear=False)


def read_blocks(text: Fields, rules: Family, hidden: int) -> SharedBlocks | None:
    """The transformers, or None for a family whose layers have their own."""
    if not rules.shared_blocks:
        return None
    if text.flag("use_shared_attention_adapter"):
        text.missing.append("the size of use_shared_attention_adapter")
    heads = text.need("num_attention_heads") * text.need("head_dim")
    return SharedBlocks(
        count=text.need("num_mem_blocks", default=1),
        wide=text.whole("attention_hidden_size") or 2 * hidden,
        heads_wide=heads,
        intermediate=text.need("intermediate_size"),
        adapted=text.need("adapter_rank", default=128),
    )
