"""The diagnosis on logs: every given log has its reason and its numbers, and what nobody knows stays ServerCrashed."""

import json
import re
import string
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from vllm_operator.api.model import Spec
from vllm_operator.diagnose import MEANINGS, Failure, Reason, diagnose_log, fatal_while_starting, masked
from vllm_operator.diagnose.neighbours import NUMBERS
from vllm_operator.diagnose.page import page
from vllm_operator.diagnose.rules import CAUSES, all_rules, find, longest_literal
from vllm_operator.plan.flags.refusals import answers
from vllm_operator.settings.types import SAFE_ENV

LOGS = Path(__file__).parent / "diagnose_logs"
EXPECTED: dict[str, dict[str, Any]] = yaml.safe_load((LOGS / "expected.yaml").read_text(encoding="utf-8"))
WRITTEN: list[dict[str, Any]] = [
    entry | {"name": f"{path.stem}: {entry['name']}"}
    for path in sorted((LOGS / "written").glob("*.yaml"))
    for entry in yaml.safe_load(path.read_text(encoding="utf-8"))
]
PLACED = yaml.safe_load((LOGS / "kubernetes.yaml").read_text(encoding="utf-8"))


def _log(name: str) -> str:
    """A real log without the two comment lines that name its cause."""
    return re.sub(r"\A(?:#[^\n]*\n)+", "", (LOGS / name).read_text(encoding="utf-8"))


def _read(entry: dict[str, Any], text: str) -> Failure:
    return diagnose_log(text, entry.get("exit_code"))


@pytest.mark.parametrize("name", EXPECTED)
def test_a_real_log_has_its_reason_and_its_numbers(name: str) -> None:
    found = _read(EXPECTED[name], _log(name))

    assert found.reason == EXPECTED[name]["reason"]
    assert [words for words in EXPECTED[name].get("contains", ()) if str(words) not in found.message] == []


def test_every_real_log_is_expected() -> None:
    assert {str(path.relative_to(LOGS)) for path in LOGS.rglob("*.log")} == set(EXPECTED)


@pytest.mark.parametrize("entry", WRITTEN, ids=lambda entry: entry["name"])
def test_a_written_log_has_its_reason(entry: dict[str, Any]) -> None:
    found = _read(entry, entry["log"])

    assert found.reason in (entry["reason"], *entry.get("also", ()))
    assert [words for words in entry.get("contains", ()) if str(words) not in found.message] == []
    assert [words for words in entry.get("advises", ()) if str(words) not in found.remedy] == []
    assert [words for words in entry.get("shows", ()) if str(words) not in found.excerpt] == []
    assert found.rule == entry.get("rule", found.rule)
    assert found.retry == entry.get("retry", found.retry)


@pytest.mark.parametrize("entry", PLACED, ids=lambda entry: entry["words"][:60])
def test_kubernetes_own_words_have_their_reason(entry: dict[str, Any]) -> None:
    found = find(entry["words"], entry["where"])

    assert found is not None
    assert (found.reason, found.rule) == (entry["reason"], entry["rule"])
    assert [words for words in entry.get("contains", ()) if str(words) not in found.message] == []
    assert [words for words in entry.get("advises", ()) if str(words) not in found.remedy] == []


def test_every_rule_has_a_log() -> None:
    seen = {_read(EXPECTED[name], _log(name)).rule for name in EXPECTED}
    seen |= {_read(entry, entry["log"]).rule for entry in WRITTEN}
    seen |= {entry["rule"] for entry in PLACED}
    seen |= {found.rule for body in ("The decoder prompt cannot be empty",) if (found := find(body))}

    assert [rule.name for rule in all_rules() if rule.name not in seen] == []


@pytest.mark.parametrize(
    "name", ["gpu/max-len-over-kv-cache.log", "shm-64m.log", "lora-rank-too-big.log", "hub-bad-revision.log"]
)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda line: f"2026-11-21T12:00:00.123456789Z {line}",
        lambda line: f"2026-11-21T12:00:00.123456789Z stdout F {line}",
        lambda line: f"[pod/m-7f9/server] {line}",
        lambda line: f"vllm-1  | {line}",
        lambda line: f"\x1b[1;36m{line}\x1b[0;0m",
        lambda line: f"{line}\r",
        lambda line: f"Nov 21 12:00:00 node-3 vllm[812]: {line}",
        lambda line: f"chat-7f9c4-x2x server {line}",
        lambda line: json.dumps({"message": line, "level": "info", "kubernetes": {"pod_name": "chat"}}),
    ],
    ids=["timestamps", "cri", "kubectl-prefix", "compose", "ansi", "carriage-return", "syslog", "stern", "collector"],
)
def test_the_carrier_of_a_log_changes_nothing(name: str, wrap: Any) -> None:
    text = _log(name)

    wrapped = diagnose_log("\n".join(wrap(line) for line in text.split("\n")), 1)

    assert (wrapped.reason, wrapped.message) == (diagnose_log(text, 1).reason, diagnose_log(text, 1).message)


def test_a_log_in_json_lines_is_read() -> None:
    log = (
        '{"timestamp": "2026-11-21", "level": "INFO", "message": "No available memory for the cache blocks was never so low"}\n'
        '{"timestamp": "2026-11-21", "level": "ERROR", "process_name": "EngineCore", "message": "EngineCore failed to start.",'
        ' "exc_info": "Traceback (most recent call last):\\n  File \\"core.py\\", line 1\\n    raise\\n'
        'ValueError: LoRA rank 64 is greater than max_lora_rank 16."}\n'
    )

    assert diagnose_log(log, 1).reason is Reason.AdapterRankTooHigh


def test_the_engines_words_count_before_the_api_servers() -> None:
    log = (
        "(Worker_TP1 pid=9) ERROR 11-21 12:00:00 [multiproc_executor.py:1] torch.OutOfMemoryError: CUDA out of memory. "
        "Tried to allocate 2.00 GiB. GPU 1 has a total capacity of 22.05 GiB of which 1.12 GiB is free.\n"
        "(Worker_TP0 pid=8) ERROR 11-21 12:00:01 [multiproc_executor.py:1] torch.distributed.DistBackendError: NCCL error in: x\n"
        "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above.\n"
        "(APIServer pid=1) OSError: [Errno 98] Address already in use\n"
    )

    assert diagnose_log(log, 1).reason is Reason.GPUOutOfMemory


@pytest.mark.parametrize(
    "name", ["engine-failed-but-hangs.log", "shm-64m.log", "no-weights.log", "gpu/no-memory-for-kv-cache-70b-bf16.log"]
)
def test_a_server_that_hangs_after_a_fatal_line_is_reported(name: str) -> None:
    found = fatal_while_starting(_log(name))

    assert found is not None
    assert found.reason == EXPECTED[name]["reason"]


def test_the_fatal_line_is_enough_while_the_rest_is_still_to_come() -> None:
    text = _log("engine-failed-but-hangs.log")
    cut = text[: text.index("\n", text.index("EngineCore failed to start"))]

    found = fatal_while_starting(cut)

    assert found is not None
    assert found.reason is Reason.EngineDied


def test_a_fatal_line_without_its_cause_is_read_again() -> None:
    assert (
        fatal_while_starting("(EngineCore pid=2) ERROR 11-21 12:00:00 [core.py:1] EngineCore failed to start.\n")
        is None
    )


@pytest.mark.parametrize(
    "name",
    ["sigterm-idle.log", "no-chat-template.log", "admission-limit.log", "sigterm-drain.log", "missing-tokenizer.log"],
)
def test_a_healthy_server_is_not_reported(name: str) -> None:
    assert fatal_while_starting(_log(name)) is None


@pytest.mark.parametrize("name", EXPECTED)
def test_a_start_that_has_not_failed_yet_is_not_reported(name: str) -> None:
    head = "\n".join(line for line in _log(name).split("\n")[:40] if " INFO " in line or "WARNING" in line)

    assert fatal_while_starting(head) is None


def test_secrets_are_masked_everywhere() -> None:
    secrets = ("hf_abcdefghijKLMNOP1234", "s3cr3t-Pass", "sk-abcdefgh12345678", "AKIAABCDEFGHIJKLMNOP", "tok3nvalue99")
    log = (
        f"ValueError: could not reach https://joe:{secrets[1]}@hub.example/x with Bearer {secrets[0]} "
        f"and --api-key {secrets[2]} {secrets[3]} token={secrets[4]}\n"
    )

    found = diagnose_log(log, 1)

    assert [secret for secret in secrets if secret in f"{found.message}{found.remedy}{found.excerpt}"] == []
    assert "hub.example" in found.message


@pytest.mark.parametrize(
    "text",
    [
        "The token is valid, but its account has no access; max_tokens 4096, password policy, 16.0 GiB, Qwen/Qwen2.5-7B",
        "Put a valid token with read access into the secret (http://10.0.0.5:8080/settings/tokens).",
    ],
)
def test_masking_leaves_ordinary_words_alone(text: str) -> None:
    assert masked(text) == text


def test_status_and_answer_have_the_promised_fields() -> None:
    found = diagnose_log(_log("lora-rank-too-big.log"), 1).on("m-7f9")

    assert set(found.as_status()) == {"reason", "message", "remedy", "pod", "exitCode", "excerpt"}
    assert set(found.as_answer()) == {"reason", "message", "remedy", "excerpt", "retry"}
    assert found.as_status()["exitCode"] == 1


@pytest.mark.parametrize("name", EXPECTED)
def test_message_remedy_and_excerpt_stay_small(name: str) -> None:
    found = _read(EXPECTED[name], _log(name))

    assert max(len(part.encode()) for part in (found.message, found.remedy, found.excerpt)) <= 1024
    assert not re.search(r"\{\w+\}", found.message + found.remedy)


@pytest.mark.parametrize(
    "text",
    [
        None,
        b"\xff\xfe\x00\x80",
        "\x00" * 4096,
        "\ud800 lone surrogate",
        "{" * 20_000,
        '{"ok": false, "reason": ' * 500,
        "Value error, " * 5_000,
        "CUDA out of memory. Tried to allocate 1 GiB. " * 3_000,
        "a" * 300_000,
        "(" * 100_000,
        "World size (" + "9" * 100_000,
        "No such file or directory: '" + "/x" * 60_000,
        "LoRA rank " + "1" * 50_000 + " is greater than",
        "\n".join(f"ERROR 11-21 12:00:00 [core.py:{n}] ValueError: {n} {string.printable}" for n in range(2_000)),
        " " * 200_000,
        "\t" * 100_000 + "Error:",
        "[" * 50_000 + "]" * 50_000,
        "'" * 100_000,
        "https://" + "a:" * 50_000 + "@",
        "token=" * 30_000,
    ],
    ids=range(20),
)
def test_no_input_raises_or_stalls(text: Any) -> None:
    started = time.process_time()

    found = diagnose_log(text, 1)
    fatal_while_starting(text)

    assert isinstance(found, Failure)
    assert time.process_time() - started < 5  # a catastrophic pattern takes minutes


def test_a_64_kib_log_is_read_in_a_few_milliseconds() -> None:
    text = (_log("gpu/max-len-over-kv-cache.log") * 4)[-65536:]
    diagnose_log(text, 1)

    times = []
    for _ in range(5):
        started = time.process_time()
        diagnose_log(text, 1)
        times.append(time.process_time() - started)

    assert min(times) < 0.03


def test_patterns_are_bounded() -> None:
    for rule in all_rules():
        for pattern in (*rule.any, *rule.all, *rule.unless, *rule.context):
            bare = re.sub(r"\\.|\[(?:\\.|[^\]])*\]", "x", pattern)
            assert not re.search(r"\.[*+]", bare), f"{rule.name}: unbounded . in {pattern}"
            assert not re.search(r"[*+}]\)[*+]", bare), f"{rule.name}: nested repeats in {pattern}"


@pytest.mark.parametrize(
    ("pattern", "literal"),
    [
        ("No GPU (?:was )?found", "found"),
        (r"a(?:x [^)\n]{1,20} yyyy)?bc", "bc"),
        ("a|b", ""),
        (r"max\.len x?yz", "max.len"),
        ("(?i)abc", ""),
        (r"rank (?P<n>\d+) of", "rank"),
    ],
)
def test_the_literal_of_a_pattern_is_in_every_match(pattern: str, literal: str) -> None:
    assert longest_literal(pattern) == literal


def test_every_reason_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Reason)


def test_rules_have_one_name_each_and_agree_with_their_fields() -> None:
    names = [rule.name for rule in all_rules()]

    assert len(names) == len(set(names))
    for rule in all_rules():
        groups = {name for pattern in (*rule.any, *rule.all, *rule.context) for name in re.compile(pattern).groupindex}
        groups |= set(NUMBERS) if rule.of_others else set()
        groups |= {"share_free"} if {"free", "total"} <= groups else set()
        wanted = {
            field for text in (*rule.message, rule.remedy) for _, field, _, _ in string.Formatter().parse(text) if field
        }
        assert wanted <= groups, f"{rule.name}: {wanted - groups} is never found"
        plain = [text for text in rule.message if "{" not in text]
        assert plain or len(rule.any) == 1 or rule.weight in CAUSES, rule.name


def test_variables_that_a_remedy_sets_are_allowed_by_default() -> None:
    named = {name for rule in all_rules() for name in re.findall(r"\b([A-Z][A-Z0-9_]{3,})=", rule.remedy)}

    assert {"MAX_JOBS", "NCCL_DEBUG"} <= named
    assert [name for name in named if not any(fnmatch(name, pattern) for pattern in SAFE_ENV)] == []


def test_remedies_speak_the_words_of_the_spec() -> None:
    fields = {field.alias or name for name, field in Spec.model_fields.items()}
    known_elsewhere = {"auto", "restricted", "vllm", "enableServiceLinks: false"}
    texts = [rule.remedy for rule in all_rules()] + [meaning.remedy for meaning in MEANINGS.values()]
    used = {word for text in texts for word in re.findall(r"`([^`]+)`", text)} - known_elsewhere

    assert sorted(word for word in used if re.split(r"[.\[:]", word)[0] not in fields) == []


def test_no_remedy_sends_a_refused_flag_to_extra_args() -> None:
    texts = [rule.remedy for rule in all_rules()] + [meaning.remedy for meaning in MEANINGS.values()]
    named = {flag for text in texts if "`extraArgs`" in text for flag in re.findall(r"--[a-z][\w-]+", text)}

    assert "--kv-transfer-config" in named
    assert sorted(named & answers().keys()) == []


def test_the_troubleshooting_page_is_what_the_rules_say() -> None:
    written = Path(__file__).parents[1] / "docs" / "troubleshooting.md"

    assert written.read_text(encoding="utf-8") == page()
