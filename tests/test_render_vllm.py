"""The real vLLM's parser takes the arguments of every example's server."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

from tests.golden.canned import arrived
from tests.golden.examples import EXAMPLES, ROOT, rendered

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    """What the parser made of each example's arguments, by the example's name."""
    lists = {path.stem: arguments(rendered(path)) for path in EXAMPLES}
    lines = "".join(json.dumps(words) + "\n" for words in lists.values())
    done = subprocess.run(
        [os.environ["VLLM_PYTHON"], str(ROOT / "tests" / "vllm_parser.py")],
        input=lines,
        capture_output=True,
        text=True,
        check=True,
        timeout=280,
    )
    return dict(zip(lists, (json.loads(line) for line in done.stdout.splitlines()[1:]), strict=True))


def arguments(objects: list[dict[str, Any]]) -> list[str]:
    """The arguments of the Deployment's container as the process sees them."""
    [deployment] = [item for item in objects if item["kind"] == "Deployment"]
    return [arrived(word, {}) for word in deployment["spec"]["template"]["spec"]["containers"][0]["args"]]


def test_every_example_is_understood(answers: dict[str, Any]) -> None:
    assert {name: answer["error"] for name, answer in answers.items() if "error" in answer} == {}


def test_the_platforms_flags_mean_what_they_are_to_mean(answers: dict[str, Any]) -> None:
    for name, answer in answers.items():
        parsed = answer["parsed"]
        assert parsed["allowed_media_domains"] == ["media.invalid"], name
        assert parsed["model_tag"].startswith(("/models/", "s3://")), name
        assert parsed["shutdown_timeout"] > 0, name
        assert parsed["port"] == 8000, name
