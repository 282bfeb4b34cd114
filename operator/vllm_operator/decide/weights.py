"""The weights: the inspection that looks them up, and the pull that brings them onto a volume.

A Job is shared by all models of a namespace that ask the same, and a failed one stays as the answer. It is run again
only when somebody changes something: the spec, the annotation that asks for a refresh, or the platform's settings.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Final

from vllm_operator.api import ConditionType
from vllm_operator.decide.annotations import MADE_WITH, REFRESH, RESULT
from vllm_operator.decide.finding import Fact, Finding, Outcome, because, outcome_of
from vllm_operator.decide.progress import told, weights_status
from vllm_operator.decide.reasons import StateReason
from vllm_operator.decide.situation import CORE_API, JOB_API, Situation
from vllm_operator.decide.trust import needs_trust
from vllm_operator.decide.types import ClaimSeen, JobSeen, JobState, Ref
from vllm_operator.diagnose import Reason, failure
from vllm_operator.plan import ClaimPlan, JobPlan
from vllm_operator.render import render_part

SOON: Final = 5.0  # seconds: a Job's progress is asked for, its end comes by the watch
_AGAIN: Final = f"To try again, change the spec or set the annotation {REFRESH} to a new value."


def inspection(here: Situation) -> Finding:
    """The case of the inspection: done once its answer is there, kept, and admits the model."""
    job, seen = here.plan.inspect, here.seen.inspect
    if job is None:
        return Finding(Outcome.DONE)
    held = _owned(seen, job)
    if seen.deleting:
        return _late(held, "The inspection is about to run again.")
    if seen.state is JobState.ABSENT:
        return replace(_late(held, "The source is looked up."), create=(render_part(job),), own=(job_ref(job),))
    if seen.state is JobState.FAILED:
        return _failed(
            here, held, job, seen, StateReason.INSPECTION_FAILED, "The inspection failed and did not say why."
        )
    if seen.state is JobState.RUNNING:
        return _hindered(here, held, job, seen) or _late(held, "The source is looked up.")
    return _answered(here, held, job, seen)


def pull(here: Situation) -> Finding:
    """The case of the pull: done when the bytes are on the volume, or never needed to move."""
    assert here.weights is not None  # the inspection's case is done
    job, seen = here.weights.pull, here.seen.pull
    if job is None:
        return Finding(Outcome.DONE, facts=(_ready(StateReason.IN_PLACE, "The weights are used where they lie."),))
    held = replace(_owned(seen, job), goes_on=here.deployed)
    volume = _volume(here, held, here.weights.claim, job, seen)
    if volume is not None:
        return volume
    held = _with_claims_owner(held, here.weights.claim, here.seen.claim)
    if seen.deleting:
        return _downloading(held, "The download is about to run again.")
    if seen.state is JobState.SUCCEEDED:
        return replace(
            held, facts=(_ready(StateReason.DOWNLOADED, "The weights are on the volume, whole and verified."),)
        )
    if seen.state is JobState.ABSENT:
        begun = _downloading(held, "The download starts.")
        return replace(begun, create=(render_part(job),), own=(*held.own, job_ref(job)))
    if seen.state is JobState.FAILED:
        return _failed(here, held, job, seen, Reason.DownloadFailed, "The download failed and did not say why.")
    return _running(here, held, job, seen)


def job_ref(job: JobPlan) -> Ref:
    """The Job of a plan, by name."""
    return Ref(JOB_API, "Job", job.name)


def claim_ref(claim: ClaimPlan) -> Ref:
    """The claim of a plan, by name."""
    return Ref(CORE_API, "PersistentVolumeClaim", claim.name)


def weights_fact(finding: Finding) -> Fact:
    """WeightsReady=False for a case of the weights that is not done."""
    return Fact(ConditionType.WEIGHTS_READY, "False", finding.reason, finding.message)


def _ready(reason: StateReason, message: str) -> Fact:
    return Fact(ConditionType.WEIGHTS_READY, "True", reason, message)


def _owned(seen: JobSeen, job: JobPlan) -> Finding:
    """The start of every finding about a Job that exists: it gets this model's ownerReference."""
    missing = seen.state is not JobState.ABSENT and not seen.owned and not seen.deleting
    return Finding(Outcome.DONE, own=(job_ref(job),) if missing else ())


def _not_yet(held: Finding, outcome: Outcome, reason: str, message: str) -> Finding:
    told_so = replace(held, outcome=outcome, reason=reason, message=message, spares_ready=True)
    # What nothing tries any more is looked at again by the watch alone.
    after = SOON if outcome is Outcome.UNDERWAY else None
    return replace(told_so, facts=(weights_fact(told_so),), look_again_after=after)


def _late(held: Finding, message: str) -> Finding:
    return _not_yet(held, Outcome.UNDERWAY, StateReason.INSPECTING, message)


def _downloading(held: Finding, message: str) -> Finding:
    return _not_yet(held, Outcome.UNDERWAY, StateReason.DOWNLOADING, message)


def _failed(here: Situation, held: Finding, job: JobPlan, seen: JobSeen, otherwise: str, unsaid: str) -> Finding:
    if _retry_is_due(here, job, seen):
        return _again(held, job)
    reason = seen.failure.reason if seen.failure else otherwise
    message = f"{because(seen.failure) if seen.failure else unsaid} {_AGAIN}"
    return replace(_not_yet(held, Outcome.STUCK, reason, message), failure=seen.failure)


def _retry_is_due(here: Situation, job: JobPlan, seen: JobSeen) -> bool:
    """Somebody changed something since: the spec, the refresh annotation, or the platform its settings.

    A failure that was not told yet was met on the way to something new, which may be what corrects it. An inspection
    bears the refresh annotation in its name: a new value, a new Job.
    """
    pulls = job.action == "pull"
    if here.spec_is_new or (pulls and here.refresh_due) or _not_looked_at(here, pulls):
        return True
    return bool(seen.made_with) and seen.made_with != job.annotations[MADE_WITH]


def _not_looked_at(here: Situation, pulls: bool) -> bool:
    """The last status had not come to this Job: something was before it, which took the news of a changed spec."""
    told = here.model.status.condition(ConditionType.WEIGHTS_READY)
    before = (StateReason.PENDING, StateReason.INSPECTING) if pulls else (StateReason.PENDING,)
    return told is None or told.reason in before


def _again(held: Finding, job: JobPlan) -> Finding:
    again = _not_yet(held, Outcome.UNDERWAY, StateReason.PENDING, "What failed before is tried again.")
    return replace(again, delete=(job_ref(job),), own=())


def _hindered(here: Situation, held: Finding, job: JobPlan, seen: JobSeen) -> Finding | None:
    """A Job that has not ended, and whose pod cannot run or failed: Kubernetes goes on trying."""
    if seen.failure is None:
        return None
    if _retry_is_due(here, job, seen):
        return _again(held, job)  # a Job cannot be changed, and what hinders it may be what was corrected
    found = _not_yet(held, outcome_of(seen.failure), seen.failure.reason, because(seen.failure))
    return replace(found, failure=seen.failure, look_again_after=SOON)


def _answered(here: Situation, held: Finding, job: JobPlan, seen: JobSeen) -> Finding:
    if seen.answer is None and seen.failure is None:
        lost = _late(held, "The inspection's answer was lost with its pod: it is asked again.")
        return replace(lost, delete=(job_ref(job),), own=())
    if seen.answer is None:
        return _failed(here, held, job, seen, StateReason.INSPECTION_FAILED, "")
    if not seen.answer_is_kept:
        text = json.dumps(seen.answer, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        held = replace(held, annotate={job_ref(job): {RESULT: text}})
    if needs_trust(here.plan, seen.answer):
        found = failure(
            Reason.TrustRemoteCodeRequired, "The model does not run without Python code that its repository brings."
        )
        return replace(_not_yet(held, Outcome.STUCK, found.reason, because(found)), failure=found)
    return held


def _volume(here: Situation, held: Finding, claim: ClaimPlan | None, job: JobPlan, seen: JobSeen) -> Finding | None:
    """The volume that has to be there before anything is put onto it; None when it is, or none is needed."""
    if claim is None:
        return None
    there = here.seen.claim
    if there is not None and not there.deleting:
        return None
    if there is not None:
        waiting = "The volume is being deleted, and a new one is made when it is gone."
        return _not_yet(held, Outcome.UNDERWAY, StateReason.WAITING_FOR_VOLUME, waiting)
    begun = _downloading(held, "The volume is made and the download starts.")
    claims, owned = (render_part(claim),), () if claim.retain else (claim_ref(claim),)
    if seen.state in (JobState.SUCCEEDED, JobState.FAILED):
        # What the Job brought went with the volume.
        return replace(begun, create=claims, own=owned, delete=() if seen.deleting else (job_ref(job),))
    if seen.state is JobState.ABSENT:
        return replace(begun, create=(*claims, render_part(job)), own=(*owned, job_ref(job)))
    return replace(begun, create=claims, own=(*owned, *held.own))


def _with_claims_owner(held: Finding, claim: ClaimPlan | None, seen: ClaimSeen | None) -> Finding:
    """The claim gets this model's ownerReference; one that is to be retained loses it, and nobody deletes it."""
    if claim is None or seen is None:
        return held
    if claim.retain:
        return replace(held, disown=(claim_ref(claim),)) if seen.owned else held
    return held if seen.owned else replace(held, own=(*held.own, claim_ref(claim)))


def _running(here: Situation, held: Finding, job: JobPlan, seen: JobSeen) -> Finding:
    hindered = _hindered(here, held, job, seen)
    if hindered is not None:
        return hindered
    claim = here.seen.claim
    if claim is not None and claim.failure is not None and seen.progress is None:
        found = _not_yet(held, outcome_of(claim.failure), claim.failure.reason, because(claim.failure))
        return replace(found, failure=claim.failure, look_again_after=SOON)
    return _downloading(held, told(weights_status(here.model.status.weights, here.weights, seen)))
