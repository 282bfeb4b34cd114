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
CLUSTER = os.environ.get("CLUSTER", "embedded")
# Each kind of cluster has a folder of its own: one can be up beside another, and goes alone.
STATE = ROOT / (".cluster" if CLUSTER == "embedded" else f".cluster-{CLUSTER}")
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


def run(*command: str | Path, input: str | None = None, check: bool = True, aloud: bool = False) -> str:
    """A command's standard output. Raises StepFailed with the end of what it said when it fails (unless `check` is off).

    `aloud` lets its standard error through to the person.
    """
    words = [str(word) for word in command]
    complaints = None if aloud else subprocess.PIPE
    try:
        done = subprocess.run(words, input=input, text=True, stdout=subprocess.PIPE, stderr=complaints, cwd=ROOT)
    except FileNotFoundError as error:
        raise StepFailed(f"{words[0]} is not installed") from error
    if check and done.returncode != 0:
        said = (done.stdout + (done.stderr or ""))[-4000:]
        raise StepFailed(f"failed ({done.returncode}): {' '.join(words)}\n{said}")
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
