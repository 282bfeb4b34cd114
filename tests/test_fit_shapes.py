"""Every architecture, in several shapes, against the parameters and projections that transformers builds for it."""

import pytest

from tests.fit_ground_truth import built, models, shapes
from vllm_operator.fit import Arguments
from vllm_operator.fit.architectures import families
from vllm_operator.fit.cache import plan_cache
from vllm_operator.fit.matrices import matrices
from vllm_operator.fit.shape import ModelShape, read_shape

EVERY_SHAPE = pytest.mark.parametrize("name", shapes())
REMOTE_CODE = {"RefinedWeb", "RefinedWebModel", "internlm3", "solar"}
"""Their classes are neither in transformers nor counted by their authors; they are built as falcon or llama is."""


def shape_of(name: str) -> ModelShape:
    return read_shape(shapes()[name]["config"])


def padding(shape: ModelShape) -> int:
    """vLLM rounds the vocabulary up to 64 rows, transformers does not."""
    ends = 1 if shape.tied or shape.is_encoder else 2
    return ends * (-shape.vocab % 64) * shape.embedding


def test_every_architecture_is_held_against_something() -> None:
    held = [model["config"] for model in (*shapes().values(), *models().values(), *built().values())]
    seen = {name for config in held for name in (config["model_type"], read_shape(config).model_type)}

    assert set(families()) - seen == REMOTE_CODE


@EVERY_SHAPE
def test_parameters_are_counted_as_transformers_builds_them(name: str) -> None:
    """Norms and biases are left out (under 0.4 %), and so is BERT's head for its masked words (under 1 %)."""
    shape = shape_of(name)
    # The state matrix of Mamba 1 is counted twice, as it takes 32 bits.
    within = 0.01 if shape.is_encoder or shape.encoders or shape.model_type in ("mamba", "falcon_mamba") else 0.004

    assert shape.missing == ()
    # vLLM makes Jamba a head where transformers ties it.
    counted = sum(matrix.total for matrix in matrices(shape) if not (shape.tied and matrix.place == "head"))
    counted -= padding(shape)
    assert counted == pytest.approx(shapes()[name]["parameters"], rel=within)


@EVERY_SHAPE
def test_a_token_takes_what_the_projections_of_keys_and_values_give(name: str) -> None:
    assert plan_cache(shape_of(name), Arguments(), 2, 2048).bytes_per_token == shapes()[name]["kv_bytes"]
