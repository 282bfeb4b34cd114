"""What holds for every config, every argument and every accelerator."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fit_ground_truth import configs
from vllm_operator.fit import Accelerator, Arguments, WeightsSummary, accelerators, judge

GIB = 1 << 30
LLAMA_SUMMARY = WeightsSummary(16_060_522_240, {"BF16": 8_030_261_120})


SOME_ARGUMENTS = st.builds(
    Arguments,
    tensor_parallel_size=st.sampled_from([1, 2, 3, 4, 8]),
    pipeline_parallel_size=st.sampled_from([1, 1, 2]),
    max_model_len=st.sampled_from([None, -1, 512, 4096, 32768, 131072, 1_000_000]),
    gpu_memory_utilization=st.sampled_from([None, 0.3, 0.8, 0.9, 0.95, 0.99]),
    kv_cache_dtype=st.sampled_from([None, "auto", "fp8"]),
    dtype=st.sampled_from([None, "auto", "bfloat16", "float16", "float32"]),
    quantization=st.sampled_from([None, "fp8", "awq", "squeezellm", "bitsandbytes"]),
    max_num_seqs=st.sampled_from([None, 8, 256, 1024]),
    max_num_batched_tokens=st.sampled_from([None, 2048, 32768]),
    enforce_eager=st.booleans(),
    enable_lora=st.booleans(),
)
SOME_CONFIG = st.sampled_from(configs())
SOME_ACCELERATOR = st.sampled_from(sorted(accelerators().values(), key=lambda a: a.name))


@settings(max_examples=150, deadline=None)
@given(SOME_CONFIG, SOME_ARGUMENTS, SOME_ACCELERATOR)
def test_every_remedy_fits_when_applied(
    config: Mapping[str, Any], arguments: Arguments, accelerator: Accelerator
) -> None:
    verdict = judge(config, None, arguments, accelerator)

    assert len(verdict.remedies) == len(verdict.remedied) <= 3
    assert not verdict.remedies or verdict.fits is False
    for changed in verdict.remedied:
        assert judge(config, None, changed, accelerator).fits is True


@settings(max_examples=100, deadline=None)
@given(SOME_CONFIG, SOME_ARGUMENTS, SOME_ACCELERATOR, st.floats(1.0, 4.0))
def test_more_memory_never_makes_it_not_fit(
    config: Mapping[str, Any], arguments: Arguments, accelerator: Accelerator, factor: float
) -> None:
    # The batch defaults follow the card's size, so they are held still.
    still = replace(
        arguments,
        max_num_seqs=arguments.max_num_seqs or 256,
        max_num_batched_tokens=arguments.max_num_batched_tokens or 2048,
    )
    memory = accelerator.memory_bytes or 64 * GIB
    small = replace(accelerator, memory_bytes=memory)
    if judge(config, None, still, small).fits is True:
        assert judge(config, None, still, replace(small, memory_bytes=int(memory * factor))).fits is True


@settings(max_examples=60, deadline=None)
@given(SOME_CONFIG, SOME_ACCELERATOR)
def test_the_largest_length_fits_and_a_block_more_does_not(config: Mapping[str, Any], accelerator: Accelerator) -> None:
    verdict = judge(config, None, Arguments(max_model_len=-1), accelerator)
    if verdict.fits is not True or not verdict.largest_max_model_len:
        return
    largest = verdict.largest_max_model_len

    assert judge(config, None, Arguments(max_model_len=largest), accelerator).fits is not False
    assert judge(config, None, Arguments(max_model_len=largest + 2000), accelerator).fits is not True or not (
        verdict.kv_bytes_per_token
    )


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.integers(10**8, 10**30), st.floats(), st.text(max_size=5),
    st.lists(st.integers(), max_size=3), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(SOME_CONFIG, st.data())
def test_no_config_can_break_the_judging(config: Mapping[str, Any], data: st.DataObject) -> None:
    broken = copy.deepcopy(dict(config))
    inner = broken.get("text_config", broken)
    for name in data.draw(st.lists(st.sampled_from(sorted(inner)), min_size=1, max_size=4, unique=True)):
        if name in inner:
            inner[name] = data.draw(ODD)
    broken["quantization_config"] = data.draw(ODD)
    verdict = judge(
        broken,
        data.draw(st.sampled_from([None, WeightsSummary(1), LLAMA_SUMMARY])),
        Arguments(),
        accelerators()["nvidia-l4"],
    )

    assert verdict.fits in (True, False, None)
    assert verdict.fits is not None or verdict.note
