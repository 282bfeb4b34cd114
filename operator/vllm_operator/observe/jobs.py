"""What became of a Job of the weights program, from the Job and, when need be, its pods."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeGuard

from vllm_operator.cluster import Cluster
from vllm_operator.cluster.kinds import JOBS, PODS, Json
from vllm_operator.decide.annotations import RESULT
from vllm_operator.decide.types import JobSeen, JobState, Progress
from vllm_operator.diagnose import Failure, Reason, failure, look_at_job
from vllm_operator.observe.explain import Explainer
from vllm_operator.observe.reading import (
    annotation,
    condition_is_true,
    container_state,
    count,
    is_deleting,
    is_owned,
    metadata_of,
    newest,
    parsed,
)
from vllm_operator.plan import JobPlan
from vllm_operator.plan.labels import MADE_WITH_ANNOTATION
from vllm_operator.probe import Reach, Target

JOB_NAME = "batch.kubernetes.io/job-name"
# As long as this one answer about a download stands, whoever looks and why: so often, at most, its status is written.
PROGRESS_SECONDS = 5.0
FORGET_SECONDS = 60.0
MOST_BYTES = 1 << 60  # more is no answer of the weights program
# A namespace is there a moment before its default service account: the Job tries again at once.
ACCOUNT_TO_COME = "error looking up service account"


class JobLooker:
    """Looks at Jobs; pods are listed only of a Job that runs, has failed, or has an answer that is not kept yet."""

    def __init__(
        self, cluster: Cluster, explainer: Explainer, reach: Reach, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cluster = cluster
        self._explainer = explainer
        self._reach = reach
        self._clock = clock
        self._progress_seen: dict[str, tuple[float, Progress]] = {}  # by the pod's uid

    async def look(self, plan: JobPlan, uid: str) -> tuple[JobSeen, Json | None]:
        """The Job as it is seen by the model with that uid, and the live object."""
        job = await self._cluster.get(JOBS, plan.namespace, plan.name)
        return await self.seen(job, plan.action, uid, plan.progress_port), job

    async def seen(self, job: Json | None, action: str, uid: str, progress_port: int = 0) -> JobSeen:
        """A live Job (None: there is none) that does `action`, as it is seen by the model with that uid."""
        if job is None:
            return JobSeen()
        namespace, name = str(metadata_of(job)["namespace"]), str(metadata_of(job)["name"])
        state = state_of(job)
        kept = parsed(annotation(job, RESULT))
        answer, why, progress = kept, None, None
        if state is JobState.RUNNING or state is JobState.FAILED or (action == "inspect" and kept is None):
            pods = await self._cluster.all(PODS, namespace, labels=f"{JOB_NAME}={name}")
            if state is JobState.SUCCEEDED:
                answer, why = _answer(pods)
            else:
                why = await self._why(job, pods, state)
            if state is JobState.RUNNING and action == "pull":
                progress = await self._progress(namespace, progress_port, pods)
        return JobSeen(
            state=state,
            answer=answer,
            answer_is_kept=kept is not None,
            failure=why,
            progress=progress,
            tries=count(job, "status", "failed"),
            owned=is_owned(job, uid),
            deleting=is_deleting(job),
            made_with=annotation(job, MADE_WITH_ANNOTATION) or "",
            created=str(metadata_of(job).get("creationTimestamp") or ""),
        )

    async def _why(self, job: Json, pods: list[Json], state: JobState) -> Failure | None:
        """Why it failed, or what hinders it."""
        pod = newest([pod for pod in pods if not is_deleting(pod)] if state is JobState.RUNNING else pods)
        if pod is not None:
            found = await self._explainer.explain(pod)
            if found is not None or state is JobState.RUNNING:
                return found
        # A Job that quota or Pod Security keeps from making its pod says so in its Events alone.
        events: list[Json] = []
        if state is JobState.RUNNING and not count(job, "status", "active"):
            metadata = metadata_of(job)
            events = await self._cluster.events(str(metadata["namespace"]), str(metadata["uid"]))
        return look_at_job(job, [event for event in events if not _is_of_a_new_namespace(event)])

    async def _progress(self, namespace: str, port: int, pods: list[Json]) -> Progress | None:
        pod = newest([pod for pod in pods if "running" in (container_state(pod).get("state") or {})])
        if pod is None:
            return None
        uid, now = str(metadata_of(pod)["uid"]), self._clock()
        asked_at, known = self._progress_seen.get(uid, (now - FORGET_SECONDS, None))
        if now - asked_at < PROGRESS_SECONDS:
            return known
        address = str((pod.get("status") or {}).get("podIP") or "")
        target = Target(namespace, str(metadata_of(pod)["name"]), address, port)
        said = _progress_of((await self._reach.ask(target, "/progress")).json())
        kept = {key: seen for key, seen in self._progress_seen.items() if now - seen[0] < FORGET_SECONDS}
        self._progress_seen = kept | ({uid: (now, said)} if said else {})
        return said


def _is_of_a_new_namespace(event: Json) -> bool:
    return ACCOUNT_TO_COME in str(event.get("message")) and count(event, "count") <= 3


def state_of(job: Json) -> JobState:
    """A Job has two ends; FailureTarget is the failure that is certain and not yet announced."""
    if condition_is_true(job, "Complete", "SuccessCriteriaMet"):
        return JobState.SUCCEEDED
    if condition_is_true(job, "Failed", "FailureTarget"):
        return JobState.FAILED
    return JobState.RUNNING


def _answer(pods: list[Json]) -> tuple[Json | None, Failure | None]:
    """What the inspection's pod left as its last word: an answer, or a failure; neither when the pod is gone."""
    done = newest([pod for pod in pods if (pod.get("status") or {}).get("phase") == "Succeeded"])
    if done is None:
        return None, None
    ended = (container_state(done).get("state") or {}).get("terminated") or {}
    answer = parsed(str(ended.get("message") or ""))
    if answer is not None and answer.get("ok") is True:
        return answer, None
    message = "The inspection ended well, and its answer cannot be read."
    return None, failure(Reason.DownloadFailed, message, excerpt=str(ended.get("message") or ""), retry=False)


def _progress_of(said: object) -> Progress | None:
    """What a pull says of itself; None before it knows how much is to come."""
    if not isinstance(said, dict):
        return None
    done, total, speed = (said.get(key) for key in ("bytesDone", "bytesTotal", "bytesPerSecond"))
    if not _is_count(done) or not _is_count(total) or not total:
        return None
    if not isinstance(speed, int | float) or not 0 <= speed <= MOST_BYTES:
        speed = 0.0
    return Progress(done, total, float(speed))


def _is_count(said: object) -> TypeGuard[int]:
    return isinstance(said, int) and not isinstance(said, bool) and 0 <= said <= MOST_BYTES
