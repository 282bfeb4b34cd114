"""From a pod, its events and its logs to its failure, or None. A pure function: the same state, the same answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from vllm_operator.diagnose.crash import fatal_while_starting
from vllm_operator.diagnose.downloads import from_termination_message
from vllm_operator.diagnose.failure import Failure, failure
from vllm_operator.diagnose.nodes import taken_away, under_strain
from vllm_operator.diagnose.podstate import Container, PodState
from vllm_operator.diagnose.reasons import Reason
from vllm_operator.diagnose.rules import find
from vllm_operator.diagnose.runs import of_run
from vllm_operator.diagnose.scheduling import unschedulable

_IMAGE: Final = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "RegistryUnavailable",
        "ImageInspectError",
        "SignatureValidationFailed",
    }
)
_START: Final = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "PreCreateHookError",
        "PreStartHookError",
        "PostStartHookError",
    }
)
_CANNOT_RUN: Final = frozenset({"StartError", "ContainerCannotRun"})
FOLDER_IS_GONE: Final = "hostPath type check failed"
"""The kubelet's words where a folder of the node is not there: nobody is about to make it."""


def look_at_pod(
    pod: Mapping[str, Any],
    events: Sequence[Mapping[str, Any]] = (),
    log: str | None = None,
    previous_log: str | None = None,
    now: datetime | None = None,
    *,
    siblings: Sequence[Mapping[str, Any]] = (),
    node: Mapping[str, Any] | None = None,
    logged: str = "",
) -> Failure | None:
    """Why the pod fails, or None while it works, waits normally, or was asked to end.

    `log` is of the present run, `previous_log` of the run before, both of the container `logged` (of any where that is empty),
    None where they could not be read; `siblings` are the Deployment's other pods, `node` is the
    pod's Node: None when it was not read, empty when there is no such node.
    """
    state = PodState.of(pod, events)
    if state.phase == "Succeeded" and state.of_job:
        return None
    found = (
        _said_by_itself(state)
        or taken_away(state, node)
        or _not_placed(state, siblings)
        or _not_started(state)
        or under_strain(_crashed(state, _Logs(log, previous_log, logged), now), node, state)
    )
    return None if found is None else found.on(state.name, found.exit_code)


def _said_by_itself(state: PodState) -> Failure | None:
    for container in state.containers:
        if container.exit_code and (said := from_termination_message(container.ended_message)):
            return said.on(state.name, container.exit_code)
    return None


def _not_placed(state: PodState, siblings: Sequence[Mapping[str, Any]]) -> Failure | None:
    placed = state.condition("PodScheduled")
    if placed is None or placed.status == "True" or state.node:
        return None
    if placed.reason == "SchedulingGated":
        return failure(
            Reason.Unschedulable,
            f"The pod is held back by a scheduling gate: {placed.message}",
            remedy="A queue (Kueue) admits it when its quota has room; look there.",
        )
    event = state.last("FailedScheduling")
    words = placed.message or (event.message if event else "")
    others = [PodState.of(other) for other in siblings]
    old_runs = any(
        other.phase == "Running"
        and not other.deleting
        and other.name != state.name
        and other.template_hash != state.template_hash
        for other in others
    )
    return unschedulable(state, words, old_pod_runs=old_runs) if words else None


def _not_started(state: PodState) -> Failure | None:
    for container in state.containers:
        if container.waiting in _IMAGE:
            return _image_missing(state, container)
        if container.waiting in _START:
            return find(container.waiting_message or container.waiting, "start")
        if container.ended in _CANNOT_RUN and container.waiting != "ContainerCreating":
            return _with_code(find(container.ended_message or container.ended, "start"), container)
    creating = not state.containers or any(
        container.waiting in ("ContainerCreating", "PodInitializing") for container in state.containers
    )
    if not creating or any(container.running for container in state.containers):
        return None
    event = state.last(
        "FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox", "FailedCreatePodContainer"
    )
    if event is None:
        return None
    return find(event.message, "start" if event.reason == "FailedCreatePodSandBox" else "mount")


def _image_missing(state: PodState, container: Container) -> Failure | None:
    """The container's own image, or one that it mounts: the kubelet reports both as the container's."""
    event = state.last("Failed", "InspectFailed")
    pulled = event.message if event and "pull" in event.message else ""
    words = "\n".join(filter(None, (container.waiting_message, pulled, container.waiting)))
    found = find(words, "image")
    if found is None:
        return None
    volume = next((name for name, reference in state.image_volumes.items() if reference in words), None)
    image = container.image if volume is None else state.image_volumes[volume]
    message = found.message if not image or image in found.message else f"{found.message} The image is {image}."
    remedy = found.remedy if volume is None else found.remedy.replace("`image`", _field_of(volume))
    return replace(found, message=message, remedy=remedy)


def _field_of(volume: str) -> str:
    """The field of the spec that a mounted image comes from, by the name of the volume in the pod."""
    return "`adapters[].source`" if volume.startswith("adapter") else f"`{volume}`"


def _with_code(found: Failure | None, container: Container) -> Failure | None:
    return found and found.on("", container.exit_code)


@dataclass(frozen=True, slots=True)
class _Logs:
    """The two logs that were read, and whose they are."""

    present: str | None
    previous: str | None
    name: str

    def of(self, container: Container) -> str | None:
        """The log of the run that ended, or else the other one; None where neither is there."""
        if self.name not in ("", container.name):
            return None
        both = (self.previous, self.present) if container.ended_before else (self.present, self.previous)
        return next((text for text in both if text is not None), None)


def _crashed(state: PodState, logs: _Logs, now: datetime | None) -> Failure | None:
    for container in sorted(state.containers, key=lambda each: not each.is_server):
        starts = container.running and not container.ready and not container.init
        if starts and logs.name in ("", container.name) and (fatal := fatal_while_starting(logs.present)):
            return fatal
        if not container.ended or container.ready or (container.exit_code == 0 and (container.init or state.of_job)):
            continue
        if state.deleting and container.exit_code in (0, 137, 143) and container.ended != "OOMKilled":
            continue  # it was told to end
        return _with_code(of_run(state, container, logs.of(container), now), container)
    return None
