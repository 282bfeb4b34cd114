"""What an encoder of images or sound takes beside its weights: its outputs, and the trial run at its largest input.

Of vLLM 0.26's runners only the older one tries the encoder; later releases do with both. Measured on an H200 with the
older one: from 22 to 29 bytes × patches × width beside inputs and outputs (Qwen 2.5 VL, Qwen3 VL, Qwen 3.5, Gemma 3 and
4, InternVL), and 91 KB a patch for Pixtral, whose patches all look at each other: 15.4 GiB for one film of 128000 tokens
in Qwen 2.5 VL, 2.2 to 4 GiB for the others.
"""

from vllm_operator.fit.encoders import Encoder
from vllm_operator.fit.shape import ModelShape
from vllm_operator.fit.values import GIB, Arguments

LARGEST_IMAGE = 16384
"""Tokens of the largest image or film that the processors of Qwen's models take at once; others' are smaller."""

A_PATCH = 30
"""Bytes for each patch and each element of the encoder's width, rounded up from what was measured."""

LEAST = 2 * GIB
"""The doubt where a trial run was not measured, or is small."""


def tries_encoders(arguments: Arguments, *, old: bool) -> bool:
    """Whether the engine runs its encoder before it sizes the KV cache."""
    return old or arguments.estimates_cuda_graphs


def kept_outputs(shape: ModelShape, tokens: int, dtype_bytes: int) -> int:
    """What the largest input leaves in the encoder's cache while the language model is tried."""
    seeing = _seeing(shape)
    if seeing is None:
        return 0
    most = max(tokens, LARGEST_IMAGE) if seeing.merge else tokens
    return most * shape.hidden * (1 + seeing.levels) * dtype_bytes


def level_buffers(shape: ModelShape, tokens: int, dtype_bytes: int) -> int:
    """Buffers behind an encoder: what its middle layers add to the first layers of the language model (Qwen3 VL), and
    the layers' own embeddings of a batch, which are looked up before the compiled part (Gemma 3n and 4).
    """
    seeing = _seeing(shape)
    if seeing is None:
        return 0
    own = shape.layers * shape.per_layer.width if shape.per_layer is not None else 0
    return tokens * (shape.hidden * seeing.levels + own) * dtype_bytes


def trial(shape: ModelShape, arguments: Arguments, tokens: int, length: int) -> int:
    """Bytes that a trial run may take; no less than the doubt of those that were not measured."""
    seeing = _seeing(shape)
    if seeing is None:
        return LEAST
    most = max(tokens, LARGEST_IMAGE) if seeing.merge else tokens
    if seeing.films and arguments.films:
        most = max(most, length)
    return max(LEAST, most * (seeing.merge or seeing.patches_per_token) * A_PATCH * seeing.hidden)


def _seeing(shape: ModelShape) -> Encoder | None:
    return next((encoder for encoder in shape.encoders if not encoder.hears), None)
