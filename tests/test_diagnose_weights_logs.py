"""The weights program's log, as `vllm-operator diagnose` is given it: its own answer counts, wherever it stands at the end."""

import json
from pathlib import Path

import pytest

from tests.hub.running import OPERATOR, run
from vllm_operator.diagnose import Failure, Reason, diagnose_log
from vllm_weights.__main__ import main
from vllm_weights.failure import Reason as Said
from vllm_weights.failure import WeightsError
from vllm_weights.summary import compact

UNREACHABLE = WeightsError(Said.HUB_UNREACHABLE, "hub.acme.invalid cannot be reached: no such name.", "Check the DNS.")
ANSWER = compact(UNREACHABLE.as_json()).decode()
PROGRESS = '{"event": "progress", "phase": "pulling", "bytesDone": 12, "bytesTotal": 100}'
READ_ONLY = "the termination message cannot be written to /dev/termination-log: [Errno 30] Read-only file system: '/dev/termination-log'"


@pytest.mark.parametrize("after", ["", "\n", f"\n{READ_ONLY}", f"\n{READ_ONLY}\n\nend of the container's log\n"])
@pytest.mark.parametrize("before", ["", f"{PROGRESS}\n"])
@pytest.mark.parametrize("stamp", ["", "2026-11-21T12:00:00.123456789Z ", "[pod/tiny-inspect/weights] "])
def test_the_answer_counts_though_others_write_after_it(stamp: str, before: str, after: str) -> None:
    text = "\n".join(stamp + line for line in f"{before}{ANSWER}{after}".split("\n"))

    found = diagnose_log(text, 1)

    assert (found.reason, found.remedy, found.retry) == (Reason.HubUnreachable, "Check the DNS.", True)
    assert "hub.acme.invalid" in found.excerpt
    assert "progress" not in found.excerpt


def test_what_stands_before_the_answer_is_the_excerpt() -> None:
    log = f'Traceback (most recent call last):\n  File "/app/x.py", line 3, in main\n    int("http")\n    ^^^^\nValueError: bad\n{PROGRESS}\n{ANSWER}\n'

    assert diagnose_log(log).excerpt.split("\n")[-2:] == ['int("http")', "ValueError: bad"]


def test_an_answer_that_went_well_before_a_server_started_is_no_failure() -> None:
    well = '{"version":1,"ok":true,"commit":"abc","bytes":12}'
    failed = "ValueError: LoRA rank 64 is greater than max_lora_rank 16."

    assert diagnose_log(f"{ANSWER}\n{well}\n{failed}\n", 1).reason is Reason.AdapterRankTooHigh


def test_an_answer_far_above_is_of_an_earlier_run() -> None:
    later = "\n".join(f"(EngineCore pid=9) INFO 11-22 14:00:00 [core.py:1] step {step}" for step in range(20))
    failed = "ValueError: LoRA rank 64 is greater than max_lora_rank 16."

    assert diagnose_log(f"{ANSWER}\n{later}\n{failed}\n", 1).reason is Reason.AdapterRankTooHigh


PULLING = '{"event": "progress", "version": 1, "phase": "pulling", "bytesDone": 12, "bytesTotal": 100, "files": [0, 3]}'
AGAIN = '{"event": "trying again", "reason": "HubUnreachable", "message": "hub.example cannot be reached"}'


@pytest.mark.parametrize(
    ("code", "words", "advice"),
    [
        (137, "was killed at 12 of 100 bytes", "`download.parallelism`"),
        (None, "The log ends at 12 of 100 bytes", "Where it still runs"),
        (139, "exit code 139 at 12 of 100 bytes", "The next try goes on"),
    ],
)
@pytest.mark.parametrize("after", ["", f"{AGAIN}\n"])
def test_a_download_that_was_ended_is_no_server(code: int | None, words: str, advice: str, after: str) -> None:
    found = diagnose_log(f"{PULLING}\n{after}", code)

    assert (found.reason, found.retry) == (Reason.DownloadFailed, True)
    assert words in found.message and advice in found.remedy
    assert "startupTimeoutSeconds" not in found.remedy and after.strip() in found.excerpt


def test_a_download_that_went_well_is_no_crash() -> None:
    found = diagnose_log(f'{PULLING}\n{{"version":1,"ok":true,"commit":"abc","bytes":100,"seconds":3.0}}\n', 0)

    assert "ended well" in found.message and "Nothing is to be done" in found.remedy
    assert not found.retry


WRAPS = {
    "docker": lambda line: json.dumps({"log": f"{line}\n", "stream": "stdout", "time": "2026-11-22T18:31:05Z"}),
    "fluent-bit": lambda line: json.dumps(
        {"time": "2026-11-22T18:31:05Z", "message": line, "kubernetes": {"pod_name": "q"}}
    ),
    "vector": lambda line: json.dumps(
        {"file": "/var/log/pods/x/0.log", "kubernetes": {"pod_name": "q"}, "message": line}
    ),
    "loki": lambda line: f'2026-11-22T18:31:05Z {{app="vllm-operator", pod="tiny-pull"}} {line}',
}


@pytest.mark.parametrize("collector", WRAPS)
def test_an_answer_is_read_out_of_a_collectors_lines(collector: str) -> None:
    wrap = WRAPS[collector]

    found = diagnose_log(f"{wrap(PULLING)}\n{wrap(ANSWER)}\n", 1)
    killed = diagnose_log(f"{wrap(PULLING)}\n{wrap(PULLING)}\n", 137)

    assert (found.reason, found.remedy, found.retry) == (Reason.HubUnreachable, "Check the DNS.", True)
    assert (killed.reason, "12 of 100 bytes" in killed.message) == (Reason.DownloadFailed, True)


@pytest.mark.parametrize("left", [len(ANSWER) - 8, ANSWER.index('"remedy"') + 12])
def test_an_answer_that_was_cut_behind_its_message_still_says_that(left: int) -> None:
    found = diagnose_log(f"{PULLING}\n{ANSWER[:left]}", 1)

    assert found.reason is Reason.HubUnreachable
    assert found.message == "hub.acme.invalid cannot be reached: no such name."


def test_a_server_behind_a_download_in_one_log_is_a_server() -> None:
    log = f"{PULLING}\n" + "INFO 11-22 14:00:00 [core.py:1] step\n" * 12

    assert diagnose_log(log, 137).reason is Reason.ServerCrashed


def of(capsys: pytest.CaptureFixture[str]) -> Failure:
    captured = capsys.readouterr()
    return diagnose_log(captured.err + captured.out, 1)


def test_a_fault_of_the_program_itself_shows_where_it_was(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("WEIGHTS_REQUEST", json.dumps({"source": "org/model"}))
    monkeypatch.setenv("PROGRESS_PORT", "http")
    monkeypatch.setenv("TERMINATION_MESSAGE_PATH", f"{tmp_path}/absent/termination")

    assert main(["pull"]) == 1

    found = of(capsys)
    assert (found.reason, "in _run: " in found.excerpt) == (Reason.DownloadFailed, True)
    assert "invalid literal for int()" in found.excerpt


def test_an_image_that_lacks_a_library_is_told_and_not_tried_again(tmp_path: Path) -> None:
    (tmp_path / "without/obstore.py").parent.mkdir()
    (tmp_path / "without/obstore.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'obstore'\", name='obstore')"
    )
    lacking = {"PYTHONPATH": f"{tmp_path / 'without'}:{OPERATOR}"}
    ended = run("inspect", {"source": "s3://models/qwen"}, tmp_path / "work", lacking)

    found = diagnose_log(ended.output, ended.code)
    assert (ended.code, found.reason, found.retry) == (3, Reason.DownloadFailed, False)
    assert "obstore" in found.message and "images.weights" in found.remedy
