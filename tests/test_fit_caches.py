"""Every architecture that vLLM was asked to build: its parameters, and the KV cache as vLLM's own functions lay it out."""

from typing import Any

import pytest

from tests.fit_ground_truth import built
from vllm_operator.fit import Arguments
from vllm_operator.fit.cache import CachePlan, plan_cache
from vllm_operator.fit.matrices import matrices
from vllm_operator.fit.shape import read_shape

EVERY_MODEL = pytest.mark.parametrize("name", built())


def plan_of(model: dict[str, Any]) -> CachePlan:
    return plan_cache(read_shape(model["config"]), Arguments(estimates_cuda_graphs=True), 2, 8192)


@EVERY_MODEL
def test_the_config_is_understood(name: str) -> None:
    assert read_shape(built()[name]["config"]).missing == ()


@EVERY_MODEL
def test_parameters_are_those_that_vllm_builds(name: str) -> None:
    """Norms and biases are left out; where a wrapper's language part is built alone, so is what sees and hears."""
    alone = "text" in built()[name]
    shape = read_shape(built()[name]["config"])
    counted = sum(matrix.total for matrix in matrices(shape) if matrix.place != "vision" or not alone)

    within = 0.01 if shape.encoders and not alone else 0.004
    assert counted == pytest.approx(built()[name]["parameters"], rel=within)


@EVERY_MODEL
def test_the_rotary_tables_are_no_smaller_than_those_that_vllm_builds(name: str) -> None:
    """Of two tables each is counted whole; some models turn only a part of each head in some layers."""
    model = built()[name]
    said = read_shape(model["config"]).rope_bytes

    assert model["rope"] - (1 << 20) <= said <= model["rope"] + (64 << 20)


@EVERY_MODEL
def test_memory_holds_the_blocks_and_tokens_that_vllm_says(name: str) -> None:
    model = built()[name]
    plan, memory, length = plan_of(model), model["memory"], model["length"]

    assert (memory // plan.block_bytes if plan.block_bytes else 0) == model["blocks"]
    if model["blocks"]:
        assert int(plan.concurrency(memory, length) * length) == model["tokens"]


@EVERY_MODEL
def test_the_longest_request_is_the_one_that_vllm_admits(name: str) -> None:
    """Its estimate takes the block too that it holds back later."""
    model = built()[name]
    plan = plan_of(model)

    if plan.block_bytes:
        assert plan.longest(model["memory"] + plan.block_bytes, model["length"]) == model["longest"]
