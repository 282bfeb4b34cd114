"""Runs commands, and tells the person who waits what is being done and, afterwards, how long it took."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from contextlib import contextmanager
from pathlib import Path

_speaking = threading.Lock()
_running: set[subprocess.Popen[str]] = set()


class StepFailed(Exception):
    """A step cannot go on; the message says why, and what to do where that is known."""


def say(text: str) -> None:
    """One line on standard error: standard output is for what a program reads (`images --output json`)."""
    with _speaking:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Names a step when it begins, and tells its seconds when it is done. A failure is told at once, while others run on."""
    say(f"  {title} …")
    begun = time.monotonic()
    try:
        yield
    except BaseException:
        say(f"✗ {title} failed after {time.monotonic() - begun:.1f} s")
        raise
    say(f"✓ {title} … {time.monotonic() - begun:.1f} s")


def run(
    *command: str | Path,
    input: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    check: bool = True,
) -> str:
    """The command's standard output.

    Raises StepFailed with the end of all that it said when it fails, unless `check` is off; then what it printed comes back.
    """
    words = [str(word) for word in command]
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env={**os.environ, **(env or {})},
        )
    except FileNotFoundError as error:
        raise StepFailed(f"{words[0]} is not installed: {error}") from error
    _running.add(process)
    try:
        said, complained = process.communicate(input)
    finally:
        _running.discard(process)
    if check and process.returncode != 0:
        raise StepFailed(f"`{' '.join(words)}` ended with {process.returncode}:\n{(said + complained)[-4000:]}")
    return said


def pipe(producer: Sequence[str | Path], consumer: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
    """Gives what one command writes to another to read, without a file between. Raises StepFailed with what the one that failed said."""
    first = [str(word) for word in producer]
    second = [str(word) for word in consumer]
    with tempfile.TemporaryFile("w+") as complaints:
        source = subprocess.Popen(
            first,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            env={**os.environ, **(env or {})},
        )
        target = subprocess.Popen(second, stdin=source.stdout, stdout=subprocess.DEVNULL, stderr=complaints, text=True)
        assert source.stdout is not None
        source.stdout.close()  # the target alone reads it: its end then ends the source
        _running.update((source, target))
        codes = (target.wait(), source.wait())
        _running.difference_update((source, target))
        if codes != (0, 0):
            complaints.seek(0)
            raise StepFailed(
                f"`{' '.join(first)} | {' '.join(second)}` ended with {codes}:\n{complaints.read()[-4000:]}"
            )


def succeeds(*command: str | Path, within_seconds: float | None = None) -> bool:
    """Whether the command exists and ends with 0 (in time, where a time is given); what it says is thrown away."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=within_seconds)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def wait_until(fact: str, holds: Callable[[], bool], seconds: float = 60) -> None:
    """Returns as soon as `holds` does. Raises StepFailed naming the fact when that takes too long."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise StepFailed(f"waited {seconds:.0f} s, but not yet: {fact}")
        time.sleep(0.1)


def all_done(futures: list[Future[None]]) -> None:
    """Waits for every future. At the first failure the commands still running are ended, and that failure is raised."""
    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
    failure = next((error for future in done if (error := future.exception())), None)
    if failure is not None:
        for process in tuple(_running):
            process.terminate()
        raise failure
