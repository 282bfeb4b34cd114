"""`extraArgs` refuses what is not for it, in every spelling that vLLM's parser takes, and says what to do instead."""

from __future__ import annotations

import pytest

from vllm_operator.api import Spec
from vllm_operator.api.old_names import OLD_ARGUMENTS, old_flag
from vllm_operator.plan.flags import (
    RELEASES,
    extra_args_problems,
    flag_name,
    known_flags,
    may_mean,
    refusals,
    release_of,
)
from vllm_operator.plan.flags.owners import DANGEROUS_FLAGS, FIELD_OF_FLAG, OPERATOR_FLAGS
from vllm_operator.plan.flags.refusals import answers

NEWEST = RELEASES[-1]


def spellings(flag: str) -> list[list[str]]:
    name = flag.removeprefix("--")
    return [
        [flag],
        [flag, "x"],
        [f"{flag}=x"],
        [f"--{name.replace('-', '_')}=x"],
        [f"--{name.replace('-', '_', 1)}", "x"],
        [f"{flag}.key", "x"],
        [f"{flag}.key.deep=x"],
        [f"{flag}.list+=x"],
        ["--max-logprobs=1", flag],
    ]


@pytest.mark.parametrize("flag", sorted({*FIELD_OF_FLAG, *OPERATOR_FLAGS, *DANGEROUS_FLAGS}))
def test_an_owned_or_dangerous_flag_is_refused_in_every_spelling(flag: str) -> None:
    for words in spellings(flag):
        assert refusals(words), words


@pytest.mark.parametrize("flag", sorted({*FIELD_OF_FLAG, *OPERATOR_FLAGS, *DANGEROUS_FLAGS}))
@pytest.mark.parametrize("release", RELEASES)
def test_every_beginning_that_the_parser_would_complete_is_refused(flag: str, release: str) -> None:
    known = known_flags(release)
    for length in range(3, len(flag)):
        begun = flag[:length]
        if begun not in known:
            assert refusals([f"{begun}=x"]), begun


def test_a_typed_field_is_named() -> None:
    (refusal,) = refusals(["--tensor_parallel_size=2"])
    assert "tensorParallelSize" in refusal.message


@pytest.mark.parametrize(("flag", "field"), sorted(FIELD_OF_FLAG.items()))
def test_the_field_that_owns_a_flag_exists(flag: str, field: str) -> None:
    aliases = {info.alias or name for name, info in Spec.model_fields.items()}
    names = {Spec.model_config["alias_generator"](name) for name in Spec.model_fields}  # type: ignore[operator,misc]
    assert field.split(".")[0] in aliases | names
    assert flag.startswith("--")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["-tp", "2"], "tensorParallelSize"),
        (["-tp=2"], "tensorParallelSize"),
        (["-q", "fp8"], "quantization"),
        (["-qfp8"], "quantization"),
        (["-sc", "{}"], "speculativeConfig"),
        (["-sc.method=ngram"], "speculativeConfig"),
        (["-cc.mode=3"], "compilationConfig"),
        (["-O3"], "optimizationLevel"),
        (["-O", "3"], "optimizationLevel"),
        (["-O=3"], "optimizationLevel"),
        (["-ep"], "enableExpertParallel"),
        (["-n", "2"], "replicas"),
        (["-dpn0"], "one node"),
        (["-h"], "ends the server"),
        (["-x"], "no flag"),
        (["--no-enable-prefix-caching"], "enablePrefixCaching"),
        (["--disable-prefix-caching"], "enablePrefixCaching"),
        (["--enable-custom-all-reduce"], "disableCustomAllReduce"),
        (["--no_trust_remote_code"], "trustRemoteCode"),
        (["--disable-log-requests"], "enableLogRequests"),
        (["--swap-space=4"], "kvOffloadingSize"),
        (["--task", "embed"], "runner"),
        (["--num_scheduler_steps=8"], "asynchronous"),
        (["--kv-transfer-config", '{"kv_connector_module_path":"x"}'], "module_path"),
        (["--kv-transfer-config", '{"kv_connector_\\u006dodule_path":"x"}'], "escape"),
        (["--stream-interval=$(X)"], "Kubernetes"),
        (["--watermark", "-0.5"], "="),
        (["stray", "--max-logprobs=5"], "follows no flag"),
        (["--"], "no flag"),
        (["---port=1"], "no flag"),
    ],
)
def test_a_refusal_says_what_to_do(words: list[str], part: str) -> None:
    assert any(part in refusal.message for refusal in refusals(words))


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--max-logprobs=5"],
        ["--max_logprobs", "5"],
        ["--max-logprobs", "-1"],
        ["--async-scheduling"],
        ["--no-async-scheduling"],
        ["--kv-transfer-config.kv_role", "kv_both", "--kv-transfer-config.kv_connector=NixlConnector"],
        ["-asc", "2"],
        ["-ac.backend=FLASH_ATTN"],
        ["--performance-mode=throughput"],
        ["--cudagraph-capture-sizes", "1", "2", "4"],
        ["--stream-interval=1k"],
        ["--mm-encoder-tp-mode", "data"],
        ["--collect-detailed-traces", "model", "worker"],
        ["--disable-access-log-for-endpoints=/health,/metrics"],
    ],
)
def test_any_other_flag_passes(words: list[str]) -> None:
    assert refusals(words, NEWEST) == ()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--max-logprob-count=5"], "did you mean --max-logprobs"),
        (["--async-scheduling=true"], "takes no value"),
        (["--max-logprobs", "1", "2"], "takes no more values"),
        (["--max-logprobs"], "needs a value"),
        (["--max-logprobs", "--async-scheduling"], "needs a value"),
        (["--mm-encoder-tp-mode=dta"], "takes data, weights"),
        (["--mm-encoder-tp-mode", "dta"], "takes data, weights"),
        (["--async-scheduling", "true"], "takes no more values"),
    ],
)
def test_a_known_release_tells_what_it_would_not_parse(words: list[str], part: str) -> None:
    assert refusals(words) == ()
    assert any(part in refusal.message for refusal in refusals(words, NEWEST))


def test_a_flag_of_a_later_release_is_told_for_the_earlier() -> None:
    assert refusals(["--monokernel"], "0.33") == ()
    assert "0.32" in refusals(["--monokernel"], "0.32")[0].message


@pytest.mark.parametrize("release", RELEASES)
def test_every_free_flag_of_a_release_passes(release: str) -> None:
    refused = {spelling for spelling, flag in known_flags(release).items() if refusals([spelling])}
    assert refused == {s for s, flag in known_flags(release).items() if flag.flag in answers() or s in answers()}


@pytest.mark.parametrize(
    ("image", "release"),
    [
        ("vllm/vllm-openai:v0.33.0", "0.33"),
        ("vllm/vllm-openai:v0.32.1-cu129", "0.32"),
        ("registry.example:5000/mirror/vllm-openai-cpu:0.32.0@sha256:" + "0" * 64, "0.32"),
        ("vllm/vllm-openai:latest", None),
        ("vllm/vllm-openai:v0.99.0", None),
        ("example/server:v0.33.0", None),
        ("vllm/vllm-openai", None),
    ],
)
def test_the_release_is_read_from_the_tag(image: str, release: str | None) -> None:
    assert release_of(image) == release


def test_a_flag_has_one_form() -> None:
    assert flag_name("--kv_transfer_config.kv_role=a_b") == "--kv-transfer-config"


@pytest.mark.parametrize("name", sorted(OLD_ARGUMENTS))
@pytest.mark.parametrize("release", RELEASES)
def test_an_old_argument_is_no_flag_of_a_known_release(name: str, release: str) -> None:
    found = known_flags(release).get(old_flag(name))
    assert found is None or found.flag != old_flag(name)


def test_the_plan_hears_of_each_refused_word() -> None:
    found = extra_args_problems(["--port=1", "--stream-interval=2"], "vllm/vllm-openai:v0.33.0")
    assert [problem.message for problem in found] == [
        'extraArgs: "--port=1" is refused: the operator says where the server listens.'
    ]


def test_an_unknown_flag_is_told_for_a_known_image_only() -> None:
    assert extra_args_problems(["--a-flag-of-tomorrow"], "example.org/vllm-fork:mine") == []
    assert extra_args_problems(["--a-flag-of-tomorrow"], "vllm/vllm-openai:v0.33.0")


@pytest.mark.parametrize(
    "word", ["--allowed-media-domains", "--allowed_media_domains=x", "--allowed-me", "--allowed-m=x"]
)
def test_a_flag_that_the_platform_keeps_is_found_by_its_beginning(word: str) -> None:
    assert may_mean(word, "--allowed-media-domains")
    assert extra_args_problems([word, "x"], "example.org/any", kept=["--allowed-media-domains"])


def test_other_words_do_not_mean_it() -> None:
    for word in ("--allowed-media-domains-x", "x", "-1", "--allowed-origins=*", "--"):
        assert not may_mean(word, "--allowed-media-domains")
