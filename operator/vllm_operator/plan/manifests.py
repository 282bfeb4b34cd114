"""All manifests of a model without a cluster: what `vllm-operator render` prints.

What only an inspection can tell is assumed where no answer is given: the commit is the revision (else "main") and the
weights have 10 GiB; names with a hash of the commit and the claim's size then differ from those in a cluster.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vllm_operator.api import VLLMModel
from vllm_operator.plan.adapters import plan_adapter_pull
from vllm_operator.plan.jobs import pull_on
from vllm_operator.plan.model import plan_model
from vllm_operator.plan.nodes import PREPARE, Folder, folder_job, volume_of
from vllm_operator.plan.server import plan_server
from vllm_operator.plan.types import ClaimPlan, JobPlan, Plan, Problem, WeightsPlan
from vllm_operator.plan.weights import plan_weights
from vllm_operator.render import PlanPart, render_part
from vllm_operator.settings import Settings

ASSUMED_BYTES = 10 * 1024**3
NODE = "NODE"


class PlanError(ValueError):
    """A model that the operator would not carry out. `problems` says why, with remedies."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(f"{problem.reason}: {problem.message} {problem.remedy}" for problem in problems))
        self.problems = problems


def manifests(model: VLLMModel, settings: Settings, answer: Mapping[str, object] | None = None) -> list[dict[str, Any]]:
    """Every object of a model, in the order in which the operator makes them. Raises PlanError for a model with problems."""
    plan = plan_model(model, settings)
    if plan.problems:
        raise PlanError(plan.problems)
    weights = plan_weights(plan, assumed_answer(plan) if answer is None and plan.inspect else answer)
    if weights.problems:
        raise PlanError(weights.problems)
    server = plan_server(plan, weights)
    if server.problems:
        raise PlanError(server.problems)
    parts = (plan.inspect, weights.claim, *_on_a_node(plan, weights), weights.pull)
    served = (server.chat_template, server.deployment, server.service)
    return [render_part(part) for part in (*parts, *served, *_live_adapters(plan)) if part is not None]


def _live_adapters(plan: Plan) -> Iterator[ClaimPlan | JobPlan | None]:
    """The volume of the adapters that servers load while they run, and each adapter's Jobs."""
    yield plan.adapter_claim
    for adapter in plan.adapters:
        yield adapter.inspect
        yield plan_adapter_pull(plan, adapter, {"commit": adapter.part.revision or "main", "bytes": 0}).pull


def _on_a_node(plan: Plan, weights: WeightsPlan) -> tuple[PlanPart, ...]:
    """The volume on the nodes' own disks, and the two Jobs of a node called NODE."""
    nodes, claim, cache = weights.nodes, weights.claim, plan.settings.node_cache
    if nodes is None or claim is None or cache is None:
        return ()
    volume = volume_of(cache, claim, "CLAIM-UID")
    folder = Folder(volume.name, "VOLUME-UID", volume.path)
    return volume, folder_job(plan.settings, folder, NODE, NODE, PREPARE), pull_on(nodes.pull, NODE, NODE, "LIFE")


def assumed_answer(plan: Plan) -> Mapping[str, object]:
    """An inspection's answer where there was none: the revision for the commit, 10 GiB for the model, 0 for the rest."""
    parts: list[dict[str, object]] = []
    for part in plan.parts:
        if not part.source.is_pulled:
            continue
        answer: dict[str, object] = {"commit": part.revision or "main", "bytes": 0 if parts else ASSUMED_BYTES}
        tokenizer = part.request.get("tokenizer")
        if isinstance(tokenizer, Mapping):
            answer["tokenizer"] = {"commit": tokenizer.get("revision") or "main"}
        parts.append(answer)
    return parts[0] if len(parts) == 1 else {"parts": parts}
