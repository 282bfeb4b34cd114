"""How one run of a container ended: killed for memory, by a deadline or a probe, or by itself, as its log tells."""

import re
from dataclasses import replace
from datetime import datetime
from typing import Final

from vllm_operator.diagnose.downloads import of_a_download
from vllm_operator.diagnose.failure import Failure, failure
from vllm_operator.diagnose.logs import diagnose_log
from vllm_operator.diagnose.podstate import WEIGHTS, Container, PodState, seconds_between
from vllm_operator.diagnose.reasons import Reason

_PROGRESS = re.compile(
    r"(?:Loading [\w ]{0,40}checkpoint shards: +\d+%[^\n\r]{0,80}|Loading weights took [\d.]+ \w+|torch\.compile took [\d.]+ s|Capturing CUDA graphs?[^\n\r]{0,60}"
    r"|Starting to load model [^\n\r]{1,120}|Model loading took [^\n\r]{1,60}|Dynamo bytecode transform time: [\d.]+ s|Available KV cache memory: [^\n\r]{1,40})"
)
_STUCK_AFTER_SECONDS: Final = 120
"""Without a new log line for so long a start is called hung; slow storage logs a shard more often than that."""

_CLOCKS_DIFFER_SECONDS: Final = 5


def of_run(state: PodState, container: Container, log: str | None, now: datetime | None) -> Failure:
    """Why it ended. `log` is None where it could not be read."""
    text = log or container.ended_message
    if container.ended == "OOMKilled":
        limit = f" of {container.memory_limit}" if container.memory_limit else ""
        return failure(
            Reason.HostOutOfMemory,
            f"Container {container.name} passed its memory limit{limit} and the kernel killed it.",
            remedy="Lower `download.parallelism`: the program's own limit is fixed."
            if container.name == WEIGHTS
            else None,
            excerpt=text[-512:],
        )
    if container.ended == "DeadlineExceeded" or state.reason == "DeadlineExceeded":
        return failure(
            Reason.DownloadFailed,
            f"The pod passed its deadline: {state.message or container.ended_message}",
            excerpt=text[-512:],
        )
    found = diagnose_log(text, container.exit_code)
    probe = _failed_probe(state, container)
    if found.reason is not Reason.ServerCrashed:
        return found
    unread = log is None and not text
    if not probe:
        return _unexplained(found, container, state, text, unread)
    if probe == "startup":
        return _too_slow(text, now, state, unread)
    return failure(
        Reason.EngineDied,
        "The server no longer answered its liveness probe and was restarted.",
        excerpt=found.excerpt,
        retry=True,
    )


def _unexplained(found: Failure, container: Container, state: PodState, text: str, unread: bool) -> Failure:
    """A crash that no rule knows, in words that are true of the container: whose it was, and whether its log was read."""
    message, remedy = found.message, found.remedy
    if container.name == WEIGHTS and not unread and "no rule knows" not in message:
        return of_a_download(text, container.exit_code)
    if unread:
        message = message.replace("and its log shows no error", "and its log cannot be read").replace(
            ", and its log shows no error that ended it", ""
        )
        previous = " --previous" if container.ended_before else ""
        remedy = (
            f"Read it with `kubectl logs {state.name} -c {container.name}{previous}`, or see to the node{_on(state)}."
        )
    if container.name == WEIGHTS:
        message = message.replace("The server", "The weights program", 1)
        return failure(Reason.DownloadFailed, message, remedy=remedy, excerpt=found.excerpt, retry=found.retry)
    if container.init or not (container.is_server or len(state.containers) == 1):
        message = message.replace("The server", f"The container {container.name}, which is not the server,", 1)
    return replace(found, message=message, remedy=remedy)


def _on(state: PodState) -> str:
    return f" {state.node}" if state.node else ""


def _failed_probe(state: PodState, container: Container) -> str:
    """Which probe made the kubelet kill this run of the container: "startup", "liveness" or ""."""
    killing = state.last("Killing")
    if killing is None or not _during(killing.seen, container):
        return ""
    return next((kind for kind in ("startup", "liveness") if f"failed {kind} probe" in killing.message), "")


def _during(seen: str, container: Container) -> bool:
    """Whether an event is of the run that ended, as far as times are told: an older one is of an older run."""
    try:
        then = datetime.fromisoformat(seen.replace("Z", "+00:00"))
    except ValueError:
        return True
    after = seconds_between(container.began, then) if container.began else None
    return after is None or after >= -_CLOCKS_DIFFER_SECONDS


def _too_slow(text: str, now: datetime | None, state: PodState, unread: bool) -> Failure:
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
    if unread:
        return failure(
            Reason.StartupTimeout,
            f"The startup probe's budget was spent{budget}; whether the server was still loading is not known, for its log cannot be read.",
            remedy=f"Read it with `kubectl logs {state.name} --previous`; if it was still loading, raise `startupTimeoutSeconds`.",
        )
    return failure(
        Reason.StartupTimeout,
        f"The startup probe's budget was spent{budget}, and the log shows no progress: the server hangs.",
        remedy="Read the log's end in the excerpt: it is the last thing that was done; with several GPUs set NCCL_DEBUG=INFO in `env`.",
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
