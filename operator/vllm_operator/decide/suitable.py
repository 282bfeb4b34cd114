"""Can what the inspection found be served at all, as the spec stands? Said before anything is pulled."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from vllm_operator.decide.trust import model_part, needs_trust
from vllm_operator.diagnose import Failure, Reason, failure
from vllm_operator.plan import Plan

_REPOSITORY: Final = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


def unsuitable(plan: Plan, answer: Mapping[str, object]) -> Failure | None:
    """Why the model of an inspection's answer cannot be served; None where nothing is known against it."""
    if needs_trust(plan, answer):
        return failure(
            Reason.TrustRemoteCodeRequired, "The model does not run without Python code that its repository brings."
        )
    config = model_part(plan, answer).get("config")
    if isinstance(config, Mapping) and "peft_type" in config and "model_type" not in config:
        return _adapter_alone(plan, config)
    return None


def _adapter_alone(plan: Plan, config: Mapping[str, object]) -> Failure:
    """A model is told from an adapter by its config.json: where one lies, adapter_config.json is not read."""
    base, source = str(config.get("base_model_name_or_path") or ""), plan.parts[0].source.uri
    # Whoever trained from a folder of their own left its path there, which says nothing here.
    named = f", {base}," if _REPOSITORY.fullmatch(base) else " that it was trained on (its model card names it)"
    return failure(
        Reason.WeightsMissing,
        f"{source} holds an adapter (adapter_config.json) and no model: there is no config.json.",
        remedy=f"Name the base model{named} in `model` and this source in `adapters[].source`; "
        "or merge the adapter into the model, and name what comes of it.",
    )
