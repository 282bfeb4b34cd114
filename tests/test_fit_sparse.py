"""Families that choose what their attention reads, keep one key for many tokens, or carry several streams."""

from dataclasses import replace
from typing import Any

import pytest

from tests.fit_ground_truth import built
from vllm_operator.fit import Arguments, WeightsSummary, accelerators, judge
from vllm_operator.fit.cache import is_known_dtype, plan_cache
from vllm_operator.fit.matrices import matrices
from vllm_operator.fit.packed import Page, pack
from vllm_operator.fit.pages import Group
from vllm_operator.fit.shape import ModelShape, read_shape

H200 = accelerators()["nvidia-h200"]


def config_of(name: str, **changed: Any) -> dict[str, Any]:
    """A config with some fields of its text part told otherwise."""
    config = dict(built()[name]["config"])
    if "text_config" in config:
        return {**config, "text_config": {**config["text_config"], **changed}}
    return {**config, **changed}


def shape_of(name: str, **changed: Any) -> ModelShape:
    return read_shape(config_of(name, **changed))


def test_deepseek_v4_keeps_windows_shared_keys_and_the_states_of_unfinished_ones() -> None:
    plan = plan_cache(shape_of("deepseek-v4-flash"), Arguments(), 2, 8192)

    assert plan.groups == (
        Group("sliding", 2, 64, 128),
        Group("full", 1, 256),
        Group("sliding", 1, 4, 8),
        Group("sliding", 1, 8, 128),
    )


def test_a_ratio_that_vllm_does_not_know_is_not_guessed_at() -> None:
    ratios = built()["deepseek-v4-flash"]["config"]["compress_ratios"]

    assert shape_of("deepseek-v4-flash", compress_ratios=[16, *ratios[1:]]).missing
    assert shape_of("deepseek-v4-flash", compress_ratios=ratios[:9]).missing


def test_deepseek_v4_has_a_rotary_table_for_layers_that_compress_and_one_for_those_that_do_not() -> None:
    assert (shape_of("deepseek-v4-flash").rope_bytes, shape_of("deepseek-v4-pro").rope_bytes) == (2 << 28, 1 << 28)


def test_deepseek_v4s_experts_take_four_bits_and_the_rest_eight() -> None:
    """As published: 159.6 GB, with one layer more for speculation, which is not loaded."""
    quantized = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
    verdict = judge({**config_of("deepseek-v4-flash"), **quantized}, None, Arguments(), H200)
    tables = shape_of("deepseek-v4-flash").rope_bytes

    assert verdict.weights_bytes == pytest.approx(159_609_485_896 * 43 / 44 + tables, rel=0.005)


def test_kimi_k3_is_as_large_as_its_files_say() -> None:
    """1560.9 GB: its experts in 4 bits, as its list of what is left out tells, the rest in 16."""
    scheme = {
        "quant_method": "compressed-tensors",
        "format": "mxfp4-pack-quantized",
        "config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 32, "type": "float"}}},
        "ignore": [r"re:.*self_attn.*", r"re:.*shared_experts.*", r"re:.*mlp\.(gate|up|gate_up|down)_proj.*"],
    }
    ways = Arguments(tensor_parallel_size=8, pipeline_parallel_size=3, max_model_len=8192)
    verdict = judge({**config_of("kimi-k3", quantization_config=scheme)}, None, ways, H200)

    # A third of the layers, with all that tensor parallelism leaves whole, and half of the ends.
    assert verdict.weights_bytes == pytest.approx(1_560_936_091_448 / 24, rel=0.06)
    assert "counted as quantized" not in verdict.note


def test_what_a_checkpoint_leaves_out_of_its_linear_layers_may_be_less_than_all_but_the_experts() -> None:
    config = config_of("kimi-k3", quantization_config={
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 32, "type": "float"}}},
        "ignore": [r"re:.*self_attn.*"],
    })  # fmt: skip
    ways = Arguments(tensor_parallel_size=8, pipeline_parallel_size=3, max_model_len=8192)

    assert "counted as quantized" in judge(config, None, ways, H200).note


def test_minimax_m3_keeps_an_index_key_in_its_sparse_layers() -> None:
    plan = plan_cache(shape_of("minimax-m3"), Arguments(), 2, 8192)
    halved = plan_cache(shape_of("minimax-m3"), Arguments(kv_cache_dtype="fp8"), 2, 8192)
    dense = shape_of("minimax-m3", sparse_attention_config={"use_sparse_attention": False})

    assert plan.bytes_per_token == 60 * 2 * 4 * 128 * 2 + 57 * 128 * 2
    assert halved.bytes_per_token == 60 * 2 * 4 * 128 + 57 * 128 * 2
    assert plan_cache(dense, Arguments(), 2, 8192).bytes_per_token == 60 * 2 * 4 * 128 * 2


def test_what_indexes_minimax_m3_has_to_be_told() -> None:
    assert shape_of("minimax-m3", sparse_attention_config=None).missing


def test_glm_5_next_may_name_its_layers_or_list_those_with_attention() -> None:
    named = shape_of("glm-5.3-flash")

    assert shape_of("glm-5.3-flash", layer_types=None) == named
    assert (named.kinds.count("full"), named.kinds.count("recurrent")) == (11, 34)


def test_glm_5_next_reads_the_fields_that_transformers_writes() -> None:
    own = {"linear_num_heads": 64, "linear_head_dim": 128, "linear_conv_kernel_dim": 4}

    assert shape_of("glm-5.3-flash", linear_attn_config=None, **own) == shape_of("glm-5.3-flash")
    assert "layer_types" in shape_of("glm-5.3-flash", linear_attn_config=None, layer_types=None, **own).missing


def test_qwen_4s_embeddings_of_runs_of_tokens_lie_in_the_nodes_memory_and_are_said() -> None:
    config = config_of("qwen3.8-flash-next")
    verdict = judge(config, None, Arguments(tensor_parallel_size=4, max_model_len=8192), H200)

    table = sum(matrix.total for matrix in matrices(read_shape(config)) if matrix.place == "host")
    assert table == 16 * 20_000_000 * 160
    assert "95 GiB of embeddings of runs of tokens" in verdict.note
    assert verdict.weights_bytes == pytest.approx((177.4e9 - table) * 2 / 4, rel=0.05)


def test_the_files_of_qwen_4_hold_what_its_gpus_do_not() -> None:
    config = config_of("qwen3.8-flash-next")
    ways = Arguments(tensor_parallel_size=4, max_model_len=8192)
    files = WeightsSummary(2 * built()["qwen3.8-flash-next"]["parameters"])
    said, read = judge(config, None, ways, H200).weights_bytes, judge(config, files, ways, H200).weights_bytes

    assert said is not None and read == pytest.approx(said, rel=0.005)


@pytest.mark.parametrize("name", ["deepseek-v4-flash", "minimax-m3", "glm-5.3-flash", "qwen3.8-flash-next"])
def test_a_family_that_was_never_measured_is_sure_only_with_room_to_spare(name: str) -> None:
    verdict = judge(built()[name]["config"], None, Arguments(tensor_parallel_size=32, max_model_len=8192), H200)

    assert "was never measured" in verdict.note


@pytest.mark.parametrize(
    ("name", "dtype", "known"),
    [("deepseek-v4-flash", "auto", True), ("deepseek-v4-flash", "fp8", True), ("deepseek-v4-flash", "bfloat16", False),
     ("glm-5.3-flash", "auto", True), ("glm-5.3-flash", "fp8", False), ("qwen3.8-flash-next", "fp8", True)],
)  # fmt: skip
def test_a_dtype_of_the_cache_is_known_or_not(name: str, dtype: str, known: bool) -> None:
    assert is_known_dtype(dtype, shape_of(name)) is known


def test_pages_of_unlike_sizes_share_a_block_as_large_as_the_largest_group() -> None:
    full = (Page("full", 16, 4096, 4), Page("full", 16, 512, 3))

    assert pack(full) == ((Group("full", 1, 16),), 4 * 4096 + 3 * 512)
    assert pack(full, stride=4096)[1] == 5 * 4096


def test_states_are_dealt_into_the_blocks_that_others_have_made() -> None:
    pages = (Page("full", 16, 1000, 4), Page("full", 16, 100, 4), Page("recurrent", 16, 1000, 9))

    assert pack(pages) == ((Group("full", 1, 16), Group("recurrent", 3, 16)), 4400)


def test_llama_4_lets_go_of_the_tokens_before_a_chunk_unless_a_draft_reads_along() -> None:
    shape = shape_of("llama-4-scout")
    alone, drafted = (plan_cache(shape, Arguments(speculative_method=method), 2, 8192) for method in ("", "eagle3"))

    assert alone.groups == (Group("chunked", 3, 16), Group("full", 1, 16))
    assert alone.blocks(131072) == 3 * (8192 + 2 * 8192) // 16 + 131072 // 16
    assert drafted.groups == (Group("full", 1, 16),)


def test_llama_4_may_mark_its_layers_without_positions_or_name_their_attention() -> None:
    local = [1, 1, 1, 0] * 12
    named = ["chunked_attention" if mark else "full_attention" for mark in local]

    assert shape_of("llama-4-scout", no_rope_layers=local) == shape_of("llama-4-scout")
    assert shape_of("llama-4-scout", layer_types=named) == shape_of("llama-4-scout")
    assert set(shape_of("llama-4-scout", attention_chunk_size=None).kinds) == {"full"}


def test_deepseek_3_2_takes_blocks_of_64_tokens_and_a_second_rotary_table() -> None:
    indexed, plain = shape_of("deepseek-v3.2"), shape_of("deepseek-v3")

    assert [plan_cache(shape, Arguments(), 2, 8192).block_tokens for shape in (indexed, plain)] == [64, 16]
    assert indexed.rope_bytes == 2 * 163840 * 64 * 2


def test_deepseek_v4_1_keeps_keys_in_four_layers_for_all_and_is_known_on_hopper_alone() -> None:
    config = config_of("deepseek-v4.1-flash")
    plan = plan_cache(read_shape(config), Arguments(), 2, 8192)
    ways = Arguments(tensor_parallel_size=8, max_model_len=65536)
    hopper, blackwell = (judge(config, None, ways, accelerators()[name]) for name in ("nvidia-h200", "nvidia-b200"))

    assert plan.groups == (Group("sliding", 7, 32, 128), Group("full", 1, 64), Group("ring", 1, 8))
    assert hopper.kv_bytes_per_token == plan.bytes_per_token
    assert blackwell.note.startswith("missing: the KV cache of deepseek_v41_text on other GPUs than Hopper")
    assert "189 GiB of embeddings of runs of tokens" in hopper.note


def test_glm_5_2_has_an_index_in_few_layers_by_number_or_by_letters() -> None:
    counted = shape_of("glm-5.2")
    lettered = shape_of("glm-5.2", index_topk_freq=None, index_topk_pattern="FFF" + "SSSF" * 18 + "SSS")

    assert counted.latent == lettered.latent
    assert plan_cache(counted, Arguments(), 2, 8192).bytes_per_token == 78 * 576 * 2 + 21 * 132


def test_hunyuan_4_has_an_index_where_attention_is_sparse() -> None:
    plain, sparse = shape_of("hy4-default"), shape_of("hy4-sparse")

    assert [plan_cache(shape, Arguments(), 2, 8192).block_tokens for shape in (plain, sparse)] == [16, 64]
    assert sparse.latent is not None and len(sparse.latent.unindexed) == 34 - 9


def test_the_longest_request_is_held_against_the_larger_batches_that_it_would_have() -> None:
    """One request at a time, and a batch is no longer than it: Llama 4 keeps its chunks and two batches."""
    config = built()["llama-4-scout"]["config"]
    short = Arguments(tensor_parallel_size=4, max_model_len=512, max_num_seqs=1)
    longest = judge(config, None, short, H200).largest_max_model_len

    assert longest is not None and longest > 512
    there = judge(config, None, replace(short, max_model_len=longest), H200)
    assert there.fits is not False


def test_inklings_convolutions_remember_a_few_tokens_in_pages_of_their_own() -> None:
    shape = shape_of("inkling")
    plan = plan_cache(shape, Arguments(), 2, 8192)

    assert plan.groups == (
        Group("sliding", 5, 16),
        Group("sliding", 6, 4, 4),
        Group("full", 1, 32),
    )
    assert plan.bytes_per_token == 55 * 2 * 16 * 128 * 2 + 11 * 2 * 8 * 128 * 2
    assert shape.experts is not None and len(shape.experts.layers) == 64


def test_inkling_may_name_the_attention_of_its_layers() -> None:
    named = ["hybrid_sliding" if (i + 1) % 6 else "hybrid" for i in range(66)]

    assert shape_of("inkling", local_layer_ids=None, layer_types=named) == shape_of("inkling")
    assert "local_layer_ids" in shape_of("inkling", local_layer_ids=None).missing
