"""What is read from the config.json of many architectures, and what each keeps per token."""

from typing import Any

import pytest

from tests.fit_ground_truth import models, rows
from vllm_operator.fit.cache import CachePlan, attention_bytes, plan_cache
from vllm_operator.fit.shape import ModelShape, read_shape
from vllm_operator.fit.values import Arguments


def shape_of(name: str, **changed: Any) -> ModelShape:
    return read_shape({**models()[name]["config"], **changed})


def plan_of(name: str, **arguments: Any) -> CachePlan:
    return plan_cache(shape_of(name), Arguments(**arguments), 2, 2048)


@pytest.mark.parametrize(
    ("name", "bytes_per_token"),
    [
        ("gpt2", 2 * 12 * 12 * 64 * 2),
        ("opt-6.7b", 2 * 32 * 32 * 128 * 2),
        ("bloom-7b1", 2 * 30 * 32 * 128 * 2),
        ("gpt-neox-20b", 2 * 44 * 64 * 96 * 2),
        ("falcon-7b", 2 * 32 * 1 * 64 * 2),
        ("falcon-40b", 2 * 60 * 8 * 64 * 2),
        ("mixtral-8x7b", 2 * 32 * 8 * 128 * 2),
        ("deepseek-v3", 61 * (512 + 64) * 2),
        ("gpt-oss-20b", 2 * 24 * 8 * 64 * 2),
        ("jamba-1.5-mini", 2 * 4 * 8 * 128 * 2),
        ("nemotron-h-8b", 2 * 4 * 8 * 128 * 2),
        ("qwen3-next-80b-a3b", 2 * 12 * 2 * 256 * 2),
        ("lfm2-1.2b", 2 * 6 * 8 * 64 * 2),
        ("falcon-h1-7b", 2 * 44 * 2 * 128 * 2),
        ("mamba-codestral-7b", 0),
        ("bert-base", 0),
    ],
)
def test_bytes_per_token_follow_from_the_heads(name: str, bytes_per_token: int) -> None:
    assert plan_of(name).bytes_per_token == bytes_per_token


def test_fp8_halves_the_cache() -> None:
    assert plan_of("mixtral-8x7b", kv_cache_dtype="fp8").bytes_per_token == 32 * 8 * 128 * 2


def test_tensor_parallelism_splits_kv_heads_and_repeats_them_beyond_their_number() -> None:
    mixtral = shape_of("mixtral-8x7b")

    assert attention_bytes(mixtral, mixtral.attention[0], Arguments(tensor_parallel_size=4), 2) == 2 * 2 * 128 * 2
    assert attention_bytes(mixtral, mixtral.attention[0], Arguments(tensor_parallel_size=16), 2) == 2 * 1 * 128 * 2


def test_the_latent_is_whole_on_every_gpu() -> None:
    deepseek = shape_of("deepseek-v3")

    assert attention_bytes(deepseek, deepseek.attention[0], Arguments(tensor_parallel_size=8), 2) == 576 * 2
    assert attention_bytes(deepseek, deepseek.attention[0], Arguments(kv_cache_dtype="fp8_ds_mla"), 2) == 656


def test_pipeline_stages_share_the_layers() -> None:
    assert plan_of("mixtral-8x7b", pipeline_parallel_size=2).bytes_per_token == 2 * 16 * 8 * 128 * 2


def test_gemma_3_slides_in_five_of_six_layers() -> None:
    kinds = shape_of("gemma-3-27b-text").kinds

    assert kinds[:6] == ("sliding",) * 5 + ("full",)
    assert kinds.count("full") == 62 // 6


def test_gemma_2_slides_in_every_other_layer() -> None:
    gemma = read_shape(next(row.config for row in rows() if row.name == "gemma-2-9b"))

    assert gemma.kinds[:4] == ("sliding", "full", "sliding", "full")


def test_qwen_does_not_slide_unless_told() -> None:
    config = next(row.config for row in rows() if row.name == "qwen2.5-7b")

    assert set(read_shape(config).kinds) == {"full"}
    slid = read_shape({**config, "use_sliding_window": True, "max_window_layers": 20})
    assert slid.kinds.count("sliding") == 8


def test_mistral_slides_everywhere_when_it_has_a_window() -> None:
    mistral = {
        "model_type": "mistral",
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "intermediate_size": 14336,
        "vocab_size": 32000,
        "sliding_window": 4096,
        "max_position_embeddings": 32768,
    }

    assert set(read_shape(mistral).kinds) == {"sliding"}
    assert set(read_shape({**mistral, "sliding_window": None}).kinds) == {"full"}


def test_a_window_caps_what_a_request_takes() -> None:
    plan = plan_of("starcoder2-7b")

    assert plan.blocks(16384) == -(-(4095 + 2 * 2048) // 16) + 1
    assert plan.blocks(100) == 7 + 1


def test_granite_states_are_as_large_as_measured() -> None:
    """1,074,688 bytes a layer, attention blocks of 528 tokens, nine groups of states and one of attention."""
    granite = read_shape(next(row.config for row in rows() if row.name == "granite-auto"))
    plan = plan_cache(granite, Arguments(), 2, 8192)

    assert granite.recurrent is not None
    assert granite.recurrent.state_bytes(1, 2) == 1074688
    assert plan.block_tokens == 528
    assert plan.blocks(131072) == 9 + -(-131072 // 528)


def test_nemotron_h_keeps_its_state_in_32_bits() -> None:
    held = shape_of("nemotron-h-8b").recurrent

    assert held is not None
    assert held.state_bytes(1, 2) == 3 * (8192 + 2 * 8 * 128) * 2 + 128 * 64 * 128 * 4


def test_recurrent_groups_are_repeated_when_they_cannot_be_split() -> None:
    held = shape_of("bamba-9b").recurrent

    assert held is not None
    assert held.state_bytes(2, 2) == 3 * (8192 + 2 * 2 * 128) // 2 * 2 + 64 * 64 * 128 * 2


@pytest.mark.parametrize(
    ("changed", "longest"),
    [
        ({}, 32768),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 131072),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}}, 131072),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}}, 32768),
        ({"max_position_embeddings": None}, 2048),
        ({"max_seq_len": 4096}, 4096),
        ({"max_position_embeddings": 131072, "original_max_position_embeddings": 4096,
          "rope_scaling": {"type": "longrope", "long_factor": [1.0]}}, 131072),
    ],
)  # fmt: skip
def test_the_length_a_model_was_made_for_is_derived_as_vllm_does(changed: dict[str, Any], longest: int) -> None:
    assert shape_of("mixtral-8x7b", **changed).longest == longest


def test_longrope_defaults_to_the_original_length() -> None:
    scaled = {"original_max_position_embeddings": 4096, "rope_scaling": {"type": "longrope"}}
    shape = shape_of("phi-3-mini", max_position_embeddings=131072, **scaled)

    assert (shape.longest, shape.usual) == (131072, 4096)


def test_old_names_of_dimensions_are_known() -> None:
    gpt2, chatglm = shape_of("gpt2"), read_shape({
        "model_type": "chatglm", "hidden_size": 4096, "num_attention_heads": 32, "num_layers": 28,
        "multi_query_attention": True, "multi_query_group_num": 2, "kv_channels": 128, "ffn_hidden_size": 13696,
        "padded_vocab_size": 65024, "seq_length": 32768,
    })  # fmt: skip

    assert (gpt2.layers, gpt2.hidden, gpt2.heads, gpt2.intermediate, gpt2.longest) == (12, 768, 12, 3072, 1024)
    assert (chatglm.layers, chatglm.kv_heads, chatglm.head_dim, chatglm.vocab) == (28, 2, 128, 65024)
    assert chatglm.missing == ()


@pytest.mark.parametrize("part", ["text_config", "llm_config", "language_config"])
def test_the_language_part_of_a_multimodal_model_is_found(part: str) -> None:
    text = next(row.config for row in rows() if row.name == "llama-3.1-8b")
    shape = read_shape({"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"], part: dict(text)})

    assert (shape.layers, shape.kv_heads, shape.missing) == (32, 8, ())


@pytest.mark.parametrize("name", ["num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size"])
def test_a_missing_field_is_named(name: str) -> None:
    assert shape_of("mixtral-8x7b", **{name: None}).missing == (name,)


def test_an_encoder_and_decoder_of_text_is_not_understood_and_says_so() -> None:
    shape = read_shape({"model_type": "bart", "d_model": 1024, "decoder_layers": 12, "is_encoder_decoder": True})

    assert any("cross-attention" in text for text in shape.missing)
    assert any("bart" in text for text in shape.missing)


def test_a_text_config_leaves_out_what_its_class_defaults_to() -> None:
    """LLaVA 1.5 tells of its Llama nothing but the vocabulary and the length; the same at the root is not enough."""
    told = {"model_type": "llama", "vocab_size": 32064, "max_position_embeddings": 4096}
    nested = read_shape({"model_type": "llava", "text_config": told})

    assert (nested.layers, nested.hidden, nested.heads, nested.intermediate) == (32, 4096, 32, 11008)
    assert nested.missing == ()
    assert "num_hidden_layers" in read_shape(told).missing


@pytest.mark.parametrize("off", [None, 0])
def test_a_window_that_is_switched_off_leaves_every_layer_full(off: int | None) -> None:
    gemma = next(row.config for row in rows() if row.name == "gemma-2-9b")

    assert set(read_shape({**gemma, "sliding_window": off}).kinds) == {"full"}


def test_the_sparse_indexers_keys_are_counted_beside_the_latent() -> None:
    deepseek = shape_of("deepseek-v3", model_type="deepseek_v32", index_head_dim=128, index_n_heads=64)

    assert attention_bytes(deepseek, deepseek.attention[0], Arguments(), 2) == 576 * 2 + 132


def test_a_yarn_length_that_the_releases_read_differently_is_not_refused_and_said() -> None:
    yarn = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    shape = shape_of("mixtral-8x7b", rope_scaling=yarn)

    assert (shape.longest, shape.usual) == (131072, 32768)
    assert shape.assumed == (
        "with yarn, vLLM 0.32 serves the 32768 tokens that the config states, earlier releases 131072",
    )
    assert shape_of("mixtral-8x7b", rope_scaling=yarn, max_position_embeddings=131072).assumed == ()


def test_kimi_linear_keeps_latents_in_few_layers_and_states_in_the_rest() -> None:
    """Counted from 1 in its config; state: 3 × 4096 channels × 3 rows × 2 bytes and 32 × 128 × 128 in 32 bits."""
    shape = read_shape(models()["kimi-linear-48b-a3b"]["config"])

    assert shape.kinds[:5] == ("recurrent", "recurrent", "recurrent", "full", "recurrent")
    assert plan_cache(shape, Arguments(), 2, 8192).bytes_per_token == 7 * (512 + 64) * 2
    assert shape.recurrent is not None
    assert shape.recurrent.state_bytes(1, 2) == 3 * 4096 * 3 * 2 + 32 * 128 * 128 * 4
