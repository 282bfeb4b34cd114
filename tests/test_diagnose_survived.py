"""Errors that the engine logged and survived are no cause; what the fatal error quotes, or another process met, may be."""

import pytest

from vllm_operator.diagnose import Reason, diagnose_log

CORE = "(EngineCore_DP0 pid=272) ERROR 11-20 10:00:31 "
FULL = "OSError: [Errno 28] No space left on device"


def _log(before: str, fatal: str, anchor: str = "[core.py:842] EngineCore failed to start.") -> str:
    """A start: an error that a logger told of, then the one that vLLM ended with."""
    told = "".join(f"{CORE}[backends.py:9] {line}\n" for line in before.split("\n"))
    ended = f'{CORE}{anchor}\n{CORE}[core.py:842] Traceback (most recent call last):\n{CORE}[core.py:842]   File "/x/foo.py", line 1, in f\n'
    return f"{told}{ended}{CORE}[core.py:842] {fatal}\n(APIServer pid=1) RuntimeError: Engine core initialization failed.\n"


@pytest.mark.parametrize(
    "told",
    [
        "Could not write to the cache: [Errno 28] No space left on device",
        f'Could not write to the cache\nTraceback (most recent call last):\n  File "/x/bar.py", line 1, in g\n{FULL}',
    ],
    ids=["in a line", "with its traceback"],
)
def test_an_error_that_the_engine_survived_is_not_why_it_ended(told: str) -> None:
    found = diagnose_log(_log(told, "ValueError: of unknown words"), 1)

    assert found.reason is Reason.ServerCrashed
    assert "of unknown words" in found.message


def test_an_error_of_the_api_server_before_its_engine_started_is_not_why_that_ended() -> None:
    told = "(APIServer pid=1) ERROR 11-20 10:00:08 [repo_utils.py:65] 401 Client Error: Unauthorized for url: https://huggingface.co/x\n"

    assert diagnose_log(told, 1).reason is not Reason.ServerCrashed
    assert diagnose_log(told + _log("a line", "ValueError: of unknown words"), 1).reason is Reason.ServerCrashed


def test_an_error_that_the_last_one_quotes_is_why_it_ended() -> None:
    log = _log(f"Failed to compile\n{FULL}", f"torch._inductor.exc.InductorError: {FULL}")

    assert diagnose_log(log, 1).reason is Reason.DiskFull


def test_an_error_stays_where_the_last_one_only_lost_another_process() -> None:
    log = _log(FULL, "RuntimeError: Connection closed by peer")

    assert diagnose_log(log, 1).reason is Reason.DiskFull


def test_an_error_of_a_worker_stays_where_the_engine_only_says_that_it_failed() -> None:
    log = _log(FULL, "Exception: WorkerProc initialization failed due to an exception in a background process.")

    assert diagnose_log(log, 1).reason is Reason.DiskFull


def test_what_no_logger_of_python_wrote_stays() -> None:
    log = f"(EngineCore_DP0 pid=272) {FULL}\n" + _log("a line", "ValueError: of unknown words")

    assert diagnose_log(log, 1).reason is Reason.DiskFull
