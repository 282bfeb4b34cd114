"""The frames of tracebacks: which belong to which exception, whatever hand the log went through."""

import pytest

from vllm_operator.diagnose import Reason, diagnose_log
from vllm_operator.diagnose.lines import read_lines
from vllm_operator.diagnose.log import gather
from vllm_operator.diagnose.roots import EXCEPTION
from vllm_operator.diagnose.stacks import MAX_FRAMES, end_of_chain, foreign_file, stack_of, stacks

TRACEBACK = """Traceback (most recent call last):
  File "/usr/lib/vllm/engine/core.py", line 1, in run
    self.load()
    ^^^^^^^^^^^
  File "/usr/lib/vllm/layers/linear.py", line 2, in weight_loader
    assert param.shape == weight.shape
AssertionError"""


def _stacks(text: str) -> dict[str, str]:
    return stacks(read_lines(text), EXCEPTION)


def test_frames_come_with_their_function_and_source() -> None:
    frames = _stacks(TRACEBACK)["AssertionError"].splitlines()

    assert frames == [
        "/usr/lib/vllm/engine/core.py in run: self.load()",
        "/usr/lib/vllm/layers/linear.py in weight_loader: assert param.shape == weight.shape",
    ]


def test_prefixes_of_workers_are_taken_off() -> None:
    prefixed = "\n".join(f"(Worker_TP0 pid=9) ERROR 10-14 08:21:40 [x.py:5] {line}" for line in TRACEBACK.splitlines())

    assert _stacks(prefixed) == _stacks(TRACEBACK)


def test_a_second_traceback_does_not_inherit_the_frames_of_the_first() -> None:
    second = TRACEBACK.replace("AssertionError", "KeyError: 'x'").replace("linear.py", "other.py")

    assert "linear.py" not in _stacks(f"{TRACEBACK}\n\nThe above exception was ...\n\n{second}")["KeyError: 'x'"]


def test_the_first_time_an_exception_is_raised_counts() -> None:
    again = TRACEBACK.replace("linear.py", "wrapper.py")

    assert "linear.py" in _stacks(f"{TRACEBACK}\n{again}")["AssertionError"]


def test_a_deep_stack_keeps_its_innermost_frames() -> None:
    frames = [f'  File "/f{n}.py", line 1, in f' for n in range(500)]
    found = _stacks("\n".join(["Traceback (most recent call last):", *frames, "ValueError: x"]))["ValueError: x"]

    assert found.count("\n") == MAX_FRAMES - 1
    assert found.endswith("/f499.py in f")


def test_an_abort_is_followed_by_its_frames() -> None:
    aborted = 'Fatal Python error: Bus error\n\nCurrent thread 0x1 (most recent call first):\n  File "/shm_broadcast.py", line 4 in enqueue\n'

    assert stack_of("", _stacks(aborted)) == "/shm_broadcast.py in enqueue"
    assert "shm_broadcast" in gather(aborted).stack


def test_without_frames_there_is_no_place() -> None:
    assert _stacks("ValueError: x") == {}
    assert stack_of("ValueError: x", {}) == ""
    assert gather("").stack == ""


def test_a_chain_ends_where_another_process_or_an_exception_of_its_own_begins() -> None:
    chain = "Traceback (most recent call last):\nKeyError: 'x'\nThe above exception was the direct cause of the following exception:\n"
    text = f"{chain}RuntimeError: of it\nRuntimeError: another\n"
    other = f"{chain}RuntimeError: of it\n(Worker_TP1 pid=9) RuntimeError: another\n"

    ends = [end_of_chain("KeyError: 'x'", read_lines(log), EXCEPTION, text) for log in (text, other, chain)]

    assert ends == [text.index("RuntimeError: another"), text.index("RuntimeError: another"), None]


def test_what_follows_an_exception_of_unknown_words_is_not_its_cause() -> None:
    lost = "torch.distributed.DistBackendError: NCCL error in: x, remote process exited or there was a network error"
    log = f"(Worker_TP0 pid=8) ValueError: of unknown words\n(Worker_TP1 pid=9) {lost}\n"

    assert diagnose_log(log, 1).reason is Reason.ServerCrashed
    assert diagnose_log(f"(Worker_TP1 pid=9) {lost}\n", 1).reason is Reason.NCCLFailed


def test_a_chain_ends_at_an_abort_of_its_own_process_and_counts_from_a_line_on() -> None:
    text = "KeyError: 'x'\nFatal Python error: Segmentation fault\n"
    lines = read_lines(f"one\n{text}")

    assert end_of_chain("KeyError: 'x'", lines, EXCEPTION, text) == text.index("Fatal")
    assert end_of_chain("KeyError: 'x'", lines, EXCEPTION, text, since=2) is None


SAMPLER = "/usr/local/lib/python3.12/dist-packages/vllm/v1/sample/sampler.py in forward"


@pytest.mark.parametrize(
    ("frames", "file"),
    [
        ((SAMPLER, "/plugins/acme/logits.py in apply"), "/plugins/acme/logits.py"),
        (
            (SAMPLER, "/plugins/acme/logits.py in apply", "/usr/lib/python3.12/json/decoder.py in decode"),
            "/plugins/acme/logits.py",
        ),
        ((SAMPLER, "<frozen importlib._bootstrap> in _find"), ""),
        ((SAMPLER, "/workspace/vllm/vllm/v1/worker/gpu_worker.py in execute_model"), ""),
        ((SAMPLER, "/home/vllm/.cache/huggingface/modules/transformers_modules/m/modeling.py in forward"), ""),
        ((SAMPLER, "/tmp/torchinductor_vllm/ab/cab.py in call"), ""),
        ((SAMPLER,), ""),
        ((), ""),
    ],
)
def test_code_that_is_no_packages_is_known_by_where_it_lies(frames: tuple[str, ...], file: str) -> None:
    assert foreign_file("\n".join(frames)) == file
