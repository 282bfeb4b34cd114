"""What an encoder's tower holds at once while it is tried, beside its weights: read off the allocator on an H200.

Of 24 models' towers, with one and with several inputs, every tensor alive at the peak was listed with the line that made
it (vLLM 0.26.0, older runner, with and without a compiler); these formulas give the peaks of a first run within 3 %. A
width is an element of 16 bits for each patch and each of the tower's channels.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from vllm_operator.fit.encoders import Encoder
from vllm_operator.fit.inputs import GEMMA_3N_SIDE, Batch
from vllm_operator.fit.shape import ModelShape
from vllm_operator.fit.values import MIB, Arguments

WORKSPACE = 32 * MIB
"""What cuBLAS takes for itself at the first product of matrices."""

WHOLE = 4
"""Widths that tensor parallelism leaves whole on each GPU: the residual, its norm, what goes in and out of a layer."""

SUMMED = 1
"""One more of them where the GPUs' parts of attention are added up: the sum stands beside what it is made of."""

FEW_HEADS = 17
"""Up to so many heads FlashAttention cuts a picture of 1025 patches in four, each with an output in 32 bits."""

CUT = 8
GEMMA_4_CHUNK = 4 * 8
"""Bytes a patch and a place that vLLM reckons with when it takes Gemma 4's pictures in turns, of a tenth of the GPU."""

PLACES = 10240


GEMMA_3N_CHANNELS = 160
"""Elements that Gemma 3n's convolutions hold for each pixel."""


@dataclass(frozen=True, slots=True)
class Tower:
    """Widths held in attention; intermediate sizes and widths held in the MLP.

    `more`: of these two, how many more unless vLLM compiles nothing: its own kernels for norms and activations then give
    way to torch's, which a compiler fuses in the language model alone.
    """

    attention: int
    inner: int
    outer: int
    more: tuple[int, int] = (0, 0)


TOWERS: Mapping[str, Tower] = {
    "qwen2_vl": Tower(11, 2, 3),
    "qwen2_5_vl": Tower(11, 3, 3, more=(0, 2)),
    "qwen3_vl": Tower(12, 2, 4),
    "glm4v": Tower(13, 3, 4),
    "gemma3": Tower(7, 2, 4),
    "gemma4": Tower(7, 3, 4),
    "pixtral": Tower(10, 3, 6, more=(1, 0)),
    "clip": Tower(7, 2, 4, more=(1, 0)),
    "siglip": Tower(7, 2, 4),
    "onevision": Tower(7, 2, 4),
    "internvl": Tower(7, 2, 4),
    "idefics3": Tower(7, 2, 4),
    "llama4": Tower(16, 2, 4),
    "qwen2_audio": Tower(7, 2, 4),
    "whisper": Tower(7, 2, 3),
}


def held(shape: ModelShape, encoder: Encoder, batch: Batch, arguments: Arguments, total: int) -> int:
    """Bytes at the peak, the inputs among them; `total` bytes of the GPU, by which Gemma 4's pictures are taken in turns."""
    if encoder.kind == "gemma3n":
        return batch.fed + batch.count * 2 * GEMMA_3N_CHANNELS * GEMMA_3N_SIDE**2
    if encoder.kind == "gemma4":
        return _in_turns(encoder, batch, total)
    if encoder.kind == "pixtral" and not arguments.estimates_cuda_graphs:
        return _masked(encoder, batch, arguments)
    peak = batch.fed + WORKSPACE + 2 * batch.patches * _elements(encoder, arguments)
    peak += 2 * batch.made * shape.hidden * encoder.levels
    if encoder.kind == "idefics3":
        peak += batch.fed
    if encoder.kind == "qwen2_audio":
        peak += 2 * batch.count * batch.item.together**2
    return peak


def _elements(encoder: Encoder, arguments: Arguments) -> int:
    """Elements for each patch, in whichever of attention and MLP holds more."""
    tower, ways = TOWERS[encoder.kind], arguments.tensor_parallel_size
    attention: float = tower.attention + (CUT if encoder.kind == "internvl" and encoder.heads <= FEW_HEADS else 0)
    if ways > 1 and not encoder.whole:
        attention = WHOLE + SUMMED + (attention - WHOLE) / ways
    return int(max(attention * encoder.hidden, _inner(encoder, arguments)))


def _inner(encoder: Encoder, arguments: Arguments) -> float:
    """Elements that the MLP holds for each patch."""
    tower = TOWERS[encoder.kind]
    inner, outer = (0, 0) if arguments.enforce_eager else tower.more
    ways = 1 if encoder.whole == "tower" else arguments.tensor_parallel_size
    split = (tower.inner + inner) * encoder.intermediate / ways
    return split + (tower.outer + outer) * encoder.hidden


def _masked(encoder: Encoder, batch: Batch, arguments: Arguments) -> int:
    """Pixtral before vLLM 0.32: all patches of a batch look at one another through a mask, which attention copies where
    their number is no multiple of eight.
    """
    patches, mask = batch.patches, 2 * batch.patches**2
    copied = 2 * mask + 2 * patches * TOWERS[encoder.kind].attention * encoder.hidden if patches % 8 else 0
    return batch.fed + WORKSPACE + max(copied, mask + int(2 * patches * _inner(encoder, arguments)))


def _in_turns(encoder: Encoder, batch: Batch, total: int) -> int:
    """Gemma 4: as many pictures at once as vLLM's own reckoning finds room for; those done keep their last states."""
    each = max(batch.item.together, 1)
    at_once = max(1, total // 10 // (each * GEMMA_4_CHUNK * PLACES)) * each
    turn = min(batch.patches, at_once)
    tower = TOWERS[encoder.kind]
    states = 2 * turn * (tower.inner * encoder.intermediate + tower.outer * encoder.hidden)
    copy = 2 * turn * 3 * encoder.patch**2
    return batch.fed + states + copy + turn * each + 2 * (batch.patches - turn) * encoder.hidden
