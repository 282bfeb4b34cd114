"""What an inspection takes, for models of few and of many shards: the program as in its Job, beside a hub on this machine."""

from __future__ import annotations

import json
import statistics
import sys
import time
import urllib.request
from pathlib import Path

from tests.hub.models import write_model
from tests.hub.running import OPERATOR, usage_of

SHARDS = (1, 20, 200)
ROUNDS = 3


def repositories(root: Path) -> None:
    """Writes the models that are looked at; they take no room."""
    for shards in SHARDS:
        write_model(root / _repo(shards), shards=shards, shard_bytes=1_000_000, sparse=True)


def lines(url: str, work: Path) -> list[str]:
    """A line for each model: seconds of the process from start to end, requests, bytes received."""
    return [_line(shards, url, work) for shards in SHARDS]


def _line(shards: int, url: str, work: Path) -> str:
    before, seconds, memory = _asked(url), [], 0.0
    for _ in range(ROUNDS):
        begun = time.monotonic()
        usage = usage_of([sys.executable, "-m", "vllm_weights", "inspect"], _environment(shards, url, work))
        seconds.append(time.monotonic() - begun)
        memory = max(memory, usage.highest_memory_mib)
        if usage.code:
            raise SystemExit((work / "termination").read_text())
    requests, received = ((now - then) // ROUNDS for now, then in zip(_asked(url), before, strict=True))
    took = f"{statistics.median(seconds):.2f} s (at most {max(seconds):.2f}), {memory:.0f} MiB"
    return f"inspection of {shards} shards: {took}, {requests} requests, {received / 1024:.0f} KiB"


def _environment(shards: int, url: str, work: Path) -> dict[str, str]:
    return {
        "WEIGHTS_REQUEST": json.dumps({"version": 1, "source": _repo(shards)}),
        "PYTHONPATH": str(OPERATOR),
        "PROGRESS_PORT": "0",
        "HF_ENDPOINT": url,
        "HOME": str(work),
        "TERMINATION_MESSAGE_PATH": str(work / "termination"),
        "PROGRESS_FILE": str(work / "progress.json"),
    }


def _asked(url: str) -> tuple[int, int]:
    with urllib.request.urlopen(f"{url}/_requests", timeout=60) as answer:
        told = json.load(answer)
    return told["requests"], told["bytes"]


def _repo(shards: int) -> str:
    return f"org/shards-{shards}"
