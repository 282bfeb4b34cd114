"""A model read against the platform's settings: what stands against it, and the question to its hub."""

from __future__ import annotations

from vllm_operator.api import VLLMModel
from vllm_operator.plan.types import Plan
from vllm_operator.settings import Settings


def plan_model(model: VLLMModel, settings: Settings) -> Plan:
    """The plan of a parsed model. Never raises: what is wrong with it is in `problems`."""
    raise NotImplementedError
