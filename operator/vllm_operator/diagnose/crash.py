"""From the log of a server or Job that ended (or hangs) to its failure."""

import re
from dataclasses import replace
from typing import Final

from vllm_operator.diagnose.failure import MAX_BYTES, Failure, failure
from vllm_operator.diagnose.log import Evidence, gather
from vllm_operator.diagnose.neighbours import perhaps_charged, unless_its_own
from vllm_operator.diagnose.reasons import Reason
from vllm_operator.diagnose.roots import begins_at
from vllm_operator.diagnose.rules import CAUSES, find
from vllm_operator.diagnose.stacks import foreign_file

_SIGNALS: Final = {
    132: "illegal instruction",
    134: "abort",
    135: "bus error",
    136: "floating point error",
    139: "segmentation fault",
}
_TERMINATED: Final = 143
_OVER = re.compile(
    r"(?m)^(?:Illegal instruction|Segmentation fault|Bus error|Aborted|Killed)\b|[Ss]hutting down|shutdown complete"
)
"""Last lines of a server that has ended: a shell's, and its own."""
_OF_STARTS: Final = frozenset(
    {
        Reason.InvalidArgument,
        Reason.ModelConfigInvalid,
        Reason.TensorParallelInvalid,
        Reason.QuantizationMismatch,
        Reason.QuantizationUnknown,
        Reason.UnsupportedArchitecture,
        Reason.MaxModelLenTooLong,
        Reason.WeightsMissing,
        Reason.WeightsCorrupt,
    }
)


_OF_AN_ERROR: Final = (
    "It restarts by itself. When the same error comes again: where its words name a setting, the model or a device, look there "
    "first; else it is a fault of this vLLM, or of what the image lacks: take another `image` version."
)
_OF_A_PLUGIN: Final = (
    "It was raised in {path}, which is no part of vLLM: mend that code, or take out what has it loaded (an argument such as "
    "--logits-processors, a plugin of the `image` or of the accelerator's profile). It restarts by itself, and fails again until then."
)
_OF_A_CUT: Final = (
    "It restarts by itself. Read the log from its beginning: the first ERROR of EngineCore or a Worker names the cause; where "
    "there is none suspect host memory: raise `resources.limits.memory`."
)
_OF_A_TRANSFER: Final = (
    "It restarts by itself. When it repeats: servers that pass KV cache to each other need the same `image` and model, most "
    "often the same `tensorParallelSize`, `blockSize` and `kvCacheDtype`, too, and must reach each other; another `image` version "
    "may have it mended. Without --kv-transfer-config in `extraArgs` and `kvOffloadingSize` this code does not run."
)
_OF_A_DRAFT: Final = (
    "It restarts by itself. When the same error comes again it is a fault of this vLLM's speculative decoding: serve without "
    "`speculativeConfig`, or take another `image` version."
)
_OF_A_STOP: Final = (
    "Nothing is wrong where a stop was wanted (a rollout, fewer `replicas`, a drained node). Else the pod's events say who "
    "stopped it: a failed probe (while the server starts: `startupTimeoutSeconds` is its time for it), an eviction."
)
_OF_AN_INSTRUCTION: Final = (
    "Most often the node's CPU does not know an instruction that the image is built with: have the pod run on a node with a "
    "newer CPU (`pod`: its nodeSelector), or set `image` to a build for this one (a CPU server: for its instruction set)."
)
_OF_A_FAULT: Final = (
    "It restarts by itself. When it repeats, leave out what uses the code that the excerpt's frames name, where it shows any (a "
    "KV connector's, for example: --kv-transfer-config in `extraArgs`), or take another `image` version; on one node only, have its GPU and "
    "memory checked."
)
_OF_A_BUS_ERROR: Final = (
    "Memory that it had mapped could not be had. When it repeats have the size of /dev/shm raised (shmSize in the platform's "
    "settings, and `resources.limits.memory` with it); if that is large enough look for a full or failing volume."
)
_OF_A_SIGNAL: Final = {
    132: _OF_AN_INSTRUCTION,
    134: _OF_A_FAULT,
    135: _OF_A_BUS_ERROR,
    136: _OF_A_FAULT,
    139: _OF_A_FAULT,
}
_ASKED_TO_STOP: Final = "KeyboardInterrupt: terminated"
_ABORTED: Final = "Fatal Python error: "
_FRAMES_SHOWN: Final = 8
_FRAMES_NEAR: Final = 3
_SERVES: Final = "The log shows no error that ended the server: it served when the log ends."
_OF_ONE_THAT_SERVES: Final = (
    "Requests may have failed for reasons of their own; the excerpt shows the last lines. If the server did end, its exit code and "
    "the pod's events say more than this log."
)
_IN_SERVICE: Final = "engine-died-in-service"
_OF_A_KILL: Final = (
    "When its memory was near `resources.limits.memory`, raise that; when the pod's events speak of a failed probe, "
    "look at what it waited for in the log (`startupTimeoutSeconds` is its time to start)."
)


def fatal_while_starting(text: object) -> Failure | None:
    """The failure of a server that still runs but whose engine has logged its end; None while it may yet become ready.

    An engine can log a fatal error and neither it nor the API server end: without this the pod hangs until its budget is spent.
    """
    seen = gather(text)
    if seen.ready or not seen.fatal:
        return None
    found = _cause(seen)
    if found is not None:
        return found
    # The line that says so comes before the traceback that says why: a log read in between is read again.
    ended = seen.root or any(words in seen.text for words in ("Engine core initialization failed", "EngineDeadError"))
    return judge(seen, None) if ended else None


def judge(seen: Evidence, exit_code: int | None) -> Failure:
    """The failure that a server's evidence shows; `ServerCrashed` when no rule knows it."""
    return (
        _by_its_words(seen, exit_code)
        or _by_its_place(seen)
        or _by_a_symptom(seen, exit_code)
        or _by_a_request(seen, exit_code)
        or _unknown(seen, exit_code)
    )


def _by_its_words(seen: Evidence, exit_code: int | None) -> Failure | None:
    """By words that name a cause; of a server that served, none that would have kept it from starting; of one that was asked
    to stop none that no exception came of."""
    if _was_stopped(seen, exit_code):
        return None
    found = _cause(seen, exit_code)
    return None if found is not None and seen.served and found.reason in _OF_STARTS else found


def _was_stopped(seen: Evidence, exit_code: int | None) -> bool:
    """True where the log ends because it was asked to: no exception came of what was said before."""
    return (seen.stopped or exit_code == _TERMINATED) and not (seen.root or seen.fatal or seen.engine_lost)


def _cause(seen: Evidence, exit_code: int | None = None) -> Failure | None:
    """The cause that the words name; what followed an exception that no rule knows is no cause, but comes of that one."""
    found = find(
        seen.text,
        context=seen.everything,
        stack=seen.stack,
        exit_code=exit_code,
        weights=CAUSES,
        cause=begins_at(seen.root, seen.text),
        cause_ends=seen.root_ends,
    )
    return None if found is None else perhaps_charged(unless_its_own(found, seen.pids), seen.everything)


def _by_its_place(seen: Evidence) -> Failure | None:
    """By where an exception of unknown words was raised."""
    if not seen.stack or seen.served:
        return None
    return find(seen.root, context=seen.everything, stack=seen.stack, weights=frozenset({"place"}))


def _by_a_symptom(seen: Evidence, exit_code: int | None) -> Failure | None:
    """By words that only say that the engine went; of a log without its beginning, that the cause stands there."""
    if not seen.whole and not seen.root and (cut := find(seen.text, weights=frozenset({"cut"}))):
        return cut
    if (not seen.engine_lost and (seen.root or seen.complaint)) or _was_stopped(seen, exit_code):
        return None
    symptom = find(seen.text, weights=frozenset({"symptom"}))
    if symptom is not None and seen.served:
        return _of_service(seen, exit_code)
    if symptom is not None and seen.whole and symptom.rule == _IN_SERVICE:  # its words, from a server that never served
        return replace(symptom, message="The engine ended while the server started, and logged no error.")
    return symptom


def _by_a_request(seen: Evidence, exit_code: int | None) -> Failure | None:
    """By a request that failed while the server lives."""
    if seen.fatal or exit_code not in (None, 0):
        return None
    request = find(seen.text, weights=frozenset({"request"}))
    return request if request is not None and (seen.served or seen.root[:60] in request.excerpt) else None


def _of_service(seen: Evidence, exit_code: int | None) -> Failure:
    silent = " and logged no error" if seen.whole else "; this part of its log does not say of what"
    cause = f": {seen.root.rstrip('.')}" if seen.root else silent
    after = "" if exit_code else " The server ends after it, with exit code 0."
    of_a_draft = _OF_A_DRAFT if "/spec_decode/" in seen.stack else _OF_AN_ERROR
    of_an_error = _OF_A_TRANSFER if "/kv_transfer/" in seen.stack else of_a_draft
    if plugin := foreign_file(seen.stack):
        of_an_error = _OF_A_PLUGIN.format(path=plugin)
    return failure(
        Reason.EngineDied,
        f"The engine died in service{cause}.{after}",
        remedy=of_an_error if seen.root else None if seen.whole else _OF_A_CUT,
        excerpt=_raised(seen) if seen.root else seen.text[-1024:],
        rule=_IN_SERVICE,
    )


def _unknown(seen: Evidence, exit_code: int | None) -> Failure:
    ended = "The server ended" if exit_code is None else f"The server ended with exit code {exit_code}"
    root = _error(seen, exit_code)
    serves = exit_code is None and seen.served and not (seen.stopped or seen.engine_lost or _OVER.search(seen.tail))
    if serves and not root:
        return failure(Reason.ServerCrashed, _SERVES, remedy=_OF_ONE_THAT_SERVES, excerpt=_last_words(seen))
    if root and _stopped_after(seen, exit_code):
        message = f"{ended}: it was asked to stop (SIGTERM). Its log shows an error before that: {root[:400]}"
    elif root:
        message = f"{ended}, for a reason no rule knows: {root[:400]}"
    elif exit_code == 137:
        message = (
            f"{ended}: it was killed (SIGKILL), by the kernel for its memory or by the kubelet after its grace period."
        )
    elif exit_code in _SIGNALS:
        message = f"{ended} ({_SIGNALS[exit_code]})."
    elif seen.stopped or exit_code == _TERMINATED:
        message = f"{ended}: it was asked to stop (SIGTERM), and its log shows no error that ended it."
    elif exit_code is None and seen.whole and not _OVER.search(seen.tail):
        message = "The log shows no error, and ends before the server serves."
    else:
        message = f"{ended}, and its log shows no error."
    return failure(
        Reason.ServerCrashed,
        message,
        remedy=_of_an_end(seen, exit_code, root),
        excerpt=_from(seen, root) if root else _last_words(seen),
        retry=False if exit_code == 132 and not root else None,
    )


def _error(seen: Evidence, exit_code: int | None) -> str:
    """The error to show; "" where the only one says that the server was asked to stop, or none kept it from that."""
    if exit_code in (137, _TERMINATED) and seen.served and not (seen.fatal or seen.engine_lost):
        return ""  # what ended it says nothing, and what was said before was lived through
    root = seen.root or ("" if exit_code == _TERMINATED else seen.complaint)
    return "" if root.startswith(_ASKED_TO_STOP) else root


def _stopped_after(seen: Evidence, exit_code: int | None) -> bool:
    """True where a server that served was asked to stop, after whatever error it had lived through."""
    return seen.stopped and seen.served and exit_code in (None, 0, _TERMINATED)


def _last_words(seen: Evidence) -> str:
    """The log's last lines, and how far the progress was that stands last."""
    last = seen.everything.rstrip().rpartition("\n")[2].strip()[:240]
    if not last or last in seen.tail:
        return seen.tail
    room = MAX_BYTES - len(last.encode()) - 1
    kept = seen.tail.split("\n")
    while kept and len("\n".join(kept).encode()) > room:
        kept.pop(0)
    return "\n".join([*kept, last])


def _of_an_end(seen: Evidence, exit_code: int | None, root: str) -> str | None:
    """What to do about an end without an error, or by a signal; None where that is the general advice."""
    if exit_code is not None and exit_code in _OF_A_SIGNAL and (not root or root.startswith(_ABORTED)):
        return _OF_A_SIGNAL[exit_code]
    if root and not _stopped_after(seen, exit_code):
        plugin = foreign_file(seen.stack)
        return _OF_A_PLUGIN.format(path=plugin) if plugin and seen.root else None
    if exit_code == 137:
        return _OF_A_KILL
    return _OF_A_STOP if exit_code in (0, _TERMINATED) or seen.stopped else None


def _raised(seen: Evidence) -> str:
    """The error with the frames next to it, before what the log dumps after it."""
    said = _from(seen, seen.root).partition("\nDumping input data")[0]
    frames = [] if seen.root.startswith(_ABORTED) else seen.stack.split("\n")[-_FRAMES_NEAR:]
    return "\n".join([said, *(f"at {frame}" for frame in reversed(frames) if frame)])


def _from(seen: Evidence, root: str) -> str:
    if root.startswith(_ABORTED) and seen.stack:
        return "\n".join([root, *seen.stack.split("\n")[:_FRAMES_SHOWN]])
    start = max(seen.text.find(root.split("\n")[0]), 0)
    return seen.text[start : start + 1024]
