"""From a pod, its events and its logs to its failure, or None. A pure function: the same state, the same answer."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from vllm_operator.diagnose.crash import diagnose_log, fatal_while_starting
from vllm_operator.diagnose.failure import Failure, failure, from_termination_message
from vllm_operator.diagnose.nodes import taken_away, under_strain
from vllm_operator.diagnose.podstate import Container, PodState, seconds_between
from vllm_operator.diagnose.reasons import Reason
from vllm_operator.diagnose.rules import find
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
_PROGRESS = re.compile(
    r"(?:Loading [\w ]{0,40}checkpoint shards: +\d+%[^\n\r]{0,80}|Loading weights took [\d.]+ \w+|torch\.compile took [\d.]+ s|Capturing CUDA graphs?[^\n\r]{0,60}"
    r"|Starting to load model [^\n\r]{1,120}|Model loading took [^\n\r]{1,60}|Dynamo bytecode transform time: [\d.]+ s|Available KV cache memory: [^\n\r]{1,40})"
)
_STUCK_AFTER_SECONDS: Final = 120
"""Without a new log line for so long a start is called hung; slow storage logs a shard more often than that."""

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
) -> Failure | None:
    """Why the pod fails, or None while it works, waits normally, or was asked to end.

    `log` is of the present run, `previous_log` of the run before; `siblings` are the Deployment's other pods, `node` is the
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
        or under_strain(_crashed(state, log, previous_log, now), node, state)
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


def _crashed(state: PodState, log: str | None, previous_log: str | None, now: datetime | None) -> Failure | None:
    for container in state.containers:
        if container.running and not container.ready and not container.init and (fatal := fatal_while_starting(log)):
            return fatal
        if not container.ended or container.ready or (container.exit_code == 0 and (container.init or state.of_job)):
            continue
        if state.deleting and container.exit_code in (0, 137, 143) and container.ended != "OOMKilled":
            continue  # it was told to end
        text = (
            (previous_log if previous_log is not None else log)
            if container.ended_before
            else (log if log is not None else previous_log)
        )
        return _with_code(_of_run(state, container, text or container.ended_message, now), container)
    return None


def _of_run(state: PodState, container: Container, text: str, now: datetime | None) -> Failure:
    if container.ended == "OOMKilled":
        limit = f" of {container.memory_limit}" if container.memory_limit else ""
        return failure(
            Reason.HostOutOfMemory,
            f"Container {container.name} passed its memory limit{limit} and the kernel killed it.",
            excerpt=text[-512:],
        )
    if container.ended == "DeadlineExceeded" or state.reason == "DeadlineExceeded":
        return failure(
            Reason.DownloadFailed,
            f"The pod passed its deadline: {state.message or container.ended_message}",
            excerpt=text[-512:],
        )
    found = diagnose_log(text, container.exit_code)
    probe = _failed_probe(state)
    if found.reason is not Reason.ServerCrashed or not probe:
        return found
    if probe == "startup":
        return _too_slow(text, now, state)
    return failure(
        Reason.EngineDied,
        "The server no longer answered its liveness probe and was restarted.",
        excerpt=found.excerpt,
        retry=True,
    )


def _failed_probe(state: PodState) -> str:
    """Which probe made the kubelet kill the container: "startup", "liveness" or ""."""
    killing = state.last("Killing")
    if killing is None:
        return ""
    return next((kind for kind in ("startup", "liveness") if f"failed {kind} probe" in killing.message), "")


def _too_slow(text: str, now: datetime | None, state: PodState) -> Failure:
    steps = _PROGRESS.findall(text)
    budget = f" ({state.last('Unhealthy').count} failed probes)" if state.last("Unhealthy") else ""  # type: ignore[union-attr]
    if steps and not _was_silent(text, now, state):
        step = steps[-1].strip()
        return failure(
            Reason.StartupTimeout,
            f"The startup probe's budget was spent{budget} while the server was still loading; its last step: {step}.",
            remedy="Raise `startupTimeoutSeconds`, or use faster storage in `cache`.",
            excerpt=step,
        )
    return failure(
        Reason.StartupTimeout,
        f"The startup probe's budget was spent{budget}, and the log shows no progress: the server hangs.",
        remedy="Read the log's end in the excerpt; with several GPUs set `env` NCCL_DEBUG=INFO, else take another `image`.",
        excerpt=text.strip()[-1024:],
    )


_STAMP = re.compile(r"\b\d{4}-(\d\d-\d\d)[T ](\d\d:\d\d:\d\d)|\b(\d\d-\d\d) (\d\d:\d\d:\d\d)\b")

_BAR = re.compile(r"\[(?:(\d{1,3}):)?(\d\d):(\d\d)<")


def _was_silent(text: str, now: datetime | None, state: PodState) -> bool:
    """True when the last line that carries a time is long before the kill."""
    killing = state.last("Killing")
    stamps = list(_STAMP.finditer(text, max(len(text) - 16384, 0)))
    if killing is None or not killing.seen or not stamps:
        return False
    last = stamps[-1]
    ended = seconds_between(
        f"{killing.seen[:5]}{last[1] or last[3]}T{last[2] or last[4]}Z",
        datetime.fromisoformat(killing.seen.replace("Z", "+00:00")),
    )
    return ended is not None and ended - _bar_seconds(text[last.end() :]) > _STUCK_AFTER_SECONDS


def _bar_seconds(text: str) -> int:
    """How long the progress bar at the log's end has run: it carries no time of day, only its own."""
    bars = _BAR.findall(text)
    hours, minutes, seconds = bars[-1] if bars else (0, 0, 0)
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
