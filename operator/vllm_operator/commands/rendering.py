"""`vllm-operator render`: every object that the operator would make for a model, as YAML, without a cluster."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import yaml

from vllm_operator.commands.models import read_models, read_text
from vllm_operator.commands.wrong import WrongInput
from vllm_operator.plan.manifests import PlanError, manifests
from vllm_operator.settings import Settings, SettingsError, load


def render_command(file: str, settings: str | None, answer: str | None) -> int:
    """Prints the manifests of all models in the file. Exit code 1 when the plan refuses one, 2 for wrong input."""
    loaded, given = settings_of(settings), _answer(answer)
    refused = False
    for model in read_models(file):
        try:
            made = manifests(model, loaded, given)
        except PlanError as error:
            refused = True
            print(f"{model.metadata.name}: {error}", file=sys.stderr)
            continue
        for manifest in made:
            print("---")
            print(yaml.safe_dump(manifest, sort_keys=False, width=120, allow_unicode=True), end="")
    return 1 if refused else 0


def settings_of(path: str | None) -> Settings:
    """The platform's settings. Raises WrongInput."""
    try:
        return load(path)
    except SettingsError as error:
        raise WrongInput(" ".join(str(error).split())) from error


def _answer(file: str | None) -> Mapping[str, Any] | None:
    if file is None:
        return None
    try:
        answer = json.loads(read_text(file))
    except ValueError as error:
        raise WrongInput(f"--answer: {file} is no JSON: {error}") from error
    if not isinstance(answer, dict):
        raise WrongInput(f"--answer: {file} is not the JSON object that an inspection leaves")
    return answer
