"""What include and exclude leave out is refused where no server starts without it; and a wait is told as it begins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.hub.running import Program
from tests.stores.mirror import Answer, Mirror, asked, files_of

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]

SECOND = "model-00002-of-00002.safetensors"


@pytest.mark.parametrize(
    ("choice", "what"),
    [
        ({"exclude": ["model-00002*"]}, SECOND),
        ({"include": ["*.json", "model-00001*"]}, SECOND),
        ({"include": ["*.safetensors"]}, "config.json"),
        ({"exclude": ["*.json"]}, "config.json"),
    ],
)
def test_a_choice_that_leaves_out_what_is_needed_is_refused_by_its_fields(
    tmp_path: Path, choice: dict[str, Any], what: str
) -> None:
    with Mirror(files_of(tmp_path)) as mirror:
        for command in ("inspect", "pull"):
            ended = asked(command, tmp_path, mirror, **choice)

            assert (ended.answer["reason"], ended.code) == ("WeightsMissing", 3), ended.output
            assert what in ended.answer["message"]
            assert ended.answer["message"].startswith(f"download.{next(iter(choice))} leaves out")


def test_a_tokenizer_that_is_left_out_is_not_told_to_be_there(tmp_path: Path) -> None:
    with Mirror(files_of(tmp_path)) as mirror:
        whole = asked("inspect", tmp_path, mirror)
        without = asked("inspect", tmp_path, mirror, exclude=["tokenizer*"])

    assert (whole.answer["hasTokenizer"], without.answer["hasTokenizer"]) == (True, False)


def test_a_long_wait_is_told_as_it_begins(tmp_path: Path) -> None:
    later = Answer(429, b"", {"Retry-After": "3600"})
    request = {"source": "acme/tiny", "destination": str(tmp_path / "to/m"), "tries": 2}
    with Mirror(files_of(tmp_path), {"*.safetensors": later}) as mirror:
        program = Program("pull", request, tmp_path / "work", {"HF_ENDPOINT": mirror.url})
        try:
            line = _line_with(program.log, '"event": "waiting"', program)
        finally:
            program.kill()

    assert (json.loads(line)["seconds"], json.loads(line)["reason"]) == (300, "HubRateLimited")


def _line_with(log: Path, words: str, program: Program) -> str:
    while True:
        for line in log.read_text().splitlines():
            if words in line:
                return line
        assert program.process.poll() is None, log.read_text()
