"""Workers of one server write at the same time: what they say is read rank by rank."""

import re
from collections.abc import Iterator

from tests.test_diagnose_logs import EXPECTED, WRITTEN, _log
from vllm_operator.diagnose import Reason, diagnose_log

_WORKER = re.compile(r"\((?:Vllm)?Worker(?:_TP0)? pid=\d+\)")
_OTHER = """ERROR 11-20 10:00:30 [multiproc_executor.py:822] WorkerProc hit an exception.
ERROR 11-20 10:00:30 [multiproc_executor.py:822] Traceback (most recent call last):
ERROR 11-20 10:00:30 [multiproc_executor.py:822]   File "/usr/lib/python3/dist-packages/vllm/v1/executor/multiproc_executor.py", line 395, in worker_busy_loop
ERROR 11-20 10:00:30 [multiproc_executor.py:822]     output = func(*args, **kwargs)
ERROR 11-20 10:00:30 [multiproc_executor.py:822]   File "/usr/lib/python3/dist-packages/torch/distributed/distributed_c10d.py", line 544, in all_reduce
ERROR 11-20 10:00:30 [multiproc_executor.py:822]     work = group.allreduce([tensor], opts)
ERROR 11-20 10:00:30 [multiproc_executor.py:822] torch.distributed.DistBackendError: NCCL error in: /pytorch/ProcessGroupNCCL.cpp:3699, remote process exited or there was a network error
ERROR 11-20 10:00:30 [multiproc_executor.py:822] ncclRemoteError: A call failed possibly due to a network error or a remote process exiting prematurely."""


def _beside_another_rank(lines: list[str]) -> Iterator[str]:
    """The log with the lines of a rank that lost this one between those of this one, from where this one fails on."""
    others = iter(_OTHER.split("\n"))
    failed = False
    for line in lines:
        worker = _WORKER.search(line)
        if worker is None and failed:
            yield from (f"(Worker_TP1 pid=99) {words}" for words in others)
        yield line if worker is None else _WORKER.sub("(Worker_TP0 pid=98)", line)
        failed = failed or (worker is not None and "Traceback" in line)
        if worker is not None and failed:
            yield from (f"(Worker_TP1 pid=99) {words}" for words in [next(others, "")] if words)


def test_a_rank_that_lost_another_changes_nothing_between_the_lines_of_the_one_that_failed() -> None:
    logs = {name: (_log(name), EXPECTED[name].get("exit_code")) for name in EXPECTED}
    logs |= {entry["name"]: (entry["log"], entry.get("exit_code")) for entry in WRITTEN}
    beside, other = 0, []
    for name, (text, code) in logs.items():
        doubled = "\n".join(_beside_another_rank(text.rstrip("\n").split("\n")))
        alone = diagnose_log(text, code)
        if "(Worker_TP1 pid=99)" not in doubled or "Worker_TP1" in text or alone.reason is Reason.NCCLFailed:
            continue
        both, beside = diagnose_log(doubled, code), beside + 1
        if (alone.reason, alone.remedy) != (both.reason, both.remedy):
            other.append((name, alone.reason, alone.rule, both.reason, both.rule))

    assert beside > 50
    assert other == []
