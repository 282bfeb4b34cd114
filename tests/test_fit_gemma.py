"""Gemma 3n and 4: heads that differ between layers, keys and values shared by layers, embeddings of each layer."""

from dataclasses import replace
from typing import Any

from tests.fit_ground_truth import built
from vllm_operator.fit import Arguments, WeightsSummary, accelerators, judge
from vllm_operator.fit.matrices import matrices
from vllm_operator.fit.overhead import overhead
from vllm_operator.fit.shape import ModelShape, read_shape

H200 = accelerators()["nvidia-h200"]


def text_of(name: str, **changed: Any) -> ModelShape:
    return read_shape({**built()[name]["config"]["text_config"], **changed})


def test_full_layers_of_gemma_4_have_fewer_and_wider_heads() -> None:
    sliding, full = text_of("gemma-4-31b").attention[0], text_of("gemma-4-31b").attention[5]

    assert (sliding.kv, sliding.dim, sliding.joined) == (16, 256, False)
    assert (full.kv, full.dim, full.joined) == (4, 512, True)


def test_global_kv_heads_count_only_where_values_are_the_keys() -> None:
    assert text_of("gemma-4-31b", attention_k_eq_v=False).attention[5].kv == 16


def test_heads_stated_layer_by_layer_are_the_same_heads() -> None:
    """Newer releases of transformers write Gemma 4's so."""
    config = dict(built()["gemma-4-e2b"]["config"]["text_config"])
    own = {f"{i:02}": {"head_dim": 512} for i, kind in enumerate(config["layer_types"]) if kind == "full_attention"}
    without = {name: value for name, value in config.items() if name != "global_head_dim"}

    assert read_shape({**without, "per_layer_config": own}).attention == text_of("gemma-4-e2b").attention


def test_a_layer_beyond_the_last_is_not_guessed_at() -> None:
    stated = {"99": {"head_dim": 512}}

    assert text_of("gemma-4-e2b", per_layer_config=stated).missing == ("per_layer_config of a layer 99",)


def test_the_last_layer_is_full_whatever_the_pattern() -> None:
    shape = text_of("gemma-4-31b", layer_types=None, num_hidden_layers=35)

    assert [i for i, kind in enumerate(shape.kinds) if kind == "full"] == [5, 11, 17, 23, 29, 34]


def test_layers_that_share_have_queries_alone_and_a_wider_mlp() -> None:
    shape = text_of("gemma-4-e2b")

    assert [heads.shared for heads in shape.attention] == [False] * 15 + [True] * 20
    assert shape.widths == (6144,) * 15 + (12288,) * 20


def test_values_that_are_the_keys_are_in_the_files_once_and_in_memory_twice() -> None:
    config = built()["gemma-4-31b"]["config"]["text_config"]
    made = sum(matrix.total for matrix in matrices(read_shape(config)) if matrix.made)
    files = sum(matrix.total for matrix in matrices(read_shape(config)) if not matrix.made)
    summary = WeightsSummary(2 * files, {"BF16": files})

    counted = judge(config, None, Arguments(), H200).weights_bytes
    assert made == 10 * 4 * 512 * 5376
    assert counted == judge(config, summary, Arguments(), H200).weights_bytes


def test_global_heads_limit_tensor_parallelism_as_the_others_do() -> None:
    config = built()["gemma-4-26b-a4b"]["config"]

    message = judge(config, None, Arguments(tensor_parallel_size=3), H200).message
    assert "does not divide the 16 attention heads" in message
    assert judge(config, None, Arguments(tensor_parallel_size=4), H200).fits is True


def test_fields_that_only_gemma_has_are_not_guessed_at_elsewhere() -> None:
    config = {**built()["gemma-4-e4b"]["config"]["text_config"], "model_type": "llama"}

    assert "a model of num_kv_shared_layers" in read_shape(config).missing
    assert "a model of hidden_size_per_layer_input" in read_shape(config).missing


def test_the_embeddings_of_each_layer_are_in_doubt_a_second_time_without_an_encoder() -> None:
    """The compiler may copy them as it copies the usual ones; with an encoder they are looked up before it."""
    shape = text_of("gemma-4-e4b")
    table = 262144 * 42 * 256 * 2

    assert overhead(shape, Arguments(), H200, 2).uncounted == table
    assert overhead(shape, Arguments(enforce_eager=True), H200, 2).uncounted == 0
    plain = replace(shape, per_layer=None)
    batch = overhead(shape, Arguments(enforce_eager=True), H200, 2).activations
    assert batch - overhead(plain, Arguments(enforce_eager=True), H200, 2).activations == 6 * 8192 * 42 * 256


def test_a_card_that_holds_a_small_model_of_images_is_not_refused_for_the_samplers_first_run() -> None:
    """What an encoder's trial run leaves behind serves the sampler, and was not measured: it is said, and no reason."""
    config = built()["gemma-4-e4b"]["config"]
    text = {name: value for name, value in config.items() if name not in ("vision_config", "audio_config")}
    h100 = accelerators()["nvidia-h100-80gb"]

    verdict = judge(config, None, Arguments(max_model_len=16384), h100)
    assert verdict.fits is True
    assert "the sampler's warm-up may need up to" in verdict.note
    assert judge(text, None, Arguments(max_model_len=16384), h100).fits is False
