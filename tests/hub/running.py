"""Runs the weights program as its Job does: a process of its own, all input by environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LAUNCHER = """
import os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss, usage.ru_utime + usage.ru_stime, file=sys.stderr)
"""
"""Between the measuring process and the measured: a child's highest memory includes its parent's at the start."""
OPERATOR = Path(__file__).parents[2] / "operator"


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    answer: dict[str, Any]
    output: str


@dataclass(frozen=True, slots=True)
class Usage:
    code: int
    highest_memory_mib: float
    cpu_seconds: float


def usage_of(command: list[str], environment: Mapping[str, str]) -> Usage:
    """Runs a command and says what it took."""
    ended = subprocess.run(
        [sys.executable, "-S", "-c", LAUNCHER, *command],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    code, kibibytes, seconds = ended.stderr.splitlines()[-1].split()
    return Usage(int(code), int(kibibytes) / 1024, float(seconds))


class Program:
    """One start of the program; `kill` and `wait` end it."""

    def __init__(self, command: str, request: Mapping[str, Any], work: Path, environment: Mapping[str, str]) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self.termination = work / "termination"
        self.termination.unlink(missing_ok=True)
        self.log = work / "log"
        env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(OPERATOR),
            "HOME": str(work),
            "TERMINATION_MESSAGE_PATH": str(self.termination),
            "PROGRESS_FILE": str(work / "progress.json"),
            "PROGRESS_PORT": "0",
            "WEIGHTS_REQUEST": json.dumps({"version": 1, **request}),
            **environment,
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "vllm_weights", command], env=env, stdout=log, stderr=subprocess.STDOUT
            )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def wait(self, seconds: float = 60) -> Ended:
        try:
            code = self.process.wait(seconds)
        finally:
            self.process.kill()
        answer = json.loads(self.termination.read_bytes()) if self.termination.exists() else {}
        return Ended(code, answer, self.log.read_text())


def run(command: str, request: Mapping[str, Any], work: Path, environment: Mapping[str, str]) -> Ended:
    """The program from start to end."""
    return Program(command, request, work, environment).wait()


def files_in(folder: Path) -> set[str]:
    """Every file below, relative to the folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
