"""Reading VLLMModels from a file, as strictly as the API server would: what people write, and what `kubectl get` prints."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from vllm_operator.api import KIND, VLLMModel, parse_strict
from vllm_operator.commands.wrong import WrongInput

SAID = 5  # wrong fields that are named in one message
# What the API server adds to an object's metadata, or takes without a meaning for the operator.
_SERVERS_OWN = frozenset(
    {
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
    }
)


def read_text(file: str) -> str:
    """The text of a file, or of standard input for "-"."""
    if file == "-":
        return sys.stdin.read()
    try:
        return Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise WrongInput(f"{file} cannot be read: {error.strerror or error}") from error


def read_models(file: str) -> tuple[VLLMModel, ...]:
    """All VLLMModels in a YAML or JSON file, those of a List too. Raises WrongInput, by field, for none or a wrong one."""
    try:
        documents = [document for document in yaml.safe_load_all(read_text(file)) if document is not None]
    except yaml.YAMLError as error:
        raise WrongInput(f"{file} is no YAML: {' '.join(str(error).split())}") from error
    except (RecursionError, ValueError) as error:
        raise WrongInput(f"{file} is no YAML that can be read: {error}") from error
    models = tuple(_models(file, documents))
    if not models:
        raise WrongInput(f"{file} has no object of kind {KIND}")
    return models


def _models(file: str, documents: list[Any]) -> Iterator[VLLMModel]:
    for document in documents:
        if not isinstance(document, dict):
            continue
        if str(document.get("kind")).endswith("List") and isinstance(document.get("items"), list):
            yield from _models(file, document["items"])
        if document.get("kind") != KIND:
            continue
        try:
            yield parse_strict(_as_written(document))
        except ValidationError as error:
            raise WrongInput(f"{file}: {in_words(error)}") from error


def _as_written(document: Mapping[str, Any]) -> dict[str, Any]:
    """The object without what the API server put into it."""
    written = {key: value for key, value in document.items() if key != "status"}
    metadata = written.get("metadata")
    if isinstance(metadata, dict):
        written["metadata"] = {key: value for key, value in metadata.items() if key not in _SERVERS_OWN}
    return written


def in_words(error: ValidationError) -> str:
    """What is wrong, each with the path of its field."""
    told = [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()[:SAID]]
    more = error.error_count() - len(told)
    return "; ".join(told) + (f"; and {more} more" if more > 0 else "")
