"""The table of models that vLLM was asked to build, made again with the installed vLLM."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.fit_ground_truth import built
from tests.test_args_vllm import vllm_python

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

SAID = ("parameters", "rope", "blocks", "tokens", "longest")


@pytest.fixture(scope="module")
def told() -> dict[str, dict[str, Any]]:
    program = Path(__file__).with_name("vllm_shapes.py")
    asked = json.dumps(list(built().values()))
    done = subprocess.run(
        [vllm_python(), str(program)], input=asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert done.returncode == 0, "run tests/vllm_shapes.py with vLLM's Python to see why"
    return {answer["name"]: answer for answer in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", built())
def test_vllm_builds_the_model_as_the_table_has_it(name: str, told: dict[str, dict[str, Any]]) -> None:
    assert "error" not in told[name], told[name]
    assert {key: told[name].get(key, 0) for key in SAID} == {key: built()[name][key] for key in SAID}
