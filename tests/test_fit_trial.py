"""What encoders take beside their weights, and the states that prefix caching keeps of recurrent layers."""

from dataclasses import replace
from typing import Any

import pytest

from tests.fit_ground_truth import GIB, Row, rows
from vllm_operator.fit import Accelerator, Arguments, accelerators, judge
from vllm_operator.fit.cache import plan_cache
from vllm_operator.fit.overhead import Overhead, overhead
from vllm_operator.fit.shape import read_shape

H200 = accelerators()["nvidia-h200"]
BY_NAME = {row.name: row for row in rows()}


def used(row: Row, **changed: Any) -> Overhead:
    return overhead(read_shape(row.config), replace(row.arguments, **changed), H200, 2)


def test_the_newer_runner_of_0_26_tries_no_encoder_and_pictures_are_in_doubt() -> None:
    row = BY_NAME["qwen2.5-vl-7b"]

    assert used(row).activations < 2 * GIB
    assert (used(row).uncounted, used(row).spread) == (2 * GIB, 0)
    assert used(row, old_runner=True).activations > 15 * GIB
    assert (used(row, old_runner=True).uncounted, used(row, old_runner=True).spread) == (0, 0)


def test_later_releases_try_every_encoder_and_were_not_measured() -> None:
    later = used(BY_NAME["qwen2.5-vl-7b"], estimates_cuda_graphs=True)

    assert later.activations > 15 * GIB
    assert later.spread > later.activations // 4


def test_a_film_may_be_as_long_as_the_context() -> None:
    """Qwen 2.5 VL's trial run took 15.4 GiB at 128000 tokens, 11.3 at 100000, 3.8 at 32768."""
    row = BY_NAME["qwen2.5-vl-7b-v1"]

    assert used(row, max_model_len=16384).activations < 3 * GIB
    assert used(row, limits={"video": 0}).activations < 3 * GIB
    assert used(row, limits={"video": 0}, max_pixels=1003520).activations < used(row, limits={"video": 0}).activations


def test_the_longest_request_is_of_a_length_whose_film_finds_room() -> None:
    row, card = BY_NAME["qwen2.5-vl-7b-v1"], Accelerator("middling", 32 * GIB, "9.0")
    asked = replace(row.arguments, max_model_len=128000, gpu_memory_utilization=None, max_num_seqs=64)
    refused = judge(row.config, None, asked, card)

    assert refused.fits is False and 16384 < (refused.largest_max_model_len or 0) < 128000
    longest = judge(row.config, None, replace(asked, max_model_len=refused.largest_max_model_len), card)
    assert longest.fits is True


def test_on_a_card_that_a_later_release_may_not_fit_the_answer_is_unknown() -> None:
    card = Accelerator("middling", 40 * GIB, "9.0")
    asked = Arguments(max_model_len=128000, estimates_cuda_graphs=True, max_num_seqs=64)
    verdict = judge(BY_NAME["qwen2.5-vl-7b"].config, None, asked, card)

    assert verdict.fits is None and "which an encoder, the compiler" in verdict.note


def test_an_encoder_that_is_not_known_stays_in_doubt() -> None:
    row = BY_NAME["qwen2.5-vl-7b-v1"]
    shape = read_shape({**row.config, "model_type": "Keye"})

    assert overhead(shape, row.arguments, H200, 2).uncounted >= 2 * GIB
    assert "the image encoder's activations are not counted" in shape.assumed
    assert "the image encoder's activations are not counted" not in read_shape(row.config).assumed


def test_a_tower_that_no_prompt_may_use_is_neither_built_nor_tried() -> None:
    row = BY_NAME["qwen2.5-vl-7b-v1"]
    blind = replace(row, arguments=replace(row.arguments, limits={"image": 0, "video": 0}))
    seeing, without = row.judged().weights_bytes, blind.judged().weights_bytes

    assert seeing is not None and without is not None
    assert seeing - without == pytest.approx(2 * 0.67e9, rel=0.05)
    assert used(blind).activations < 3 * GIB


def test_a_mask_of_all_patches_by_all_is_pixtrals_until_0_32() -> None:
    """Five pictures of 1540 pixels took 14.9 GiB; 0.32 gives each picture's patches to its attention alone."""
    row = BY_NAME["mistral-small-3.1-v1-mbt16384"]

    assert used(row).activations > 14 * GIB
    assert used(row, estimates_cuda_graphs=True).activations < 4 * GIB


@pytest.mark.parametrize("limits", [{"video": 0}, {"image": 0, "video": 0}])
def test_where_sound_is_tried_in_place_of_pictures_it_is_in_doubt(limits: dict[str, int]) -> None:
    row = BY_NAME["gemma-4-e4b-v1"]

    assert used(row, limits=limits).uncounted >= 2 * GIB
    assert used(row, limits=limits | {"audio": 0}).uncounted == 0


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
    buffers = 2 * 8192 * 35 * 256  # the layers' own embeddings of a batch, which are looked up behind the towers
    assert whole.weights_bytes - alone.weights_bytes == pytest.approx(2 * 0.98e9 + buffers, rel=0.05)


def test_that_a_film_may_be_forgone_is_told_where_it_takes_the_memory() -> None:
    row, card = BY_NAME["qwen2.5-vl-7b-v1"], Accelerator("middling", 32 * GIB, "9.0")
    asked = replace(row.arguments, max_model_len=100000, gpu_memory_utilization=None, max_num_seqs=64)

    assert "limitMMPerPrompt.video 0" in judge(row.config, None, asked, card).remedies


def test_a_length_with_a_shorter_film_is_proposed() -> None:
    """At 32768 tokens Qwen 2 VL is tried with two pictures' worth of film, at 32000 with one."""
    row = BY_NAME["qwen2-vl-7b-v1-mbt2048"]
    asked = Arguments(max_model_len=32768, old_runner=True)

    assert judge(row.config, None, asked, accelerators()["nvidia-l4"]).remedies[0] == "maxModelLen ≤ 32000"
