"""Reading a model directory, and printing verdicts."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.fit_ground_truth import rows
from vllm_operator.fit.files import UnreadableModel, read_model

LLAMA = dict(next(row.config for row in rows() if row.name == "llama-3.1-8b"))


def a_shard(path: Path, tensors: dict[str, Any]) -> None:
    header = json.dumps({"__metadata__": {"format": "pt"}, **tensors}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA), "utf-8")
    return tmp_path


def test_a_config_alone_is_enough(directory: Path) -> None:
    assert read_model(directory) == (LLAMA, None)


def test_modelopts_own_file_is_part_of_the_config(directory: Path) -> None:
    told = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "group_size": 16}}
    (directory / "hf_quant_config.json").write_text(json.dumps(told), "utf-8")

    assert read_model(directory)[0]["quantization_config"] == told


def test_headers_are_summed_by_dtype(directory: Path) -> None:
    a_shard(
        directory / "model-1.safetensors",
        {"a": {"dtype": "BF16", "shape": [4, 8]}, "b": {"dtype": "F8_E4M3", "shape": [16]}},
    )
    a_shard(directory / "model-2.safetensors", {"c": {"dtype": "BF16", "shape": []}})
    _, summary = read_model(directory)

    assert summary is not None
    assert (summary.total_bytes, dict(summary.by_dtype)) == (33 * 2 + 16, {"BF16": 33, "F8_E4M3": 16})


def test_the_index_tells_the_total_when_shards_are_elsewhere(directory: Path) -> None:
    index = {"metadata": {"total_size": 16060522240}, "weight_map": {"a": "model-1.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    _, summary = read_model(directory)

    assert summary is not None and summary.total_bytes == 16060522240


def test_an_incomplete_set_of_shards_is_not_taken_for_the_whole(directory: Path) -> None:
    a_shard(directory / "model-1.safetensors", {"a": {"dtype": "BF16", "shape": [4]}})
    index = {"metadata": {"total_size": 99}, "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    _, summary = read_model(directory)

    assert summary is not None and summary.total_bytes == 99


def test_a_consolidated_copy_is_not_counted_twice(directory: Path) -> None:
    a_shard(directory / "model.safetensors", {"a": {"dtype": "BF16", "shape": [4]}})
    a_shard(directory / "consolidated.safetensors", {"a": {"dtype": "BF16", "shape": [4]}})
    _, summary = read_model(directory)

    assert summary is not None and summary.total_bytes == 8


def test_files_that_the_index_does_not_name_are_not_loaded(directory: Path) -> None:
    a_shard(directory / "model-1.safetensors", {"a": {"dtype": "BF16", "shape": [4]}})
    a_shard(directory / "merged.safetensors", {"a": {"dtype": "BF16", "shape": [4]}})
    index = {"weight_map": {"a": "model-1.safetensors", "b": ["not a name"]}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    _, summary = read_model(directory)

    assert summary is not None and summary.total_bytes == 8


def test_some_of_the_numbered_files_without_an_index_tell_nothing(directory: Path) -> None:
    a_shard(directory / "model-00001-of-00002.safetensors", {"a": {"dtype": "BF16", "shape": [4]}})
    assert read_model(directory)[1] is None

    a_shard(directory / "model-00002-of-00002.safetensors", {"b": {"dtype": "BF16", "shape": [4]}})
    a_shard(directory / "adapter_model.safetensors", {"c": {"dtype": "BF16", "shape": [4]}})
    _, summary = read_model(directory)
    assert summary is not None and summary.total_bytes == 16


@pytest.mark.parametrize("shape", ["4", [-1], [4.5], ["4"], [True], None, [10**9, 10**9]])
def test_a_shape_that_no_tensor_has_names_the_file(directory: Path, shape: Any) -> None:
    a_shard(directory / "model.safetensors", {"a": {"dtype": "BF16", "shape": shape}})

    with pytest.raises(UnreadableModel, match=r"model\.safetensors"):
        read_model(directory)


def headed(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header


@pytest.mark.parametrize("content", [b"", b"\xff" * 8 + b"{", headed(b"nope"), headed(b"[]"), headed(b"[" * 20_000)])
def test_a_broken_header_names_the_file(directory: Path, content: bytes) -> None:
    (directory / "model.safetensors").write_bytes(content)

    with pytest.raises(UnreadableModel, match=r"model\.safetensors"):
        read_model(directory)


@pytest.mark.parametrize("content", [None, "{", "[]", "[" * 20_000])
def test_a_missing_or_broken_config_names_the_file(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content, "utf-8")

    with pytest.raises(UnreadableModel, match=r"config\.json"):
        read_model(tmp_path)
