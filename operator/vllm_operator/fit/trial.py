"""What an encoder of images or sound takes beside its weights: the trial run at its largest input, and what that leaves.

Of vLLM 0.26's runners only the older one tries the encoder; later releases do with both. Its peak is counted for the
families in inputs.py and towers.py; of others up to 30 bytes × patches × width are in doubt, and 2 GiB at least.
"""

from dataclasses import dataclass

from vllm_operator.fit.encoders import Encoder
from vllm_operator.fit.inputs import KNOWN, largest_batch
from vllm_operator.fit.shape import ModelShape
from vllm_operator.fit.towers import held
from vllm_operator.fit.values import GIB, MIB, Arguments

LARGEST_IMAGE = 16384
"""Tokens of the largest image or film of a family that is not known."""

A_PATCH = 30
"""Bytes for each patch and each element of such an encoder's width, rounded up from what was measured of others."""

LEAST = 2 * GIB
"""The doubt where a trial run was not measured, or is not made."""

LATER = 4
"""Releases after 0.26 were not measured: a quarter of what is counted may be missing or to spare, and half a GiB."""

CONVOLVED = {"internvl": 136 * MIB, "idefics3": 220 * MIB, "whisper": 88 * MIB}
"""What cuDNN takes once it convolves (measured); not for pictures that patches do not divide, nor for other towers."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Bytes: at the `peak`, `kept` while the language model is tried, of libraries.

    `doubt` may be needed on top, `spread` may be missing or to spare.
    """

    peak: int = 0
    kept: int = 0
    libraries: int = 0
    doubt: int = 0
    spread: int = 0


def tries_encoders(arguments: Arguments, *, old: bool) -> bool:
    """Whether the engine runs its encoder before it sizes the KV cache."""
    return old or arguments.estimates_cuda_graphs


def trial(
    shape: ModelShape, arguments: Arguments, batch: tuple[int, int], length: int, total: int, *, old: bool
) -> Trial:
    """The trial run of the encoder that is tried, for a `batch` of (tokens, requests) on a GPU of `total` bytes.

    What was fed stays in memory until the older runner has tried the language model, too.
    """
    if not shape.encoders:
        return Trial()
    tried = _tried(shape)
    if not tries_encoders(arguments, old=old):
        return Trial(doubt=LEAST)
    if tried is None or _only_hears(tried, shape, arguments):
        return Trial(doubt=_guess(shape, arguments, batch[0], length))
    found = largest_batch(tried, arguments, batch[0], batch[1], length)
    if found is None:
        return Trial()
    peak = held(shape, tried, found, arguments, total)
    kept = 2 * found.made * shape.hidden * (1 + tried.levels) + (found.fed if old else 0)
    spread = peak // LATER + LEAST // LATER if arguments.estimates_cuda_graphs else 0
    libraries = CONVOLVED.get(tried.kind, 0) if tried.side % max(tried.patch, 1) == 0 else 0
    return Trial(peak, kept, libraries, spread=spread)


def counts_trial(encoder: Encoder) -> bool:
    """Whether the memory of its trial run is in the numbers."""
    return encoder.kind in KNOWN


def _only_hears(tried: Encoder, shape: ModelShape, arguments: Arguments) -> bool:
    """Whether sound is tried in place of pictures, which are not allowed or (Gemma 4 without films) have fewer tokens."""
    hears = any(encoder.hears for encoder in shape.encoders) and arguments.limits.get("audio") != 0
    without = {"gemma4": "video", "gemma3n": "image"}.get(tried.kind)
    return hears and arguments.limits.get(without or "") == 0


def unbuilt(shape: ModelShape, arguments: Arguments) -> int:
    """Parameters on one GPU of towers that are not built, as limitMMPerPrompt allows none of what they encode.

    Source: vLLM's _mark_tower_model (measured on Gemma 4's sound). Idefics 3 and families that are not known have theirs.
    """
    limits = arguments.limits
    blind = limits.get("image") == 0 and limits.get("video") == 0
    deaf = limits.get("audio") == 0
    gone = [encoder for encoder in shape.encoders if (deaf if encoder.hears else blind)]
    known = {encoder.kind for encoder in shape.encoders} - {"", "idefics3", "whisper"}
    return sum(encoder.per_gpu(arguments.tensor_parallel_size) for encoder in gone) if known else 0


def level_buffers(shape: ModelShape, tokens: int, dtype_bytes: int) -> int:
    """Buffers that are made with the model: what an encoder's middle layers add to the first layers of the language
    model (Qwen3 VL), and the layers' own embeddings of a batch (Gemma 3n and 4).
    """
    seeing = _seeing(shape)
    if seeing is None:
        return 0
    own = shape.layers * shape.per_layer.width if shape.per_layer is not None else 0
    return tokens * (shape.hidden * seeing.levels + own) * dtype_bytes


def _guess(shape: ModelShape, arguments: Arguments, tokens: int, length: int) -> int:
    """Bytes that the trial run of a family that is not known may take."""
    seeing = _seeing(shape)
    if seeing is None:
        return LEAST
    most = max(tokens, LARGEST_IMAGE) if seeing.merge else tokens
    if seeing.films and arguments.limits.get("video") != 0:
        most = max(most, length)
    return max(LEAST, most * (seeing.merge or seeing.patches_per_token) * A_PATCH * seeing.hidden)


def _tried(shape: ModelShape) -> Encoder | None:
    """The encoder that is tried, where its family is known: the one that sees, before one that hears."""
    first = _seeing(shape) or next(iter(shape.encoders), None)
    return first if first is not None and counts_trial(first) else None


def _seeing(shape: ModelShape) -> Encoder | None:
    return next((encoder for encoder in shape.encoders if not encoder.hears), None)
