"""What tests of the plan share: an inspection's canned answer, a whole plan, and the kubelet's expansion."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tests.builders import a_model
from vllm_operator.api import VLLMModel
from vllm_operator.plan import Plan, ServerPlan, WeightsPlan, plan_model, plan_server, plan_weights
from vllm_operator.settings import Settings, load
from vllm_operator.settings.load import from_document

BYTES = 16_060_522_496
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def settings(**document: Any) -> Settings:
    """The built-in settings, with these keys (camelCase) over them."""
    return from_document(document, "the test's settings") if document else load(None)


def answer_to(plan: Plan, size: int = BYTES) -> Mapping[str, object] | None:
    """An answer to a plan's inspection: the model has `size` bytes and one commit, every further part 50 MB and another."""
    pulled = [part for part in plan.parts if part.source.is_pulled]
    parts: list[dict[str, object]] = []
    for index, part in enumerate(pulled):
        found: dict[str, object] = {"version": 1, "ok": True, "source": part.source.uri}
        found |= {"commit": f"{index}{COMMIT[1:]}", "bytes": 50_000_000 if index else size}
        if "tokenizer" in part.request:
            found["tokenizer"] = {"commit": f"f{COMMIT[1:]}"}
        parts.append(found)
    if not parts:
        return None
    total = BYTES + 50_000_000 * (len(parts) - 1)
    return parts[0] if len(parts) == 1 else {"version": 1, "ok": True, "bytes": total, "parts": parts}


def planned(model: VLLMModel, given: Settings | None = None, size: int = BYTES) -> tuple[Plan, WeightsPlan, ServerPlan]:
    """The three steps of a model without problems."""
    plan = plan_model(model, given or settings())
    assert plan.problems == ()
    weights = plan_weights(plan, answer_to(plan, size))
    return plan, weights, plan_server(plan, weights)


def a_server(given: Settings | None = None, size: int = BYTES, **spec: Any) -> ServerPlan:
    """The server of a model with these fields."""
    return planned(a_model(**spec), given, size)[2]


def some_weights(given: Settings | None = None, size: int = BYTES, **spec: Any) -> WeightsPlan:
    """The weights of a model with these fields."""
    return planned(a_model(**spec), given, size)[1]


def problems(given: Settings | None = None, **spec: Any) -> list[tuple[str, str]]:
    """Reason and message of everything that stands against a model with these fields."""
    plan = plan_model(a_model(**spec), given or settings())
    found = plan.problems or plan_weights(plan, answer_to(plan)).problems
    return [(str(problem.reason), f"{problem.message} {problem.remedy}") for problem in found]


def arrived(text: str, environment: Mapping[str, str]) -> str:
    """An argument or value after the kubelet's expansion: `$$` is `$`, `$(NAME)` a variable's value where there is one."""
    return re.sub(
        r"\$\$|\$\(([^)]*)\)",
        lambda found: "$" if found[0] == "$$" else environment.get(found[1], found[0]),
        text,
    )


def env_of(container: Mapping[str, Any]) -> dict[str, str]:
    """A container's literal variables as the process sees them."""
    return {item["name"]: arrived(item["value"], {}) for item in container["env"] if "value" in item}
