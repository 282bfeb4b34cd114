"""The built-in accelerators, and quantization methods × hardware."""

from typing import Any, get_args

import pytest

from tests.fit_ground_truth import models, rows
from vllm_operator.api.engine import Quantization
from vllm_operator.api.rules.arguments import IN_BFLOAT16_ONLY, IN_FLOAT32
from vllm_operator.fit import Arguments, Problem, Verdict, accelerators, judge
from vllm_operator.fit.quantization import Scheme, canonical, methods, resolve

GIB = 1 << 30


def verdict_on(name: str, config: dict[str, Any] | None = None, **arguments: Any) -> Verdict:
    base = dict(next(row.config for row in rows() if row.name == "qwen2.5-0.5b"))
    return judge(base | (config or {}), None, Arguments(**arguments), accelerators()[name])


@pytest.mark.parametrize(
    "name",
    [
        "nvidia-t4",
        "nvidia-v100-16gb",
        "nvidia-a10",
        "nvidia-a10g",
        "nvidia-l4",
        "nvidia-l40s",
        "nvidia-rtx-6000-ada",
        "nvidia-a100-40gb",
        "nvidia-a100-80gb",
        "nvidia-h100-80gb",
        "nvidia-h100-nvl",
        "nvidia-h200",
        "nvidia-gh200",
        "nvidia-b200",
        "amd-mi210",
        "amd-mi300x",
        "amd-mi325x",
        "amd-mi355x",
        "intel-gaudi2",
        "intel-gaudi3",
        "google-tpu-v5e",
        "google-tpu-v6e",
        "cpu",
    ],
)
def test_common_accelerators_are_known(name: str) -> None:
    assert accelerators()[name].name == name


def test_memory_is_what_the_driver_shows_not_what_the_box_says() -> None:
    known = accelerators()

    assert known["nvidia-h200"].memory_bytes == int(139.8 * GIB)
    for name, boxed in (("nvidia-l4", 24), ("nvidia-a100-80gb", 80), ("nvidia-h100-80gb", 80), ("nvidia-t4", 16)):
        memory = known[name].memory_bytes
        assert memory is not None and 0.9 * boxed * GIB < memory < boxed * GIB


def test_every_nvidia_and_amd_card_has_a_capability() -> None:
    for accelerator in accelerators().values():
        if accelerator.vendor in ("nvidia", "amd"):
            assert accelerator.capability is not None and 60 <= accelerator.capability <= 130


def test_slices_serve_alone() -> None:
    for accelerator in accelerators().values():
        assert accelerator.peers is not ("-mig-" in accelerator.name or accelerator.name == "cpu")
    verdict = verdict_on("nvidia-a100-80gb-mig-3g.40gb", tensor_parallel_size=2)
    assert (verdict.reason, verdict.remedies[0]) == (
        "TensorParallelInvalid",
        "tensorParallelSize 1 and pipelineParallelSize 1",
    )


@pytest.mark.parametrize(
    ("method", "accelerator", "works"),
    [
        ("fp8", "nvidia-t4", True),
        ("fp8", "nvidia-v100-32gb", False),
        ("fp8", "nvidia-l4", True),
        ("mxfp8", "nvidia-t4", True),
        ("mxfp4", "nvidia-l4", True),
        ("mxfp8", "nvidia-v100-32gb", False),
        ("nvfp4_per_token", "nvidia-h100-80gb", False),
        ("nvfp4_per_token", "nvidia-b200", True),
        ("nvfp4_per_token", "amd-mi300x", False),
        ("int8_per_channel_weight_only", "amd-mi300x", False),
        ("fp8_per_channel", "cpu", True),
        ("experts_int8", "nvidia-a100-80gb", True),
    ],
)
def test_online_methods_need_their_capability(method: str, accelerator: str, works: bool) -> None:
    answer = resolve({}, Arguments(quantization=method), accelerators()[accelerator])

    assert isinstance(answer, Scheme) is works
    if isinstance(answer, Problem):
        assert answer.reason == "QuantizationUnsupportedByGPU"


@pytest.mark.parametrize(
    ("stored", "accelerator", "reason"),
    [
        ({"quant_method": "awq", "bits": 4}, "nvidia-v100-32gb", "QuantizationUnsupportedByGPU"),
        ({"quant_method": "awq", "bits": 4}, "nvidia-t4", None),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "nvidia-v100-32gb", None),
        ({"quant_method": "mxfp4"}, "nvidia-t4", "QuantizationUnsupportedByGPU"),
        ({"quant_method": "mxfp8"}, "nvidia-t4", "QuantizationUnsupportedByGPU"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "amd-mi300x", None),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "nvidia-h200", "QuantizationUnknown"),
        ({"quant_method": "gguf"}, "nvidia-h200", "QuantizationUnknown"),
        ({"quant_method": "nonsense"}, "nvidia-h200", "QuantizationUnknown"),
        (
            {"quant_method": "compressed-tensors", "config_groups": {}},
            "nvidia-v100-32gb",
            "QuantizationUnsupportedByGPU",
        ),
    ],
)
def test_a_checkpoint_needs_a_gpu_that_has_its_method(
    stored: dict[str, Any], accelerator: str, reason: str | None
) -> None:
    answer = resolve(stored, Arguments(), accelerators()[accelerator])

    assert (answer.reason if isinstance(answer, Problem) else None) == reason


def test_asking_for_another_method_than_the_checkpoint_has_is_a_mismatch() -> None:
    verdict = verdict_on("nvidia-h200", {"quantization_config": {"quant_method": "awq", "bits": 4}}, quantization="fp8")

    assert (verdict.fits, verdict.reason, verdict.remedies) == (False, "QuantizationMismatch", ("no quantization",))


def test_awq_of_an_unquantized_checkpoint_is_a_mismatch_and_fp8_would_do() -> None:
    verdict = verdict_on("nvidia-l4", quantization="awq")

    assert verdict.reason == "QuantizationMismatch"
    assert "quantization" in verdict.message and verdict.remedies


@pytest.mark.parametrize("name", ["awq", "auto_awq", "awq_marlin"])
def test_one_method_has_several_names(name: str) -> None:
    assert canonical(name) == "awq"


def test_a_method_out_of_the_image_says_what_it_takes() -> None:
    assert "vllm-bnb-plugin" in verdict_on("nvidia-l4", quantization="bitsandbytes").message


@pytest.mark.parametrize(
    ("stored", "weight_bytes"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, 0.5 + 2.5 / 128),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 1 + 4 / 128**2),
        ({"quant_method": "mxfp4"}, 0.53125),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, 0.5625),
        ({"quant_method": "compressed-tensors",
          "config_groups": {"g": {"weights": {"num_bits": 8, "type": "int"}}}}, 1.0),
        ({"quant_method": "compressed-tensors",
          "config_groups": {"g": {"weights": {"num_bits": 4, "type": "int", "group_size": 128}}}}, 0.5 + 2 / 128),
        ({"quant_method": "quark"}, None),
    ],
)  # fmt: skip
def test_bytes_per_weight_come_from_the_checkpoints_own_words(
    stored: dict[str, Any], weight_bytes: float | None
) -> None:
    answer = resolve(stored, Arguments(), accelerators()["nvidia-h200"])

    assert isinstance(answer, Scheme) and answer.weight_bytes == weight_bytes


def test_every_method_names_known_vendors() -> None:
    for method in methods().values():
        assert set(method.vendors) <= {"nvidia", "amd", "intel"}


def test_a_method_for_experts_leaves_a_dense_model_as_large_as_it_is() -> None:
    plain, for_experts = verdict_on("nvidia-l4"), verdict_on("nvidia-l4", quantization="int8_per_channel_weight_only")

    assert for_experts.weights_bytes == plain.weights_bytes


def test_a_deprecated_method_is_refused_until_it_is_allowed() -> None:
    stored = {"quantization_config": {"quant_method": "fbgemm_fp8"}}

    refused = verdict_on("nvidia-h100-80gb", stored)

    assert (refused.reason, "--allow-deprecated-quantization" in refused.message) == ("QuantizationUnknown", True)
    assert verdict_on("nvidia-h100-80gb", stored, allow_deprecated_quantization=True).fits is True


def test_the_rules_at_the_api_server_refuse_no_dtype_that_the_table_allows() -> None:
    for name in get_args(Quantization):
        entry = methods()[canonical(name)]
        online = entry.online and canonical(name) == name
        allowed = {*entry.asks(online=False).dtypes, *(entry.asks(online=True).dtypes if online else ())}
        assert ("float32" in allowed) is (name in IN_FLOAT32), name
        assert ("float16" not in allowed) is (name in IN_BFLOAT16_ONLY), name


def test_bfloat16_asked_of_a_turing_card_is_refused_with_float16_as_the_remedy() -> None:
    verdict = verdict_on("nvidia-t4", dtype="bfloat16")

    assert (verdict.fits, verdict.reason, verdict.remedies[0]) == (False, "DtypeUnsupportedByGPU", "dtype float16")


def test_auto_falls_back_to_float16_before_ampere() -> None:
    assert verdict_on("nvidia-t4").fits is True


def test_gemma_runs_in_32_bits_where_there_is_no_bfloat16() -> None:
    """vLLM refuses float16 for Gemma 2 and 3, so a T4 is left with float32: twice the weights."""
    gemma = dict(next(row.config for row in rows() if row.name == "gemma-2-9b"))
    small = gemma | {"num_hidden_layers": 4}

    on_t4 = judge(small, None, Arguments(), accelerators()["nvidia-t4"]).weights_bytes
    on_l4 = judge(small, None, Arguments(), accelerators()["nvidia-l4"]).weights_bytes
    assert on_t4 is not None and on_l4 is not None and on_t4 > 1.9 * on_l4
    assert judge(gemma, None, Arguments(dtype="float16"), accelerators()["nvidia-l4"]).reason == "DtypeUnsupportedByGPU"


def test_gpt_oss_as_published_takes_little_more_than_its_files() -> None:
    config = models()["gpt-oss-20b"]["config"] | {"quantization_config": {"quant_method": "mxfp4"}}
    verdict = judge(config, None, Arguments(), accelerators()["nvidia-h100-80gb"])

    assert verdict.weights_bytes == pytest.approx(13.76e9, rel=0.03)


def test_two_ranks_on_a_cpu_are_no_misfit_for_they_work_where_they_are_bound():
    config = {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "intermediate_size": 4864,
        "max_position_embeddings": 32768, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    }  # fmt: skip

    verdict = judge(config, None, Arguments(tensor_parallel_size=2), accelerators()["cpu"])

    assert verdict.fits is None
