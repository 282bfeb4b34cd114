"""A model read against the platform's settings: what stands against it, and the question to its hub."""

from __future__ import annotations

from vllm_operator.api import VLLMModel
from vllm_operator.plan.accelerator import Named, image_of, image_problems, profiles_of
from vllm_operator.plan.adapters import adapter_claim, plan_adapters
from vllm_operator.plan.affinity import affinity_problems
from vllm_operator.plan.chat import template_problems
from vllm_operator.plan.flags import extra_args_problems, field_problems
from vllm_operator.plan.jobs import inspect_job
from vllm_operator.plan.parts import parts_of, place_problems
from vllm_operator.plan.policy import policy_problems
from vllm_operator.plan.resources import resource_problems
from vllm_operator.plan.rollout import rollout_problems
from vllm_operator.plan.types import Plan, Problem, ProblemReason
from vllm_operator.settings import Settings


def plan_model(model: VLLMModel, settings: Settings) -> Plan:
    """The plan of a parsed model. Never raises: what is wrong with it is in `problems`."""
    try:
        parts, adapters = parts_of(model.spec), plan_adapters(model, settings)
    except ValueError as error:  # an address that an older operator's grammar does not know
        problem = Problem(ProblemReason.INVALID_SPEC, str(error), "Write one of the forms that this operator knows.")
        return Plan(model, settings, (problem,), None, (), (), None)
    profiles, unknown = profiles_of(model.spec, settings)
    problems = [
        *place_problems(model.spec, parts),
        *policy_problems(model, (*parts, *(adapter.part for adapter in adapters)), settings),
        *_argument_problems(model, profiles, settings),
        *unknown,
        *image_problems(model.spec, profiles, settings),
        *resource_problems(model.spec, profiles, settings),
        *rollout_problems(model.spec),
        *affinity_problems(model.spec),
    ]
    pulled = [part for part in parts if part.source.is_pulled]
    inspect = inspect_job(model, settings, pulled) if pulled else None
    claim = adapter_claim(model, settings)
    return Plan(model, settings, tuple(problems), parts[0].source, parts, profiles, inspect, adapters, claim)


def _argument_problems(model: VLLMModel, profiles: Named, settings: Settings) -> list[Problem]:
    image = image_of(model.spec, profiles, settings) or ""
    found = [*field_problems(model.spec, image), *extra_args_problems(model.spec.extra_args, image)]
    return [*found, *template_problems(model.spec)]
