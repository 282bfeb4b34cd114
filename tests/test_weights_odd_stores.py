"""Gateways that speak S3 in their own way: what they hold back or make up is told, and never taken for a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hub.models import write_model
from tests.hub.running import Ended, files_in, run
from tests.stores.odd_s3 import OddS3

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = write_model(tmp_path / "model", shards=2)
    (folder / "README.md").unlink()
    return folder


def pulled(store: OddS3, tmp_path: Path) -> Ended:
    request = {
        "source": "s3://models/llama",
        "backoffSeconds": 0,
        "tries": 2,
        "destination": str(tmp_path / "to/model"),
    }
    return run("pull", request, tmp_path / "work", store.environment)


@pytest.mark.parametrize("oddity", ["", "first version", "etags are no md5", "refuses if-match"])
def test_a_small_model_comes_whole_from_stores_of_every_kind(folder: Path, tmp_path: Path, oddity: str) -> None:
    with OddS3(folder, oddity) as store:
        ended = pulled(store, tmp_path)

    assert ended.code == 0, ended.output
    assert files_in(folder) < files_in(tmp_path / "to/model")


@pytest.mark.parametrize("oddity", ["", "first version"])
def test_a_list_of_which_the_rest_is_held_back_is_no_list(folder: Path, tmp_path: Path, oddity: str) -> None:
    for number in range(1100):
        (folder / f"0-{number:04}.txt").write_text("x")
    with OddS3(folder, oddity) as store:
        ended = pulled(store, tmp_path)

    if oddity:
        assert (ended.code, ended.answer["reason"]) == (3, "HubRefused"), ended.output
        assert "ends its list after 1000 names" in ended.answer["message"] and "ListObjectsV2" in ended.answer["remedy"]
    else:
        assert ended.code == 0, ended.output


def test_a_page_that_comes_again_and_again_has_an_end(folder: Path, tmp_path: Path) -> None:
    with OddS3(folder, "one page for ever") as store:
        ended = pulled(store, tmp_path)

    assert (ended.code, ended.answer["reason"]) == (3, "HubRefused"), ended.output
    assert "twice" in ended.answer["message"]


def test_an_object_that_is_longer_than_it_was_listed_is_a_changed_source(folder: Path, tmp_path: Path) -> None:
    with OddS3(folder, "etags say nothing") as store:
        ended = pulled(store, tmp_path)

    assert (ended.code, ended.answer["reason"]) == (3, "RevisionNotFound"), ended.output
    assert ".safetensors is not what was listed" in ended.answer["message"]


def test_a_store_without_ranges_is_told(folder: Path, tmp_path: Path) -> None:
    with OddS3(folder, "no ranges") as store:
        ended = pulled(store, tmp_path)

    assert (ended.code, ended.answer["reason"]) == (3, "HubRefused"), ended.output
    assert "knows no ranges" in ended.answer["remedy"]


def test_one_damaged_object_among_others_that_are_right_is_corrupt(folder: Path, tmp_path: Path) -> None:
    with OddS3(folder, "") as store:
        shard = next(key for key in store.objects if key.endswith(".safetensors"))
        store.objects[shard] = store.objects[shard][:-1] + b"\xff"
        ended = pulled(store, tmp_path)

    assert (ended.code, ended.answer["reason"]) == (3, "WeightsCorrupt"), ended.output
    assert "HF_ENDPOINT" not in ended.answer["remedy"] and "upload it again" in ended.answer["remedy"]


@pytest.mark.parametrize(
    ("moved", "words", "advice"),
    [("Llama-3/{}", "some lie in its folder Llama-3", "name that folder"), ("model.tar.gz", "is packed", "Unpack")],
)
def test_weights_that_lie_elsewhere_are_pointed_at(tmp_path: Path, moved: str, words: str, advice: str) -> None:
    folder = write_model(tmp_path / "model")
    (tmp_path / "model/Llama-3").mkdir()
    for path in [path for path in folder.iterdir() if path.is_file()]:
        path.rename(folder / moved.format(path.name))
    with OddS3(folder, "") as store:
        ended = pulled(store, tmp_path)

    assert (ended.code, ended.answer["reason"]) == (3, "WeightsMissing"), ended.output
    assert words in ended.answer["message"] and advice in ended.answer["remedy"]
