"""`python -m tests.hub.bench [--gigabytes 2] [--rounds 6] [--line 100] [--to DIR]`: an inspection; the pull beside `hf download`.

Both of these from the same hub to the same disk, in turns, and each round begins with the other one: a machine that gets busy
slows both, and the median of the rounds' ratios is what counts. Beside them three ceilings: `line` receives the same bytes
over as many connections and drops them, `disk` writes as many and syncs, `both` writes what it receives and computes no
checksum. Seconds are those until the bytes are on the disk. The model is sparse at the hub and whole where it is written: it needs its size on the disk, once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.hub import inspecting
from tests.hub.models import write_model
from tests.hub.running import OPERATOR, usage_of

GIGABYTE = 1_000_000_000
REPO = "org/model"


def measured(command: list[str], environment: Mapping[str, str], to: Path) -> dict[str, float]:
    """Runs the command to an empty folder."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir()
    os.sync()
    started = time.monotonic()
    usage = usage_of(command, environment)
    os.sync()  # The pull syncs what it wrote, hf leaves it to the kernel: compared is what is on the disk.
    seconds = time.monotonic() - started
    if usage.code:
        raise SystemExit(f"{command} ended with {usage.code}")
    return {"seconds": seconds, "cpuSeconds": usage.cpu_seconds, "highestMemoryMiB": usage.highest_memory_mib}


def main() -> int:
    """Prints every run, then the medians."""
    parser = argparse.ArgumentParser(prog="python -m tests.hub.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--line", type=float, help="megabytes a second that the hub sends in all (default: no limit)")
    parser.add_argument("--only", choices=["pull", "hf", "line", "disk", "both"], help="one of the five")
    parser.add_argument("--to", type=Path, help="folder on the disk to write to (default: a temporary one)")
    given = parser.parse_args()
    size = int(given.gigabytes * GIGABYTE)
    with tempfile.TemporaryDirectory(dir=given.to) as folder:
        work = Path(folder)
        write_model(work / "root" / REPO, shards=given.shards, shard_bytes=size // given.shards // 2 * 2, sparse=True)
        inspecting.repositories(work / "root")
        with serving(work / "root", given.line) as url:
            commands, environment = commands_for(work, url, size)
            _warm(work, environment)
            print(*inspecting.lines(url, work), sep="\n", flush=True)
            _tell(list(_rounds(given, commands, environment, work / "to")), size)
    return 0


@contextmanager
def serving(root: Path, line: float | None = None) -> Iterator[str]:
    """A hub in a process of its own, since it must not share the measuring one's interpreter lock; gives its address."""
    words = [
        "serve",
        "--root",
        str(root),
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        *(("--line", str(line)) if line else ()),
    ]
    hub = subprocess.Popen([sys.executable, "-m", "tests.hub", *words], stdout=subprocess.PIPE, text=True)
    assert hub.stdout is not None
    try:
        yield hub.stdout.readline().split()[-1]
    finally:
        hub.terminate()
        hub.wait()
        hub.stdout.close()


def commands_for(work: Path, url: str, size: int) -> tuple[dict[str, list[str]], dict[str, str]]:
    """What is measured, by name, and the environment of all."""
    request = {"version": 1, "source": REPO, "destination": str(work / "to/model")}
    environment = {
        "WEIGHTS_REQUEST": json.dumps(request),
        "PYTHONPATH": f"{OPERATOR}:{OPERATOR.parent}",
        "PROGRESS_PORT": "0",
        "HF_ENDPOINT": url,
        "HF_HOME": str(work / "home"),
        "TERMINATION_MESSAGE_PATH": str(work / "termination"),
        "PROGRESS_FILE": str(work / "progress.json"),
    }
    commands = {
        "hf": [str(Path(sys.executable).parent / "hf"), "download", REPO, "--local-dir", str(work / "to")],
        "pull": [sys.executable, "-m", "vllm_weights", "pull"],
        "line": [sys.executable, "-m", "tests.hub.ceiling", "line", url, REPO],
        "both": [sys.executable, "-m", "tests.hub.ceiling", "both", url, REPO, str(work / "to")],
        "disk": [sys.executable, "-m", "tests.hub.ceiling", "disk", str(work / "to"), str(size)],
    }
    return commands, environment


def _rounds(
    given: argparse.Namespace, commands: Mapping[str, list[str]], environment: Mapping[str, str], to: Path
) -> Iterator[dict[str, dict[str, float]]]:
    for number in range(given.rounds):
        names = [name for name in commands if given.only in (None, name)]
        found = {}
        for name in names if number % 2 else reversed(names):
            found[name] = measured(commands[name], environment, to)
            print(name, json.dumps({key: round(value, 2) for key, value in found[name].items()}), flush=True)
        yield found


def _tell(rounds: list[dict[str, dict[str, float]]], size: int) -> None:
    for name in rounds[0]:
        middle = statistics.median(found[name]["seconds"] for found in rounds)
        memory = max(found[name]["highestMemoryMiB"] for found in rounds)
        print(f"{name}: {middle:.2f} s, {size / middle / 1e6:.0f} MB/s, at most {memory:.0f} MiB")
    for name in sorted(rounds[0].keys() - {"pull"}) if "pull" in rounds[0] else ():
        for key in ("seconds", "cpuSeconds"):
            ratios = sorted(found["pull"][key] / found[name][key] for found in rounds)
            print(
                f"pull/{name} {key}: median {statistics.median(ratios):.2f}, from {ratios[0]:.2f} to {ratios[-1]:.2f}"
            )


def _warm(work: Path, environment: Mapping[str, str]) -> None:
    """The hub computes its checksums on the first question."""
    command = [sys.executable, "-m", "vllm_weights", "inspect"]
    for _ in range(200):
        ended = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, check=False)
        if ended.returncode == 0:
            return
        time.sleep(0.5)
    raise SystemExit(f"the hub does not answer; see {work / 'termination'}")


if __name__ == "__main__":
    sys.exit(main())
