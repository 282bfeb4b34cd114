"""The container's last word: one JSON object in the termination message, never longer than Kubernetes keeps."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vllm_weights.summary import compact

MOST_BYTES = 4096
"""What the kubelet keeps of a termination message."""
LONGEST_SENTENCE = 900
DEFAULT_PATH = "/dev/termination-log"


def write(answer: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    """Writes the answer to the termination log and, as the last line, to stdout."""
    body = compact(_cut(answer))
    print(body.decode(), flush=True)
    path = Path(environment.get("TERMINATION_MESSAGE_PATH") or DEFAULT_PATH)
    try:
        path.write_bytes(body)
    except OSError as error:  # Outside a pod; the answer is on stdout.
        print(f"the termination message cannot be written to {path}: {error}", file=sys.stderr)


def _cut(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Sentences are shortened, and parts left out, where the whole is too long."""
    short = {
        key: value[: LONGEST_SENTENCE - 1] + "…" if isinstance(value, str) and len(value) > LONGEST_SENTENCE else value
        for key, value in answer.items()
    }
    if len(compact(short)) > MOST_BYTES and "parts" in short:
        short["partsLeftOut"] = len(short.pop("parts"))
    return short
