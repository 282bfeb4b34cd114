"""vLLM's own loader opens, of what was taken from a repository, exactly what the selection calls its weights."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.demo.shell import ROOT
from tests.weights_layouts import INDEX, LAYOUTS, NOT_FOR_VLLM, Layout
from vllm_weights.listing import Digest, DigestKind, RemoteFile
from vllm_weights.selection import Selection, select

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(180)]

NAMED_LIKE_WEIGHTS = {"openvino", "whisper.cpp"}  # vLLM would open them, and fail
BY_PLUGIN = "gguf"  # vLLM's own loaders have none for it


def selected(layout: Layout) -> Selection:
    files = [RemoteFile(path, 1, Digest(DigestKind.NONE)) for path in (*layout.take, *layout.leave)]
    return select(files, layout.wish, layout.indexed)


def lay_out(folder: Path, paths: tuple[str, ...]) -> None:
    """The files, empty but for the indexes."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
        if path.endswith(".safetensors.index.json"):
            stem = "model-0" if path == INDEX else path.partition(".")[0]
            named = [name for name in paths if name.startswith(stem) and name.endswith(".safetensors")]
            (folder / path).write_text(json.dumps({"weight_map": {f"layer.{name}": name for name in named}}))


def opened_by_vllm(asked: dict[Path, str]) -> dict[str, list[str] | str]:
    ended = subprocess.run(
        [os.environ["VLLM_PYTHON"], str(ROOT / "tests/vllm_loader.py")],
        input=json.dumps({str(folder): load_format for folder, load_format in asked.items()}),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return dict(json.loads(ended.stdout))


def test_vllm_opens_the_weights_that_were_taken_and_no_others(tmp_path: Path) -> None:
    layouts = {tmp_path / str(at): layout for at, layout in enumerate(LAYOUTS) if selected(layout).format != BY_PLUGIN}
    refused = {tmp_path / name: paths for name, paths in NOT_FOR_VLLM.items()}
    for folder, layout in layouts.items():
        lay_out(folder, tuple(file.path for file in selected(layout).files))
    for folder, paths in refused.items():
        lay_out(folder, paths)
    formats = {folder: layout.wish.load_format or "auto" for folder, layout in layouts.items()}

    opened = opened_by_vllm(formats | dict.fromkeys(refused, "auto"))

    for folder, layout in layouts.items():
        weights = sorted(file.path for file in selected(layout).weights if "/" not in file.path)
        assert opened[str(folder)] == weights, layout.name
    tried = {folder.name for folder in refused if isinstance(opened[str(folder)], list)}
    assert tried == NAMED_LIKE_WEIGHTS
