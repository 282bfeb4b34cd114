"""A remedy is in the words of the spec: written into the spec as it is read, it makes the model fit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fit_ground_truth import configs
from vllm_operator.api import VLLMModel, parse_strict
from vllm_operator.decide.question import answer_to, question_of
from vllm_operator.fit import Arguments, Verdict, accelerators, judge
from vllm_operator.settings import load

SETTINGS = load(None)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "tensorParallelSize": st.sampled_from([2, 3, 6, 8]),
        "pipelineParallelSize": st.sampled_from([2, 3]),
        "maxModelLen": st.sampled_from([512, 8192, 131072, 1_000_000]),
        "gpuMemoryUtilization": st.sampled_from([0.05, 0.5, 0.9, 0.95, 1.0]),
        "kvCacheMemory": st.sampled_from(["1Gi", "20Gi", "500Gi"]),
        "kvCacheDtype": st.sampled_from(["auto", "fp8", "bfloat16"]),
        "dtype": st.sampled_from(["bfloat16", "float16", "float32"]),
        "quantization": st.sampled_from(["fp8", "awq", "mxfp4", "modelopt"]),
        "maxNumSeqs": st.sampled_from([1, 64, 4096]),
        "maxNumBatchedTokens": st.sampled_from([2048, 65536]),
        "maxLoRAs": st.sampled_from([4, 32]),
        "maxLoRARank": st.sampled_from([64, 256]),
        "enableLoRA": st.just(True),
        "enforceEager": st.booleans(),
    },
)
NAMES = st.sampled_from(sorted(name for name, found in accelerators().items() if found.memory_bytes))


def written(remedy: str) -> dict[str, Any]:
    """The remedy as fields of a spec; None takes a field away."""
    fields: dict[str, Any] = {}
    for part in remedy.split(" and "):
        if part.startswith("no "):
            fields[part.removeprefix("no ")] = None
            continue
        name, value = re.sub(" ≤", "", part).split(" ")
        number = re.fullmatch(r"[0-9]+(\.[0-9]+)?", value)
        known: dict[str, Any] = {"true": True, "false": False}
        told = (float(value) if "." in value else int(value)) if number else known.get(value, value)
        group, _, member = name.partition(".")
        fields[group] = {member: told} if member else told
    return fields


def judged(spec: Mapping[str, Any], config: Mapping[str, Any], name: str) -> Verdict:
    document = {"kind": "VLLMModel", "spec": {"model": "org/name", **spec}}
    model: VLLMModel = parse_strict({key: value for key, value in document.items() if value is not None})
    return answer_to(question_of(model.spec, SETTINGS, name, SETTINGS.accelerators[name]), config, None)


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(configs()), SPECS, NAMES)
def test_every_remedy_written_into_the_spec_makes_it_fit(
    config: Mapping[str, Any], spec: Mapping[str, Any], name: str
) -> None:
    for remedy in judged(spec, config, name).remedies:
        changed = {key: value for key, value in {**spec, **written(remedy)}.items() if value is not None}

        assert judged(changed, config, name).fits is True, remedy


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(configs()), SPECS, NAMES)
def test_the_numbers_of_a_verdict_agree_with_one_another(
    config: Mapping[str, Any], spec: Mapping[str, Any], name: str
) -> None:
    verdict = judged(spec, config, name)
    told = verdict.as_json()

    assert verdict.fits is not False or (verdict.reason and verdict.message)
    assert verdict.fits is not None or verdict.note
    assert verdict.fits is not True or not (verdict.reason or verdict.message or verdict.remedies)
    assert {"accelerator", "weightsBytes", "kvBytesPerToken", "kvCacheTokens", "largestMaxModelLen"} <= told.keys()
    smallest, size = verdict.smallest_tensor_parallel_size, spec.get("tensorParallelSize", 1)
    assert verdict.fits is not True or (smallest is not None and smallest <= size) or size in (3, 6)
    if verdict.reason == "NoMemoryForKVCache":
        assert not verdict.kv_cache_tokens and not verdict.largest_max_model_len


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(configs()), SPECS, NAMES)
def test_the_largest_length_and_the_smallest_size_are_the_edge(
    config: Mapping[str, Any], spec: Mapping[str, Any], name: str
) -> None:
    verdict = judged(spec, config, name)
    if verdict.reason not in (None, "KVCacheTooSmall") or verdict.fits is None:
        return
    largest, smallest = verdict.largest_max_model_len, verdict.smallest_tensor_parallel_size
    if largest:
        assert judged({**spec, "maxModelLen": largest}, config, name).fits is not False
        assert (
            not verdict.kv_bytes_per_token
            or judged({**spec, "maxModelLen": largest + 16}, config, name).fits is not True
        )
    if smallest:
        assert judged({**spec, "tensorParallelSize": smallest}, config, name).fits is True
        for size in range(1, smallest):
            assert judged({**spec, "tensorParallelSize": size}, config, name).fits is not True


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(configs()), NAMES, st.sampled_from([512, 8192, 32768]))
def test_a_shorter_length_or_a_smaller_cache_never_makes_it_not_fit(
    config: Mapping[str, Any], name: str, length: int
) -> None:
    accelerator, asked = accelerators()[name], Arguments(max_model_len=length, max_num_seqs=64)
    if judge(config, None, asked, accelerator).fits is not True:
        return

    assert judge(config, None, replace(asked, max_model_len=length // 2), accelerator).fits is True
    eager = judge(config, None, replace(asked, enforce_eager=True), accelerator)
    assert eager.fits is True


def test_the_largest_length_counts_the_batch_that_it_would_have_itself() -> None:
    config = {
        "architectures": ["Gemma4UnifiedForConditionalGeneration"],
        "model_type": "gemma4_unified",
        "dtype": "bfloat16",
        "text_config": {
            "model_type": "gemma4_unified_text",
            "hidden_size": 2304,
            "intermediate_size": 9216,
            "num_hidden_layers": 30,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "hidden_size_per_layer_input": 0,
            "sliding_window": 1024,
            "max_position_embeddings": 131072,
        },
    }
    spec = {"kvCacheMemory": "1Gi", "pipelineParallelSize": 2, "tensorParallelSize": 2, "maxNumSeqs": 1}
    asked = [judged({**spec, "maxModelLen": length}, config, "amd-mi210") for length in (512, 8192, 60000)]

    assert len({verdict.largest_max_model_len for verdict in asked}) == 1
