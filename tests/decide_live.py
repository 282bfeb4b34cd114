"""The cluster in memory for a model whose adapters are loaded while it serves: their Jobs, their volume, its servers' lists."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from tests.decide_facts import SETTINGS
from tests.decide_world import Cluster
from vllm_operator.decide.adapters import adapter_pull
from vllm_operator.decide.situation import look
from vllm_operator.decide.types import AdapterSeen, Decision, JobSeen, PodSeen, Refusal, Seen
from vllm_operator.diagnose import Failure
from vllm_operator.settings import Settings


def allowing(settings: Settings = SETTINGS) -> Settings:
    """Settings that allow live adapters."""
    return settings.model_copy(update={"policy": settings.policy.model_copy(update={"allow_live_adapters": True})})


@dataclass
class LiveCluster(Cluster):
    """`refuses`: adapters that no server loads, and why."""

    settings: Settings = field(default_factory=allowing)
    loaded: dict[str, dict[str, str]] = field(default_factory=dict)  # by pod
    refuses: dict[str, Failure] = field(default_factory=dict)

    def see(self) -> Seen:
        seen, plan = super().see(), self.plan
        assert plan.adapter_claim is not None
        names = {plan.adapter_claim.name, *(adapter.inspect.name for adapter in plan.adapters)}
        adapters: dict[str, AdapterSeen] = {}
        for adapter in plan.adapters:
            inspect = AdapterSeen(self.jobs.get(adapter.inspect.name, JobSeen()))
            pull = adapter_pull(look(self.model, plan, replace(seen, adapters={adapter.name: inspect})), adapter)
            job = pull.pull.name if pull is not None and pull.pull is not None else ""
            adapters[adapter.name] = replace(inspect, pull=self.jobs.get(job, JobSeen()))
            names.add(job)
        stale = tuple(ref for ref in seen.stale if ref.name not in names)
        claim = self.claims.get(plan.adapter_claim.name)
        return replace(seen, adapters=adapters, adapter_claim=claim, stale=stale, pods=self._with_refusals(seen.pods))

    def _with_refusals(self, pods: tuple[PodSeen, ...]) -> tuple[PodSeen, ...]:
        asked = {call.name: call.path for decision in self.decisions for call in decision.calls}
        refusals = {name: Refusal(asked[name], why) for name, why in self.refuses.items() if name in asked}
        return tuple(replace(pod, refusals=refusals) for pod in pods)

    def _carry_out(self, decision: Decision) -> None:
        super()._carry_out(decision)
        for call in decision.calls:
            self.writes += 1
            had = self.loaded.setdefault(call.pod, {})
            if not call.path:
                del had[call.name]
            elif call.name not in self.refuses:
                had[call.name] = call.path

    def _pod_step(self, pod: PodSeen) -> PodSeen:
        found = super()._pod_step(pod)
        if found.answer is None:
            return found
        return replace(found, answer=replace(found.answer, adapters=dict(self.loaded.get(pod.name, {}))))

    def _answer(self) -> dict[str, object]:
        answer = super()._answer()
        parts: Any = answer.get("parts")
        return dict(parts[0]) if parts else answer
