"""`make test` and `make check`: every phase in order, each with its time, a bound on it, and one sum at the end.

The node and its images are made in the background while the pure tests run; what does not need them does not wait for them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from tests.demo.shell import ROOT, python, say

LOG = ROOT / ".cluster-install.log"
COUNTS = re.compile(r"(\d+) (passed|failed|errors?|rerun)")
PURE = "not cluster and not vllm and not weights"
STATIC = (
    ("ruff check", ("ruff", "check", ".")),
    ("ruff format", ("ruff", "format", "--check", ".")),
    ("mypy", ("mypy",)),
    ("import contracts", ("lint-imports",)),
)


@dataclass
class Sum:
    """What all phases counted together."""

    passed: int = 0
    failed: int = 0
    rerun: int = 0
    bad: list[str] = field(default_factory=list)

    def add(self, name: str, code: int, output: str) -> None:
        """Counts a phase by pytest's closing line; a phase that ended badly without one counts as one failure."""
        closing = [line for line in output.splitlines() if COUNTS.search(line) and " in " in line]
        failed = 0
        for number, what in COUNTS.findall(closing[-1]) if closing else []:
            if what == "passed":
                self.passed += int(number)
            elif what == "rerun":
                self.rerun += int(number)
            else:
                failed += int(number)
        if code != 0:
            self.bad.append(name)
            failed = max(failed, 1)
        self.failed += failed

    def closing(self, seconds: float) -> str:
        """One line for all phases, in the words of pytest's own closing line."""
        counts = ((self.failed, "failed"), (self.passed, "passed"), (self.rerun, "rerun"))
        said = [f"{count} {what}" for count, what in counts if count or what == "passed"]
        return f"{', '.join(said)} in {seconds:.2f}s ({timedelta(seconds=int(seconds))})"


def phase(total: Sum, name: str, *words: str, minutes: float) -> None:
    """Runs one command, shows what it prints, ends it when its minutes are over, and counts it."""
    say(f"── {name}")
    begun = time.monotonic()
    running = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    bound = threading.Timer(minutes * 60, running.terminate)
    bound.start()
    lines = []
    assert running.stdout is not None
    for line in running.stdout:
        lines.append(line)
        sys.stdout.write(line)
        sys.stdout.flush()
    code = running.wait()
    if not bound.is_alive():
        say(f"   ended after {minutes:.0f} minutes, its bound")
    bound.cancel()
    say(f"── {name}: {'ok' if code == 0 else f'FAILED ({code})'}, {time.monotonic() - begun:.0f} s")
    total.add(name, code, "".join(lines))


def static(total: Sum) -> None:
    """Lint, format, types and import contracts, side by side; each that fails counts as one failure and shows why."""
    begun = time.monotonic()
    bin = Path(sys.executable).parent
    running = [(name, _start(str(bin / words[0]), *words[1:])) for name, words in STATIC]
    for name, process in running:
        output, _ = process.communicate()
        if process.returncode != 0:
            say(output)
            total.add(name, process.returncode, "")
    bad = [name for name, process in running if process.returncode != 0]
    say(
        f"── lint, types, import contracts: {'FAILED: ' + ', '.join(bad) if bad else 'ok'}, {time.monotonic() - begun:.0f} s"
    )


def _start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def pytest(*words: str) -> tuple[str, ...]:
    """The command line of one pytest run; one failed phase does not stop the next."""
    return python("pytest", "-q", *words)


def check(total: Sum) -> None:
    """The quick door."""
    static(total)
    phase(total, "pure tests", *pytest("-n2", "-m", PURE), minutes=15)


def everything(total: Sum) -> None:
    """All of it; the node is taken down at the end, whatever happened."""
    say(f"making the node, the images and the models in the background (log: {LOG.name})")
    with LOG.open("w") as log:
        node = subprocess.Popen(python("tests.demo", "install"), cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    try:
        check(total)
        _wait_for(total, node)
        os.environ["VLLM_PYTHON"] = _output(*python("tests.cluster", "vllm-python"))
        # Processes that wait for one another: a second try, whose first is shown at the end (tests/conftest.py).
        again = ("--reruns=2", "--reruns-delay=5", "-raR")
        off_node = ("-n2", "--dist=loadfile", *again, "-m", "(weights or vllm) and not cluster")
        phase(total, "weights program and vLLM's own parser", *pytest(*off_node), minutes=20)
        phase(
            total, "on the node", *pytest("-n4", "--dist=loadfile", *again, "-m", "cluster and not alone"), minutes=30
        )
        phase(total, "on the node, alone", *pytest(*again, "-m", "cluster and alone"), minutes=15)
    finally:
        if node.poll() is None:
            node.terminate()
            node.wait()
        subprocess.run(python("tests.cluster", "down"), cwd=ROOT)


def _wait_for(total: Sum, node: subprocess.Popen[bytes]) -> None:
    """Follows the installation's log until it ends."""
    say("── waiting for the node, the images and the operator on it")
    with LOG.open() as log:
        while node.poll() is None:
            for line in log:
                say(f"   {line.rstrip()}")
            time.sleep(1)
        for line in log:
            say(f"   {line.rstrip()}")
    if node.returncode != 0:
        total.add("installation on the node", node.returncode, "")


def _output(*words: str) -> str:
    return (
        subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.strip().splitlines()[-1]
    )


def main(words: list[str]) -> int:
    """0 when everything passed. The last line is the sum."""
    total, begun = Sum(), time.monotonic()
    (check if words == ["check"] else everything)(total)
    if total.bad:
        say(f"failed: {', '.join(total.bad)}")
    say(total.closing(time.monotonic() - begun))
    return 1 if total.failed or total.bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
