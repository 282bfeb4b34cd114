"""The argument list of `vllm serve`: only what was asked for, each value joined to its flag, one order."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.builders import a_spec
from tests.golden.canned import arrived
from vllm_operator.api import Spec
from vllm_operator.plan.args import FLAGS, canonical_json, inert, serve_args
from vllm_operator.plan.flags import RELEASES, known_flags


def args(**fields: Any) -> tuple[str, ...]:
    return serve_args(a_spec(**fields), "/models/tiny", served_model_names=("demo/tiny",))


def test_an_empty_spec_says_only_where_and_under_which_name() -> None:
    assert args() == ("/models/tiny", "--port=8000", "--served-model-name", "demo/tiny")


def test_max_model_len_is_left_to_vllm_when_unset() -> None:
    assert not any(word.startswith("--max-model-len") for word in args(max_model_len=None))
    assert "--max-model-len=8192" in args(max_model_len=8192)


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("gpu_memory_utilization", 0.9, "--gpu-memory-utilization=0.9"),
        ("gpu_memory_utilization", 1.0, "--gpu-memory-utilization=1"),
        ("cpu_offload_gb", 10, "--cpu-offload-gb=10"),
        ("kv_cache_memory", "20Gi", "--kv-cache-memory-bytes=21474836480"),
        ("kv_cache_memory", "1500M", "--kv-cache-memory-bytes=1500000000"),
        ("enable_prefix_caching", True, "--enable-prefix-caching"),
        ("enable_prefix_caching", False, "--no-enable-prefix-caching"),
        ("disable_custom_all_reduce", False, "--no-disable-custom-all-reduce"),
        ("trust_remote_code", True, "--trust-remote-code"),
        ("max_lora_rank", 64, "--max-lora-rank=64"),
        ("max_cpu_loras", 4, "--max-cpu-loras=4"),
        ("log_level", "debug", "--log-level=DEBUG"),
        ("optimization_level", 0, "--optimization-level=0"),
        ("limit_mm_per_prompt", {"video": 0, "image": 2}, '--limit-mm-per-prompt={"image":2,"video":0}'),
        ("hf_overrides", {"b": [1], "a": {"é": "ü"}}, '--hf-overrides={"a":{"\\u00e9":"\\u00fc"},"b":[1]}'),
        ("override_generation_config", {"top_p": 0.9}, '--override-generation-config={"top_p":0.9}'),
        ("speculative_config", {"method": "ngram"}, '--speculative-config={"method":"ngram"}'),
    ],
)
def test_a_field_is_written_as_vllm_reads_it(field: str, value: object, word: str) -> None:
    assert word in args(**{field: value})


def test_empty_objects_say_nothing() -> None:
    assert args(hf_overrides={}, limit_mm_per_prompt={}, override_generation_config={}) == args()


def test_extra_args_come_last_and_as_they_are() -> None:
    extra = ("--max-logprobs", "5", "--async-scheduling")
    assert args(extra_args=extra, max_model_len=1)[-3:] == extra


def test_the_order_of_fields_changes_nothing() -> None:
    one = Spec.model_validate({"model": "a/b", "seed": 1, "dtype": "auto"})
    other = Spec.model_validate({"dtype": "auto", "seed": 1, "model": "a/b"})
    assert serve_args(one, "/m", served_model_names=("n",)) == serve_args(other, "/m", served_model_names=("n",))


def test_what_the_plan_adds_is_written() -> None:
    words = serve_args(
        a_spec(),
        "/models/tiny",
        served_model_names=("a", "b"),
        port=9000,
        tokenizer_path="/models/tokenizer",
        lora_modules=(("sql", "/models/sql"), ("json", "/models/json")),
        chat_template_path="/etc/chat/template.jinja",
        shutdown_timeout=30,
        ssl_keyfile="/tls/tls.key",
        ssl_certfile="/tls/tls.crt",
    )
    assert {
        "--port=9000",
        "--tokenizer=/models/tokenizer",
        "--chat-template=/etc/chat/template.jinja",
        "--shutdown-timeout=30",
        "--ssl-keyfile=/tls/tls.key",
        "--ssl-certfile=/tls/tls.crt",
        "--enable-ssl-refresh",
        "--enable-lora",
    } <= set(words)
    assert words[words.index("--served-model-name") + 1 :][:2] == ("a", "b")
    assert words[words.index("--lora-modules") + 1 :] == (
        '{"name":"sql","path":"/models/sql"}',
        '{"name":"json","path":"/models/json"}',
    )


def test_adapters_need_no_second_word_for_lora() -> None:
    words = serve_args(a_spec(enable_lora=True), "/m", served_model_names=("n",), lora_modules=(("a", "/a"),))
    assert words.count("--enable-lora") == 1


def test_the_kubelet_finds_nothing_to_expand() -> None:
    """`$(NAME)` in JSON is escaped as JSON does; elsewhere each dollar is doubled, which the kubelet undoes."""
    assert '--hf-overrides={"a":"\\u0024(HF_TOKEN)"}' in args(hf_overrides={"a": "$(HF_TOKEN)"})
    assert json.loads(canonical_json({"a": "$(X)"})) == {"a": "$(X)"}
    assert inert("$(X)") == "$$(X)"
    assert inert("$$(X)") == "$$$$(X)"


@pytest.mark.parametrize(
    "word", ["$x", "$", "$$", "a$$b", "$(X)", "$$(X)", "$$$(X)$", "^a$|^b$$", "$(", "cost: 5$ $$ $(X"]
)
def test_a_word_arrives_as_it_was_written(word: str) -> None:
    assert arrived(inert(word), {"X": "secret"}) == word
    *_, last = serve_args(a_spec(extra_args=("--generation-tokens", word)), "/m", served_model_names=("n",))
    assert arrived(last, {"X": "secret"}) == word


def test_a_value_can_be_no_flag_of_its_own() -> None:
    words = args(hf_overrides={"--api-key": "--x"}, override_generation_config={"temperature": 1})
    assert all(word.startswith(("/models/", "--", "demo/")) for word in words)
    assert "--api-key" not in words


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_each_line_of_the_table_is_a_field_and_a_flag_of_every_known_release(name: str) -> None:
    assert name in Spec.model_fields
    for release in RELEASES:
        known = known_flags(release)[FLAGS[name].flag]
        assert (known.takes == 0) == FLAGS[name].is_switch
