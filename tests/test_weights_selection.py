"""Which files of a repository are taken: those vLLM loads, each tensor once."""

from __future__ import annotations

import pytest

from tests.weights_layouts import LAYOUTS, NOT_FOR_VLLM, Layout
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.listing import Digest, DigestKind, RemoteFile, check_paths
from vllm_weights.selection import Wish, select, tokenizer_files

SMALL = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json")


def files(*paths: str) -> list[RemoteFile]:
    return [RemoteFile(path, 10, Digest(DigestKind.NONE)) for path in paths]


def taken(*paths: str, wish: Wish | None = None, indexed: frozenset[str] | None = None) -> set[str]:
    return {file.path for file in select(files(*paths), wish or Wish(), indexed).files}


def test_safetensors_are_taken_and_their_duplicates_are_not() -> None:
    found = taken(
        *SMALL,
        "model.safetensors",
        "pytorch_model.bin",
        "consolidated.safetensors",
        "consolidated.00.pth",
        "original/consolidated.00.pth",
        "original/params.json",
        "onnx/model.onnx",
        "onnx/config.json",
        "model-q4.gguf",
        "tf_model.h5",
        "flax_model.msgpack",
        "README.md",
        ".gitattributes",
        "images/plot.png",
    )

    assert found == {*SMALL, "model.safetensors"}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_of_a_published_layout_exactly_what_vllm_needs_is_taken(layout: Layout) -> None:
    assert taken(*layout.leave, *layout.take, wish=layout.wish, indexed=layout.indexed) == set(layout.take)


@pytest.mark.parametrize("paths", NOT_FOR_VLLM.values(), ids=NOT_FOR_VLLM)
def test_what_vllm_cannot_load_is_named_and_not_taken(paths: tuple[str, ...]) -> None:
    with pytest.raises(WeightsError) as caught:
        taken(*paths)

    assert caught.value.reason is Reason.WEIGHTS_MISSING


def test_only_the_shards_that_the_index_names_are_taken() -> None:
    shards = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
    index = "model.safetensors.index.json"

    assert taken(*shards, "model.safetensors", index, *SMALL, indexed=frozenset(shards)) == {*shards, index, *SMALL}


def test_a_variant_beside_the_model_is_left_out() -> None:
    assert taken("model.safetensors", "model.fp16.safetensors") == {"model.safetensors"}


@pytest.mark.parametrize(
    ("paths", "chosen"),
    [
        (("pytorch_model.bin", "x.pt", "training_args.bin", "optimizer.bin"), {"pytorch_model.bin"}),
        (("model.pt", "optimizer.pt", "scheduler.pt"), {"model.pt"}),
        (("consolidated-00001-of-00001.safetensors", "params.json"), {"consolidated-00001-of-00001.safetensors", "params.json"}),
        (("m-00001-of-00002.gguf", "m-00002-of-00002.gguf"), {"m-00001-of-00002.gguf", "m-00002-of-00002.gguf"}),
        (("adapter_model.safetensors", "adapter_model.bin", "adapter_config.json"), {"adapter_model.safetensors", "adapter_config.json"}),
    ],
)  # fmt: skip
def test_without_safetensors_the_next_format_is_taken(paths: tuple[str, ...], chosen: set[str]) -> None:
    assert taken(*paths) == chosen


def test_an_index_of_another_format_is_left_out() -> None:
    found = taken("model.safetensors", "pytorch_model.bin.index.json", "consolidated.safetensors.index.json")

    assert found == {"model.safetensors"}


@pytest.mark.parametrize(
    ("load_format", "chosen"),
    [
        ("auto", "model.safetensors"),
        ("safetensors", "model.safetensors"),
        ("runai_streamer", "model.safetensors"),
        ("mistral", "consolidated.safetensors"),
        ("pt", "pytorch_model.bin"),
        ("gguf", "model.gguf"),
    ],
)
def test_the_load_format_decides_between_formats(load_format: str, chosen: str) -> None:
    everything = ("model.safetensors", "consolidated.safetensors", "pytorch_model.bin", "model.gguf")

    assert taken(*everything, wish=Wish(load_format=load_format)) == {chosen}


def test_python_files_are_taken_only_when_trusted() -> None:
    paths = ("model.safetensors", "modeling_x.py", "tokenization_x.py")

    assert taken(*paths) == {"model.safetensors"}
    assert taken(*paths, wish=Wish(trust_remote_code=True)) == set(paths)


def test_layers_of_sentence_transformers_are_taken() -> None:
    paths = (
        "model.safetensors",
        "modules.json",
        "1_Pooling/config.json",
        "2_Dense/model.safetensors",
        "2_Dense/config.json",
    )

    assert taken(*paths, "2_Dense/pytorch_model.bin", "openvino/model.bin") == set(paths)


def test_tokenizers_of_every_kind_are_taken() -> None:
    kinds = ("tokenizer.model", "tekken.json", "tokenizer.model.v3", "vocab.txt", "merges.txt", "qwen.tiktoken",
             "chat_template.jinja", "preprocessor_config.json", "additional_chat_templates/tool.jinja")  # fmt: skip

    assert taken("model.safetensors", *kinds) == {"model.safetensors", *kinds}


def test_include_replaces_the_choice_and_exclude_takes_from_it() -> None:
    paths = ("model.safetensors", "a-Q4.gguf", "a-Q8.gguf", "config.json", "extra/notes.bin")

    assert taken(*paths, wish=Wish(include=("*Q4.gguf", "*.json"))) == {"a-Q4.gguf", "config.json"}
    assert taken(*paths, wish=Wish(exclude=("*.json",))) == {"model.safetensors"}
    assert taken(*paths, wish=Wish(include=("extra", "*.safetensors"))) == {"model.safetensors", "extra/notes.bin"}


def test_small_files_come_first() -> None:
    found = select(files("a.safetensors", "z.json", "b.safetensors"), Wish())

    assert [file.path for file in found.files] == ["z.json", "a.safetensors", "b.safetensors"]


@pytest.mark.parametrize(
    ("paths", "wish", "reason"),
    [
        (SMALL, Wish(), Reason.WEIGHTS_MISSING),
        (("model.onnx", "config.json"), Wish(), Reason.WEIGHTS_MISSING),
        (("model.safetensors",), Wish(load_format="gguf"), Reason.WEIGHTS_MISSING),
        (("model.safetensors",), Wish(include=("*.bin",)), Reason.WEIGHTS_MISSING),
        (("a-Q4.gguf", "a-Q8.gguf"), Wish(), Reason.WEIGHTS_MISSING),
    ],
)
def test_no_choice_is_a_named_failure(paths: tuple[str, ...], wish: Wish, reason: Reason) -> None:
    with pytest.raises(WeightsError) as caught:
        select(files(*paths), wish)

    assert caught.value.reason is reason
    assert not caught.value.retry
    assert caught.value.remedy


def test_a_tokenizers_repository_gives_no_weights() -> None:
    found = tokenizer_files(files(*SMALL, "model.safetensors", "modeling.py", "vocab.json"), trust_remote_code=False)

    assert {file.path for file in found} == {*SMALL, "vocab.json"}


@pytest.mark.parametrize("path", ["../etc/passwd", "/etc/passwd", "a/../../b", ".vllm-operator/manifest.json", "a\\b"])
def test_a_path_that_leads_out_of_the_folder_is_refused(path: str) -> None:
    with pytest.raises(WeightsError) as caught:
        check_paths(tuple(files(path)))

    assert caught.value.reason is Reason.WEIGHTS_CORRUPT


def test_braces_are_a_shells() -> None:
    names = ("config.json", "a-Q4.gguf", "a-Q8.gguf", "a-F16.gguf", "x{1}.json", "sub/y.txt", "sub/z.md")

    assert taken(*names, wish=Wish(include=("*.{json,txt}", "*-Q{4,}.gguf"))) >= {
        "config.json",
        "a-Q4.gguf",
        "sub/y.txt",
    }
    assert "a-Q8.gguf" not in taken(*names, wish=Wish(include=("*.{json,txt}", "*-Q{4,}.gguf")))
    assert "x{1}.json" in taken(*names, wish=Wish(include=("x{1}.json", "*Q4*")))
    assert taken(*names, wish=Wish(include=("{config.json,a-{Q4,F{16,32}}.gguf}",), exclude=("*Q4*",))) == {
        "config.json",
        "a-F16.gguf",
    }


def test_a_pattern_without_end_is_refused() -> None:
    with pytest.raises(WeightsError) as caught:
        taken("config.json", "a.gguf", wish=Wish(include=("{a,b}" * 40,)))

    assert caught.value.reason is Reason.INVALID_ARGUMENT
