"""The largest inputs that an encoder is tried with, as vLLM 0.32 made them on a CPU (0.26 makes the same)."""

import pytest

from tests.fit_ground_truth import measured
from vllm_operator.fit import Arguments
from vllm_operator.fit.inputs import largest_batch
from vllm_operator.fit.shape import read_shape

TRIED = [
    # config, maxModelLen, maxNumBatchedTokens, limitMMPerPrompt: tokens counted for an item, its patches, how many items
    ("qwen2-vl-7b", 32768, 8192, {}, (32768, 131072, 1)),
    ("qwen2-vl-7b", 16384, 2048, {}, (16384, 65536, 1)),
    ("qwen2.5-vl-7b", 128000, 8192, {}, (114688, 458752, 1)),
    ("qwen2.5-vl-7b", 32768, 8192, {"image": 4, "video": 0}, (16384, 65536, 1)),
    ("qwen2.5-vl-7b", 65536, 16384, {}, (65536, 262144, 1)),
    ("qwen3-vl-4b", 32768, 8192, {}, (16384, 65536, 1)),
    ("qwen3-vl-8b", 32768, 32768, {}, (16384, 65536, 2)),
    ("qwen3.5-27b", 65536, 2048, {}, (16384, 65536, 1)),
    ("glm-4.1v-9b", 32768, 8192, {}, (26656, 127896, 1)),
    ("glm-4.1v-9b", 16384, 8192, {}, (6084, 48672, 1)),
    ("glm-4.1v-9b", 32768, 16384, {"video": 0}, (6084, 24336, 2)),
    ("llama-4-scout", 32768, 16384, {}, (2448, 9809, 6)),
    ("gemma-3-4b", 32768, 16384, {}, (256, 4096, 64)),
    ("gemma-3-4b", 8192, 8192, {"image": 1}, (256, 4096, 32)),
    ("gemma-4-e4b", 32768, 8192, {}, (2496, 20160, 3)),
    ("gemma-4-26b-a4b", 32768, 2048, {}, (2496, 20160, 1)),
    ("gemma-4-e4b", 32768, 16384, {"video": 0, "audio": 0}, (280, 2520, 58)),
    ("mistral-small-3.1", 32768, 16384, {}, (3025, 12100, 5)),
    ("pixtral-12b-hf", 32768, 8192, {}, (4096, 4096, 2)),
    ("internvl3-8b-hf", 32768, 8192, {}, (32512, 131200, 1)),
    ("internvl3-2b-hf", 32768, 8192, {"video": 0}, (256, 1025, 32)),
    ("llava-1.5-7b", 4096, 2048, {}, (576, 577, 3)),
    ("llava-onevision-7b", 32768, 8192, {}, (8748, 9477, 1)),
    ("llava-onevision-7b", 32768, 8192, {"image": 0}, (3137, 11664, 2)),
    ("smolvlm2-2.2b", 8192, 8192, {}, (1377, 12393, 5)),
    ("idefics3-8b", 32768, 16384, {}, (2873, 11492, 5)),
    ("qwen2-audio-7b", 8192, 8192, {}, (750, 1500, 10)),
    ("whisper-large-v3", 448, 8192, {}, (1500, 1500, 5)),
    ("gemma-3n-e4b", 32768, 8192, {}, (256, 0, 32)),
]


@pytest.mark.parametrize(("name", "length", "batch", "limits", "made"), TRIED)
def test_the_largest_inputs_are_those_that_vllm_makes(
    name: str, length: int, batch: int, limits: dict[str, int], made: tuple[int, int, int]
) -> None:
    encoder = read_shape(measured()[name]).encoders[0]
    found = largest_batch(encoder, Arguments(limits=limits), batch, 64, length)

    assert found is not None
    assert (found.item.counted, found.item.patches, found.count) == made


def test_a_picture_is_as_large_as_max_pixels_says() -> None:
    encoder = read_shape(measured()["qwen2.5-vl-7b"]).encoders[0]
    found = largest_batch(encoder, Arguments(limits={"video": 0}, max_pixels=1280 * 28 * 28), 8192, 64, 32768)

    assert found is not None and (found.item.counted, found.count) == (1280, 6)


def test_nothing_is_tried_where_a_prompt_may_hold_nothing() -> None:
    encoder = read_shape(measured()["qwen2.5-vl-7b"]).encoders[0]

    assert largest_batch(encoder, Arguments(limits={"image": 0, "video": 0}), 8192, 64, 32768) is None
