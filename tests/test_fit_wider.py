"""What the rows of other families taught: pooling, workspaces beside recurrent layers, towers that several GPUs do not share."""

from dataclasses import replace
from typing import Any

import pytest

from tests.fit_ground_truth import GIB, Row, rows
from vllm_operator.fit import Arguments, Verdict, WeightsSummary, accelerators, judge
from vllm_operator.fit.shape import read_shape
from vllm_operator.fit.trial import unbuilt

H200 = accelerators()["nvidia-h200"]
BY_NAME = {row.name: row for row in rows()}


def judged(row: Row, architecture: str = "", **changed: Any) -> Verdict:
    named = {"architectures": [architecture]} if architecture else {}
    return judge({**row.config, **named}, None, replace(row.arguments, **changed), H200)


@pytest.mark.parametrize(
    "architecture", ["MistralModel", "MistralForSequenceClassification", "MistralForRewardModeling"]
)
def test_the_name_of_an_architecture_makes_a_pooling_model(architecture: str) -> None:
    row = BY_NAME["e5-mistral-7b-eager"]

    said = judged(row, architecture, runner=None)

    assert said.kv_cache_tokens == pytest.approx(row.tokens, rel=0.01)
    assert said.weights_bytes == judged(row).weights_bytes


@pytest.mark.parametrize("architecture", ["MistralForCausalLM", "GPT2LMHeadModel", "QWenLMHeadModel", "TeleChatModel"])
def test_other_names_generate(architecture: str) -> None:
    assert read_shape({**BY_NAME["e5-mistral-7b-eager"].config, "architectures": [architecture]}).pools is False


def test_a_model_that_generates_has_a_head_and_two_batches_in_flight() -> None:
    row = BY_NAME["e5-mistral-7b-eager"]
    pools, generates = judged(row), judged(row, runner="generate")

    assert generates.weights_bytes is not None and pools.weights_bytes is not None
    assert generates.weights_bytes - pools.weights_bytes == 32000 * 4096 * 2
    assert (generates.kv_cache_tokens or 0) < 0.7 * (pools.kv_cache_tokens or 0)


def test_a_head_in_the_files_of_a_pooling_model_is_not_loaded() -> None:
    row = BY_NAME["e5-mistral-7b-eager"]
    whole = judged(row, runner="generate").weights_bytes or 0
    files = WeightsSummary(whole, {"F16": 7_241_732_096})

    assert judge(row.config, files, row.arguments, H200).weights_bytes == pytest.approx(row.weights, rel=0.005)


def test_latents_beside_recurrent_layers_have_a_block_for_each_request() -> None:
    """30 GiB for the 1024 requests that an H200 takes unless told otherwise; 3.7 for 128 of them."""
    row = BY_NAME["kimi-linear-12-layers"]
    many, few = judged(row).budget, judged(row, max_num_seqs=128).budget

    assert many is not None and few is not None
    assert many.activations == pytest.approx(30.34 * GIB, rel=0.01)
    assert many.activations - few.activations > 25 * GIB


def test_fewer_requests_are_the_remedy_where_they_leave_no_memory() -> None:
    row = BY_NAME["kimi-linear-12-layers"]
    said = judged(row, gpu_memory_utilization=0.5)

    assert said.fits is False
    assert any(remedy == "maxNumSeqs 128" for remedy in said.remedies)


@pytest.mark.parametrize(("name", "whole"), [("gemma-4-31b", 1.0), ("qwen2-audio-7b-v1", 1.0), ("qwen2.5-vl-7b", 0.5)])
def test_towers_of_transformers_are_whole_on_each_gpu(name: str, whole: float) -> None:
    shape = read_shape(BY_NAME[name].config)
    shut = {"image": 0, "video": 0, "audio": 0}

    alone, two = (unbuilt(shape, Arguments(limits=shut, tensor_parallel_size=ways)) for ways in (1, 2))
    assert two == pytest.approx(whole * alone, rel=0.001)


def test_the_attention_of_internvl_is_whole_and_its_mlps_are_not() -> None:
    row = BY_NAME["internvl3-8b-v1-tp2-eager"]
    (tower,) = read_shape(row.config).encoders

    assert tower.parameters // 2 < tower.per_gpu(2) < tower.parameters
