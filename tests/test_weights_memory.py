"""The memory of a pull does not depend on the size of the model: 20 GB take what one takes."""

from __future__ import annotations

import json
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub import Hub
from tests.hub.models import write_model
from tests.hub.running import OPERATOR, Usage, usage_of
from vllm_weights.contents import Item, contents_of
from vllm_weights.folder import ModelFolder
from vllm_weights.incoming import SEGMENT_BYTES, state_name
from vllm_weights.request import Request

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]

MIB = 1 << 20
GIGABYTE = 1_000_000_000
LIMIT_MIB = 192
DIGESTS = {
    "model-00001-of-00004.safetensors": "488cd5159f841a0c025be7515a90e1cb245e04fc21b54eed9f2c84f228062ee2",
    "model-00002-of-00004.safetensors": "80ef479ba0669f6fcea9978e16ac6995e9a342657f676ed2256461b41c6a6743",
    "model-00003-of-00004.safetensors": "7f34c52e0d8bd3b7febdd89d81b0b3e5521b7fc72a0ac61d5ef292a6b4e52c2d",
    "model-00004-of-00004.safetensors": "6457d29ec2d395fa5fa1dc040d4d7bc419a626875b76471fcc384f020fce3f98",
}
"""Of the shards that write_model makes of 20 GB, by sha256sum: the hub need not read them, and the pull is held to them."""


@pytest.fixture
def to(tmp_path: Path) -> Iterator[str]:
    """A destination that is not kept."""
    yield str(tmp_path / "volume/model")
    shutil.rmtree(tmp_path / "volume")


def pulled(hub: Hub, tmp_path: Path, request: Request) -> Usage:
    """What the program took, as its Job runs it; it has no other processes."""
    environment = {
        "PYTHONPATH": str(OPERATOR),
        "HF_ENDPOINT": hub.url,
        "WEIGHTS_REQUEST": request.model_dump_json(by_alias=True, exclude_none=True),
        "TERMINATION_MESSAGE_PATH": str(tmp_path / "termination"),
        "PROGRESS_FILE": str(tmp_path / "progress.json"),
        "PROGRESS_PORT": "0",
    }
    return usage_of([sys.executable, "-m", "vllm_weights", "pull"], environment)


def test_a_gigabyte_is_pulled_in_little_memory(tmp_path: Path, to: str) -> None:
    write_model(tmp_path / "root/org/gigabyte", shards=2, shard_bytes=512 * MIB, sparse=True)
    request = Request(source="org/gigabyte", destination=to, parallelism=16)
    with Hub(tmp_path / "root") as hub:
        usage = pulled(hub, tmp_path, request)

    assert usage.code == 0, (tmp_path / "termination").read_text()
    assert usage.highest_memory_mib <= LIMIT_MIB


def test_twenty_gigabytes_of_which_an_earlier_try_left_most_are_finished_in_as_little(tmp_path: Path, to: str) -> None:
    """Sparse on both sides; everything is hashed, and the last segment of each shard is fetched."""
    folder = write_model(tmp_path / "root/org/large", shards=4, shard_bytes=5 * GIGABYTE, sparse=True)
    (folder / ".sha256.json").write_text(json.dumps(DIGESTS))
    request = Request(source="org/large", destination=to, parallelism=16)
    with Hub(tmp_path / "root") as hub:
        with contents_of(request, {"HF_ENDPOINT": hub.url}) as contents:
            model = ModelFolder(request.destination)
            model.prepare(contents.items)
            for item in contents.items:
                if item.file.size > GIGABYTE:
                    leave_behind(item, model, folder / item.path)
        usage = pulled(hub, tmp_path, request)

    answer = json.loads((tmp_path / "termination").read_text())
    assert usage.code == 0, answer
    assert 20 * GIGABYTE < answer["bytes"] < 21 * GIGABYTE
    assert 0 < answer["bytesFetched"] < 4 * SEGMENT_BYTES
    assert usage.highest_memory_mib <= LIMIT_MIB


def leave_behind(item: Item, model: ModelFolder, original: Path) -> None:
    """What a killed pull leaves of a shard: all segments but the last."""
    path = model.partial / item.path
    with path.open("wb") as file, original.open("rb") as source:
        file.write(source.read(MIB))
        file.truncate(item.file.size)
    whole = item.file.size // SEGMENT_BYTES
    (model.state / state_name(item)).write_bytes(struct.pack(f"<{whole + 1}Q", *[SEGMENT_BYTES] * whole, 0))
