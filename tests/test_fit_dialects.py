"""Families that tell their shape in words of their own, and encoders beside a language model."""

from typing import Any

import pytest

from tests.fit_ground_truth import built
from vllm_operator.fit import Arguments, accelerators, judge
from vllm_operator.fit.cache import plan_cache
from vllm_operator.fit.shape import ModelShape, read_shape


def shape_of(name: str, **changed: Any) -> ModelShape:
    return read_shape({**built()[name]["config"], **changed})


def test_mimo_marks_sliding_layers_and_those_with_experts_by_ones() -> None:
    shape = shape_of("mimo-v2-flash")

    assert shape.kinds[:6] == ("full", "sliding", "sliding", "sliding", "sliding", "full")
    assert shape.experts is not None and 0 not in shape.experts.layers and len(shape.experts.layers) == 47
    assert [(heads.kv, heads.dim, heads.value) for heads in shape.attention[:2]] == [(4, 192, 128), (8, 192, 128)]


def test_steps_layers_with_experts_are_listed_in_a_text_and_are_all_but_the_first_otherwise() -> None:
    told, untold = shape_of("step-3.5-flash"), shape_of("step-3.5-flash", moe_layers_enum=None)

    assert told.experts is not None and sorted(told.experts.layers) == list(range(3, 45))
    assert untold.experts is not None and sorted(untold.experts.layers) == list(range(1, 45))


def test_longcat_has_two_attentions_and_two_mlps_in_a_layer() -> None:
    shape = shape_of("longcat-flash")

    assert shape.layers == 56
    assert shape.experts is not None
    assert (len(shape.experts.layers), shape.experts.shared_intermediate) == (28, 12288)


def test_a_searched_models_layers_may_lack_attention() -> None:
    shape = shape_of("nemotron-super-49b-like")

    assert (shape.kinds[:4], shape.kinds.count("none")) == (("full", "full", "full", "none"), 14)
    assert len(set(shape.widths)) == 4


def test_a_searched_model_with_linear_layers_is_not_guessed_at() -> None:
    blocks = [dict(block) for block in built()["nemotron-super-49b-like"]["config"]["block_configs"]]
    blocks[0] = {**blocks[0], "ffn": {"replace_with_linear": True}}

    assert (
        "block_configs with linear layers in place of others"
        in shape_of("nemotron-super-49b-like", block_configs=blocks).missing
    )
    assert shape_of("nemotron-super-49b-like", block_configs=blocks[:9]).missing


def test_keys_made_through_a_latent_may_be_kept_whole() -> None:
    shape = shape_of("minicpm3-4b")

    assert shape.latent is None and shape.made_through is not None
    assert plan_cache(shape, Arguments(), 2, 8192).bytes_per_token == 62 * 40 * 2 * 96 * 2


def test_whisper_keeps_what_its_encoder_heard_for_every_request() -> None:
    """vLLM sets aside as many tokens of it as a batch may have."""
    plan = plan_cache(shape_of("whisper-large-v3"), Arguments(), 2, 8192)

    assert plan.blocks(448) == 448 // 16 + 8192 // 16
    assert plan.bytes_per_token == 2 * 32 * 2 * 20 * 64 * 2


def test_the_turbo_whisper_has_fewer_layers_than_its_config_says_first() -> None:
    assert (shape_of("whisper-large-v3-turbo").layers, shape_of("whisper-large-v3").layers) == (4, 32)


@pytest.mark.parametrize(
    ("name", "hears", "sees"),
    [("qwen2.5-omni-7b", True, True), ("voxtral-mini-3b", True, False), ("phi-4-multimodal", False, True),
     ("granite-speech-3.3-2b", True, False), ("minicpm-o-2.6", True, True), ("ling-mini-2.0", False, False)],
)  # fmt: skip
def test_what_encoders_take_is_in_doubt_and_said(name: str, hears: bool, sees: bool) -> None:
    verdict = judge(built()[name]["config"], None, Arguments(max_model_len=8192), accelerators()["nvidia-h200"])

    assert ("audio encoder's activations" in verdict.note) is hears
    assert ("image encoder's activations" in verdict.note) is sees
    assert verdict.fits is True


def test_a_model_of_images_without_room_for_its_encoder_is_unknown() -> None:
    config = built()["voxtral-mini-3b"]["config"]
    small = Arguments(max_model_len=8192, gpu_memory_utilization=0.085, max_num_seqs=8, max_num_batched_tokens=2048)
    verdict = judge(config, None, small, accelerators()["nvidia-h200"])

    assert verdict.fits is None
    assert "which an encoder, the compiler or what was never measured may take" in verdict.note


def test_ling_3_has_attention_in_the_layers_left_over_from_its_groups_and_2_5_has_not() -> None:
    third, before = shape_of("ling-3-26-layers"), shape_of("ling-2.5-1t")

    assert [i for i, kind in enumerate(third.kinds) if kind == "full"] == [3, 7, 11, 15, 19, 23, 24, 25]
    assert [i for i, kind in enumerate(before.kinds) if kind == "full"] == list(range(7, 80, 8))
    assert third.recurrent is not None and third.recurrent.kind == "kimi"
    assert before.recurrent is not None and before.recurrent.kind == "lightning"


def test_lings_recurrent_layers_with_narrow_gates_are_not_guessed_at() -> None:
    assert "no_kda_lora: true, as vLLM asks" in shape_of("ling-3-26-layers", no_kda_lora=False).missing


def test_zamba_2_has_few_transformers_for_many_layers() -> None:
    shape = shape_of("zamba2-7b")

    assert (shape.kinds.count("both"), shape.kinds.count("recurrent")) == (13, 68)
    assert shape.blocks is not None and shape.blocks.count == 2
    assert shape_of("zamba2-7b", use_shared_attention_adapter=True).missing


def test_molmos_mlp_is_half_as_wide_as_it_says_and_its_tower_is_known() -> None:
    shape = shape_of("molmo-7b-d")

    assert (shape.intermediate, [encoder.layers for encoder in shape.encoders]) == (18944, [23])


def test_ovis_has_words_for_what_it_sees() -> None:
    (encoder,) = shape_of("ovis2.5-9b").encoders

    assert encoder.joins == 65536 * (4 * 1152 + 4096)


def test_a_model_of_another_repository_is_named() -> None:
    config = {"model_type": "ultravox", "text_model_id": "meta-llama/Llama-3.3-70B-Instruct"}

    assert read_shape(config).missing[0] == "the config of meta-llama/Llama-3.3-70B-Instruct, which text_model_id names"


def test_what_brings_a_qwen_3_towers_patches_to_the_language_model_is_counted() -> None:
    """Once at its end and once for each of three layers; Qwen3 VL 8B has 576 million parameters before its language model."""
    tower = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "out_hidden_size": 4096}
    config = {"model_type": "qwen3_vl", "vision_config": {**tower, "deepstack_visual_indexes": [8, 16, 24]}}
    (encoder,) = read_shape(config).encoders

    assert encoder.joins == 4 * 4608 * (4608 + 4096)


def test_a_language_part_without_a_type_is_read_by_that_of_the_whole() -> None:
    assert shape_of("deepseek-ocr-2").model_type == "deepseek_vl_v2"
