"""What ended an API server that had served, and the lines that an excerpt shows of it."""

import pytest

from vllm_operator.diagnose import Reason, diagnose_log

SERVED = "(APIServer pid=1) INFO 11-15 13:00:00 [api_server.py:9] vLLM API server version 0.32.0\nApplication startup complete\n"
MAIN = """Traceback (most recent call last):
  File "/usr/local/bin/vllm", line 10, in <module>
    sys.exit(main())
  File "/usr/local/lib/python3.12/dist-packages/vllm/entrypoints/launchers/launcher.py", line 300, in serve_http
    await server_task
"""
REQUEST = """(APIServer pid=1) ERROR 11-15 13:09:00 [httptools_impl.py:1] Exception in ASGI application
Traceback (most recent call last):
  File "/usr/local/lib/python3.12/dist-packages/uvicorn/protocols/http/httptools_impl.py", line 1, in run_asgi
    result = await app(self.scope, self.receive, self.send)
ValueError: a request that was wrong
"""


def test_a_traceback_that_nobody_caught_ends_the_server() -> None:
    found = diagnose_log(f"{SERVED}{REQUEST}{MAIN}ArithmeticError: no rule knows this\n", 1)

    assert found.reason == Reason.ServerCrashed
    assert "no rule knows: ArithmeticError: no rule knows this" in found.message


def test_what_it_was_raised_out_of_stands_first() -> None:
    inner = 'Traceback (most recent call last):\n  File "/x/loop.py", line 1, in run\n    poll()\nZeroDivisionError: inner\n'
    between = "\nDuring handling of the above exception, another exception occurred:\n\n"

    assert (
        "ZeroDivisionError: inner" in diagnose_log(f"{SERVED}{inner}{between}{MAIN}ArithmeticError: outer\n", 1).message
    )


@pytest.mark.parametrize("wish", ["KeyboardInterrupt", "SystemExit: 0", "asyncio.exceptions.CancelledError"])
def test_a_wish_to_end_is_no_error(wish: str) -> None:
    assert wish not in diagnose_log(f"{SERVED}{MAIN}{wish}\n", 1).message


def test_a_request_that_failed_ends_nothing() -> None:
    assert "a request that was wrong" not in diagnose_log(f"{SERVED}{REQUEST}", 1).message


def test_an_engine_that_died_counts_before_the_server_that_lost_it() -> None:
    engine = "(EngineCore pid=2) ERROR 11-15 13:09:00 [core.py:9] EngineCore encountered a fatal error.\n"
    raised = "(EngineCore pid=2) ERROR 11-15 13:09:00 [core.py:9] FloatingPointError: the engine's\n"

    found = diagnose_log(f"{SERVED}{engine}{raised}{MAIN}ArithmeticError: the server's\n", 1)

    assert found.reason == Reason.EngineDied
    assert "FloatingPointError: the engine's" in found.message


def test_an_excerpt_shows_what_stands_under_last_error() -> None:
    log = (
        "torch.distributed.DistBackendError: NCCL error in: x.cpp:1, unhandled cuda error, NCCL version 2.29.7\n"
        "ncclUnhandledCudaError: Call to CUDA function failed.\nLast error:\nWords of NCCL that no rule knows\n"
    )

    assert diagnose_log(log, 1).excerpt.split("\n")[3] == "Words of NCCL that no rule knows"


def test_an_excerpt_shows_the_warning_of_nccl_before_its_error() -> None:
    warned = "pod:1:2 [0] transport/net.cc:9 NCCL WARN Words of NCCL that no rule knows"
    error = "RuntimeError: NCCL error: internal error - please report this issue"

    assert diagnose_log(f"{warned}\nsome line\n{error}\n", 1).excerpt.split("\n")[:2] == [warned, error]
