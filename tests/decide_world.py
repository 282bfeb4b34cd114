"""A small cluster in memory, at the level of what is seen: Jobs end, pods start and crash, people edit and delete.

Decisions are carried out as the cluster would, one after the other; nothing of our own code is replaced.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from tests.builders import a_model
from tests.decide_facts import CONFIG, GIB, SETTINGS, START, Truth, an_answer, answers
from vllm_operator.api import Status, VLLMModel
from vllm_operator.decide import decide
from vllm_operator.decide.annotations import MADE_WITH, REFRESH, TEMPLATE, WANTED
from vllm_operator.decide.manifests import ref_of
from vllm_operator.decide.situation import look
from vllm_operator.decide.types import (
    ClaimSeen,
    Decision,
    DeploymentSeen,
    DeviceSeen,
    JobSeen,
    JobState,
    PodSeen,
    Progress,
    Ref,
    Seen,
)
from vllm_operator.diagnose import Reason
from vllm_operator.plan import Plan, plan_model
from vllm_operator.plan.labels import retained_for
from vllm_operator.settings import Settings


@dataclass
class Cluster:
    """The model, its objects, and what a reconcile does with them."""

    model: VLLMModel = field(default_factory=a_model)
    settings: Settings = SETTINGS
    truth: Truth = field(default_factory=Truth)
    jobs: dict[str, JobSeen] = field(default_factory=dict)
    claims: dict[str, ClaimSeen] = field(default_factory=dict)
    live: dict[Ref, dict[str, Any]] = field(default_factory=dict)
    pods: list[PodSeen] = field(default_factory=list)
    born: int = 0
    now: datetime = START
    writes: int = 0
    decisions: list[Decision] = field(default_factory=list)
    autoscaled: bool = False
    strangers: tuple[Ref, ...] = ()
    missing: tuple[str, ...] = ()
    devices: Mapping[str, tuple[DeviceSeen, ...]] = field(default_factory=dict)

    # What the operator does.

    @property
    def plan(self) -> Plan:
        return plan_model(self.model, self.settings)

    @property
    def status(self) -> Status:
        return self.model.status

    def see(self) -> Seen:
        """One look, as far as the plan can be made."""
        plan = self.plan
        inspect = self.jobs.get(plan.inspect.name, JobSeen()) if plan.inspect else JobSeen()
        seen = Seen(inspect=inspect, deployment=self._deployment(), live=dict(self.live), pods=tuple(self.pods))
        here = look(self.model, plan, seen)
        weights = here.weights
        named = {plan.inspect.name} if plan.inspect else set()
        if weights is not None and weights.pull is not None:
            named |= {weights.pull.name, weights.claim_name or ""}
            claim = self.claims.get(weights.claim_name or "")
            seen = replace(seen, pull=self.jobs.get(weights.pull.name, JobSeen()), claim=claim)
        stale = () if weights is None else self._stale(named)
        seen = replace(seen, stale=stale, autoscaled=self.autoscaled, strangers=self.strangers, missing=self.missing)
        return replace(seen, devices=self.devices)

    def reconcile(self) -> Decision:
        """Look, decide, carry out."""
        self.now += timedelta(seconds=5)
        decision = decide(self.model, self.plan, self.see(), self.now)
        self.decisions.append(decision)
        # Deletions come before the status that says why: an end in between loses none.
        self._give_up(decision)
        self._carry_out(decision)
        return decision

    def settle(self, most: int = 60) -> Decision:
        """Reconcile and let time pass until nothing moves. Fails when that takes too long."""
        for _ in range(most):
            before = self._state()
            decision = self.reconcile()
            self.advance()
            if self._state() == before:
                return decision
        raise AssertionError(f"no fixed point after {most} steps: {self.status}")

    def rests(self) -> bool:
        """A further look writes nothing."""
        before = self.writes
        decision = self.reconcile()
        return self.writes == before and not decision.events

    # What people do.

    def edit(self, **spec: Any) -> None:
        """A change of the spec: another generation."""
        asked = self.model.spec.model_dump(mode="json", by_alias=False, exclude_defaults=True) | spec
        metadata = self.model.metadata.model_copy(update={"generation": self.model.metadata.generation + 1})
        fresh = a_model(**asked)
        self.model = self.model.model_copy(update={"spec": fresh.spec, "metadata": metadata})

    def annotate(self, key: str, value: str) -> None:
        annotations = {**self.model.metadata.annotations, key: value}
        metadata = self.model.metadata.model_copy(update={"annotations": annotations})
        self.model = self.model.model_copy(update={"metadata": metadata})

    def refresh(self, value: str) -> None:
        self.annotate(REFRESH, value)

    @property
    def deployment_ref(self) -> Ref:
        return next(ref for ref in self.live if ref.kind == "Deployment")

    def job_named(self, start: str) -> str:
        return next(name for name in self.jobs if name.startswith(start))

    # What the cluster does.

    def advance(self) -> None:
        """Controllers and kubelets take a step."""
        for name, job in list(self.jobs.items()):
            if job.deleting:
                del self.jobs[name]
            elif job.state is JobState.RUNNING:
                self.jobs[name] = self._job_step(name, job)
        self.pods = [pod for pod in self.pods if not pod.terminating]
        self._roll()
        self.pods = [self._pod_step(pod) for pod in self.pods]
        for manifest in self.live.values():
            if manifest["kind"] == "Deployment":
                manifest.setdefault("status", {})["observedGeneration"] = manifest["metadata"]["generation"]
                manifest["status"]["replicas"] = len([pod for pod in self.pods if not pod.terminating])

    def _job_step(self, name: str, job: JobSeen) -> JobSeen:
        inspects = name.startswith("inspect")
        fault = self.truth.inspection if inspects else self.truth.download
        if fault is not None:
            # A Secret that is not there keeps the pod from starting; everything else ends the Job.
            ends = fault.reason is not Reason.SecretNotFound
            return replace(job, state=JobState.FAILED if ends else JobState.RUNNING, failure=fault, tries=1)
        job = replace(job, failure=None)
        if inspects:
            return replace(job, state=JobState.SUCCEEDED, answer=self._answer())
        if job.progress is None:
            return replace(job, progress=Progress(GIB // 2, GIB, 350.0 * (1 << 20)))
        return replace(job, state=JobState.SUCCEEDED, progress=None)

    def _answer(self) -> dict[str, object]:
        """What the hub knows of each part; every tokenizer and adapter has a commit of its own."""
        answer = an_answer(self.truth.commit, customCode=self.truth.custom_code)
        if self.truth.custom_code:
            answer["config"] = CONFIG | {"model_type": "brand_new"}
        if self.model.spec.tokenizer:
            answer["tokenizer"] = {"commit": "7" * 40}
        adapters = [an_answer(f"{index}" * 40, bytes=50_000_000) for index, _ in enumerate(self.model.spec.adapters)]
        return {"version": 1, "ok": True, "parts": [answer, *adapters]} if adapters else answer

    def _roll(self) -> None:
        """A rolling update with one more pod than asked for, or Recreate."""
        live = next((m for m in self.live.values() if m["kind"] == "Deployment"), None)
        if live is None:
            return
        desired = live["spec"].get("replicas", 1)
        version = _version(live)
        new = [pod for pod in self.pods if pod.wanted == version]
        old = [pod for pod in self.pods if pod.wanted != version]
        recreate = live["spec"]["strategy"]["type"] == "Recreate"
        if sum(pod.ready for pod in new) >= desired or recreate:
            self._end(old)
        if len(new) > desired:
            self._end(new[desired:])
        elif len(new) < desired and not (recreate and old):
            for _ in range(desired - len(new)):
                self.born += 1
                self.pods.append(PodSeen(f"m-{self.born:03}", version, ready=False))

    def _end(self, pods: list[PodSeen]) -> None:
        names = {pod.name for pod in pods}
        self.pods = [replace(p, terminating=True, ready=False) if p.name in names else p for p in self.pods]

    def _pod_step(self, pod: PodSeen) -> PodSeen:
        if pod.terminating:
            return pod
        if self.truth.crash is not None:
            # Restarts without end would be no fixed point; nothing is decided on more than a few.
            more = min(pod.restarts + 1, 9)
            return replace(pod, ready=False, answer=None, restarts=more, failure=self.truth.crash.on(pod.name, 1))
        adapters = {adapter.name: f"/models/{adapter.name}" for adapter in self.model.spec.adapters}
        answer = answers(works=self.truth.works, problem="", adapters=adapters)
        return replace(pod, ready=True, started=True, answer=answer, failure=None)

    def _deployment(self) -> DeploymentSeen | None:
        live = next((m for m in self.live.values() if m["kind"] == "Deployment"), None)
        if live is None:
            return None
        annotations, version = live["metadata"]["annotations"], _version(live)
        up = [pod for pod in self.pods if not pod.terminating]
        return DeploymentSeen(
            live=live,
            wanted=annotations.get(WANTED, ""),
            template=json.loads(annotations[TEMPLATE]) if TEMPLATE in annotations else None,
            replicas=live["spec"].get("replicas", 1),
            ready_replicas=sum(pod.ready for pod in up),
            updated_replicas=sum(pod.wanted == version for pod in up),
            generation=live["metadata"]["generation"],
            observed_generation=live.get("status", {}).get("observedGeneration", 0),
        )

    def _stale(self, named: set[str]) -> tuple[Ref, ...]:
        jobs = [Ref("batch/v1", "Job", name) for name, job in self.jobs.items() if job.owned and name not in named]
        claims = [Ref("v1", "PersistentVolumeClaim", n) for n, c in self.claims.items() if c.owned and n not in named]
        return (*jobs, *claims)

    def _carry_out(self, decision: Decision) -> None:
        if decision.status != self.model.status:
            self.writes += 1
            # Through JSON and back, as the API server keeps it.
            kept = Status.model_validate(decision.status.as_json())
            assert kept == decision.status
            self.model = self.model.model_copy(update={"status": kept})
        for manifest in decision.create:
            self._create(manifest)
        for ref in decision.own:
            self._own(ref)
        for ref, values in decision.annotate.items():
            self.writes += 1
            assert values
            self.jobs[ref.name] = replace(self.jobs[ref.name], answer_is_kept=True)
        for manifest in decision.apply:
            self._apply(manifest)

    def _give_up(self, decision: Decision) -> None:
        for ref in decision.delete:
            self.writes += 1
            self._delete(ref)
        for ref in decision.disown:
            self.writes += 1
            self.claims[ref.name] = replace(
                self.claims[ref.name], owned=False, has_owners=False, retained_for=frozenset()
            )
        for ref in decision.retain:
            self.writes += 1
            mine = frozenset({self.model.metadata.uid})
            self.claims[ref.name] = replace(self.claims[ref.name], owned=False, has_owners=False, retained_for=mine)
        for ref in decision.release:
            self.writes += 1
            self.jobs.pop(ref.name, None)
            self.claims.pop(ref.name, None)

    def _create(self, manifest: Mapping[str, Any]) -> None:
        self.writes += 1
        name = str(manifest["metadata"]["name"])
        if manifest["kind"] == "Job":
            made_with = manifest["metadata"]["annotations"][MADE_WITH]
            self.jobs.setdefault(name, JobSeen(JobState.RUNNING, made_with=made_with))
        else:
            kept_for = retained_for(manifest["metadata"].get("labels") or {})
            self.claims.setdefault(name, ClaimSeen("Bound", GIB, retained_for=kept_for))

    def _own(self, ref: Ref) -> None:
        self.writes += 1
        if ref.kind == "Job":
            self.jobs[ref.name] = replace(self.jobs[ref.name], owned=True)
        else:
            self.claims[ref.name] = replace(self.claims[ref.name], owned=True, has_owners=True)

    def _apply(self, manifest: Mapping[str, Any]) -> None:
        self.writes += 1
        ref = ref_of(manifest)
        old = self.live.get(ref)
        fresh: dict[str, Any] = copy.deepcopy(dict(manifest))
        generation = old["metadata"]["generation"] if old else 0
        changed = old is None or old["spec"] != fresh.get("spec")
        fresh["metadata"]["generation"] = generation + changed
        if old is not None:
            fresh["status"] = old.get("status", {})
            if "replicas" not in fresh.get("spec", {}) and "replicas" in old.get("spec", {}):
                fresh["spec"]["replicas"] = old["spec"]["replicas"]
        self.live[ref] = fresh

    def _delete(self, ref: Ref) -> None:
        if ref.name in self.jobs:
            self.jobs[ref.name] = replace(self.jobs[ref.name], deleting=True)
        self.live.pop(ref, None)

    def _state(self) -> object:
        pods = [(pod.name, pod.ready, pod.terminating, pod.restarts, pod.answer) for pod in self.pods]
        return copy.deepcopy((self.jobs, self.claims, self.live, pods, self.model))


def _version(deployment: Mapping[str, Any]) -> str:
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    return str(annotations[WANTED])


def a_serving_cluster(**spec: Any) -> Cluster:
    """A model with that spec, served and at rest."""
    cluster = Cluster(model=a_model(**spec))
    cluster.settle()
    return cluster
