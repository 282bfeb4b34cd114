"""Workers of one server write at the same time: what they say is read rank by rank."""

import re
from collections.abc import Iterator

from tests.test_diagnose_logs import EXPECTED, WRITTEN, _log
from vllm_operator.diagnose import diagnose_log

_WORKER = re.compile(r"\((?P<name>(?:Vllm)?Worker(?:_TP0)?) pid=(?P<pid>\d+)\)")
_BEHIND = 3
"""So many lines the second rank is behind the first."""


def _with_a_second_rank(lines: list[str]) -> Iterator[str]:
    """Each worker's line again from another rank, a little later: as two that fail of the same thing."""
    waiting: list[str] = []
    for line in lines:
        if (found := _WORKER.search(line)) is None:
            yield from waiting
            waiting.clear()
        else:
            waiting.append(_WORKER.sub(f"(Worker_TP1 pid={int(found['pid']) + 1})", line))
        yield line if found is None else _WORKER.sub(f"(Worker_TP0 pid={found['pid']})", line)
        if len(waiting) > _BEHIND:
            yield waiting.pop(0)
    yield from waiting


def test_a_second_rank_between_the_lines_of_the_first_changes_nothing() -> None:
    logs = {name: (_log(name), EXPECTED[name].get("exit_code")) for name in EXPECTED}
    logs |= {
        entry["name"]: (entry["log"], entry.get("exit_code")) for entry in WRITTEN if "Worker_TP1" not in entry["log"]
    }
    worked, other = 0, []
    for name, (text, code) in logs.items():
        doubled = "\n".join(_with_a_second_rank(text.rstrip("\n").split("\n")))
        if doubled == text.rstrip("\n") or "Worker_TP1" not in doubled:
            continue
        alone, both, worked = diagnose_log(text, code), diagnose_log(doubled, code), worked + 1
        if (alone.reason, alone.remedy) != (both.reason, both.remedy):
            other.append((name, alone.reason, both.reason))

    assert worked > 100
    assert other == []
