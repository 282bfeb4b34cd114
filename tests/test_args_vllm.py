"""The argument list against the real parser of `vllm serve`: what was asked for is what vLLM reads, to the value."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders import a_spec
from vllm_operator.api import Spec, camel, parse_strict, quantity_bytes
from vllm_operator.crd import schema
from vllm_operator.plan.args import FLAGS, serve_args
from vllm_operator.plan.flags import RELEASES, known_flags, known_keys, known_names
from vllm_operator.plan.flags.refusals import answers, refusals

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

EXAMPLES = sorted((Path(__file__).parent.parent / "crds" / "examples").glob("*.yaml"))
PATH = "/models/tiny"
# Plain words stand for the open set of names that these fields take; the parser of 0.32 checks some of them.
WORDS = {
    "tokenizer_mode": ["auto", "hf", "mistral"],
    "code_revision": ["main", "v1.0", "a" * 40],
    "attention_backend": ["FLASH_ATTN", "FLASHINFER", "TRITON_ATTN"],
    "reasoning_parser": ["deepseek_r1", "qwen3"],
    "tool_call_parser": ["hermes", "mistral", "llama3_json"],
}
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | TEXT, lambda each: st.lists(each, max_size=3), max_leaves=4
)
OBJECTS = {
    "hf_overrides": st.dictionaries(TEXT, JSON, max_size=3),
    "mm_processor_kwargs": st.dictionaries(TEXT, JSON, max_size=3),
    "limit_mm_per_prompt": st.dictionaries(st.sampled_from(["image", "video", "audio"]), st.integers(0, 99)),
    "compilation_config": st.sampled_from([{"mode": 0}, {"mode": 3}, {"cudagraph_capture_sizes": [1, 2, 4]}]),
    "speculative_config": st.sampled_from(
        [{"method": "ngram", "num_speculative_tokens": 3}, {"model": "a/b", "num_speculative_tokens": 5}]
    ),
    "structured_outputs_config": st.sampled_from([{"backend": "xgrammar"}, {"backend": "guidance"}]),
    "max_model_len": st.integers(1, 2**31 - 1) | st.just("auto"),
    "kv_cache_memory": st.integers(1, 900).map(lambda size: f"{size}Gi"),
    "override_generation_config": st.fixed_dictionaries(
        {},
        optional={
            "temperature": st.floats(0, 2),
            "topP": st.floats(0.01, 1),
            "topK": st.integers(-1, 1000),
            "maxNewTokens": st.integers(1, 10**6),
        },
    ),
}

# Choices that older supported releases lack.
SINCE = dict.fromkeys(("octave_k3v3", "octave_k3v3_compact", "octave_k3v4"), "0.33")


def _number(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))


class Parser:
    """The running parser of one vLLM."""

    def __init__(self, python: str) -> None:
        program = Path(__file__).with_name("vllm_parser.py")
        self.process = subprocess.Popen(
            [python, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        first = self._line()
        self.release: str = first["release"]
        self.flags: list[dict[str, Any]] = first["flags"]
        self.choices: dict[str, list[Any]] = first["choices"]
        self.names: dict[str, list[str]] = first["names"]
        self.keys: dict[str, list[str]] = first["keys"]

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "vLLM's parser did not start; run tests/vllm_parser.py with VLLM_PYTHON to see why"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, words: Sequence[str]) -> dict[str, Any]:
        """What the parser made of the words, or its error."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        return self._line()

    def parse(self, words: Sequence[str]) -> dict[str, Any]:
        answer = self.ask(words)
        assert "parsed" in answer, (words, answer)
        parsed: dict[str, Any] = answer["parsed"]
        return parsed

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()


def vllm_python() -> str:
    """The Python that has vLLM: VLLM_PYTHON, else the one that the test bed installs."""
    if found := os.environ.get("VLLM_PYTHON"):
        return found
    asked = subprocess.run(
        [sys.executable, "-m", "tests.cluster", "vllm-python"], capture_output=True, text=True, check=True
    )
    return asked.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def parser() -> Iterator[Parser]:
    running = Parser(vllm_python())
    yield running
    running.close()


def values(name: str) -> st.SearchStrategy[Any]:
    """Everything that the CRD lets a field be."""
    if name in OBJECTS:
        return OBJECTS[name]
    if name in WORDS:
        return st.sampled_from(WORDS[name])
    described = schema()["properties"]["spec"]["properties"][camel(name)]
    if "enum" in described:
        return st.sampled_from([choice for choice in choices(name) if choice not in SINCE])
    if described["type"] == "boolean":
        return st.booleans()
    if described["type"] == "integer":
        return st.integers(described["minimum"], described["maximum"])
    least, most = described["minimum"], described["maximum"]
    return st.floats(least, most, exclude_min=described.get("exclusiveMinimum", False))


def choices(name: str) -> list[Any]:
    """The values of an enumerated field that are not merely answered."""
    literal = next(one for one in get_args(Spec.model_fields[name].annotation) if get_origin(one) is not None)
    return list(get_args(literal))


def asked(spec: Spec, name: str) -> Any:
    """What vLLM must have understood."""
    value = getattr(spec, name)
    if name == "kv_cache_memory":
        return quantity_bytes(value)
    if name == "override_generation_config":
        return value.as_vllm()
    if value == "auto" and name == "max_model_len":
        return -1
    return value.upper() if name == "log_level" else value


def understood(parsed: dict[str, Any], name: str) -> Any:
    return parsed[FLAGS[name].flag.removeprefix("--").replace("-", "_")]


def same(wanted: Any, found: Any) -> bool:
    """Equal; of a config object only the keys that were given; numbers by value."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(key in found and same(value, found[key]) for key, value in wanted.items())
    if isinstance(wanted, bool) or isinstance(found, bool):
        return wanted is found
    if isinstance(wanted, (int, float)) and isinstance(found, (int, float, str)):
        return float(wanted) == float(found)
    return bool(wanted == found)


SPECS = st.fixed_dictionaries({}, optional={name: values(name) for name in FLAGS})


@settings(
    max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(fields=SPECS)
def test_vllm_reads_exactly_what_the_spec_says(parser: Parser, fields: dict[str, Any]) -> None:
    spec = a_spec(**fields)
    parsed = parser.parse(serve_args(spec, PATH, served_model_names=("demo/tiny",)))

    assert parsed["model_tag"] == PATH
    assert parsed["port"] == 8000
    assert parsed["served_model_name"] == ["demo/tiny"]
    for name in fields:
        wanted = asked(spec, name)
        if wanted != {}:
            assert same(wanted, understood(parsed, name)), (name, wanted, understood(parsed, name))


def test_an_empty_spec_changes_no_default_of_vllm(parser: Parser) -> None:
    bare = parser.parse((PATH, "--port=8000", "--served-model-name", "demo/tiny"))
    assert parser.parse(serve_args(a_spec(), PATH, served_model_names=("demo/tiny",))) == bare


def test_vllm_reads_what_the_plan_adds(parser: Parser) -> None:
    words = serve_args(
        a_spec(),
        PATH,
        served_model_names=("a", "b"),
        port=9000,
        tokenizer_path="/models/tokenizer",
        lora_modules=(("sql", "/models/sql"),),
        chat_template_path="/etc/chat/template.jinja",
        shutdown_timeout=30,
        ssl_keyfile="/tls/tls.key",
        ssl_certfile="/tls/tls.crt",
    )
    parsed = parser.parse(words)
    found = {name: parsed[name] for name in ("port", "tokenizer", "chat_template", "shutdown_timeout", "ssl_keyfile")}
    assert found == {
        "port": 9000,
        "tokenizer": "/models/tokenizer",
        "chat_template": "/etc/chat/template.jinja",
        "shutdown_timeout": 30,
        "ssl_keyfile": "/tls/tls.key",
    }
    assert parsed["served_model_name"] == ["a", "b"]
    assert parsed["ssl_certfile"] == "/tls/tls.crt"
    assert parsed["enable_ssl_refresh"] is True
    assert parsed["enable_lora"] is True
    assert [(module["name"], module["path"]) for module in parsed["lora_modules"]] == [("sql", "/models/sql")]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_vllm_reads_each_example(parser: Parser, file: Path) -> None:
    for body in yaml.safe_load_all(file.read_text("utf-8")):
        if body["kind"] != "VLLMModel":
            continue
        spec = parse_strict(body).spec
        assert refusals(spec.extra_args, parser.release) == ()
        parsed = parser.parse(serve_args(spec, PATH, served_model_names=("m",)))
        for name in FLAGS:
            if getattr(spec, name) is not None:
                assert same(asked(spec, name), understood(parsed, name)), name


def test_the_installed_release_has_the_flags_that_are_written_down(parser: Parser) -> None:
    """On a difference: run plan/flags/generate.py with that vLLM's Python, read the diff, and decide who owns what is new."""
    assert parser.release in RELEASES
    known = {name: flag for name, flag in known_flags(parser.release).items() if name == flag.flag}
    written = {name: (flag.takes, flag.also, flag.choices) for name, flag in known.items()}
    installed = {
        line["flag"]: (line["takes"], tuple(line.get("also", ())), tuple(line.get("choices", ())))
        for line in parser.flags
    }
    added = sorted(installed.keys() - written.keys())
    gone = sorted(written.keys() - installed.keys())
    changed = sorted(name for name in installed.keys() & written.keys() if installed[name] != written[name])
    assert (added, gone, changed) == ([], [], []), f"vLLM {parser.release}: new {added}, gone {gone}, changed {changed}"


def test_the_installed_release_has_the_names_and_keys_that_are_written_down(parser: Parser) -> None:
    assert known_names(parser.release) == parser.names
    assert known_keys(parser.release) == parser.keys


@pytest.mark.parametrize("name", ["quantization", "kv_cache_dtype", "load_format", "dtype", "max_lora_rank"])
def test_the_choices_are_those_of_the_installed_release(parser: Parser, name: str) -> None:
    """On a difference: add what is new to the type (with its release, below SINCE), answer what is gone in old_names."""
    later = {value for value, since in SINCE.items() if _number(since) > _number(parser.release)}
    assert set(choices(name)) - later == set(parser.choices[name])


@st.composite
def smuggled(draw: st.DrawFn) -> list[str]:
    """A flag of any release as somebody might write it who wants it past the rules."""
    flag = draw(st.sampled_from(sorted({spelling for release in RELEASES for spelling in known_flags(release)})))
    begun = flag[: draw(st.integers(3, len(flag)))] if flag.startswith("--") and draw(st.booleans()) else flag
    word = begun.replace("-", "_").replace("__", "--", 1) if draw(st.booleans()) and begun.startswith("--") else begun
    value = draw(st.sampled_from(["1", "2", "half", "fp8", "x", "true", "{}", "a.b.C"]))
    shapes = [[word], [word, value], [f"{word}={value}"], [f"{word}{value}"], [f"{word}.key", value]]
    before = draw(st.sampled_from([[], ["--max-logprobs=3"], ["--max-logprobs", "3"]]))
    return [*before, *draw(st.sampled_from([*shapes, [f"{word}.key={value}"], [f"{word}.key+={value}"]]))]


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(extra=smuggled())
def test_what_reaches_an_owned_flag_in_vllms_parser_is_refused_before(parser: Parser, extra: list[str]) -> None:
    own = serve_args(a_spec(), PATH, served_model_names=("demo/tiny",))
    answer = parser.ask([*own, *extra])
    if "parsed" not in answer:
        return
    before = parser.parse(own)
    owned = {flag.removeprefix("--").replace("-", "_") for flag in answers()}
    reached = {name for name in owned & before.keys() if before[name] != answer["parsed"][name]}
    assert not reached or refusals(extra), (extra, reached)
