"""The container's last word: one JSON object in the termination message, never longer than Kubernetes keeps."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vllm_weights.summary import compact
from vllm_weights.tokens import without_secrets

MOST_BYTES = 4096
"""What the kubelet keeps of a termination message."""
LONGEST_SENTENCE = 900
KEPT = frozenset({"version", "ok", "reason", "retry", "commit", "bytes", "message", "remedy"})
"""Short, or cut."""
DEFAULT_PATH = "/dev/termination-log"


def write(answer: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    """Writes the answer to the termination log and, as the last line, to stdout."""
    body = compact(_cut({key: _told(value, environment) for key, value in answer.items()}))
    path = Path(environment.get("TERMINATION_MESSAGE_PATH") or DEFAULT_PATH)
    try:
        path.write_bytes(body)
    except OSError as error:  # Outside a pod; the answer is on stdout.
        print(f"the termination message cannot be written to {path}: {error}", file=sys.stderr, flush=True)
    print(body.decode(), flush=True)


def _told(value: Any, environment: Mapping[str, str]) -> Any:
    return without_secrets(value, environment) if isinstance(value, str) else value


def _cut(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Sentences are shortened, then parts and what is largest left out, until it fits."""
    for most in (LONGEST_SENTENCE, LONGEST_SENTENCE // 2, LONGEST_SENTENCE // 5):
        short = {key: _shortened(value, most) if isinstance(value, str) else value for key, value in answer.items()}
        if len(compact(short)) <= MOST_BYTES:
            return short
    if "parts" in short:
        short["partsLeftOut"] = len(short.pop("parts"))
    while len(compact(short)) > MOST_BYTES:
        short.pop(max(short.keys() - KEPT, key=lambda key: len(compact(short[key]))))
    return short


def _shortened(sentence: str, most: int) -> str:
    return sentence if len(sentence) <= most else sentence[: most - 1] + "…"
