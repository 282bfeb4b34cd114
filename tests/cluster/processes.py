"""The node's long-lived processes: started in sessions of their own, recorded by pid, stopped by pid.

A pid alone may be another's by now, so a record also holds the process's start and the machine's boot.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.cluster.places import LOGS, PIDS
from tests.cluster.steps import StepFailed, wait_until

_started: list[
    subprocess.Popen[bytes]
] = []  # held, so that none is waited for or warned about when it goes out of scope


def start(name: str, *command: str | Path) -> None:
    """Starts a process unless the recorded one still runs. It outlives us and no Ctrl-C of ours reaches it."""
    if is_running(name):
        return
    LOGS.mkdir(parents=True, exist_ok=True)
    PIDS.mkdir(parents=True, exist_ok=True)
    with (LOGS / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            close_fds=True,
            cwd="/",
        )
    _started.append(process)
    record = {"pid": process.pid, "start": _start_of(process.pid), "boot": _boot(), "log": str(LOGS / f"{name}.log")}
    (PIDS / f"{name}.json").write_text(json.dumps(record))


def is_running(name: str) -> bool:
    """Whether the process recorded under that name still runs, and is the same one."""
    return pid_of(name) is not None


def pid_of(name: str) -> int | None:
    """The pid of the running process of that name, or None."""
    try:
        record = json.loads((PIDS / f"{name}.json").read_text())
        pid = int(record["pid"])
    except (FileNotFoundError, ValueError, KeyError):
        return None
    same = record["boot"] == _boot() and record["start"] == _start_of(pid)
    return pid if same and record["start"] is not None else None


def recorded() -> list[str]:
    """Names of all processes that were ever started in this life of the node, running or not."""
    return sorted(path.stem for path in PIDS.glob("*.json"))


def wait_for(name: str, fact: str, ready: Callable[[], bool], seconds: float = 60) -> None:
    """Waits until `ready()` says yes; a process that ends meanwhile is reported at once with the end of its log."""

    def holds() -> bool:
        if not is_running(name):
            raise StepFailed(f"{name} ended while it was starting; its log ends with:\n{log_tail(name)}")
        return ready()

    wait_until(fact, holds, seconds)


def log_tail(name: str, characters: int = 3000) -> str:
    """The end of a process's log, for messages."""
    path = LOGS / f"{name}.log"
    return path.read_text(errors="replace")[-characters:] if path.exists() else "(no log)"


def stop(name: str, patience_seconds: float = 10) -> None:
    """Ends the recorded process: politely first, for good after the patience. Its record goes too."""
    pid = pid_of(name)
    if pid is not None:
        _signal(pid, signal.SIGTERM)
        deadline = time.monotonic() + patience_seconds
        while is_running(name) and time.monotonic() < deadline:
            time.sleep(0.05)
        if is_running(name):
            _signal(pid, signal.SIGKILL)
            wait_until(f"{name} has ended", lambda: not is_running(name), 10)
    (PIDS / f"{name}.json").unlink(missing_ok=True)


def end(pids: set[int]) -> None:
    """Ends processes at once. Those that are gone already are no error."""
    for pid in pids:
        _signal(pid, signal.SIGKILL)


def _signal(pid: int, which: signal.Signals) -> None:
    try:
        os.kill(pid, which)
    except ProcessLookupError:
        return


def _start_of(pid: int) -> int | None:
    """Clock ticks from boot to the process's start (field 22 of its stat); None when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
