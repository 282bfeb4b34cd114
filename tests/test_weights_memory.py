"""The memory of a pull does not depend on the size of the model. `python -m tests.hub.bench` does it with 20 GB."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.hub import Hub
from tests.hub.models import write_model
from tests.hub.running import OPERATOR, usage_of

pytestmark = pytest.mark.weights

MIB = 1 << 20
LIMIT_MIB = 192


def test_a_gigabyte_is_pulled_in_little_memory(tmp_path: Path) -> None:
    write_model(tmp_path / "root/org/gigabyte", shards=2, shard_bytes=512 * MIB, sparse=True)
    request = {"version": 1, "source": "org/gigabyte", "destination": str(tmp_path / "volume/model"), "parallelism": 16}
    with Hub(tmp_path / "root") as hub:
        environment = {
            "PYTHONPATH": str(OPERATOR),
            "HF_ENDPOINT": hub.url,
            "WEIGHTS_REQUEST": json.dumps(request),
            "TERMINATION_MESSAGE_PATH": str(tmp_path / "termination"),
            "PROGRESS_FILE": str(tmp_path / "progress.json"),
            "PROGRESS_PORT": "0",
        }
        usage = usage_of([sys.executable, "-m", "vllm_weights", "pull"], environment)

    assert usage.code == 0, (tmp_path / "termination").read_text()
    assert usage.highest_memory_mib <= LIMIT_MIB
