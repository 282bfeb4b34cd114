"""Short convolutions beside attention, which remember a few tokens of keys, values and hidden states (Inkling)."""

from dataclasses import dataclass

from vllm_operator.fit.architectures import Family
from vllm_operator.fit.fields import Fields
from vllm_operator.fit.heads import Heads


@dataclass(frozen=True, slots=True)
class Convolutions:
    """Tokens that each of them sees; a page of theirs has as many. `relative`: width of a head's relative positions."""

    kernel: int
    relative: int

    def token_bytes(self, heads: Heads, hidden: int, tensor_parallel: int, dtype_bytes: int) -> int:
        """Bytes of one token in one layer: four streams shared among the KV heads, each rounded up to a power of two.

        Source: vLLM's models/inkling/nvidia/sconv_swa_attn.py.
        """
        streams = 2 * heads.dim + 2 * -(-hidden // heads.kv)
        kept = max(1, heads.kv // tensor_parallel)
        return kept * (1 << (streams - 1).bit_length()) * dtype_bytes


def read_convolutions(text: Fields, rules: Family) -> Convolutions | None:
    """The convolutions, or None for a family without."""
    if not rules.convolved:
        return None
    kernel = text.need("sconv_kernel_size", "conv_kernel_size", default=4)
    return Convolutions(kernel, text.need("d_rel", default=16))
