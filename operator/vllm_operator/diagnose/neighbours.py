"""Who holds the memory of a GPU that is full: what PyTorch's own numbers say about it.

Its error names the GPU's total and free memory (the driver's word, so of everybody's use) and what this process has. What is
neither free nor this process's is somebody else's: in a pod the neighbour's process itself is not listed, as a rule, for it
lives under another root of process numbers.

How well the process's own share is known depends on the build. NVML gives it whole ("Including non-PyTorch memory, this
process has"), or, where it cannot tell which process is this one, for each process that it sees ("Process 3619 has"). Without
NVML (HIP, XPU, a MIG slice, WSL) only PyTorch's allocator counts: CUDA's context and the buffers of NCCL, RCCL or NVSHMEM are
this process's, too, and stand nowhere. GH200 has NVML say 0 bytes, WSL more than any GPU has: then the allocator's count is
what is left, as well.
"""

import re
from collections.abc import Set
from dataclasses import replace
from typing import Final

from vllm_operator.diagnose.failure import Failure
from vllm_operator.diagnose.reasons import Reason

NUMBERS: Final = ("want", "gpu", "total", "free", "own", "counted", "others", "largest")
OF_OTHERS: Final = "gpu-memory-of-another-process"
_ITS_OWN: Final = "Two of the server's own processes are on one and the same GPU, which has not the memory for both."
_OF_ITS_OWN: Final = (
    "Take another `image` (vLLM 0.8 handed GPUs out wrongly with `dataParallelSize`), and none that sets CUDA_VISIBLE_DEVICES; or set "
    "`dataParallelSize` to 1 and use `replicas`. Choose an `accelerator` whose GPUs are whole, not shared in time. "
    "Where the API server is one of them it prepares images there: leave the device in `mmProcessorKwargs` unset."
)
_NO_ROOM: Final = frozenset({"no-memory-for-kv-cache", "kv-cache-not-one-token"})
_CHARGED: Final = (
    "The weights take {weights:.2f} GiB, and {room:.2f} GiB are left for the KV cache: something took more beside them than "
    "`gpuMemoryUtilization` allows in all, another process that grew meanwhile or very large activations."
)
_OF_CHARGED: Final = (
    "Where another server started on this GPU at the same time its memory was charged to this one: it is tried again; start them "
    "one after another, or have the pod run on a GPU that is not shared (where GPU and host share one memory the host's use counts, "
    "too). Else raise `gpuMemoryUtilization` if it is low, lower `maxNumBatchedTokens` (for images and video also `limitMMPerPrompt`), "
    "or use a larger GPU in `accelerator` (on a CPU more `resources.limits.memory`)."
)
_KNOWN_SHARE: Final = 0.05
_KNOWN_GIB: Final = 2.0
"""From so much on others' memory is the cause, where the process's share is known. On a GPU of its own the rest is below 1 GiB
(what the driver keeps, a second context); what is less than a twentieth a server with the usual `gpuMemoryUtilization` leaves
free, so that the advice for the phase helps, too. Wrongly named it corrects itself (it is tried again, then without them);
wrongly left out it stops the server for good."""
_COUNTED_SHARE: Final = 0.2
_COUNTED_GIB: Final = 5.0
"""The same where only PyTorch's allocator counts: contexts and the buffers of collectives have been seen to take 1 to 4 GiB."""
_FREE_BEYOND_GIB: Final = 2.0
"""With so much more free than was asked for it was not the GPU that was full."""
_LISTED: Final = 0.9
"""A process that is listed with less than this share of what PyTorch has allocated is another one."""
_MOST_SHARE: Final = 1.5
_MOST_GIB: Final = 6.0
"""One that is listed with more than what PyTorch has, half of that and 6 GiB is another one, too: a neighbour beside a process
that is not listed."""
_WINDOW: Final = 900
_FEW_GIB: Final = 1.0
_UNITS: Final = {"bytes": 2.0**-30, "KiB": 2.0**-20, "MiB": 2.0**-10, "GiB": 1.0, "TiB": 2.0**10}

_SIZE = r"[\d.]{1,24}\s(?:bytes|[KMGT]iB)"
_ROOM = re.compile(r"Available KV cache memory: (-?\d{1,6}\.\d{1,9}) GiB")
_WEIGHTS = re.compile(r"Model loading took (\d{1,6}\.\d{1,9}) ?Gi?B")
_BEGINS = re.compile(
    rf"(?:(?:CUDA|HIP|XPU|NPU)\s{{1,4}}o|O)ut\s{{1,4}}of\s{{1,4}}memory\.\s{{1,4}}Tried\s{{1,4}}to\s{{1,4}}allocate\s{{1,4}}(?P<want>{_SIZE})"
)
_GPU = re.compile(
    rf"(?:GPU|NPU|XPU) (?P<gpu>\d{{1,3}}) has a total capaci?ty of (?P<total>{_SIZE})\.? of which (?P<free>{_SIZE}) is free"
)
_OLD_GPU = re.compile(
    rf"\((?:GPU|NPU|XPU) (?P<gpu>\d{{1,3}}); (?P<total>{_SIZE}) total capacity; .{{0,120}}?(?P<free>{_SIZE}) free; (?P<reserved>{_SIZE}) reserved in total"
)
_OWN = re.compile(rf"this process has (?P<own>{_SIZE}) memory in use")
_ANOTHER = re.compile(rf"Process (?P<pid>\d{{1,10}}) has (?P<size>{_SIZE}) memory in use")
_ALLOWED = re.compile(rf"{_SIZE} allowed; ")
_ALLOCATED = re.compile(rf"(?P<size>{_SIZE}) is allocated by PyTorch")
_RESERVED = re.compile(rf"(?P<size>{_SIZE}) is reserved by PyTorch but unallocated")


def held_by_others(text: str, cause: int = 0) -> dict[str, str] | None:
    """The numbers of the first out-of-memory error if others hold much of that GPU, else None; from `cause` on, where one is there.

    They are `want`, `gpu`, `total` and `free` as PyTorch prints them, `others`, what they hold, `largest`, what one of them
    does that is listed, and `own`, what this process has (`counted`, where only PyTorch's allocator says so).
    """
    begins = _BEGINS.search(text, cause) or _BEGINS.search(text)
    while begins is not None:
        said = " ".join(text[begins.start() : begins.start() + _WINDOW].split("\n\n")[0].split())
        said = said[: said.find("ut of memory. Tried", 30)] if "ut of memory. Tried" in said[30:] else said
        if _GPU.search(said) or _OLD_GPU.search(said):
            return _numbers(said, begins["want"])
        begins = _BEGINS.search(text, begins.end())
    return None


def unless_its_own(found: Failure, pids: Set[str]) -> Failure:
    """The failure; where a process that has much of the GPU is one of the server's own, `pids`, as one of those.

    PyTorch finds itself in NVML's list only where both count processes alike: then the log's numbers are those of the list. Each
    container has a process 1, and it is an API server.
    """
    if found.rule != OF_OTHERS or not _OWN.search(found.excerpt):
        return found
    theirs = {m["pid"]: _gib(m["size"]) for m in _ANOTHER.finditer(found.excerpt)}
    if sum(size for pid, size in theirs.items() if pid in pids and pid != "1") < sum(theirs.values()) / 2 or not theirs:
        return found
    return replace(found, reason=Reason.NotEnoughGPUs, message=_ITS_OWN, remedy=_OF_ITS_OWN, retry=False)


def perhaps_charged(found: Failure, log: str) -> Failure:
    """The failure; where the room for the KV cache is that far below zero, as one that a neighbour may have made.

    vLLM takes what the GPU has less of after its trial run than before for this server's, so also what another process took
    meanwhile. A room below zero by more than the weights says that the rest was more than the whole budget; of the usual
    causes (weights that are too large, a low `gpuMemoryUtilization`) neither does that.
    """
    rooms, weights = _ROOM.findall(log), _WEIGHTS.findall(log)
    if found.rule not in _NO_ROOM or not rooms or not weights:
        return found
    room, largest = min(map(float, rooms)), max(map(float, weights))
    if -room < max(_KNOWN_GIB, largest):
        return found
    return replace(found, message=_CHARGED.format(weights=largest, room=room), remedy=_OF_CHARGED, retry=True)


def _numbers(said: str, want: str) -> dict[str, str] | None:
    gpu = _GPU.search(said) or _OLD_GPU.search(said)
    if gpu is None or _ALLOWED.search(said):  # a limit of PyTorch's own, which the process itself has reached
        return None
    total, free = _gib(gpu["total"]), _gib(gpu["free"])
    own, known = _own(said, total, gpu.groupdict().get("reserved"))
    others = total - free - own
    enough = max(_KNOWN_GIB, _KNOWN_SHARE * total) if known else max(_COUNTED_GIB, _COUNTED_SHARE * total)
    # Where the process would need more than the whole GPU nothing is gained by the others' leaving.
    if own < 0 or others < enough or free >= _gib(want) + _FREE_BEYOND_GIB or own + _gib(want) > total:
        return None
    return _largest(said, own, others) | {
        "want": " ".join(want.split()),
        "gpu": gpu["gpu"],
        "total": gpu["total"],
        "free": gpu["free"],
        "own" if known else "counted": _words(own),
        "others": _words(others),
    }


def _largest(said: str, own: float, others: float) -> dict[str, str]:
    sizes = (_gib(match["size"]) for match in _ANOTHER.finditer(said))
    theirs = [size for size in sizes if size <= others and (size > own or _OWN.search(said))]
    return {"largest": _words(max(theirs))} if theirs else {}


def _own(said: str, total: float, reserved: str | None) -> tuple[float, bool]:
    """What this process has at least, in GiB, and whether that is all; below zero where the error does not say."""
    pieces = [_gib(match["size"]) for match in (_ALLOCATED.search(said), _RESERVED.search(said)) if match]
    counted = _gib(reserved) if reserved else sum(pieces) if pieces else -1.0
    own = _OWN.search(said)
    sizes = [_gib(own["own"])] if own else [_gib(match["size"]) for match in _ANOTHER.finditer(said)]
    sizes = sizes if counted >= 0 else [max(sizes, default=0.0)]
    most = total if own or counted < 0 else min(total, _MOST_SHARE * counted + _MOST_GIB)
    likely = [size for size in sizes if _LISTED * counted <= size <= most and size > 0]
    return (max(min(likely), counted), True) if likely else (counted, False)


def _gib(size: str) -> float:
    number, unit = size.split()
    try:
        return float(number) * _UNITS[unit]
    except ValueError:  # digits cut or joined by what carried the log
        return -1.0


def _words(gib: float) -> str:
    return f"{gib:.2f} GiB" if gib >= _FEW_GIB else f"{gib * 1024:.0f} MiB"
