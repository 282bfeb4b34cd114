"""The fit on a CPU: the memory is that of the pod, and estimates refuse nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import a_spec
from tests.decide_facts import CONFIG, GIB, SETTINGS
from vllm_operator.decide.question import answer_to, question_of
from vllm_operator.fit import Verdict, WeightsSummary


def on_a_cpu(limit: str | None = None, request: str | None = None, cache: str | None = None, **spec: Any) -> Verdict:
    """The verdict about half a billion parameters (0.92 GiB, 12 KiB a token) on a CPU with so much memory."""
    resources = {"limits": {"memory": limit} if limit else {}, "requests": {"memory": request} if request else {}}
    env = ({"name": "VLLM_CPU_KVCACHE_SPACE", "value": cache},) if cache else ()
    asked = a_spec(accelerator="cpu", resources=resources, env=env, **spec)
    question = question_of(asked, SETTINGS, "cpu", SETTINGS.accelerators["cpu"])
    return answer_to(question, CONFIG, WeightsSummary(988_097_824, {"BF16": 494_032_768}))


@pytest.mark.parametrize("space", ["", "²", "x", "-1", "9" * 400])
def test_a_cache_of_no_size_is_as_good_as_none(space: str):
    assert on_a_cpu(limit="20Gi", cache=space or " ") == on_a_cpu(limit="20Gi")


def test_a_cpu_has_the_memory_that_its_pod_may_use():
    assert on_a_cpu(limit="16Gi").fits is True
    assert on_a_cpu(request="16Gi").fits is True
    assert on_a_cpu(limit="16Gi", cache="2").kv_cache_tokens == pytest.approx(2 * GIB / 12288, rel=0.01)


def test_a_cpu_of_which_nothing_is_known_is_not_judged():
    verdict = on_a_cpu()

    assert verdict.fits is None
    assert verdict.note == "missing: the memory of the pod, which resources.limits.memory would tell"


@pytest.mark.parametrize("memory", [{"limit": "512Mi"}, {"limit": "4Gi", "cache": "4"}])
def test_a_cpu_is_too_small_for_what_surely_lies_in_its_memory(memory: Any):
    verdict = on_a_cpu(**memory)

    assert verdict.fits is False and verdict.reason == "NoMemoryForKVCache"
    assert "resources.limits.memory" in verdict.message
    assert verdict.remedies


@pytest.mark.parametrize(
    "memory",
    [
        {"limit": "1400Mi"},
        {"request": "512Mi"},
        {"limit": "16Gi", "max_num_seqs": 1024, "max_num_batched_tokens": 2048},
    ],
)
def test_an_estimate_is_no_misfit_on_a_cpu(memory: Any):
    assert on_a_cpu(**memory).fits is not False


def test_a_cache_that_is_set_aside_too_small_is_a_misfit_on_a_cpu():
    assert on_a_cpu(limit="64Gi", cache="1", hf_overrides={}, max_model_len=131072).fits is False


def test_a_cache_on_a_cpu_is_told_in_the_words_that_set_it():
    def on(**spec: Any) -> Verdict:
        asked = a_spec(accelerator="cpu", resources={"limits": {"memory": "64Gi"}}, **spec)
        question = question_of(asked, SETTINGS, "cpu", SETTINGS.accelerators["cpu"])
        return answer_to(question, CONFIG | {"num_key_value_heads": 14}, None)

    by_variable = on(env=({"name": "VLLM_CPU_KVCACHE_SPACE", "value": "1"},))
    by_field = on(kv_cache_memory="1Gi")

    assert by_variable.message.startswith(
        "maxModelLen 32768 needs 2.6 GiB of KV cache, VLLM_CPU_KVCACHE_SPACE gives 1.0"
    )
    assert by_variable.remedies[0] == "VLLM_CPU_KVCACHE_SPACE 3"
    assert "kvCacheMemory gives 1.0" in by_field.message
    assert by_field.remedies[0] == "kvCacheMemory 3Gi"
