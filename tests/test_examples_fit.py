"""The examples fit where they say: judged by the published configurations of their models, at their own lengths."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.golden.examples import EXAMPLES
from vllm_operator.api import VLLMModel, parse_strict
from vllm_operator.decide.question import GIB, answer_to, overridden, question_of
from vllm_operator.fit import Verdict
from vllm_operator.settings import load

SETTINGS = load(None)
CONFIGS: dict[str, Any] = yaml.safe_load(Path("tests/example_models.yaml").read_text("utf-8"))


def models(path: Path) -> list[VLLMModel]:
    documents = yaml.safe_load_all(path.read_text("utf-8"))
    return [parse_strict(document) for document in documents if document["kind"] == "VLLMModel"]


def verdicts(model: VLLMModel) -> list[Verdict]:
    spec, config = model.spec, overridden(CONFIGS[model.spec.model], model.spec.hf_overrides or {})
    names = spec.accelerators or (spec.accelerator or SETTINGS.default_accelerator,)
    return [answer_to(question_of(spec, SETTINGS, name, SETTINGS.accelerators[name]), config, None) for name in names]


JUDGED = [path for path in EXAMPLES if any(model.spec.model in CONFIGS for model in models(path))]


def test_all_examples_but_those_of_a_folder_are_judged() -> None:
    left_out = {model.spec.model for path in EXAMPLES if path not in JUDGED for model in models(path)}

    assert all("://" in source or source == "vllm-operator/tiny-chat" for source in left_out)


@pytest.mark.parametrize("path", JUDGED, ids=lambda path: path.stem)
def test_an_example_fits_each_accelerator_that_it_names(path: Path) -> None:
    for model in models(path):
        for verdict in verdicts(model):
            # What a server on a CPU takes is not measured: an estimate that is near the limit is no verdict.
            assert verdict.fits or (verdict.accelerator == "cpu" and verdict.fits is None), verdict.message


@pytest.mark.parametrize("path", JUDGED, ids=lambda path: path.stem)
def test_the_comment_of_an_example_says_the_weights_and_the_bytes_of_a_token(path: Path) -> None:
    comment = " ".join(line.lstrip("# ") for line in path.read_text("utf-8").splitlines() if line.startswith("#"))
    sizes = [float(size) for size in re.findall(r"([\d.]+) GiB", comment)]
    tokens = [float(size) for size in re.findall(r"([\d.]+) KiB", comment)]
    [model] = models(path)
    verdict = verdicts(model)[0]
    assert verdict.weights_bytes is not None
    ways = (model.spec.tensor_parallel_size or 1) * (model.spec.pipeline_parallel_size or 1)
    weights = verdict.weights_bytes / GIB
    a_token = (verdict.kv_bytes_per_token or 0) / 1024

    # Per device or all together; 3 % for what the configuration does not say, 8 % for an image encoder's estimate.
    wanted, share = (weights, weights * ways), 0.08 if "estimated" in verdict.note else 0.03
    assert any(abs(size - one) <= max(0.15, share * one) for size in sizes for one in wanted), (wanted, comment)
    if a_token:
        wanted = (a_token, a_token * ways)
        assert any(abs(size - one) <= 0.6 for size in tokens for one in wanted), (wanted, comment)
