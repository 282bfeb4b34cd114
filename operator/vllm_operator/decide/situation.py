"""A look at the whole: the model, its plan as far as it can be made, and what is seen, under the names of the trade."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vllm_operator.api import VLLMModel
from vllm_operator.decide.annotations import AWAITS_WEIGHTS, COMMITS, REFRESH, STOPPED
from vllm_operator.decide.suitable import unsuitable
from vllm_operator.decide.types import ClaimSeen, DeploymentSeen, JobSeen, JobState, PodSeen, Seen
from vllm_operator.plan import Plan, ServerPlan, WeightsPlan, plan_server, plan_weights, wanted

JOB_API, APPS_API, CORE_API = "batch/v1", "apps/v1", "v1"


@dataclass(frozen=True, slots=True)
class Situation:
    """What every case looks at. `weights` and `server` are None until the inspection has answered.

    `current` is the hash of what the user asks for: from the plan, or, while that waits for an inspection, the live
    Deployment's own where the commits that it names prove it to be of the present spec. Nothing in the status is believed
    without that proof.
    """

    model: VLLMModel
    plan: Plan
    seen: Seen
    weights: WeightsPlan | None
    server: ServerPlan | None
    current: str | None

    @property
    def deployment(self) -> DeploymentSeen | None:
        return self.seen.deployment

    @property
    def deployed(self) -> bool:
        """The Deployment is already the one asked for: its weights were there, and it fitted, when it was made."""
        return self.current is not None and self.deployment is not None and self.deployment.wanted == self.current

    @property
    def desired(self) -> int:
        """Pods that are to serve: the spec's number, or the autoscaler's."""
        if self.seen.autoscaled and self.deployment is not None and not self.is_stopped:
            return self.deployment.replicas
        return self.model.spec.replicas

    @property
    def annotations(self) -> Mapping[str, str]:
        return self.model.metadata.annotations

    @property
    def refresh_due(self) -> bool:
        """The refresh annotation has a value that was not acted on."""
        value = self.annotations.get(REFRESH)
        return value is not None and value != self.model.status.refreshed

    @property
    def spec_is_new(self) -> bool:
        """No status was written about this spec yet."""
        return self.model.status.observed_generation != self.model.metadata.generation

    @property
    def is_stopped(self) -> bool:
        """The Deployment stands at zero because this very version failed for good."""
        if self.deployment is None or self.current is None:
            return False
        stopped = annotations_of(self.deployment.live).get(STOPPED)
        return stopped == self.current and self.plan.settings.crash_policy.stop_permanent

    @property
    def stands_without_weights(self) -> bool:
        """The Deployment stands at zero because the weights of this very version went away."""
        if self.deployment is None or self.current is None:
            return False
        return annotations_of(self.deployment.live).get(AWAITS_WEIGHTS) == self.current

    @property
    def weights_are_gone(self) -> bool:
        """The volume went away under a version that is deployed, and is not filled again.

        New servers would start on an empty folder, fail for good and be stopped. One that is ready has read its weights.
        An autoscaler's number is not touched: nobody could give it back.
        """
        plan, seen = self.weights, self.seen
        if plan is None or plan.claim is None or seen.autoscaled or any(pod.ready for pod in self.pods):
            return False
        filled = seen.claim is not None and has_filled(seen.pull, seen.claim) and not seen.pull.deleting
        return self.deployed and not filled and (seen.claim is None or self.stands_without_weights)

    @property
    def pods(self) -> tuple[PodSeen, ...]:
        """Pods that are not on their way out, by name."""
        return tuple(sorted((pod for pod in self.seen.pods if not pod.terminating), key=lambda pod: pod.name))

    @property
    def pods_of_now(self) -> tuple[PodSeen, ...]:
        return tuple(pod for pod in self.pods if pod.wanted == self.current)

    @property
    def pods_of_before(self) -> tuple[PodSeen, ...]:
        return tuple(pod for pod in self.pods if pod.wanted != self.current)


def look(model: VLLMModel, plan: Plan, seen: Seen) -> Situation:
    """The situation, with the plan carried as far as what is seen allows."""
    weights = _weights(plan, seen)
    server = plan_server(plan, weights) if weights is not None and not weights.problems else None
    current = server.wanted if server is not None else _proven(model, seen)
    return Situation(model, plan, seen, weights, server, current)


def annotations_of(manifest: Mapping[str, object]) -> Mapping[str, str]:
    """The annotations of a live object; empty when there are none."""
    metadata = manifest.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    return annotations if isinstance(annotations, Mapping) else {}


def works(pod: PodSeen) -> bool:
    """A pod that takes requests and answers them: ready, healthy, and one real request went through."""
    return pod.ready and pod.answer is not None and pod.answer.healthy and pod.answer.works


def has_filled(job: JobSeen, claim: ClaimSeen) -> bool:
    """Whether the Job brought the weights onto this very claim. One that is older than the claim filled another of its name.

    A claim and its Job are read one after the other, and in between somebody else may have made the claim anew.
    """
    return job.state is JobState.SUCCEEDED and not (job.created and claim.created and job.created < claim.created)


def _weights(plan: Plan, seen: Seen) -> WeightsPlan | None:
    if plan.problems:
        return None
    if plan.inspect is None:
        return plan_weights(plan, None)
    answer = seen.inspect.answer
    if seen.inspect.state is not JobState.SUCCEEDED or answer is None or unsuitable(plan, answer) is not None:
        return None
    return plan_weights(plan, answer)


def _proven(model: VLLMModel, seen: Seen) -> str | None:
    """The live Deployment's version, if it is the present spec's at the commit that the status told."""
    source, live = model.status.source, seen.deployment
    if live is None or source is None:
        return None
    # The hash is over the commits of every part; the status names the model's alone.
    commits = annotations_of(live.live).get(COMMITS) or source.commit
    if source.commit is not None and source.commit not in (commits or "").split(","):
        return None
    return live.wanted if wanted(model, commits) == live.wanted else None
