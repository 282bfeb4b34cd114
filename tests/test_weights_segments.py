"""A file that comes in several streams at once is looked at when the last of them has left it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub import Hub
from tests.hub.models import write_model
from vllm_weights.contents import Item
from vllm_weights.huggingface import HuggingFace
from vllm_weights.incoming import Incoming
from vllm_weights.listing import Digest, DigestKind, RemoteFile
from vllm_weights.progress import Progress
from vllm_weights.pull import Pull
from vllm_weights.request import Request

pytestmark = pytest.mark.weights

MIB = 1 << 20
WEIGHTS = "model.safetensors"


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Threads take turns after each few instructions, as they do on a machine with too few cores."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_a_file_whose_bytes_are_all_counted_is_whole_when_the_last_writer_leaves_it(tmp_path: Path) -> None:
    source = HuggingFace("org/model", {}, silence_seconds=1, parallelism=1)
    file = RemoteFile(WEIGHTS, 3 * MIB, Digest(DigestKind.NONE))
    incoming = Incoming(Item(source, "commit", file, WEIGHTS), tmp_path, tmp_path, MIB)
    incoming.open()
    claims = [incoming.claim() for _ in range(3)]
    for segment in claims:
        assert segment is not None
        incoming.write(segment, bytes(MIB))

    assert incoming.is_complete
    assert [incoming.give_back() for _ in claims] == [False, False, True]

    incoming.start_over()
    incoming.claim()
    assert not incoming.give_back(), "nothing has come"
    incoming.close()
    source.close()


def test_wrong_bytes_in_streams_that_end_together_are_fetched_again_once(tmp_path: Path, eager_threads: None) -> None:
    """Each try is a race of four streams for the end of one file."""
    root = tmp_path / "root"
    write_model(root / "org/model", shard_bytes=4 * MIB)
    with Hub(root) as hub:
        environment = {"HF_ENDPOINT": hub.url}
        for number in range(20):
            to = tmp_path / f"{number}/model"
            hub.break_next("corrupt", where="cdn", path=WEIGHTS, afterBytes=1000)
            request = Request(source="org/model", destination=str(to), backoff_seconds=0, parallelism=4)
            progress = Progress()

            Pull(environment, progress, to.parent / "progress.json", MIB).run((request,), False)

            assert (to / WEIGHTS).read_bytes() == (root / "org/model" / WEIGHTS).read_bytes()
            assert progress.bytes_done == progress.bytes_total
            assert progress.bytes_fetched == progress.bytes_total + (to / WEIGHTS).stat().st_size
