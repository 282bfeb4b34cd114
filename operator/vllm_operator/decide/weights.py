"""The weights: the inspection that looks them up, and the pull that brings them onto a volume."""

from __future__ import annotations

from dataclasses import replace

from vllm_operator.api import ConditionType
from vllm_operator.decide.finding import Fact, Finding, Outcome, because, outcome_of
from vllm_operator.decide.jobs import SOON, brought, downloading, hindered, job_ref, looked_up, not_yet, owned
from vllm_operator.decide.progress import told, weights_status
from vllm_operator.decide.reasons import StateReason
from vllm_operator.decide.situation import CORE_API, Situation, has_filled
from vllm_operator.decide.suitable import unsuitable
from vllm_operator.decide.types import ClaimSeen, JobSeen, JobState, Ref
from vllm_operator.diagnose import Failure
from vllm_operator.plan import ClaimPlan, JobPlan
from vllm_operator.render import render_part


def inspection(here: Situation) -> Finding:
    """The case of the inspection: done once its answer is there, kept, and admits the model."""
    job, seen = here.plan.inspect, here.seen.inspect
    if job is None:
        return Finding(Outcome.DONE)
    found = looked_up(here, job, seen)
    if found.outcome is not Outcome.DONE or seen.answer is None:
        return found
    why = unsuitable(here.plan, seen.answer)
    return found if why is None else replace(not_yet(found, Outcome.STUCK, why.reason, because(why)), failure=why)


def pull(here: Situation) -> Finding:
    """The case of the pull: done when the bytes are on the volume, or never needed to move."""
    assert here.weights is not None  # the inspection's case is done
    job, seen = here.weights.pull, here.seen.pull
    if job is None:
        by_itself = "Each pod downloads the weights for itself, onto its node's disk, before its server starts."
        where = by_itself if here.weights.pull_in_pod else "The weights are used where they lie."
        return Finding(Outcome.DONE, facts=(ready(StateReason.IN_PLACE, where),))
    held = replace(owned(seen, job), goes_on=here.deployed)
    volume = _volume(here, held, here.weights.claim, job, seen)
    if volume is not None:
        return volume
    held = with_claims_owner(here, held, here.weights.claim, here.seen.claim)
    held = _grown(held, here.weights.claim, here.seen.claim)
    if here.seen.claim is not None and here.seen.claim.is_growing and seen.state is JobState.ABSENT:
        why = here.seen.claim.failure
        found = not_yet(held, Outcome.UNDERWAY, StateReason.WAITING_FOR_VOLUME, "The volume is being enlarged.")
        return found if why is None else _hindered_by(held, why)
    found = brought(here, held, job, seen) or _running(here, held, job, seen)
    if found.outcome is Outcome.DONE:
        done = ready(StateReason.DOWNLOADED, "The weights are on the volume, whole and verified.")
        found = replace(found, facts=(done,))
    return _with_refused_growth(here, found)


def _grown(held: Finding, claim: ClaimPlan | None, seen: ClaimSeen | None) -> Finding:
    """A volume that was made for less than this model asks for gets larger; it never gets smaller, nor is another made."""
    if claim is None or seen is None or seen.requested_bytes is None or seen.phase != "Bound" or seen.growth_refused:
        return held
    is_enough = max(seen.requested_bytes, seen.capacity_bytes or 0) >= claim.size_bytes
    return held if is_enough else replace(held, grow={claim_ref(claim): claim.size})


def _with_refused_growth(here: Situation, found: Finding) -> Finding:
    """Somebody asked for a larger volume and does not get it. What only a compile cache would like is not told."""
    claim, seen = here.weights.claim if here.weights else None, here.seen.claim
    if claim is None or seen is None or not seen.growth_refused or here.model.spec.cache.size is None:
        return found
    why = (
        f" The volume cannot be enlarged to {claim.size}: {seen.growth_refused} "
        f"Delete claim {claim.name}, and it is made anew at that size and filled again."
    )
    facts = tuple(
        replace(fact, message=fact.message + why) if fact.type is ConditionType.WEIGHTS_READY else fact
        for fact in found.facts
    )
    return replace(found, facts=facts, message=found.message + why if found.message else "")


def claim_ref(claim: ClaimPlan) -> Ref:
    """The claim of a plan, by name."""
    return Ref(CORE_API, "PersistentVolumeClaim", claim.name)


def ready(reason: StateReason, message: str) -> Fact:
    return Fact(ConditionType.WEIGHTS_READY, "True", reason, message)


def _volume(here: Situation, held: Finding, claim: ClaimPlan | None, job: JobPlan, seen: JobSeen) -> Finding | None:
    """The volume that has to be there before anything is put onto it; None when it is, or none is needed."""
    if claim is None:
        return None
    there = here.seen.claim
    if there is not None and not there.deleting:
        if seen.state is not JobState.SUCCEEDED or has_filled(seen, there):
            return None
        again = downloading(held, "The volume is new, and the download starts.")
        return replace(again, own=(), delete=() if seen.deleting else (job_ref(job),))
    if there is not None:
        waiting = "The volume is being deleted, and a new one is made when it is gone."
        found = not_yet(held, Outcome.UNDERWAY, StateReason.WAITING_FOR_VOLUME, waiting)
        # Kubernetes keeps a volume for as long as there are pods that name it, also ones that have ended.
        gone = seen.state is JobState.ABSENT or seen.deleting
        return found if gone else replace(found, delete=(job_ref(job),), own=())
    begun = downloading(held, "The volume is made and the download starts.")
    claims, owned = (render_part(claim),), () if claim.retain else (claim_ref(claim),)
    if seen.state in (JobState.SUCCEEDED, JobState.FAILED):
        # What the Job brought went with the volume.
        return replace(begun, create=claims, own=owned, delete=() if seen.deleting else (job_ref(job),))
    if seen.state is JobState.ABSENT:
        return replace(begun, create=(*claims, render_part(job)), own=(*owned, job_ref(job)))
    return replace(begun, create=claims, own=(*owned, *held.own))


def with_claims_owner(here: Situation, held: Finding, claim: ClaimPlan | None, seen: ClaimSeen | None) -> Finding:
    """The claim gets this model's ownerReference; one that any of its models retains has no owners, and nobody deletes it.

    A model that goes cannot say that the claim is to stay: the claim itself has to say so, as long as it lives.
    """
    if claim is None or seen is None:
        return held
    me, ref = here.model.metadata.uid, (claim_ref(claim),)
    if claim.retain:
        return held if me in seen.retained_for and not seen.has_owners else replace(held, retain=ref)
    if me in seen.retained_for or (seen.retained_for and seen.owned):
        return replace(held, disown=ref)
    return held if seen.owned or seen.retained_for else replace(held, own=(*held.own, *ref))


def _hindered_by(held: Finding, why: Failure) -> Finding:
    found = not_yet(held, outcome_of(why), why.reason, because(why))
    return replace(found, failure=why, look_again_after=SOON)


def _running(here: Situation, held: Finding, job: JobPlan, seen: JobSeen) -> Finding:
    found = hindered(here, held, job, seen)
    if found is not None:
        return found
    claim = here.seen.claim
    if claim is not None and claim.failure is not None and seen.progress is None:
        return _hindered_by(held, claim.failure)
    return downloading(held, told(weights_status(here.model.status.weights, here.weights, seen)))
