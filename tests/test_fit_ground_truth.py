"""The fit against the real engine: every measured row, and the parameter counts of published models."""

from pathlib import Path

import pytest

from tests.fit_ground_truth import Row, accuracy_table, models, rows
from vllm_operator.fit import Arguments, accelerators, judge
from vllm_operator.fit.matrices import matrices
from vllm_operator.fit.shape import read_shape

EVERY_ROW = pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)


@EVERY_ROW
def test_weights_are_within_two_percent_of_the_engine(row: Row) -> None:
    assert row.judged().weights_bytes == pytest.approx(row.weights, rel=0.02)


@EVERY_ROW
def test_kv_tokens_are_within_five_percent_and_never_two_too_many(row: Row) -> None:
    said = row.judged().kv_cache_tokens

    assert said is not None
    assert 0.95 * row.tokens <= said <= 1.02 * row.tokens


@EVERY_ROW
def test_the_runs_that_served_are_judged_to_fit(row: Row) -> None:
    assert row.judged().fits is True


@EVERY_ROW
def test_the_memory_left_is_within_two_percent(row: Row) -> None:
    budget = row.judged().budget

    assert budget is not None
    assert budget.available_kv == pytest.approx(row.available, rel=0.02)


@pytest.mark.parametrize("name", models())
def test_parameters_are_counted_as_their_authors_do(name: str) -> None:
    model = models()[name]
    shape = read_shape(model["config"])

    assert shape.missing == ()
    counted = sum(matrix.total for matrix in matrices(shape)) / 1e9
    assert counted == pytest.approx(model["billions"], rel=model.get("within", 0.005))


def test_the_cold_start_of_gemma_3_12b_is_foreseen() -> None:
    """vLLM's own auto length was 16,144 with a cold compile cache, at a concurrency of 7.58 at utilization 0.9."""
    config = models()["gemma-3-27b-text"]["config"]["text_config"] | {
        "hidden_size": 3840,
        "num_hidden_layers": 48,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 256,
        "intermediate_size": 15360,
    }
    auto = Arguments(max_model_len=-1, gpu_memory_utilization=0.22)

    assert judge(config, None, auto, accelerators()["nvidia-h200"]).max_model_len == pytest.approx(16144, rel=0.02)
    wide = judge(config, None, Arguments(gpu_memory_utilization=0.9), accelerators()["nvidia-h200"])
    assert wide.max_concurrency == pytest.approx(7.58, abs=0.01)


def test_llama_70b_in_16_bits_lacks_a_gibibyte_on_an_h200() -> None:
    """The engine said `Available KV cache memory: -1.07 GiB` at 0.95."""
    config = dict(rows()[5].config) | {
        "hidden_size": 8192,
        "num_attention_heads": 64,
        "num_hidden_layers": 80,
        "intermediate_size": 28672,
    }
    verdict = judge(
        config, None, Arguments(max_model_len=8192, gpu_memory_utilization=0.95), accelerators()["nvidia-h200"]
    )

    assert (verdict.fits, verdict.reason) == (False, "NoMemoryForKVCache")
    assert verdict.budget is not None
    assert verdict.budget.available_kv / (1 << 30) == pytest.approx(-1.07, abs=0.05)
    assert verdict.remedies[0] == "tensorParallelSize 2"


def test_the_documented_table_is_what_the_code_computes() -> None:
    page = Path(__file__).parents[1] / "docs" / "fit.md"

    assert accuracy_table() in page.read_text("utf-8")
