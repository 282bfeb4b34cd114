"""Encoders of images and sound beside a language model, as far as their configuration tells; their weights are an estimate."""

from dataclasses import dataclass, replace

from vllm_operator.fit.architectures import Family
from vllm_operator.fit.dialects import LARGEST_LAYERS
from vllm_operator.fit.fields import Fields

SEEING = ("vision_config", "vit_config", "visual_tokenizer_config", "embd_layer")
HEARING = ("audio_config", "audio_encoder", "encoder_config", "speech_config")


@dataclass(frozen=True, slots=True)
class Encoder:
    """One encoder; 0 where the configuration does not tell. `joins`: elements that bring it to the language model, where they are many."""

    hidden: int
    intermediate: int
    layers: int
    hears: bool = False
    joins: int = 0


def read_encoders(root: Fields, text: Fields, rules: Family) -> tuple[Encoder, ...]:
    """All encoders of a model; a model of speech whose decoder reads its encoder's output has that one."""
    if rules.crossed:
        hidden, wide = text.need("hidden_size", "d_model"), text.need("encoder_ffn_dim")
        return (Encoder(hidden, wide, min(text.need("encoder_layers"), LARGEST_LAYERS), hears=True),)
    found = [Encoder(*rules.tower, joins=_molmo_projector(text, rules.tower[0]))] if rules.tower else []
    for part in (root, root.part("thinker_config")):
        found += [_seeing(part, root, text, name) for name in SEEING if name in part]
        found += [_encoder(Fields(part.raw(name)), hears=True) for name in HEARING if name in part]
    return tuple(found)


def _seeing(part: Fields, root: Fields, text: Fields, name: str) -> Encoder:
    tower = Fields(part.raw(name))
    if root.text("model_type") == "qwen2_vl":
        # There hidden_size is the width of the language model that the tower feeds; the tower's own has a default.
        hidden = tower.whole("embed_dim") or 1280
        wide = tower.whole("intermediate_size") or hidden * int(tower.number("mlp_ratio") or 4)
        return Encoder(hidden, wide, min(tower.whole("depth", "layers", "num_hidden_layers") or 32, LARGEST_LAYERS))
    words = root.whole("visual_vocab_size") or (tower.whole("vocab_size") if name == "visual_tokenizer_config" else 0)
    seen = _encoder(Fields(tower.raw("backbone_config")) if "backbone_config" in tower else tower, hears=False)
    if "deepstack_visual_indexes" in tower:
        # Qwen's from 3 on: what brings four patches together, once, and once for each layer that is looked into.
        patches = 4 * seen.hidden
        count = 1 + len(tower.wholes("deepstack_visual_indexes"))
        return replace(seen, joins=count * patches * (patches + (tower.whole("out_hidden_size") or patches)))
    if not words:
        return seen
    # Ovis tells what it sees in words of its own: their probabilities, of several patches together, and embeddings.
    together = (tower.whole("hidden_stride") or 2) ** 2
    return replace(seen, joins=words * (together * seen.hidden + (text.whole("hidden_size") or 0)))


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
    notes = []
    if any(not encoder.hears for encoder in encoders):
        notes.append("the image encoder's activations are not counted")
    if any(encoder.hears for encoder in encoders):
        notes.append("the audio encoder's activations are not counted")
    return notes
