"""What encoders take beside their weights, and the states that prefix caching keeps of recurrent layers."""

from dataclasses import replace

import pytest

from tests.fit_ground_truth import GIB, Row, rows
from vllm_operator.fit import Accelerator, Arguments, accelerators, judge
from vllm_operator.fit.cache import plan_cache
from vllm_operator.fit.overhead import overhead
from vllm_operator.fit.shape import read_shape

H200 = accelerators()["nvidia-h200"]
BY_NAME = {row.name: row for row in rows()}


def doubt(row: Row, *, later: bool) -> int:
    arguments = replace(row.arguments, estimates_cuda_graphs=later)
    return overhead(read_shape(row.config), arguments, H200, 2).uncounted


@pytest.mark.parametrize("row", rows("forced"), ids=lambda row: row.name)
def test_the_doubt_of_releases_that_try_their_encoder_covers_what_a_trial_took(row: Row) -> None:
    verdict = judge(row.config, None, replace(row.arguments, estimates_cuda_graphs=True), H200)

    assert verdict.budget is not None
    assert verdict.budget.available_kv - doubt(row, later=True) <= row.available


@pytest.mark.parametrize("row", rows("forced"), ids=lambda row: row.name)
def test_the_weights_are_the_same_with_either_runner(row: Row) -> None:
    assert row.judged().weights_bytes == pytest.approx(row.weights, rel=0.02)


def test_a_film_may_be_as_long_as_the_context() -> None:
    """Qwen 2.5 VL's trial run took 15.4 GiB at 128000 tokens; vLLM 0.26 does not try it with its newer runner."""
    long = BY_NAME["qwen2.5-vl-7b"]
    short = replace(long, arguments=replace(long.arguments, max_model_len=16384))

    assert doubt(long, later=True) > 15.4 * GIB
    assert doubt(short, later=True) < 3 * GIB
    assert doubt(long, later=False) == 2 * GIB
    assert doubt(replace(long, arguments=replace(long.arguments, films=False)), later=True) < 3 * GIB


def test_on_a_card_that_a_long_film_may_not_fit_the_answer_is_unknown() -> None:
    card = Accelerator("middling", 32 * GIB, "9.0")
    asked = Arguments(max_model_len=128000, estimates_cuda_graphs=True)
    verdict = judge(BY_NAME["qwen2.5-vl-7b"].config, None, asked, card)

    assert verdict.fits is None and "which an encoder, the compiler" in verdict.note


def test_prefix_caching_keeps_a_state_for_every_block_of_mamba() -> None:
    """Measured with vLLM 0.26: a tenth of the tokens; later releases keep two states a request."""
    shape = read_shape(BY_NAME["granite-4.0-h-micro-prefix"].config)
    asked = Arguments(enable_prefix_caching=True)
    now = plan_cache(shape, asked, 2, 8192)
    later = plan_cache(shape, replace(asked, estimates_cuda_graphs=True), 2, 8192)

    assert (now.block_tokens, now.blocks(131072)) == (768, 10 * 171)
    assert later.blocks(131072) == 9 * 2 + -(-131072 // later.block_tokens)


def test_a_gated_delta_net_keeps_two_states_for_prefix_caching() -> None:
    shape = read_shape(BY_NAME["qwen3-next-80b-tp2"].config)
    one, two = (
        plan_cache(shape, Arguments(), 2, 8192),
        plan_cache(shape, Arguments(enable_prefix_caching=True), 2, 8192),
    )

    assert two.blocks(16) - one.blocks(16) == sum(group.count for group in one.groups if group.kind == "recurrent")


def test_a_config_without_towers_of_its_own_has_those_of_its_class() -> None:
    config = BY_NAME["gemma-3n-e4b"].config
    text = {name: part for name, part in config.items() if name not in ("vision_config", "audio_config")}
    whole, alone = judge(config, None, Arguments(), H200), judge(text, None, Arguments(), H200)

    assert whole.weights_bytes is not None and alone.weights_bytes is not None
    assert whole.weights_bytes - alone.weights_bytes == pytest.approx(2 * 0.98e9, rel=0.05)
