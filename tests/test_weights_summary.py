"""Of any config.json, what a fit needs gets into the termination message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.hub.models import LLAMA
from vllm_operator.plan.answer import Answer, read_answer
from vllm_weights import termination
from vllm_weights.failure import WeightsError
from vllm_weights.inspection import fitting, sharing
from vllm_weights.summary import compact, quantization_of, reductions

pytestmark = pytest.mark.weights

ANSWER = {"version": 1, "ok": True, "source": "org/model", "commit": "0" * 40, "quantization": {}}
LAYERS = ["sliding_attention", "sliding_attention", "full_attention"] * 30


def kept(config: dict[str, Any], room: int = 4096) -> dict[str, Any]:
    answer = fitting(dict(ANSWER), config, room)
    assert len(compact(answer)) <= room
    found: dict[str, Any] = answer["config"]
    return found


def test_a_plain_config_is_kept_whole() -> None:
    assert kept(LLAMA) == LLAMA


def test_vocabularies_and_token_lists_are_dropped() -> None:
    config = LLAMA | {
        "id2label": {str(at): f"LABEL_{at}" for at in range(1000)},
        "label2id": {"a": 1},
        "bos_token_id": 1,
        "suppress_tokens": list(range(90)),
        "auto_map": {"AutoModel": "modeling.Model"},
        "rope_scaling": {"rope_type": "longrope", "long_factor": [1.0] * 48, "factor": 4.0},
    }

    assert kept(config) == LLAMA | {"rope_scaling": {"rope_type": "longrope", "factor": 4.0}}


def test_layer_types_are_kept_where_there_is_room_and_counted_where_not() -> None:
    config = LLAMA | {"layer_types": LAYERS}

    assert kept(config)["layer_types"] == LAYERS
    assert kept(config, room=1200)["layer_types_counts"] == {"sliding_attention": 60, "full_attention": 30}


def test_the_text_model_outlives_the_vision_model() -> None:
    vision = {f"vision_setting_with_a_long_name_{at}": at for at in range(300)}
    config = {"model_type": "vlm", "text_config": LLAMA | {"layer_types": LAYERS}, "vision_config": vision}

    found = kept(config)

    assert found["text_config"]["num_key_value_heads"] == 8
    assert found["text_config"]["layer_types_counts"]["full_attention"] == 30
    assert "vision_config" not in found


def monsters() -> dict[str, dict[str, Any]]:
    deep: dict[str, Any] = {}
    inner = deep
    for _ in range(60):
        inner["text_config"] = {f"num_key_{at}": at for at in range(20)}
        inner = inner["text_config"]
    return {
        "thousand numbers": {f"num_{at}": at for at in range(2000)} | LLAMA,
        "deep nesting": deep,
        "long lists": {f"num_list_{at}": list(range(120)) for at in range(40)} | LLAMA,
        "long names": {"num_" + "x" * 5000: 1} | LLAMA,
        "block configs": {"block_configs": [{"attention": {"n_heads_in_group": 8}}] * 120} | LLAMA,
        "quantized layers": LLAMA
        | {
            "quantization_config": {
                "quant_method": "compressed-tensors",
                "ignore": [f"model.layers.{at}.self_attn.q_proj" for at in range(3000)],
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 128}, "targets": ["Linear"] * 900}},
            }
        },
        "wide text": {"model_type": "é" * 90, "architectures": ["ü" * 90] * 8},
    }  # fmt: skip


@pytest.mark.parametrize("config", monsters().values(), ids=monsters().keys())
@pytest.mark.parametrize("room", [4096, 1000])
def test_no_config_is_too_large(config: dict[str, Any], room: int) -> None:
    kept(config, room)


def test_what_sizes_are_computed_from_outlives_a_thousand_other_numbers() -> None:
    config = {f"some_setting_{at}": at for at in range(2000)} | LLAMA

    assert kept(config) == LLAMA


def test_each_reduction_is_no_larger_than_the_one_before() -> None:
    for config in monsters().values():
        sizes = [len(compact(reduce())) for reduce in reductions(config)]

        assert sizes == sorted(sizes, reverse=True)


def parts(adapters: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    model = ANSWER | {
        "bytes": 16_000_000_000,
        "files": 14,
        "format": "safetensors",
        "weights": {"totalBytes": 16_000_000_000},
    }
    adapter = ANSWER | {"source": "hf://some-organisation/some-adapter-name", "bytes": 167_000_000, "files": 4, "format": "safetensors"}  # fmt: skip
    return [(model, LLAMA), *[(adapter, {"r": 16, "base_model_name_or_path": "org/model"})] * adapters]


@pytest.mark.parametrize("adapters", [0, 1, 4, 10, 25, 40, 64])
def test_a_model_with_adapters_is_told_in_one_message(adapters: int) -> None:
    answer = sharing(parts(adapters), 4096)

    assert len(compact(answer)) <= 4096
    assert len(answer["parts"]) == adapters + 1
    assert {(part.commit, part.tokenizer_commit) for part in told(answer).parts} == {("0" * 40, None)}
    assert told(answer).bytes == answer["bytes"]
    assert answer["bytes"] == 16_000_000_000 + adapters * 167_000_000
    if adapters <= 25:
        assert answer["parts"][0]["config"] == LLAMA
    if adapters in (1, 4):
        assert answer["parts"][-1]["config"]["r"] == 16


def told(answer: dict[str, Any]) -> Answer:
    """The answer as the operator reads it."""
    kept: dict[str, Any] = json.loads(compact(answer))
    return read_answer(kept if len(kept["parts"]) > 1 else kept["parts"][0], len(kept["parts"]))


def test_as_many_adapters_as_a_model_may_have_leave_room_for_its_own_sizes() -> None:
    config = sharing(parts(64), 4096)["parts"][0]["config"]

    assert {"num_hidden_layers", "num_key_value_heads", "hidden_size"} <= set(config)


def test_more_adapters_than_can_be_told_of_are_refused() -> None:
    with pytest.raises(WeightsError, match="97 sources"):
        sharing(parts(96), 4096)


@pytest.mark.parametrize(
    ("config", "quantization"),
    [
        ({}, {}),
        (
            {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}},
            {"method": "gptq", "bits": 4, "groupSize": 128},
        ),
        ({"quantization_config": {"quant_method": "fp8", "fmt": "e4m3"}}, {"method": "fp8", "format": "e4m3"}),
        ({"text_config": {"quantization_config": {"quant_method": "mxfp4"}}}, {"method": "mxfp4"}),
        (
            {
                "compression_config": {
                    "quant_method": "compressed-tensors",
                    "format": "pack-quantized",
                    "config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 32, "type": "int"}}},
                }
            },
            {"method": "compressed-tensors", "bits": 4, "groupSize": 32, "format": "pack-quantized"},
        ),
    ],
)
def test_quantization_is_told_in_one_shape(config: dict[str, Any], quantization: dict[str, Any]) -> None:
    assert quantization_of(config) == quantization


def test_modelopts_own_file_is_understood() -> None:
    extra = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8", "group_size": None}}

    assert quantization_of({}, extra) == {"method": "fp8"}


def test_a_long_failure_is_cut_and_stays_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "termination"
    answer = {"version": 1, "message": "x" * 9000, "parts": [{"a": "y" * 500}] * 9}
    termination.write(answer, {"TERMINATION_MESSAGE_PATH": str(path)})

    written = path.read_bytes()
    assert len(written) <= 4096
    assert json.loads(written)["partsLeftOut"] == 9
    assert json.loads(capsys.readouterr().out) == json.loads(written)
