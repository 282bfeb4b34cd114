"""The largest inputs with which vLLM tries an encoder of images, films or sound before it sizes the KV cache.

Source: the dummy inputs and the largest numbers of tokens that each model's processor tells (vLLM 0.26 and 0.32), with
the settings that the processors were published with; held against what vLLM itself made of them on a CPU.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vllm_operator.fit.encoders import Encoder
from vllm_operator.fit.values import Arguments

LARGEST_PICTURE = 16384
"""Tokens of the largest picture that Qwen's processors take."""

PAIRS = 7
"""Pairs of pictures in the longest film of Qwen 2 and 2.5 VL that is tried."""

QWEN_3_FILM = 12288
GLM_PICTURE, GLM_FILM, GLM_FILM_COUNTED = 78 * 78, 6 * 73 * 73, 26656
GEMMA_4_FRAMES, GEMMA_4_FRAME, GEMMA_4_PICTURE, GEMMA_4_POOL = 32, 70, 280, 9
GEMMA_3N_SIDE, GEMMA_3N_TOKENS = 768, 256
TILES = 17
"""Tiles of the largest picture, with the whole one: Idefics 3, SmolVLM, Llama 4."""

ONEVISION_TILES, ONEVISION_TOKENS, ONEVISION_FILM, ONEVISION_FRAMES = 13, 8748, 3137, 16
HALF_MINUTE = 1500
"""Frames of the half minute of sound that Whisper's encoder hears, behind its convolutions."""


@dataclass(frozen=True, slots=True)
class Item:
    """One input: tokens that vLLM `counted` for it and that it `made`, the `patches` its tower sees, its own bytes `fed`.

    `together`: patches that look at one another.
    """

    counted: int
    patches: int
    made: int
    fed: int
    together: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """What is tried at once: so many of one item."""

    item: Item
    count: int

    @property
    def patches(self) -> int:
        return self.count * self.item.patches

    @property
    def fed(self) -> int:
        return self.count * self.item.fed

    @property
    def made(self) -> int:
        return self.count * self.item.made


Items = Mapping[str, Item]


def largest_batch(encoder: Encoder, arguments: Arguments, tokens: int, seqs: int, length: int) -> Batch | None:
    """The batch that is tried, None where limitMMPerPrompt allows none; only of encoders in `KNOWN`.

    Source: MultiModalBudget. The modality with the most tokens, the later by name where two have as many; as many items
    as a batch of tokens has room for, and as the requests may hold.
    """
    allowed = {
        name: item
        for name, item in KNOWN[encoder.kind](encoder, arguments, max(length, 1)).items()
        if arguments.limits.get(name, 1) > 0
    }
    if not allowed:
        return None
    name = max(allowed, key=lambda each: (allowed[each].counted, each))
    item = allowed[name]
    room = max(tokens, item.counted) // item.counted
    each = max(1, min(arguments.limits.get(name, room), length // item.counted))
    return Batch(item, max(1, min(room, seqs * each)))


def _pixels(encoder: Encoder) -> int:
    """Bytes of a patch as it is fed: three colours, in 16 bits."""
    return 2 * 3 * encoder.patch**2


def _qwen_2(encoder: Encoder, arguments: Arguments, length: int) -> Items:
    picture, film = _qwen_picture(encoder, arguments), min(max(length // _qwen_tokens(encoder, arguments), 1), PAIRS)
    long = Item(film * picture.counted, film * picture.patches, film * picture.made, film * picture.fed)
    return {"image": picture, "video": long}


def _qwen_3(encoder: Encoder, arguments: Arguments, length: int) -> Items:
    del length
    return {"image": _qwen_picture(encoder, arguments), "video": _merged(encoder, QWEN_3_FILM)}


def _qwen_tokens(encoder: Encoder, arguments: Arguments) -> int:
    if arguments.max_pixels is None:
        return LARGEST_PICTURE
    return max(1, arguments.max_pixels // (encoder.patch**2 * max(encoder.merge, 1)))


def _qwen_picture(encoder: Encoder, arguments: Arguments) -> Item:
    return _merged(encoder, _qwen_tokens(encoder, arguments))


def _merged(encoder: Encoder, tokens: int) -> Item:
    """Two pictures in one, of which the tower makes a token for each square of patches."""
    patches = tokens * max(encoder.merge, 1)
    return Item(tokens, patches, tokens, 2 * patches * _pixels(encoder))


def _glm(encoder: Encoder, arguments: Arguments, length: int) -> Items:
    del arguments
    pairs = max(length // GLM_PICTURE, 1)
    film = _merged(encoder, min(pairs * GLM_PICTURE, GLM_FILM) if pairs < 5 else GLM_FILM)
    counted = GLM_PICTURE * max(pairs - 1, 1) if pairs < 5 else GLM_FILM_COUNTED
    return {
        "image": _merged(encoder, GLM_PICTURE),
        "video": Item(counted, film.patches, film.made, film.fed),
    }


def _tile(encoder: Encoder, count: int = 1, more: int = 0) -> Item:
    """Square pictures of one size, each with so many patches more than it has cells (a class token)."""
    cells = (encoder.side // encoder.patch) ** 2
    tokens = count * cells // encoder.joined**2
    return Item(tokens, count * (cells + more), tokens, count * 2 * 3 * encoder.side**2, together=cells + more)


def _tiles(count: int = 1, more: int = 0) -> Callable[[Encoder, Arguments, int], Items]:
    return lambda encoder, arguments, length: {"image": _tile(encoder, count, more)}


def _split(encoder: Encoder, arguments: Arguments, length: int) -> Items:
    """Idefics 3: a mask of 64 bits for each pixel travels with the picture."""
    del arguments, length
    tile = _tile(encoder, TILES)
    return {"image": Item(tile.counted, tile.patches, tile.made, tile.fed + TILES * 8 * encoder.side**2)}


def _internvl(encoder: Encoder, arguments: Arguments, length: int) -> Items:
    del arguments
    tile = _tile(encoder, more=1)
    frames = max(length // tile.counted, 1)
    film = _tile(encoder, frames, more=1)
    return {"image": tile, "video": Item(max(frames - 1, 1) * tile.counted, film.patches, film.made, film.fed)}


def _onevision(encoder: Encoder, arguments: Arguments, length: int) -> Items:
    del arguments, length
    tiles, frames = _tile(encoder, ONEVISION_TILES), _tile(encoder, ONEVISION_FRAMES)
    return {
        "image": Item(ONEVISION_TOKENS, tiles.patches, ONEVISION_TOKENS, tiles.fed),
        "video": Item(ONEVISION_FILM, frames.patches, ONEVISION_FILM, frames.fed),
    }


def _gemma_4(encoder: Encoder, arguments: Arguments, length: int) -> Items:
    """A frame of a film is smaller than a picture; vLLM counts a frame's time stamp, too."""
    del arguments, length
    each = _pixels(encoder) + 16
    still, frame = GEMMA_4_PICTURE * GEMMA_4_POOL, GEMMA_4_FRAME * GEMMA_4_POOL
    film = GEMMA_4_FRAMES * frame
    return {
        "image": Item(GEMMA_4_PICTURE, still, 256, still * each, together=still),
        "video": Item(GEMMA_4_FRAMES * (GEMMA_4_FRAME + 8), film, GEMMA_4_FRAMES * 64, film * each, together=frame),
    }


def _gemma_3n(encoder: Encoder, arguments: Arguments, length: int) -> Items:
    del encoder, arguments, length
    return {"image": Item(GEMMA_3N_TOKENS, 0, GEMMA_3N_TOKENS, 2 * 3 * GEMMA_3N_SIDE**2)}


def _sound(tokens: int) -> Callable[[Encoder, Arguments, int], Items]:
    heard = Item(tokens, HALF_MINUTE, tokens, 2 * 2 * HALF_MINUTE * 128, together=HALF_MINUTE)
    return lambda encoder, arguments, length: {"audio": heard}


KNOWN: Mapping[str, Callable[[Encoder, Arguments, int], Items]] = {
    "qwen2_vl": _qwen_2,
    "qwen2_5_vl": _qwen_2,
    "qwen3_vl": _qwen_3,
    "glm4v": _glm,
    "gemma3": _tiles(),
    "gemma3n": _gemma_3n,
    "gemma4": _gemma_4,
    "pixtral": _tiles(),
    "clip": _tiles(more=1),
    "siglip": _tiles(),
    "onevision": _onevision,
    "internvl": _internvl,
    "idefics3": _split,
    "llama4": _tiles(TILES, more=1),
    "qwen2_audio": _sound(HALF_MINUTE // 2),
    "whisper": _sound(HALF_MINUTE),
}
