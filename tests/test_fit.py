"""Verdicts: what fits, what does not and why, and what would."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.fit_ground_truth import models, rows
from vllm_operator.fit import Accelerator, Arguments, Verdict, WeightsSummary, accelerators, judge

GIB = 1 << 30
LLAMA: Mapping[str, Any] = next(row.config for row in rows() if row.name == "llama-3.1-8b")
SMALL: Mapping[str, Any] = next(row.config for row in rows() if row.name == "qwen2.5-0.5b")
LLAMA_SUMMARY = WeightsSummary(16_060_522_240, {"BF16": 8_030_261_120})


def on(
    name: str, config: Mapping[str, Any] = LLAMA, weights: WeightsSummary | None = None, **arguments: Any
) -> Verdict:
    return judge(config, weights, Arguments(**arguments), accelerators()[name])


def test_a_length_that_does_not_fit_is_said_with_numbers_and_remedies() -> None:
    verdict = on("nvidia-l4", max_model_len=131072, gpu_memory_utilization=0.9)

    assert (verdict.fits, verdict.reason) == (False, "KVCacheTooSmall")
    assert verdict.message == (
        "maxModelLen 131072 needs 16.0 GiB of KV cache per GPU, 3.5 are left on a 22 GiB nvidia-l4 at 0.90: use "
        "maxModelLen ≤ 28000, or tensorParallelSize 2, or kvCacheDtype fp8 and maxModelLen ≤ 57000"
    )


def test_weights_that_do_not_fit_are_another_reason_than_a_length() -> None:
    verdict = on("nvidia-t4", max_model_len=4096)

    assert (verdict.fits, verdict.reason) == (False, "NoMemoryForKVCache")
    assert "16.2 GiB per GPU" in verdict.message
    assert verdict.smallest_tensor_parallel_size == 2


def test_the_smallest_tensor_parallel_size_is_told_also_when_more_are_asked_for() -> None:
    assert on("nvidia-h200", tensor_parallel_size=4).smallest_tensor_parallel_size == 1


def test_the_files_win_over_the_count() -> None:
    counted, told = on("nvidia-h200").weights_bytes, on("nvidia-h200", weights=LLAMA_SUMMARY).weights_bytes
    larger = on("nvidia-h200", weights=WeightsSummary(24_090_783_360)).weights_bytes

    assert told == pytest.approx(counted, rel=0.001)
    assert larger == pytest.approx(1.5 * told, rel=0.01) if told else False


def test_32_bit_files_are_cast_when_loaded() -> None:
    cast = on("nvidia-h200", weights=WeightsSummary(32_121_044_480, {"F32": 8_030_261_120}))

    assert cast.weights_bytes == pytest.approx(on("nvidia-h200").weights_bytes, rel=0.001)


@pytest.mark.parametrize(
    ("said", "total"), [("bfloat16", 32_121_044_480), ("float32", 16_060_522_240), (None, 32_121_044_480)]
)
def test_an_index_that_tells_only_a_total_is_read_as_wide_as_the_parameters_make_it(
    said: str | None, total: int
) -> None:
    """Configs and files disagree in published checkpoints: the total is twice or half of what the config's dtype gives."""
    config = {**LLAMA, "torch_dtype": said}
    told = on("nvidia-h200", config, WeightsSummary(total)).weights_bytes

    assert told == pytest.approx(on("nvidia-h200").weights_bytes, rel=0.001)


def test_draft_layers_in_the_files_are_not_loaded() -> None:
    config = models()["glm-4.5-air"]["config"]
    plain = on("nvidia-h200", config, tensor_parallel_size=4)
    filed = on("nvidia-h200", config, WeightsSummary(220_930_000_000), tensor_parallel_size=4)

    assert filed.weights_bytes == pytest.approx(plain.weights_bytes, rel=0.005)


def test_a_second_copy_of_a_tied_head_is_not_loaded() -> None:
    qwen = next(row.config for row in rows() if row.name == "qwen2.5-0.5b")
    plain = on("nvidia-h200", qwen).weights_bytes
    assert plain is not None
    twice = on("nvidia-h200", qwen, WeightsSummary(988_065_536 + 151936 * 896 * 2)).weights_bytes

    assert twice == pytest.approx(plain, rel=0.01)


def test_two_gpus_hold_half_each() -> None:
    one, two = on("nvidia-h200").weights_bytes, on("nvidia-h200", tensor_parallel_size=2).weights_bytes

    assert one is not None and two == pytest.approx(one / 2, rel=0.01)


def test_two_stages_hold_half_the_layers_and_one_end_each() -> None:
    one, two = on("nvidia-h200").weights_bytes, on("nvidia-h200", pipeline_parallel_size=2).weights_bytes

    assert one is not None and two == pytest.approx(one / 2, rel=0.01)


def test_experts_spread_over_replicas_with_expert_parallelism() -> None:
    config = models()["mixtral-8x7b"]["config"]
    alone = on("nvidia-h200", config, tensor_parallel_size=2).weights_bytes
    spread = on("nvidia-h200", config, tensor_parallel_size=2, data_parallel_size=4, enable_expert_parallel=True)

    assert alone is not None and spread.weights_bytes is not None and spread.weights_bytes < 0.4 * alone


def test_offloading_to_the_cpu_takes_weights_off_the_gpu() -> None:
    """But not with vLLM 0.26's newer runner, which leaves them where they are: `qwen3-8b-offload4` was measured."""
    kept, off = on("nvidia-h200").weights_bytes, on("nvidia-h200", cpu_offload_gb=4).weights_bytes
    later = on("nvidia-h200", cpu_offload_gb=4, estimates_cuda_graphs=True).weights_bytes

    assert kept is not None and (off, later) == (kept, kept - 4 * GIB)


def test_auto_length_is_the_longest_that_fits() -> None:
    verdict = on("nvidia-l4", max_model_len=-1)

    assert verdict.fits is True and verdict.max_model_len == verdict.largest_max_model_len
    assert on("nvidia-l4", max_model_len=verdict.max_model_len).fits is True
    assert on("nvidia-l4", max_model_len=(verdict.max_model_len or 0) + 17).fits is False


def test_a_cache_size_given_by_hand_is_taken() -> None:
    verdict = on("nvidia-h200", kv_cache_memory_bytes=8 * GIB, max_model_len=8192)

    assert verdict.kv_cache_tokens == 65536
    assert on("nvidia-l4", kv_cache_memory_bytes=8 * GIB, max_model_len=8192).fits is False


def test_a_cache_size_given_by_hand_is_the_remedy_where_it_is_the_fault() -> None:
    small = on("nvidia-l40s", kv_cache_memory_bytes=GIB)
    assert small.message.startswith("maxModelLen 131072 needs 16.0 GiB of KV cache per GPU, kvCacheMemory gives 1.0: ")
    assert small.remedies[:2] == ("kvCacheMemory 17Gi", "maxModelLen ≤ 8100")

    large = on("nvidia-l40s", kv_cache_memory_bytes=200 * GIB)
    assert (large.fits, large.largest_max_model_len, large.kv_cache_tokens) == (False, 0, 0)
    assert "kvCacheMemory takes 200.0 GiB and the rest 16.2" in large.message
    assert large.remedies == ("kvCacheMemory 28Gi",)


def test_a_cache_that_one_request_fills_to_the_last_block_is_a_doubt() -> None:
    assert on("nvidia-l40s", kv_cache_memory_bytes=16 * GIB).fits is None


@pytest.mark.parametrize("name", ["nvidia-l4", "nvidia-h200", "nvidia-a100-80gb-mig-1g.10gb"])
def test_a_budget_of_the_whole_card_is_never_free(name: str) -> None:
    verdict = on(name, SMALL, max_model_len=4096, gpu_memory_utilization=1.0)

    assert (verdict.fits, verdict.reason) == (False, "NoMemoryForKVCache")
    assert "gpuMemoryUtilization 1.00 asks for" in verdict.message
    assert verdict.remedies


def test_what_is_wrong_beside_a_lack_of_memory_is_part_of_every_remedy() -> None:
    assert on("nvidia-l4", quantization="awq").remedies == (
        "no quantization and maxModelLen ≤ 32000",
        "no quantization and tensorParallelSize 2",
        "no quantization and kvCacheDtype fp8 and maxModelLen ≤ 64000",
    )


def test_fewer_adapters_at_once_are_a_remedy() -> None:
    verdict = on("nvidia-l40s", enable_lora=True, max_loras=32, max_lora_rank=256)

    assert "maxLoRAs 1" in verdict.remedies


def test_bytes_per_token_are_told_without_the_accelerators_memory() -> None:
    verdict = judge(LLAMA, None, Arguments(), Accelerator("nvidia", None))

    assert (verdict.fits, verdict.kv_bytes_per_token, verdict.kv_cache_tokens) == (None, 131072, None)


def test_a_length_one_too_long_is_told_without_a_doubt() -> None:
    verdict = on("nvidia-l40s", max_model_len=131073)

    assert (verdict.reason, verdict.note) == ("MaxModelLenTooLong", "")


def test_a_length_beyond_the_models_own_is_refused_and_bounded() -> None:
    verdict = on("nvidia-h200", max_model_len=200_000)

    assert (verdict.reason, verdict.remedies) == ("MaxModelLenTooLong", ("maxModelLen ≤ 131072",))
    small = on("nvidia-l4", max_model_len=200_000)
    assert small.remedies == (
        "maxModelLen ≤ 32000",
        "maxModelLen ≤ 131072 and tensorParallelSize 2",
        "maxModelLen ≤ 64000 and kvCacheDtype fp8",
    )


@pytest.mark.parametrize("size", [3, 5, 6, 7])
def test_heads_that_do_not_divide_are_refused(size: int) -> None:
    verdict = on("nvidia-h200", tensor_parallel_size=size)

    assert (verdict.fits, verdict.reason) == (False, "TensorParallelInvalid")
    assert f"tensorParallelSize {size} does not divide the 32 attention heads" in verdict.message
    assert verdict.remedies


def test_a_quantization_group_cut_in_two_is_refused() -> None:
    config = next(row.config for row in rows() if row.name == "qwen2.5-7b-awq")

    assert on("nvidia-l4", config, max_model_len=4096, tensor_parallel_size=4).fits is True
    assert "group 128" in on("nvidia-h200", dict(config) | {"num_attention_heads": 32}, tensor_parallel_size=8).message


def test_a_utilization_that_starves_the_sampler_is_refused() -> None:
    """Qwen2.5-7B at 0.98 on an H200 ran out of memory in the sampler's warm-up."""
    qwen = next(row.config for row in rows() if row.name == "qwen2.5-7b")
    verdict = on("nvidia-h200", qwen, gpu_memory_utilization=0.98)

    assert verdict.fits is False
    assert verdict.remedies == ("maxNumSeqs 256", "gpuMemoryUtilization 0.96")
    assert on("nvidia-h200", qwen, gpu_memory_utilization=0.9).fits is True


def test_a_warm_up_of_more_requests_than_were_measured_is_a_doubt_and_no_refusal() -> None:
    """Qwen2.5-7B at 0.95 served 4096 requests at once, with its sampler's own kernel off."""
    qwen = next(row.config for row in rows() if row.name == "qwen2.5-7b")
    verdict = on("nvidia-h200", qwen, gpu_memory_utilization=0.95, max_num_seqs=4096)

    assert verdict.fits is not False
    assert "a lower maxNumSeqs is safer" in verdict.note


def test_the_utilization_that_would_do_is_told() -> None:
    needed = on("nvidia-h200", max_model_len=131072).utilization_needed

    assert needed is not None
    assert on("nvidia-h200", max_model_len=131072, gpu_memory_utilization=needed).fits is True
    assert on("nvidia-h200", max_model_len=131072, gpu_memory_utilization=needed - 0.02).fits is False


def test_a_length_no_utilization_makes_room_for_has_none() -> None:
    assert on("nvidia-l4", max_model_len=131072).utilization_needed is None


def test_adapters_take_weights_memory() -> None:
    with_slots = on("nvidia-h200", enable_lora=True, max_loras=4, max_lora_rank=64).weights_bytes

    assert with_slots == pytest.approx(16.41 * GIB, rel=0.01)


def test_encoders_need_no_cache() -> None:
    verdict = on("nvidia-t4", models()["bert-base"]["config"], runner="pooling")

    assert (verdict.fits, verdict.kv_bytes_per_token, verdict.kv_cache_tokens) == (True, 0, 0)


def test_cpu_memory_is_unknown_and_named() -> None:
    verdict = on("cpu")

    assert verdict.fits is None and "memory of cpu" in verdict.note


def test_other_vendors_are_unknown_near_the_edge_and_known_far_from_it() -> None:
    assert on("intel-gaudi3").fits is True
    assert on("google-tpu-v5e").fits is False
    near = Accelerator("some-amd", int(17.6 * GIB / 0.92), "9.4", "amd")
    assert judge(LLAMA, None, Arguments(max_model_len=4096), near).fits is None


def test_a_volta_card_is_told_of_the_image() -> None:
    assert "CUDA 13" in on("nvidia-v100-32gb", max_model_len=8192).note


def test_near_an_image_encoder_the_answer_is_unknown_and_the_remedy_safe() -> None:
    gemma = models()["gemma-3-4b"]["config"]
    assert on("nvidia-l4", gemma).fits is True
    tight = Accelerator("small", 12 * GIB, "8.9")

    assert judge(gemma, None, Arguments(max_model_len=32768), tight).fits is None


def test_more_than_a_node_is_proposed_as_pipeline_stages_too() -> None:
    config = models()["deepseek-v3"]["config"] | {"quantization_config": {"quant_method": "fp8"}}
    verdict = on("nvidia-h100-80gb", config, max_model_len=16384)

    assert verdict.remedies[:2] == ("tensorParallelSize 16", "tensorParallelSize 8 and pipelineParallelSize 2")


def test_an_unknown_architecture_is_never_guessed() -> None:
    verdict = on("nvidia-h200", dict(LLAMA) | {"model_type": "foo_next"})

    assert verdict.fits is None and "model_type foo_next" in verdict.note
    assert (verdict.kv_cache_tokens, verdict.remedies) == (None, ())


def test_weights_beyond_the_card_are_a_misfit_whatever_the_architecture() -> None:
    verdict = on("nvidia-l4", {"model_type": "foo_next"}, WeightsSummary(60 * GIB))

    assert (verdict.fits, verdict.reason) == (False, "NoMemoryForKVCache")


def test_unknown_bytes_per_weight_are_named() -> None:
    config = dict(LLAMA) | {"quantization_config": {"quant_method": "quark"}}

    assert "quark" in on("nvidia-h200", config).note
    assert on("nvidia-h200", config, WeightsSummary(9_000_000_000)).fits is True


def test_the_json_has_the_promised_keys() -> None:
    answer = on("nvidia-l4").as_json()

    assert set(answer) >= {
        "accelerator", "fits", "weightsBytes", "kvBytesPerToken", "kvCacheTokens", "largestMaxModelLen",
        "smallestTensorParallelSize", "remedies",
    }  # fmt: skip
    assert isinstance(answer["remedies"], list)


@pytest.mark.parametrize("config", [{}, {"model_type": 3}, {"text_config": []}, {"model_type": "llama"}])
def test_an_empty_config_is_unknown_with_what_is_missing(config: dict[str, Any]) -> None:
    verdict = on("nvidia-l4", config)

    assert verdict.fits is None and verdict.note.startswith("missing: ")


def test_memory_that_was_not_asked_for_is_the_first_remedy() -> None:
    verdict = on("nvidia-h200", gpu_memory_utilization=0.1)

    assert verdict.reason == "NoMemoryForKVCache"
    assert verdict.remedies[0] == "gpuMemoryUtilization 0.9"
    assert on("nvidia-h200", gpu_memory_utilization=0.9).fits is True


def test_a_second_gpu_is_proposed_to_a_small_card_that_quantization_would_suit_as_well() -> None:
    qwen = next(row.config for row in rows() if row.name == "qwen2.5-7b")

    assert set(on("nvidia-t4", qwen).remedies) >= {"quantization fp8", "tensorParallelSize 2"}


def test_fewer_tokens_a_batch_than_requests_are_never_proposed() -> None:
    verdict = on("nvidia-l4", max_num_seqs=4096, max_num_batched_tokens=8192, gpu_memory_utilization=0.85)

    assert all(changed.max_num_batched_tokens != 2048 or changed.max_num_seqs != 4096 for changed in verdict.remedied)
