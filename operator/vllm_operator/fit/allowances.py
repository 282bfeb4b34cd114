"""What is set aside for families whose engine was never measured: the buffers that their code names, and a doubt."""

from vllm_operator.fit.shape import ModelShape
from vllm_operator.fit.values import GIB

UNMEASURED = 2 * GIB
"""How much more than this a forward pass may take of them: within it the verdict is unknown."""

GATHERED = 4
"""Prompts whose shared keys DeepSeek V4 lays out at once (its PREFILL_CHUNK_SIZE)."""


def is_unmeasured(shape: ModelShape) -> bool:
    """Families of several streams, of compressed keys, of an index of their own or of convolutions beside attention."""
    return any(part is not None for part in (shape.streams, shape.compressed, shape.index, shape.convolutions))


def buffers(shape: ModelShape, tokens: int, length: int) -> int:
    """Bytes beside a dense model's forward pass over so many tokens, for requests of this length.

    Three copies of what the further streams hold, the keys that DeepSeek V4 gathers (in 16 bits), and the entries that
    every layer of Qwen 4 chooses for each token.
    """
    found = 0
    if shape.streams is not None:
        found += 3 * 2 * tokens * shape.streams.count * shape.hidden
    if shape.compressed is not None:
        gathered = -(-length // shape.compressed.closest) + shape.compressed.window + tokens
        found += 2 * GATHERED * gathered * shape.compressed.width
    if shape.index is not None:
        found += 4 * tokens * shape.index.reads * len(shape.index.layers)
    return found
