"""Arguments and checkpoints that change what a cache or the weights take: adapters, cache dtypes, batches."""

from typing import Any

import pytest

from tests.fit_ground_truth import rows
from tests.test_fit import LLAMA, on
from vllm_operator.fit import WeightsSummary


def test_the_slots_of_adapters_are_split_as_their_matrices_are() -> None:
    """Beyond one GPU the inputs of query, key, value, gate and up, and the outputs of the others, are whole on each."""

    def slots(ways: int) -> int:
        with_slots = on("nvidia-h200", enable_lora=True, max_loras=4, max_lora_rank=64, tensor_parallel_size=ways)
        without = on("nvidia-h200", tensor_parallel_size=ways)
        return (with_slots.weights_bytes or 0) - (without.weights_bytes or 0)

    whole = 32 * (3 * 4096 + 4096 + 2 * 4096 + 4096) + 2 * (128256 + 4096)
    split = 32 * (6144 + 4096 + 28672 + 14336)
    for ways in (1, 4):
        assert slots(ways) == pytest.approx(1.03 * 4 * 64 * 2 * (whole + split / ways), rel=0.001)


def test_every_expert_has_slots_for_adapters() -> None:
    config = next(row.config for row in rows() if row.name == "qwen3-30b-a3b")
    with_slots, without = on("nvidia-h200", config, enable_lora=True), on("nvidia-h200", config)
    experts = 48 * 128 * (2 * 2048 + 2 * 768 + 768 + 2048)

    assert with_slots.weights_bytes is not None and without.weights_bytes is not None
    assert with_slots.weights_bytes - without.weights_bytes > 2 * 16 * experts


@pytest.mark.parametrize(
    ("stored", "asked", "halves"),
    [
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}, None, True),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}, "bfloat16", False),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "INT3"}, None, False),
        ({"quant_method": "compressed-tensors", "kv_cache_scheme": {"num_bits": 8, "type": "float"}}, None, True),
        ({"quant_method": "compressed-tensors", "kv_cache_scheme": None}, None, False),
        ({"quant_method": "fp8"}, None, False),
    ],
)
def test_a_checkpoint_made_for_a_smaller_cache_has_it(stored: dict[str, Any], asked: str | None, halves: bool) -> None:
    groups = {"config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}}}
    config = dict(LLAMA) | {"quantization_config": {**groups, **stored}}
    verdict = on("nvidia-h200", config, kv_cache_dtype=asked)

    assert verdict.kv_bytes_per_token == (65536 if halves else 131072)


def test_a_cache_dtype_of_unknown_size_is_not_guessed_at() -> None:
    verdict = on("nvidia-h200", kv_cache_dtype="turboquant_k8v4")

    assert (verdict.fits, verdict.kv_cache_tokens) == (None, None)
    assert verdict.note == "missing: the bytes of kvCacheDtype turboquant_k8v4"


def test_few_short_requests_need_no_large_batch() -> None:
    """vLLM lowers its default of max_num_batched_tokens to max_num_seqs requests of the whole length."""
    few = on("nvidia-h200", max_num_seqs=1, max_model_len=1024).budget
    told = on("nvidia-h200", max_num_seqs=1, max_model_len=1024, max_num_batched_tokens=1024).budget

    assert few == told


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["lm_head"], False),
        (["lm_head", "re:.*mlp.gate$", "model.layers.0.input_layernorm"], False),
        (["lm_head", "re:.*self_attn.*"], True),
        (["model.layers.0.self_attn.q_proj"], True),
    ],
)
def test_matrices_that_a_checkpoint_leaves_unquantized_are_said_to_be_guessed(names: list[str], said: bool) -> None:
    groups = {"config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}}}
    config = dict(LLAMA) | {"quantization_config": {"quant_method": "compressed-tensors", **groups, "ignore": names}}

    assert ("leaves unquantized" in on("nvidia-h200", config).note) is said
    assert "leaves unquantized" not in on("nvidia-h200", config, WeightsSummary(9_000_000_000)).note


def test_experts_too_narrow_to_cut_are_proposed_whole() -> None:
    config = next(row.config for row in rows() if row.name == "qwen3-30b-a3b")
    stored = dict(config) | {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
    verdict = on("nvidia-h100-80gb", stored, tensor_parallel_size=4)

    assert verdict.reason == "TensorParallelInvalid"
    assert verdict.remedies == ("enableExpertParallel true", "tensorParallelSize 2")


@pytest.mark.parametrize(
    ("gpu", "ways", "mib"),
    [
        ("nvidia-h200", 2, 72 + 488 + 4 * 2 * 64),
        ("nvidia-h200", 4, 72 + 488 + 4 * 4 * 2),
        ("nvidia-h200", 8, 72 + 488 + 4 * 8 * 0.5),
        ("nvidia-a100-80gb", 2, 72),
        ("nvidia-h200", 1, 240),
    ],
)
def test_the_compiler_fuses_all_reduces_on_hopper_and_blackwell_alone(gpu: str, ways: int, mib: float) -> None:
    budget = on(gpu, tensor_parallel_size=ways, max_num_batched_tokens=8192).budget

    assert budget is not None
    assert budget.non_torch == mib * (1 << 20)


def test_nothing_is_fused_without_compiling() -> None:
    budget = on("nvidia-h200", tensor_parallel_size=2, enforce_eager=True).budget

    assert budget is not None
    assert budget.non_torch == 72 << 20


def test_n_grams_and_draft_models_keep_a_dense_model_on_the_older_runner() -> None:
    def left(method: str) -> int:
        budget = on("nvidia-h200", speculative_method=method).budget
        return budget.available_kv if budget is not None else 0

    assert left("ngram") == left("draft_model") < left("eagle3") < left("mtp") == left("")


@pytest.mark.parametrize("whole", [True, False])
def test_engines_side_by_side_share_the_experts(whole: bool) -> None:
    config = next(row.config for row in rows() if row.name == "qwen3-30b-a3b")
    alone = on("nvidia-h200", config).weights_bytes or 0
    shared = on("nvidia-h200", config, data_parallel_size=2, enable_expert_parallel=whole).weights_bytes or 0
    experts = 48 * 128 * 3 * 2048 * 768 * 2

    assert alone - shared == pytest.approx(experts / 2, rel=0.001)


def test_mxfp4_experts_are_laid_out_in_the_steps_of_the_kernel() -> None:
    """GPT-OSS on older GPUs: Marlin makes 3072 × 2944 of 2880 × 2880."""
    config = next(row.config for row in rows() if row.name == "gpt-oss-20b")
    hopper = on("nvidia-h200", config).weights_bytes or 0
    older = on("nvidia-l40s", config).weights_bytes or 0
    experts = 24 * 32 * 3 * 2880 * 2880 * (0.5 + 1 / 32)

    assert older - hopper == pytest.approx(experts * (3072 * 2944 / 2880**2 - 1), rel=0.01)


def test_a_checkpoint_of_mlx_is_refused_as_vllm_does_not_read_it() -> None:
    verdict = on("nvidia-h200", LLAMA | {"quantization_config": {"group_size": 64, "bits": 4}})

    assert (verdict.fits, verdict.reason) == (False, "QuantizationUnknown")
    assert "quant_method" in verdict.message
