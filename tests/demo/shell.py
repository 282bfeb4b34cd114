"""Runs the commands of the demo and says what it is doing while it takes time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STATE = ROOT / ".cluster"
KUBECONFIG = STATE / "kubeconfig"

_say_lock = threading.Lock()


class StepFailed(SystemExit):
    """A command of a step ended badly; the message holds its last words."""


def say(text: str) -> None:
    """One line to the person who waits."""
    with _say_lock:
        print(text, flush=True)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Names a long step when it begins and tells its seconds when it is done."""
    say(f"→ {title}")
    begun = time.monotonic()
    yield
    say(f"✓ {title}: {time.monotonic() - begun:.0f} s")


def run(*command: str | Path, input: str | None = None, check: bool = True, env: dict[str, str] | None = None) -> str:
    """A command's standard output. Raises StepFailed with the end of what it said when it fails (unless `check` is off)."""
    done = subprocess.run(
        [str(word) for word in command],
        input=input,
        text=True,
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
    )
    if check and done.returncode != 0:
        said = (done.stdout + done.stderr)[-4000:]
        raise StepFailed(f"failed ({done.returncode}): {' '.join(str(word) for word in command)}\n{said}")
    return done.stdout


def show(*command: str | Path) -> None:
    """Runs a command that talks to the person itself."""
    if subprocess.run([str(word) for word in command], cwd=ROOT).returncode != 0:
        raise StepFailed(f"failed: {' '.join(str(word) for word in command)}")


def python(*words: str) -> tuple[str, ...]:
    """The command line of a module of this project."""
    return (sys.executable, "-m", *words)


def side_by_side(*jobs: Callable[[], object]) -> None:
    """Runs jobs that do not depend on each other at once; the first failure is raised when all have ended."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        for done in [pool.submit(job) for job in jobs]:
            done.result()
