"""Reading VLLMModels from a file, as strictly as the API server would."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from vllm_operator.api import KIND, VLLMModel, parse_strict
from vllm_operator.commands.wrong import WrongInput

SAID = 5  # wrong fields that are named in one message


def read_text(file: str) -> str:
    """The text of a file, or of standard input for "-"."""
    if file == "-":
        return sys.stdin.read()
    try:
        return Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise WrongInput(f"{file} cannot be read: {error.strerror or error}") from error


def read_models(file: str) -> tuple[VLLMModel, ...]:
    """All VLLMModels in a YAML file. Raises WrongInput, by field, when there is none or one is wrong."""
    try:
        documents = [document for document in yaml.safe_load_all(read_text(file)) if document is not None]
    except yaml.YAMLError as error:
        raise WrongInput(f"{file} is no YAML: {' '.join(str(error).split())}") from error
    models = tuple(_models(file, documents))
    if not models:
        raise WrongInput(f"{file} has no object of kind {KIND}")
    return models


def _models(file: str, documents: list[Any]) -> Iterator[VLLMModel]:
    for document in documents:
        if not isinstance(document, dict) or document.get("kind") != KIND:
            continue
        try:
            yield parse_strict(document)
        except ValidationError as error:
            raise WrongInput(f"{file}: {in_words(error)}") from error


def in_words(error: ValidationError) -> str:
    """What is wrong, each with the path of its field."""
    told = [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()[:SAID]]
    more = error.error_count() - len(told)
    return "; ".join(told) + (f"; and {more} more" if more > 0 else "")
