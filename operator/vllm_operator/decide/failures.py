"""Which of several failures is told, and when a server that fails for good is stopped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from vllm_operator.api import LastFailure
from vllm_operator.decide.finding import Finding, because
from vllm_operator.decide.situation import Situation, works
from vllm_operator.decide.types import Ref
from vllm_operator.diagnose import Failure, Reason, rollout_waits
from vllm_operator.plan.rollout import SURGE, may_give_way

# The container never ran, so stopping it frees nothing that waiting does not: Kubernetes goes on trying.
_NO_CRASH: Final = frozenset(
    {
        Reason.ImagePullFailed,
        Reason.ImageVolumesUnsupported,
        Reason.ContainerStartFailed,
        Reason.PodRejected,
        Reason.QuotaExceeded,
        Reason.Unschedulable,
        Reason.SecretNotFound,
        Reason.VolumePending,
        Reason.VolumeAttachConflict,
        Reason.Evicted,
        Reason.NodeLost,
        Reason.RolloutWaitsForGPU,
    }
)
_OVER: Final = frozenset({Reason.Evicted, Reason.NodeLost})
_BY_DEFAULT: Final = (
    "Free or add a GPU within two minutes, or the old server gives way; "
    "`rollout.strategy: RollingUpdate` with `rollout.maxSurge: 1` keeps it until one is free."
)
_NO_ROOM: Final = frozenset({Reason.Unschedulable, Reason.QuotaExceeded})


def because_of_pods(here: Situation) -> Failure | None:
    """Why pods of the version asked for do not serve: what will not pass by itself first, a pod before its Deployment.

    Of several that will not pass, that of a server that crashes: it holds devices. What befell a pod that is gone comes
    last: it is history, and what hinders the next one is not.
    """
    found = sorted(_failures(here), key=lambda each: _rank(here, each))
    if not found:
        return None
    told = _waits_for_a_device(here, found[0]) or found[0]
    if told.reason is Reason.RolloutWaitsForGPU and _comes_first_by_default(here):
        return replace(told, remedy=_BY_DEFAULT)
    return told


def _rank(here: Situation, failure: Failure) -> tuple[object, ...]:
    starts = max((pod.restarts for pod in here.pods_of_now if pod.name == failure.pod), default=0)
    for_good = (failure.reason in _NO_CRASH, -starts) if not failure.retry else ()
    return (failure.retry, *for_good, failure.reason in _OVER, not failure.pod, failure.pod, failure.reason)


def stops(here: Situation, failure: Failure | None) -> bool:
    """True when another start would only hold devices: it fails for good, often enough, and nothing else serves."""
    policy = here.plan.settings.crash_policy
    if failure is None or failure.retry or failure.reason in _NO_CRASH or not policy.stop_permanent:
        return False
    if any(pod.ready for pod in here.pods):
        return False  # scaling to zero would take them, too
    # One that hangs never restarts, so its first start is as good as its last.
    return any(pod.hangs or pod.restarts >= policy.tries for pod in here.pods_of_now if pod.name == failure.pod)


def gives_way(here: Situation, failure: Failure | None) -> bool:
    """True when the new pod has waited in vain for the device that the old one holds, and nobody chose to wait."""
    if failure is None or failure.reason is not Reason.RolloutWaitsForGPU or not _comes_first_by_default(here):
        return False
    refused = here.deployment is not None and here.deployment.waits_long
    return refused or any(pod.waits_long for pod in here.pods_of_now if pod.name == failure.pod)


def _comes_first_by_default(here: Situation) -> bool:
    """Whether the new pod comes before the old one goes, and nobody asked for that."""
    return here.server is not None and here.server.deployment.strategy == SURGE and may_give_way(here.model.spec)


def hanging(here: Situation) -> tuple[Ref, ...]:
    """Pods whose engine failed for a cause that may pass, and whose server does not end: each is deleted, and made anew."""
    return tuple(
        Ref("v1", "Pod", pod.name)
        for pod in here.pods_of_now
        if pod.hangs and not pod.terminating and pod.failure is not None and pod.failure.retry
    )


def was_stopped_for(here: Situation, failure: Failure | None) -> tuple[str, str]:
    """Reason and sentence of a stop; the pods are gone by then, and the status remembers."""
    if failure is not None:
        return failure.reason, because(failure)
    last = here.model.status.last_failure
    if last is None or last.reason is None:
        return Reason.ServerCrashed, "The server failed for good."
    return last.reason, " ".join(part for part in (last.message, last.remedy) if part)


def last_failure(here: Situation, findings: tuple[Finding, ...]) -> LastFailure | None:
    """`status.lastFailure`: what fails now; else the last one, as history, until the spec is another."""
    stopped = True if any(finding.stopped for finding in findings) else None
    fresh = next((finding.failure for finding in findings if finding.failure is not None), None) or _survived(here)
    if fresh is not None:
        return LastFailure.model_validate(fresh.as_status() | {"stopped": stopped})
    before = here.model.status.last_failure
    if before is None:
        return LastFailure(reason=Reason.ServerCrashed, stopped=True) if stopped else None
    if here.spec_is_new and not stopped:
        return None
    return before.model_copy(update={"stopped": stopped})


def _failures(here: Situation) -> Iterator[Failure]:
    for pod in here.pods_of_now:
        if pod.failure is not None and not works(pod):
            # The pod's name says whose restarts count.
            yield pod.failure if pod.failure.pod else pod.failure.on(pod.name)
    if here.deployment is not None and here.deployed and here.deployment.failure is not None:
        yield here.deployment.failure


def _survived(here: Situation) -> Failure | None:
    """A crash that a server has got over: it serves again, and the failure is worth knowing."""
    return next((pod.failure.on(pod.name) for pod in here.pods_of_now if pod.failure is not None and works(pod)), None)


def _waits_for_a_device(here: Situation, found: Failure) -> Failure | None:
    if found.reason not in _NO_ROOM or not any(pod.ready for pod in here.pods_of_before):
        return None
    for name, count in _devices(here).items():
        if name in f"{found.message} {found.excerpt}":
            return rollout_waits(name, count, found.message, found.excerpt).on(found.pod)
    return None


def _devices(here: Situation) -> Mapping[str, object]:
    limits = here.server.deployment.resources.get("limits") if here.server is not None else None
    # Devices are extended resources, and those have a domain before a slash.
    return {name: count for name, count in limits.items() if "/" in name} if isinstance(limits, Mapping) else {}
