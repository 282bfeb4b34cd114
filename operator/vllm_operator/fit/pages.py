"""Pages of the KV cache: layers of unlike sizes brought to one page, and dealt into groups of equally many.

Source: unify_kv_cache_spec_page_size and get_kv_cache_groups of vLLM's v1/core/kv_cache_utils.py.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["full", "sliding", "chunked", "recurrent", "cross", "ring"]


@dataclass(frozen=True, slots=True)
class Stack:
    """Layers that keep the same: bytes a token, or of recurrent ones bytes a request.

    `tokens` of a block and `window` where they are not the model's.
    """

    kind: Kind
    count: int
    size: int
    tokens: int = 0
    window: int = 0

    def page(self, tokens: int) -> int:
        """Bytes of a block of so many tokens, unless it has its own."""
        return self.size if self.kind == "recurrent" else (self.tokens or tokens) * self.size


@dataclass(frozen=True, slots=True)
class Group:
    """Layers that share a block table: as many tables of this kind as `count` says, a block of `tokens` in each.

    `window`: tokens that a sliding group keeps, where that is not the model's.
    """

    kind: Kind
    count: int
    tokens: int
    window: int = 0


def block_tokens(stacks: tuple[Stack, ...], tokens: int, step: int) -> int:
    """Tokens in a block: `tokens`, or as many steps as make an attention layer's page hold a recurrent layer's state."""
    state = max((stack.size for stack in stacks if stack.kind == "recurrent"), default=0)
    kept = max((stack.size for stack in stacks if stack.kind != "recurrent"), default=0)
    return max(tokens, step * -(-state // (step * kept))) if state and kept else tokens


def deal(stacks: tuple[Stack, ...], tokens: int) -> tuple[tuple[Group, ...], int, int]:
    """(groups, layers in the largest group, bytes of one block of a group).

    Layers of one kind share a table whatever their sizes. Of several kinds, those with the smaller page take more tokens
    a block, or waste the rest of the page where it is no multiple of theirs.
    """
    if len({stack.kind for stack in stacks}) == 1 and stacks[0].kind != "recurrent":
        count = sum(stack.count for stack in stacks)
        return (Group(stacks[0].kind, 1, tokens),), count, tokens * sum(stack.count * stack.size for stack in stacks)
    pages = [stack.page(tokens) for stack in stacks]
    page = max(pages)
    size = _group_size(tuple(stack.count for stack in stacks))
    groups = (
        Group(
            stack.kind,
            -(-stack.count // size),
            (stack.tokens or tokens) * (page // own if page % own == 0 else 1),
            stack.window,
        )
        for stack, own in zip(stacks, pages, strict=True)
    )
    return tuple(groups), size, page * size


def _group_size(counts: tuple[int, ...]) -> int:
    """Layers per group: the rarest kind's number, or the commonest's where they are nearly equal."""
    return max(counts) if max(counts) < 1.5 * min(counts) else min(counts)
