"""Encoders of images and sound beside a language model, as far as their configuration tells; their weights are an estimate."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isqrt
from typing import Literal

from vllm_operator.fit.architectures import Family
from vllm_operator.fit.dialects import LARGEST_LAYERS
from vllm_operator.fit.fields import Fields

Whole = Literal["", "attention", "tower"]

SEEING = ("vision_config", "vit_config", "visual_tokenizer_config", "embd_layer")
FILMS_AS_LONG_AS_THE_CONTEXT = ("qwen2_5_vl", "internvl", "internvl_chat")
HEARING = ("audio_config", "audio_encoder", "encoder_config", "speech_config")


@dataclass(frozen=True, slots=True)
class Encoder:
    """One encoder; 0 where the configuration does not tell. `joins`: elements that bring it to the language model, where they are many.

    `gated`: its MLPs have three matrices. `merge`: patches that the tower itself makes one token of, 0 where it does
    not, and `patches_per_token` how many that are in any case; `levels`: middle layers whose outputs are used, too;
    `films`: a film may have as many pictures as the context has room for. `kind`: the family of its trial run, "" where
    none is known; `side` and `patch`: pixels of a side; `joined`: patches of a side that become one token, once and for all. `whole`:
    what tensor parallelism leaves whole on each GPU.
    """

    hidden: int
    intermediate: int
    layers: int
    hears: bool = False
    joins: int = 0
    gated: bool = False
    merge: int = 0
    patches_per_token: int = 4
    levels: int = 0
    films: bool = False
    kind: str = ""
    heads: int = 0
    side: int = 0
    patch: int = 0
    joined: int = 1
    whole: Whole = ""

    @property
    def parameters(self) -> int:
        """An estimate: its layers' and what joins it to the language model."""
        return self.layers * self.layer_parameters + self.joins

    @property
    def layer_parameters(self) -> int:
        return self.attention_parameters + (3 if self.gated else 2) * self.hidden * self.intermediate

    @property
    def attention_parameters(self) -> int:
        return 4 * self.hidden**2

    def per_gpu(self, ways: int) -> int:
        """Its parameters on each of so many GPUs."""
        if self.whole == "tower":
            return self.parameters
        kept = self.layers * self.attention_parameters + self.joins if self.whole else 0
        return kept + (self.parameters - kept) // ways


FAMILIES = {
    **{
        name: name for name in ("qwen2_vl", "qwen2_5_vl", "glm4v", "gemma3", "gemma4", "internvl", "idefics3", "llama4")
    },
    **dict.fromkeys(("qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe"), "qwen3_vl"),
    "glm4v_moe": "glm4v",
    "mistral3": "pixtral",
    "llava_onevision": "onevision",
    "smolvlm": "idefics3",
    "qwen2_audio": "qwen2_audio",
}
"""Families whose trial run is counted, by the model's type."""

IN_LLAVA = {"pixtral": "pixtral", "clip_vision_model": "clip", "siglip_vision_model": "siglip"}
WIDE_PATCHES = ("qwen3_vl", "gemma4")
UNSPLIT: Mapping[str, Whole] = {
    **dict.fromkeys(("gemma3n", "gemma4", "gemma4_unified", "qwen2_audio"), "tower"),
    **dict.fromkeys(("internvl", "interns1"), "attention"),
}
"""What is no matrix of vLLM's own, and so not split: towers that it takes from transformers, and InternVL's attention and
projector (nn.Linear in its interns1_vit.py and interns1.py; measured on two GPUs)."""

SIDELESS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "glm4v", "gemma4", "qwen2_audio")
"""Families whose largest input is one of so many tokens, whatever the side of a picture."""


def read_encoders(root: Fields, text: Fields, rules: Family) -> tuple[Encoder, ...]:
    """All encoders of a model; a model of speech whose decoder reads its encoder's output has that one."""
    if rules.crossed:
        hidden, wide = text.need("hidden_size", "d_model"), text.need("encoder_ffn_dim")
        layers = min(text.need("encoder_layers"), LARGEST_LAYERS)
        return (
            Encoder(hidden, wide, layers, hears=True, kind="whisper" if root.text("model_type") == "whisper" else ""),
        )
    found = [Encoder(*rules.tower, joins=_molmo_projector(text, rules.tower[0]))] if rules.tower else []
    for part in (root, root.part("thinker_config")):
        found += [_seeing(part, root, text, name) for name in SEEING if name in part]
        found += [_hearing(Fields(part.raw(name)), root) for name in HEARING if name in part]
    return tuple(replace(each, whole=UNSPLIT.get(root.text("model_type"), "")) for each in found)


def _hearing(tower: Fields, root: Fields) -> Encoder:
    heard = _tried(_encoder(tower, hears=True), tower, root)
    # Gemma 3n's has layers of its own names, if it tells of any.
    made_of = TOWERS.get(tower.text("model_type"), 0)
    return heard if heard.hidden and heard.layers else replace(heard, joins=made_of)


def _seeing(part: Fields, root: Fields, text: Fields, name: str) -> Encoder:
    tower = Fields(part.raw(name))
    if root.text("model_type") == "qwen2_vl":
        # There hidden_size is the width of the language model that the tower feeds; the tower's own has a default.
        hidden = tower.whole("embed_dim") or 1280
        wide = tower.whole("intermediate_size") or hidden * int(tower.number("mlp_ratio") or 4)
        layers = min(tower.whole("depth", "layers", "num_hidden_layers") or 32, LARGEST_LAYERS)
        joins = 4 * hidden * (4 * hidden + (text.whole("hidden_size") or 0))
        return _tried(Encoder(hidden, wide, layers, joins=joins, merge=4, films=True), tower, root)
    words = root.whole("visual_vocab_size") or (tower.whole("vocab_size") if name == "visual_tokenizer_config" else 0)
    seen = _encoder(Fields(tower.raw("backbone_config")) if "backbone_config" in tower else tower, hears=False)
    if not words:
        return _joined(seen, tower, root, text)
    # Ovis tells what it sees in words of its own: their probabilities, of several patches together, and embeddings.
    together = (tower.whole("hidden_stride") or 2) ** 2
    return replace(seen, joins=words * (together * seen.hidden + (text.whole("hidden_size") or 0)))


TOWERS = {"gemma3n_vision": 300_000_000, "gemma3n_audio": 680_000_000, "gemma4_audio": 305_000_000}
"""Parameters of towers that tell nothing of their size; Gemma 3n's were measured, together and with what joins them: 1.09e9."""


GEMMA_4_PLACES = 10240
"""Rows of each of the two tables of places in a picture."""


def _joined(seen: Encoder, tower: Fields, root: Fields, text: Fields) -> Encoder:
    """With the matrices behind the tower: those that make one token of several patches, and a projector's."""
    kind, out = tower.text("model_type"), tower.whole("out_hidden_size") or text.whole("hidden_size") or 0
    if kind in TOWERS and not seen.hidden:
        return replace(seen, joins=TOWERS[kind], kind="gemma3n" if kind == "gemma3n_vision" else "")
    merges = "out_hidden_size" in tower or "deepstack_visual_indexes" in tower
    merge = (tower.whole("spatial_merge_size") or 2) ** 2 if merges else 0
    levels = len(tower.wholes("deepstack_visual_indexes"))
    gated = kind in ("pixtral", "gemma4_vision", "glm4v_vision") or "fullatt_block_indexes" in tower
    wide, joins = merge * seen.hidden, 0
    if merge:
        # What brings the patches of a token together, once, and once for each layer that is looked into (Qwen 3 VL).
        joins = (1 + levels) * wide * (wide + out)
    elif root.text("model_type") == "mistral3":
        joins = 4 * seen.hidden**2 + seen.hidden * out + out**2
    elif kind == "internvl_vision":
        joins = 4 * seen.hidden * out + out**2
    elif kind == "gemma4_vision":
        joins = seen.hidden * (2 * GEMMA_4_PLACES + out)
    elif kind == "llama4_vision_model":
        between, last = tower.whole("projector_input_dim") or 4096, tower.whole("projector_output_dim") or 4096
        joins = seen.intermediate * between + between * last + last * out
    if kind == "glm4v_vision":
        # There intermediate_size is the width of what joins the tower, whose own MLPs are as wide as what comes out.
        joins = (4 * seen.hidden + out + 3 * seen.intermediate) * out
        seen = replace(seen, intermediate=out)
    side, tokens = tower.whole("image_size"), root.whole("mm_tokens_per_image")
    patches = 4 if not (side and tokens) else (side // (tower.whole("patch_size") or 14)) ** 2 // tokens
    films = root.text("model_type") in FILMS_AS_LONG_AS_THE_CONTEXT
    seen = replace(seen, joins=joins, gated=gated, films=films)
    return _tried(replace(seen, merge=merge, patches_per_token=merge or patches, levels=levels), tower, root)


def _tried(seen: Encoder, tower: Fields, root: Fields) -> Encoder:
    """With what its trial run depends on, where its family's is known and the config tells it."""
    model_type = root.text("model_type")
    kind = IN_LLAVA.get(tower.text("model_type"), "") if model_type == "llava" else FAMILIES.get(model_type, "")
    if seen.hears != (kind == "qwen2_audio") or not (kind and seen.hidden and seen.intermediate):
        return seen
    patch = _side(tower, "patch_size") or (16 if kind in WIDE_PATCHES else 14)
    side = _side(tower, "image_size")
    told = replace(seen, kind=kind, side=side, patch=patch, heads=tower.whole("num_attention_heads", "num_heads") or 0)
    told = replace(told, joined=_joined_patches(kind, side // patch, root, tower))
    usual = kind != "onevision" or (side, patch) == (384, 14)
    return told if kind in SIDELESS or (usual and side // patch // told.joined) else seen


def _side(tower: Fields, name: str) -> int:
    return next(iter(tower.wholes(name)), 0) or tower.whole(name) or 0


def _joined_patches(kind: str, cells: int, root: Fields, tower: Fields) -> int:
    """Patches of a side that become one token."""
    if kind == "gemma3":
        return max(1, cells // isqrt(root.whole("mm_tokens_per_image") or 256))
    if kind in ("internvl", "llama4"):
        return int(1 / min(root.number("downsample_ratio") or tower.number("pixel_shuffle_ratio") or 0.5, 1.0))
    if kind == "idefics3":
        return root.whole("scale_factor") or 2
    return root.whole("spatial_merge_size") or 2 if root.text("model_type") == "mistral3" else 1


def _molmo_projector(text: Fields, hidden: int) -> int:
    """Attention that pools two layers of its tower, and an MLP as wide as the language model's."""
    wide, out = text.whole("intermediate_size") or 0, text.whole("hidden_size") or 0
    return wide * (2 * hidden + out) + 7 * hidden**2


def _encoder(tower: Fields, *, hears: bool) -> Encoder:
    hidden = tower.whole("hidden_size", "embed_dim", "width", "d_model", "hidden_dim", "vt_hidden_size") or 0
    layers = tower.whole("num_hidden_layers", "depth", "layers", "encoder_layers", "num_layers", "vt_num_hidden_layers")
    wide = tower.whole("intermediate_size", "encoder_ffn_dim", "vt_intermediate_size") or hidden * int(
        tower.number("mlp_ratio") or 4
    )
    return Encoder(hidden, wide, min(layers or 0, LARGEST_LAYERS), hears)


def encoder_notes(encoders: tuple[Encoder, ...]) -> list[str]:
    """What of them is not in the numbers."""
    seeing = [encoder for encoder in encoders if not encoder.hears]
    notes = []
    if any(not encoder.kind for encoder in seeing):
        notes.append("the image encoder's activations are not counted")
    # Where a model sees and hears, its largest picture or film is tried alone.
    if any(encoder.hears and not encoder.kind for encoder in encoders) and not any(each.kind for each in seeing):
        notes.append("the audio encoder's activations are not counted")
    return notes
