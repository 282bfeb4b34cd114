"""The servers of a model, from its weights: Deployment, Service and chat template."""

from __future__ import annotations

from vllm_operator.plan.types import Plan, ServerPlan, WeightsPlan


def plan_server(plan: Plan, weights: WeightsPlan) -> ServerPlan:
    """Everything that serves the model from these weights."""
    raise NotImplementedError
