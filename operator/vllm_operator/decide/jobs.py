"""What a Job of the weights program means for its model: about to run, running, hindered, failed for good, or done.

A Job is shared by all models of a namespace that ask the same, and a failed one stays as the answer. It is run again
only when somebody changes something: the spec, the annotation that asks for a refresh, or the platform's settings.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from vllm_operator.api import ConditionType
from vllm_operator.decide.annotations import MADE_WITH, REFRESH, RESULT
from vllm_operator.decide.finding import Fact, Finding, Outcome, because, outcome_of
from vllm_operator.decide.reasons import StateReason
from vllm_operator.decide.situation import JOB_API, Situation
from vllm_operator.decide.types import JobSeen, JobState, Ref
from vllm_operator.diagnose import Reason
from vllm_operator.plan import JobPlan
from vllm_operator.render import render_part

# Seconds: a Job's progress is asked for, its end comes by the watch. With its jitter never less than five.
SOON: Final = 5.6
# A new model takes the word of a Job that failed so shortly before: the models of one `kubectl apply` are made one by one.
TOGETHER: Final = timedelta(seconds=60)
_AGAIN: Final = f"To try again, change the spec or set the annotation {REFRESH} to a new value."


def looked_up(here: Situation, job: JobPlan, seen: JobSeen) -> Finding:
    """An inspection: done once its answer is there and kept. The facts are about the model's weights."""
    held = owned(seen, job)
    if seen.deleting:
        return _late(held, "The inspection is about to run again.")
    if seen.state is JobState.ABSENT:
        return replace(_late(held, "The source is looked up."), create=(render_part(job),), own=(job_ref(job),))
    if seen.state is JobState.FAILED:
        return failed(
            here, held, job, seen, StateReason.INSPECTION_FAILED, "The inspection failed and did not say why."
        )
    if seen.state is JobState.RUNNING:
        return hindered(here, held, job, seen) or _late(held, "The source is looked up.")
    return _answered(here, held, job, seen)


def brought(here: Situation, held: Finding, job: JobPlan, seen: JobSeen) -> Finding | None:
    """A pull: done, about to run, or failed; None while it runs. `held` is what is to be written in any case."""
    if seen.deleting:
        return downloading(held, "The download is about to run again.")
    if seen.state is JobState.SUCCEEDED:
        return held
    if seen.state is JobState.ABSENT:
        begun = downloading(held, "The download starts.")
        return replace(begun, create=(render_part(job),), own=(*held.own, job_ref(job)))
    if seen.state is JobState.FAILED:
        return failed(here, held, job, seen, Reason.DownloadFailed, "The download failed and did not say why.")
    return None


def job_ref(job: JobPlan) -> Ref:
    """The Job of a plan, by name."""
    return Ref(JOB_API, "Job", job.name)


def weights_fact(finding: Finding) -> Fact:
    """WeightsReady=False for a case of the weights that is not done."""
    return Fact(ConditionType.WEIGHTS_READY, "False", finding.reason, finding.message)


def owned(seen: JobSeen, job: JobPlan) -> Finding:
    """The start of every finding about a Job that exists: it gets this model's ownerReference."""
    missing = seen.state is not JobState.ABSENT and not seen.owned and not seen.deleting
    return Finding(Outcome.DONE, own=(job_ref(job),) if missing else ())


def not_yet(held: Finding, outcome: Outcome, reason: str, message: str) -> Finding:
    told_so = replace(held, outcome=outcome, reason=reason, message=message, spares_ready=True)
    # What nothing tries any more is looked at again by the watch alone.
    after = SOON if outcome is Outcome.UNDERWAY else None
    return replace(told_so, facts=(weights_fact(told_so),), look_again_after=after)


def failed(here: Situation, held: Finding, job: JobPlan, seen: JobSeen, otherwise: str, unsaid: str) -> Finding:
    if retry_is_due(here, job, seen):
        return again(held, job)
    reason = seen.failure.reason if seen.failure else otherwise
    message = f"{because(seen.failure) if seen.failure else unsaid} {_AGAIN}"
    found = replace(not_yet(held, Outcome.STUCK, reason, message), failure=seen.failure)
    if job.action != "pull" or seen.failure is None or not seen.failure.retry:
        return found
    # Any try might have succeeded, and all are used up: that is the end, and the cause of the last one explains it.
    ended = f"All tries failed, the last one because of {reason}. {message}"
    return replace(found, facts=(Fact(ConditionType.WEIGHTS_READY, "False", Reason.DownloadFailed, ended),))


def retry_is_due(here: Situation, job: JobPlan, seen: JobSeen) -> bool:
    """Somebody changed something since: the spec, the refresh annotation, or the platform its settings.

    A failure that was not told yet was met on the way to something new, which may be what corrects it. An inspection
    bears the refresh annotation in its name: a new value, a new Job.
    """
    pulls = job.action == "pull"
    if bool(seen.made_with) and seen.made_with != job.annotations[MADE_WITH]:
        return True
    asks = here.spec_is_new or (pulls and here.refresh_due) or _not_looked_at(here, pulls)
    return asks and not _knows_of_the_change(here, seen)


def _knows_of_the_change(here: Situation, seen: JobSeen) -> bool:
    """Whether the Job was made after what this model's user changed, and so has tried just that.

    It is the answer to all models that share it: fifty that are applied at once do not try it fifty times.
    """
    metadata = here.model.metadata
    if not seen.created or not metadata.changed_at:
        return False
    together = TOGETHER if metadata.generation == 1 and not here.refresh_due else timedelta(0)
    try:
        return datetime.fromisoformat(seen.created) >= datetime.fromisoformat(metadata.changed_at) - together
    except (ValueError, TypeError):
        return False


def _not_looked_at(here: Situation, pulls: bool) -> bool:
    """The last status had not come to this Job: something was before it, which took the news of a changed spec."""
    told = here.model.status.condition(ConditionType.WEIGHTS_READY)
    before = (StateReason.PENDING, StateReason.INSPECTING) if pulls else (StateReason.PENDING,)
    return told is None or told.reason in before


def again(held: Finding, job: JobPlan) -> Finding:
    again = not_yet(held, Outcome.UNDERWAY, StateReason.PENDING, "What failed before is tried again.")
    return replace(again, delete=(job_ref(job),), own=())


def hindered(here: Situation, held: Finding, job: JobPlan, seen: JobSeen) -> Finding | None:
    """A Job that has not ended, and whose pod cannot run or failed: Kubernetes goes on trying."""
    if seen.failure is None:
        return None
    if retry_is_due(here, job, seen):
        return again(held, job)  # a Job cannot be changed, and what hinders it may be what was corrected
    found = not_yet(held, outcome_of(seen.failure), seen.failure.reason, because(seen.failure))
    return replace(found, failure=seen.failure, look_again_after=SOON)


def downloading(held: Finding, message: str) -> Finding:
    """A download that is on its way."""
    return not_yet(held, Outcome.UNDERWAY, StateReason.DOWNLOADING, message)


def _late(held: Finding, message: str) -> Finding:
    return not_yet(held, Outcome.UNDERWAY, StateReason.INSPECTING, message)


def _answered(here: Situation, held: Finding, job: JobPlan, seen: JobSeen) -> Finding:
    if seen.answer is None and seen.failure is None:
        lost = _late(held, "The inspection's answer was lost with its pod: it is asked again.")
        return replace(lost, delete=(job_ref(job),), own=())
    if seen.answer is None:
        return failed(here, held, job, seen, StateReason.INSPECTION_FAILED, "")
    if seen.answer_is_kept:
        return held
    text = json.dumps(seen.answer, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return replace(held, annotate={job_ref(job): {RESULT: text}})
