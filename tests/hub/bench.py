"""`python -m tests.hub.bench [--gigabytes 20] [--shards 4] [--to DIR]`: the pull beside `hf download`, same hub, same disk.

Prints seconds, megabytes a second and the highest resident memory of each. The model is sparse at the hub and whole
where it is written: it needs its size on the disk, once. `--rounds` takes turns, so that both meet the same machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.hub.models import write_model
from tests.hub.running import OPERATOR, usage_of

GIGABYTE = 1_000_000_000


def measured(command: list[str], environment: Mapping[str, str], to: Path, size: int) -> dict[str, float]:
    """Runs the command to an empty folder."""
    shutil.rmtree(to, ignore_errors=True)
    os.sync()
    started = time.monotonic()
    usage = usage_of(command, environment)
    ended = time.monotonic() - started
    os.sync()  # The pull syncs what it wrote, hf leaves it to the kernel: compared is what is on the disk.
    seconds = time.monotonic() - started
    if usage.code:
        raise SystemExit(f"{command} ended with {usage.code}")
    return {
        "secondsToTheEnd": round(ended, 2),
        "secondsToTheDisk": round(seconds, 2),
        "megabytesPerSecond": round(size / seconds / 1e6),
        "cpuSeconds": round(usage.cpu_seconds, 2),
        "highestMemoryMiB": round(usage.highest_memory_mib),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hub.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=20)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", choices=["pull", "hf"], help="one of the two")
    parser.add_argument(
        "--to", type=Path, default=None, help="folder on the disk to write to (default: a temporary one)"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.to) as folder:
        work = Path(folder)
        size = int(given.gigabytes * GIGABYTE)
        write_model(
            work / "root/org/model", shards=given.shards, shard_bytes=size // given.shards // 2 * 2, sparse=True
        )
        # A process of its own: it must not share this one's interpreter lock with the measuring.
        command = [
            sys.executable,
            "-m",
            "tests.hub",
            "serve",
            "--root",
            str(work / "root"),
            "--host",
            "127.0.0.1",
            "--port",
            "0",
        ]
        hub = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert hub.stdout is not None
        try:
            url = hub.stdout.readline().split()[-1]
            _rounds(given, work, url, size)
        finally:
            hub.terminate()
            hub.wait()
            hub.stdout.close()
    return 0


def _rounds(given: argparse.Namespace, work: Path, url: str, size: int) -> None:
    request = {"version": 1, "source": "org/model", "destination": str(work / "to/model")}
    ours = {"WEIGHTS_REQUEST": json.dumps(request), "PYTHONPATH": str(OPERATOR), "PROGRESS_PORT": "0"}
    common = {"HF_ENDPOINT": url, "HF_HOME": str(work / "home"), "TERMINATION_MESSAGE_PATH": str(work / "termination")}
    _warm(work, common | ours)
    commands = {
        "hf": [str(Path(sys.executable).parent / "hf"), "download", "org/model", "--local-dir", str(work / "to")],
        "pull": [sys.executable, "-m", "vllm_weights", "pull"],
    }
    for _ in range(given.rounds):
        for name, command in commands.items():
            if given.only in (None, name):
                print(name, json.dumps(measured(command, common | ours, work / "to", size)), flush=True)


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
