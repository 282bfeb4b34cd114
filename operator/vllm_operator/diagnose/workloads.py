"""From what owns pods (a Deployment, a Job), from a claim, or from a server's answer, to a failure: these fail without a pod."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from vllm_operator.diagnose.failure import Failure, failure
from vllm_operator.diagnose.podstate import Condition, Event, conditions_of, events_of
from vllm_operator.diagnose.reasons import Reason
from vllm_operator.diagnose.rules import find

_CLAIM_EVENTS: Final = (
    "ProvisioningFailed",
    "FailedBinding",
    "VolumeResizeFailed",
    "ExternalExpanding",
    "ExternalProvisioning",
)


def look_at_deployment(deployment: Mapping[str, Any], events: Sequence[Mapping[str, Any]] = ()) -> Failure | None:
    """Why a Deployment (or ReplicaSet) cannot create its pods, or makes no progress; None when neither is so."""
    conditions = _conditions(deployment)
    refused = conditions.get("ReplicaFailure")
    if refused is not None and refused.status == "True":
        return find(refused.message, "create") or _refused(refused.message)
    if not _count(deployment, "replicas", "readyReplicas") and (event := _newest(events, deployment, "FailedCreate")):
        return find(event.message, "create") or _refused(event.message)
    progressing = conditions.get("Progressing")
    if progressing is not None and progressing.status == "False" and progressing.reason == "ProgressDeadlineExceeded":
        return failure(
            Reason.StartupTimeout,
            f"The rollout made no progress within its deadline: {progressing.message}",
            excerpt=progressing.message,
        )
    return None


def look_at_job(job: Mapping[str, Any], events: Sequence[Mapping[str, Any]] = ()) -> Failure | None:
    """Why a Job failed or cannot create its pod; None while it works, is suspended, or is complete.

    A Job that quota or Pod Security blocks shows nothing in its status: only its events tell.
    """
    conditions = _conditions(job)
    failed = conditions.get("Failed") or conditions.get("FailureTarget")
    if failed is not None and failed.status == "True":
        return _job_failed(job, failed)
    if (
        _is_true(conditions.get("Complete"))
        or _is_true(conditions.get("Suspended"))
        or _count(job, "active", "ready", "succeeded")
    ):
        return None
    event = _newest(events, job, "FailedCreate")
    return (find(event.message, "create") or _refused(event.message)) if event else None


def _job_failed(job: Mapping[str, Any], failed: Condition) -> Failure:
    if failed.reason == "DeadlineExceeded":
        spec = job.get("spec") or {}
        seconds = spec.get("activeDeadlineSeconds")
        within = f" of {seconds} s" if seconds else ""
        return failure(
            Reason.DownloadFailed,
            f"The weights Job passed its deadline{within}.",
            remedy="Raise `download.tries`, or look for what makes the network to the hub slow; it resumes where it stopped.",
            excerpt=failed.message,
            retry=True,
        )
    return failure(
        Reason.DownloadFailed,
        f"The weights Job failed: {failed.message or failed.reason}",
        excerpt=failed.message,
        retry=False,
    )


def look_at_claim(claim: Mapping[str, Any], events: Sequence[Mapping[str, Any]] = ()) -> Failure | None:
    """Why a volume claim is not bound or cannot grow; None when it is bound, or only waits for its pod."""
    status = claim.get("status") or {}
    name = (claim.get("metadata") or {}).get("name", "")
    if status.get("phase") == "Lost":
        return failure(
            Reason.VolumePending,
            f"The claim {name} has lost its volume.",
            remedy="Delete the claim: the weights are downloaded anew.",
            retry=False,
        )
    resize = next(
        (
            c
            for c in conditions_of(status)
            if c.type in ("ControllerResizeError", "NodeResizeError") and c.status == "True"
        ),
        None,
    )
    if resize is not None:
        return find(resize.message, "claim") or failure(
            Reason.VolumePending, f"The claim {name} cannot grow: {resize.message}", excerpt=resize.message
        )
    event = _newest(events, claim, *_CLAIM_EVENTS)
    if event is None or (status.get("phase") == "Bound" and event.reason != "VolumeResizeFailed"):
        return None
    what = "cannot grow" if event.reason == "VolumeResizeFailed" else "is not bound"
    return find(event.message, "claim") or failure(
        Reason.VolumePending, f"The claim {name} {what}: {event.message}", excerpt=event.message
    )


def look_at_answer(status: int, body: str) -> Failure | None:
    """Why a live server refuses a request that should work (no chat template, no tokenizer); None for a good answer or another refusal."""
    return find(body[:8192], weights=frozenset({"request"})) if status >= 400 else None


_ADAPTERS = frozenset({Reason.AdapterNotFound, Reason.AdapterRankTooHigh, Reason.AdapterInvalid})


def look_at_adapter_answer(status: int, body: str, problem: str = "") -> Failure:
    """Why a live server did not load or unload an adapter; status 0 is no answer, with the `problem` in its place."""
    if status == 0:
        return failure(Reason.AdapterInvalid, f"The server did not answer: {problem}.", remedy=_WAIT, retry=True)
    said = _message_of(body)
    if status == 404 and not said:
        message = "The server has no route to load adapters: its image holds a vLLM that cannot do so while it runs."
        return failure(Reason.AdapterInvalid, message, remedy="Set `adapterLoading: Static`, or use another image.")
    found = find(said)
    if found is not None and found.reason in _ADAPTERS:
        return found
    return failure(Reason.AdapterInvalid, f"vLLM answers {status}: {said or body[:200]}", excerpt=said)


_WAIT = "Nothing: it is tried again after a growing pause."


def _message_of(body: str) -> str:
    """The words of an error of the OpenAI API; "" where there are none."""
    try:
        error = json.loads(body).get("error")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return str(error.get("message") or "") if isinstance(error, dict) else ""


def _refused(message: str) -> Failure:
    return failure(Reason.PodRejected, f"The pod cannot be created: {message}", excerpt=message)


def _conditions(thing: Mapping[str, Any]) -> dict[str, Condition]:
    return {condition.type: condition for condition in conditions_of(thing.get("status") or {})}


def _is_true(condition: Condition | None) -> bool:
    return condition is not None and condition.status == "True"


def _count(thing: Mapping[str, Any], *keys: str) -> int:
    status = thing.get("status") or {}
    return sum(status.get(key) or 0 for key in keys)


def _newest(events: Sequence[Mapping[str, Any]], thing: Mapping[str, Any], *reasons: str) -> Event | None:
    mine = events_of(events, uid=str((thing.get("metadata") or {}).get("uid") or ""))
    return next((event for event in reversed(mine) if event.reason in reasons), None)
