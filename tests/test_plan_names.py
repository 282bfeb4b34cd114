"""Names: short enough for Kubernetes, readable, and never the same for two things."""

from __future__ import annotations

import re

import pytest

from vllm_operator.plan.names import JOB_LIMIT, digest, hashed_name, service_name, short_name, slug

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def test_ten_thousand_similar_names_stay_apart() -> None:
    keys = [{"source": f"hf://org/model-{n // 2}", "revision": "main" if n % 2 else None} for n in range(10_000)]

    names = {hashed_name("weights", "org/model", key) for key in keys}

    assert len(names) == 10_000


def test_ten_thousand_long_model_names_stay_apart_when_they_are_cut() -> None:
    names = {
        short_name("a-very-long-name-that-many-models-begin-with-in-this-namespace-" + str(n)) for n in range(10_000)
    }

    assert len(names) == 10_000
    assert all(len(name) <= 63 and LABEL.fullmatch(name) for name in names)


@pytest.mark.parametrize(
    "text",
    [
        "Qwen/Qwen2.5-0.5B-Instruct",
        "a",
        "-",
        "___",
        "ÄÖÜ",
        "日本語",
        "x" * 500,
        "a/" + "-" * 100,
        "",
        "$(HOME)",
        "A.B_C",
    ],
)
def test_any_text_gives_a_name_that_kubernetes_takes(text: str) -> None:
    for prefix in ("inspect", "weights", "pull", ""):
        name = hashed_name(prefix, text, {"key": text})

        assert len(name) <= JOB_LIMIT
        assert LABEL.fullmatch(name), name
        assert "--" not in name


def test_a_short_name_is_kept_as_it_is() -> None:
    assert short_name("qwen-25") == "qwen-25"
    assert service_name("qwen-25") == "qwen-25"


def test_a_name_with_dots_becomes_a_label_and_stays_its_own() -> None:
    assert short_name("qwen.2") != short_name("qwen-2")
    assert LABEL.fullmatch(short_name("qwen.2"))


def test_a_service_never_begins_with_a_digit() -> None:
    assert service_name("7b-chat") == "m-7b-chat"


def test_equal_keys_give_equal_names_whatever_their_order() -> None:
    assert hashed_name("pull", "x", {"a": 1, "b": 2}) == hashed_name("pull", "x", {"b": 2, "a": 1})


def test_names_of_this_version_are_those_of_the_next() -> None:
    assert hashed_name("weights", "Qwen/Qwen2.5", {"a": [1, None]}) == "weights-qwen-qwen2-5-a290b55a84"
    assert digest("ä\ud800") == "e7aa6ce1c5"
    assert slug("A//B__c") == "a-b-c"
