"""Where the weights come to lie, and the Job that brings them there."""

from __future__ import annotations

from collections.abc import Mapping

from vllm_operator.plan.types import Plan, WeightsPlan


def plan_weights(plan: Plan, answer: Mapping[str, object] | None) -> WeightsPlan:
    """The claim and the pull for what the inspection found. `answer` is None where `plan.inspect` is."""
    raise NotImplementedError
