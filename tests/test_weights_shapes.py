"""Repositories of every shape, and with every kind of damage: each is described, or refused by name, before anything is taken."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub import Hub
from tests.hub.models import LLAMA, write_model, write_safetensors
from tests.hub.running import run
from vllm_weights.failure import WeightsError
from vllm_weights.inspection import inspect
from vllm_weights.request import Request

pytestmark = pytest.mark.weights

MOST_BYTES = 4096
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 16060522240\n"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    (tmp_path / "root/org/model").mkdir(parents=True)
    with Hub(tmp_path / "root") as running:
        yield running


def model(hub: Hub, config: Any = LLAMA, **shape: Any) -> Path:
    return write_model(hub.repos.root / "org/model", config=config, **shape)


def look(hub: Hub, **fields: Any) -> dict[str, Any]:
    request = Request(source="org/model", backoff_seconds=0, **fields)
    return inspect((request,), False, {"HF_ENDPOINT": hub.url})


def refusal(hub: Hub, **fields: Any) -> tuple[str, str]:
    with pytest.raises(WeightsError) as caught:
        look(hub, **fields)
    return str(caught.value.reason), caught.value.message


def strict(text: bytes) -> Any:
    """Read as JSON is defined: without NaN and Infinity."""

    def no(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text.decode(), parse_constant=no)


def safetensors(path: Path, tensors: Any, more: bytes = b"xx") -> None:
    header = json.dumps(tensors).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + more)


CONFIGS = {
    "NaN and infinities": json.dumps(LLAMA | {"rope_theta": float("nan"), "eps": float("-inf"), "far": 1e308})
    + " " * 9,
    "a float without end": json.dumps(LLAMA)[:-1] + ', "x": 1e999}',
    "a number of 4,000 digits": json.dumps(LLAMA)[:-1] + ', "vocab": ' + "9" * 4000 + "}",
    "half of a character": '{"model_type": "\\ud800", "architectures": ["\\udfff"], "\\udc00": "\\ud9ff"}',
    "architectures as a number": json.dumps(LLAMA | {"architectures": 5}),
    "architectures as a text": json.dumps(LLAMA | {"architectures": "LlamaForCausalLM"}),
    "architectures of 5,000 letters": json.dumps(LLAMA | {"architectures": ["x" * 5000] * 8}),
    "a quantization of 9,000 letters": json.dumps(LLAMA | {"quantization_config": {"quant_method": "q" * 9000}}),
    "a quantization as a number": json.dumps(LLAMA | {"quantization_config": 7}),
    "300 levels": '{"text_config":' * 300 + "1" + "}" * 300,
    "30 MB": json.dumps(LLAMA | {"id2label": {str(n): "x" * 100 for n in range(260_000)}}),
}


@pytest.mark.parametrize("text", CONFIGS.values(), ids=CONFIGS)
def test_whatever_the_configuration_is_the_answer_is_json_that_fits(hub: Hub, tmp_path: Path, text: str) -> None:
    (model(hub) / "config.json").write_text(text)

    ended = run("inspect", {"source": "org/model"}, tmp_path / "work", {"HF_ENDPOINT": hub.url})

    assert (ended.code, ended.answer["ok"]) == (0, True), ended.output
    said = (tmp_path / "work/termination").read_bytes()
    assert len(said) <= MOST_BYTES
    assert strict(said)["bytes"] > 200_000


TENSOR = {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}
HEADERS: dict[str, Callable[[Path], Any]] = {
    "a length of 2^63": lambda path: path.write_bytes(struct.pack("<Q", 1 << 63) + bytes(100)),
    "garbage": lambda path: path.write_bytes(struct.pack("<Q", 50) + b"\xff" * 100),
    "a list": lambda path: safetensors(path, [1]),
    "a thousand data types": lambda path: safetensors(
        path, {f"t{n}": TENSOR | {"dtype": f"D{n}"} for n in range(1000)}
    ),
    "a data type of 90 letters": lambda path: safetensors(path, {"t": TENSOR | {"dtype": "D" * 90}}),
    "a shape of texts": lambda path: safetensors(path, {"t": TENSOR | {"shape": ["1"]}}),
    "a shape of fractions": lambda path: safetensors(path, {"t": TENSOR | {"shape": [1.5]}}),
    "a shape without end": lambda path: safetensors(path, {"t": TENSOR | {"shape": [1 << 62] * 50}}),
    "no offsets": lambda path: safetensors(path, {"t": TENSOR | {"data_offsets": []}}),
    "tensors beyond the file's end": lambda path: safetensors(path, {"t": TENSOR | {"data_offsets": [0, 1000]}}),
    "nothing": lambda path: path.write_bytes(b""),
    "five bytes": lambda path: path.write_bytes(b"12345"),
    "a Git LFS pointer": lambda path: path.write_text(POINTER),
}


@pytest.mark.parametrize("spoil", HEADERS.values(), ids=HEADERS)
def test_weights_that_cannot_be_read_are_refused_before_they_are_taken(hub: Hub, spoil: Callable[[Path], Any]) -> None:
    spoil(model(hub) / "model.safetensors")

    reason, message = refusal(hub)

    assert reason == "WeightsCorrupt"
    assert "model.safetensors" in message


def test_a_header_that_is_too_long_to_take_apart_leaves_the_size(hub: Hub) -> None:
    path, length = model(hub) / "model.safetensors", 60_000_000
    with path.open("wb") as file:
        file.write(struct.pack("<Q", length))
        file.truncate(8 + length + 5000)

    assert look(hub)["weights"] == {"totalBytes": 5000, "parameters": {}}


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model-Q4.gguf"])
@pytest.mark.parametrize("content", [b"", POINTER.encode()], ids=["nothing", "a pointer"])
def test_weights_of_other_formats_are_not_taken_empty_or_as_pointers(hub: Hub, name: str, content: bytes) -> None:
    folder = model(hub)
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(content)

    reason, message = refusal(hub)

    assert (reason, name in message) == ("WeightsCorrupt", True)


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "tokenizer_config.json"])
def test_a_pointer_in_place_of_a_small_file_is_named(hub: Hub, name: str) -> None:
    (model(hub) / name).write_text(POINTER)

    reason, message = refusal(hub)

    assert (reason, f"{name} is a Git LFS pointer" in message) == ("WeightsCorrupt", True)


SHARDS = {
    "safetensors": ["model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors"],
    ".bin": ["pytorch_model-00001-of-00002.bin"],
    "GGUF": ["m-Q4-00002-of-00002.gguf"],
}


@pytest.mark.parametrize("names", SHARDS.values(), ids=SHARDS)
def test_shards_that_are_missing_are_missed_without_an_index(hub: Hub, names: list[str]) -> None:
    folder = model(hub)
    (folder / "model.safetensors").unlink()
    for name in names:
        write_safetensors(folder / name, {"t": ("BF16", [200])})

    reason, message = refusal(hub)

    assert (reason, f"{len(names)} are there" in message) == ("WeightsMissing", True)


def test_stray_shards_beside_a_whole_set_are_no_broken_upload(hub: Hub) -> None:
    folder = model(hub, shards=2)
    (folder / "model.safetensors.index.json").unlink()
    write_safetensors(folder / "model-00003-of-00005.safetensors", {"t": ("BF16", [200])})

    assert look(hub)["format"] == "safetensors"


def test_the_index_of_bin_files_tells_that_one_is_missing(hub: Hub) -> None:
    folder = model(hub)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(bytes(2000))
    index = {"weight_map": {"a": "pytorch_model.bin", "b": "pytorch_model-2.bin"}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))

    assert refusal(hub) == (
        "WeightsMissing",
        "pytorch_model.bin.index.json names 1 files that the source does not have, 'pytorch_model-2.bin' among them.",
    )


def test_an_index_of_safetensors_does_not_matter_to_who_wants_another_format(hub: Hub) -> None:
    folder = model(hub, shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(bytes(2000))

    assert refusal(hub)[0] == "WeightsMissing"
    assert look(hub, load_format="pt")["format"] == "bin"


@pytest.mark.parametrize("total", [-5, 1e300, "many", None, True, [1]])
def test_a_size_in_the_index_that_is_none_is_not_believed(hub: Hub, total: Any) -> None:
    folder = model(hub, shards=20)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    (folder / "model.safetensors.index.json").write_text(json.dumps(index | {"metadata": {"total_size": total}}))

    assert 4_000_000 <= look(hub)["weights"]["totalBytes"] < 4_010_000


def test_a_failure_in_whatever_words_is_json_that_fits(hub: Hub, tmp_path: Path) -> None:
    folder = model(hub, shards=2)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    for name in ("\u0001" * 3000, "\ud800" * 3000, "模" * 3000, '"' * 3000):
        index["weight_map"]["another"] = name
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

        ended = run("inspect", {"source": "org/model"}, tmp_path / "work", {"HF_ENDPOINT": hub.url})

        said = (tmp_path / "work/termination").read_bytes()
        assert (ended.code, strict(said)["reason"]) == (3, "WeightsMissing")
        assert len(said) <= MOST_BYTES


NAMES = ("a b.json", "ünïcode 模型.json", "a+b.json", "a%20b.json", "100%.json", "#h.json", "q?x=1.json", "a&b=c.json",
         "it's.json", "a;b.json", "[x].json", "~t.json")  # fmt: skip


def test_names_of_every_kind_are_taken_as_they_are(hub: Hub, tmp_path: Path) -> None:
    folder = model(hub)
    for name in NAMES:
        (folder / name).write_text(f'{{"name": "{NAMES.index(name)}"}}')
    to = tmp_path / "volume/model"
    request = {"source": "org/model", "destination": str(to)}

    ended = run("pull", request, tmp_path / "work", {"HF_ENDPOINT": hub.url})

    assert ended.code == 0, ended.output
    assert all((to / name).read_bytes() == (folder / name).read_bytes() for name in NAMES)


def test_five_thousand_files_are_looked_through(hub: Hub) -> None:
    folder = model(hub)
    (folder / "samples").mkdir()
    for number in range(5000):
        (folder / f"samples/{number}.png").touch()
    hub.repos.commit("org/model", "main")  # the fake has read its files by now

    assert look(hub)["files"] == 5
