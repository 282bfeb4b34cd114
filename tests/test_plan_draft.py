"""Speculative decoding with a second model: its weights are inspected, pulled and counted like the model's own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.builders import a_model
from tests.decide_facts import START, an_answer
from tests.golden.canned import a_server, problems, settings, some_weights
from vllm_operator.decide import decide
from vllm_operator.decide.question import GIB, question_of, with_draft
from vllm_operator.decide.question import answer_to as verdict_of
from vllm_operator.decide.types import JobSeen, JobState, Seen
from vllm_operator.plan import plan_model

EAGLE = {"method": "eagle3", "model": "org/eagle3-head", "num_speculative_tokens": 3}
HEAD = {
    "model_type": "llama", "architectures": ["LlamaForCausalLMEagle3"], "hidden_size": 4096, "intermediate_size": 14336,
    "num_attention_heads": 32, "num_key_value_heads": 8, "num_hidden_layers": 1, "vocab_size": 128256,
}  # fmt: skip
LLAMA = HEAD | {"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 32, "max_position_embeddings": 131072}


def speculative_config_of(**spec: Any) -> dict[str, Any]:
    args = a_server(**spec).deployment.args
    found = next(arg for arg in args if arg.startswith("--speculative-config="))
    return dict(json.loads(found.partition("=")[2]))


def test_the_draft_is_looked_up_and_pulled_with_the_model_and_named_by_its_path() -> None:
    weights = some_weights(speculative_config=EAGLE, adapters=({"name": "draft", "source": "org/sql"},))

    assert weights.pull is not None
    assert weights.draft_path is not None and weights.draft_path.startswith("/models/org-eagle3-head-")
    assert [name for name, _ in weights.adapter_paths] == ["draft"]
    assert len(weights.commits) == 3
    assert speculative_config_of(speculative_config=EAGLE) == EAGLE | {
        "model": some_weights(speculative_config=EAGLE).draft_path
    }


def test_the_revision_pins_the_draft_and_is_not_told_to_the_server() -> None:
    plan = plan_model(a_model(speculative_config=EAGLE | {"revision": "v2"}), settings())

    assert [(part.role, part.revision) for part in plan.parts] == [("model", None), ("draft", "v2")]
    assert "revision" not in speculative_config_of(speculative_config=EAGLE | {"revision": "v2"})


def test_a_draft_in_a_claim_is_mounted() -> None:
    weights = some_weights(speculative_config=EAGLE | {"model": "pvc://drafts/head"})

    assert weights.draft_path == "/mounted/draft/head"
    assert len(weights.commits) == 1


@pytest.mark.parametrize(
    "untouched",
    [
        {"method": "ngram", "model": "ngram", "num_speculative_tokens": 2},
        {"method": "suffix"},
        {"model": "/models/claim/draft", "num_speculative_tokens": 2},
        {"method": "custom_class", "model": "package.Proposer", "num_speculative_tokens": 2},
    ],
)
def test_what_is_no_second_model_is_left_as_it_is(untouched: dict[str, Any]) -> None:
    assert len(plan_model(a_model(speculative_config=untouched), settings()).parts) == 1
    assert speculative_config_of(speculative_config=untouched) == untouched


def test_a_models_own_heads_are_not_pulled_twice() -> None:
    own = {"method": "mtp", "model": "hf://org/name", "num_speculative_tokens": 1}
    weights = some_weights(model="org/name", speculative_config=own)

    assert weights.draft_path is None
    assert speculative_config_of(model="org/name", speculative_config=own)["model"] == weights.model_path


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"model": "no source at all"}, "speculativeConfig.model: 'no source at all' is no source"),
        (EAGLE | {"revision": "../x"}, "speculativeConfig.revision is no branch, tag or commit"),
        (EAGLE | {"revision": 7}, "speculativeConfig.revision is no branch, tag or commit"),
    ],
)
def test_a_wrong_draft_is_named(wrong: dict[str, Any], words: str) -> None:
    [(reason, message)] = problems(speculative_config=wrong)

    assert reason == "InvalidSpec"
    assert words in message


def test_the_platform_s_sources_hold_for_the_draft_too() -> None:
    given = settings(policy={"allowedSources": ["Qwen/*"]})
    [(reason, message)] = problems(given, model="Qwen/Qwen3-8B", speculative_config=EAGLE)

    assert (reason, message.split(":")[0]) == ("SourceNotAllowed", "speculativeConfig.model")


def test_a_draft_takes_memory_for_its_weights_and_for_every_token() -> None:
    spec, platform = a_model(max_model_len=8192).spec, settings()
    question = question_of(spec, platform, "nvidia-l4", platform.accelerators["nvidia-l4"])
    alone = verdict_of(question, LLAMA, None)
    both = verdict_of(with_draft(question, GIB, HEAD), LLAMA, None)

    assert alone.weights_bytes is not None and both.weights_bytes == alone.weights_bytes + GIB
    assert alone.budget is not None and alone.kv_cache_tokens is not None and both.kv_cache_tokens is not None
    left = (alone.budget.available_kv - GIB) * 32 / 33  # one layer more for every token
    assert both.kv_cache_tokens == pytest.approx(left / alone.budget.available_kv * alone.kv_cache_tokens, rel=0.01)


def test_a_draft_that_nobody_understands_still_takes_its_bytes() -> None:
    spec, platform = a_model(max_model_len=8192).spec, settings()
    question = with_draft(question_of(spec, platform, "nvidia-l4", platform.accelerators["nvidia-l4"]), 6 * GIB, {})

    assert verdict_of(question, LLAMA, None).fits is False


def test_the_fit_takes_the_drafts_part_of_the_answer_and_no_adapters() -> None:
    model = a_model(speculative_config=EAGLE, adapters=({"name": "draft", "source": "org/a"},), accelerator="nvidia-l4")
    plan = plan_model(model, settings())
    parts = [an_answer(), an_answer(bytes=3 * GIB, config=HEAD), an_answer(bytes=40 * GIB)]
    job = JobSeen(JobState.SUCCEEDED, answer={"version": 1, "ok": True, "parts": parts})
    fit = decide(model, plan, Seen(inspect=job), START).status.fit

    assert fit is not None and fit.weights_bytes is not None
    assert 3.8 * GIB < fit.weights_bytes < 4.1 * GIB
