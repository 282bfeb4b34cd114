"""Blocks of the KV cache in which pages of unlike sizes lie side by side, as models with compressed keys ask for.

Layers that need the same blocks of tokens form one group, or several where others have fewer layers; a block is as
large as the largest group's pages together. Source: _get_packed_kv_cache_groups of vLLM's v1/core/kv_cache_utils.py.
"""

from collections import Counter
from dataclasses import dataclass

from vllm_operator.fit.pages import Group, Kind


@dataclass(frozen=True, slots=True)
class Page:
    """Layers that keep `size` bytes for `tokens` tokens, or for a request. `apart`: never in a group with others."""

    kind: Kind
    tokens: int
    size: int
    count: int
    window: int = 0
    apart: bool = False


@dataclass(frozen=True, slots=True)
class Bucket:
    """Pages that can share a table: of one kind, as many tokens a block, and one window."""

    pages: tuple[Page, ...]

    @property
    def sizes(self) -> Counter[int]:
        """Layers by the size of their page."""
        found: Counter[int] = Counter()
        for page in self.pages:
            found[page.size] += page.count
        return found

    @property
    def repeats(self) -> int:
        return max(self.sizes.values())

    @property
    def balanced(self) -> bool:
        return len(set(self.sizes.values())) == 1

    def is_state(self, packed: bool) -> bool:
        """Whether it is cut into as many groups as the block asks for."""
        kind = self.pages[0].kind
        return kind in ("recurrent", "ring") or (kind == "sliding" and not packed)

    def widest(self, groups: int) -> int:
        """Bytes of the largest of so many groups."""
        return sum(-(-count // groups) * size for size, count in self.sizes.items())


def pack(pages: tuple[Page, ...], stride: int = 1) -> tuple[tuple[Group, ...], int]:
    """(groups, bytes of one block, which is a multiple of `stride`)."""
    buckets = _buckets(pages)
    least = max((b.repeats for b in buckets if b.balanced and len(b.sizes) > 1), default=0)
    each = _least_padding([b.repeats for b in buckets if b.balanced], least) if least else 0
    fixed = [-(-b.repeats // each) if each and b.balanced else 1 for b in buckets]
    most = [sum(b.sizes.values()) if b.is_state(bool(each)) else n for b, n in zip(buckets, fixed, strict=True)]
    anchor = max(b.widest(n) for b, n in zip(buckets, most, strict=True))
    counts = [_groups(b, n, anchor) if b.is_state(bool(each)) else n for b, n in zip(buckets, fixed, strict=True)]
    block = max(b.widest(n) for b, n in zip(buckets, counts, strict=True))
    groups = (
        Group(b.pages[0].kind, n, b.pages[0].tokens, b.pages[0].window) for b, n in zip(buckets, counts, strict=True)
    )
    return tuple(groups), -(-block // stride) * stride


def _buckets(pages: tuple[Page, ...]) -> list[Bucket]:
    found: dict[tuple[object, ...], list[Page]] = {}
    for page in pages:
        state = page.size if page.kind == "recurrent" else 0
        found.setdefault((page.kind, page.tokens, page.window, page.apart, state), []).append(page)
    return [Bucket(tuple(each)) for each in found.values()]


def _groups(bucket: Bucket, at_least: int, anchor: int) -> int:
    """Groups of states: each holds as many as fit a block that others have made that large."""
    fitting = max(anchor // bucket.pages[0].size, 1)
    return max(at_least, -(-sum(bucket.sizes.values()) // fitting))


def _least_padding(values: list[int], least: int) -> int:
    """The number from `least` up that divides these with the least left over; the largest of several."""
    tried = range(least, max(values) + 1)
    return max(tried, key=lambda size: (-sum(-value % size for value in values), size))
