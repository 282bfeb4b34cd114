"""What in a log may be the cause: the evidence.

Most of a log is not: progress, warnings, the frames of tracebacks and the source lines they echo, usage text, requests that
failed while the server went on. What remains is a handful of lines, in order, of the last start only, with the words of
engine and workers before those of the API server (whose last words only say that the engine failed).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from vllm_operator.diagnose.asides import Aside
from vllm_operator.diagnose.ends import ended_by
from vllm_operator.diagnose.lines import Line, read_lines
from vllm_operator.diagnose.roots import (
    EXCEPTION,
    WRAPPER,
    aborted_before,
    complaint,
    root_of,
    with_its_line,
    with_losers_last,
)
from vllm_operator.diagnose.stacks import end_of_chain, stack_of, stacks
from vllm_operator.diagnose.survived import without_survived

MAX_EVIDENCE_CHARS: Final = 64 * 1024
_TAIL_CHARS: Final = 1000
_TAIL_LINE_CHARS: Final = 240

_START = re.compile(r"non-default args:|vLLM (?:API )?server version \S|args: Namespace\(")
_USAGE = re.compile(r"usage: (?:vllm|api_server)|(?:vllm serve|vllm|api_server\.py): error: ")
"""All that a start says whose arguments cannot be read."""
_BEGINS = re.compile(
    _START.pattern
    + r"|Automatically detected platform|Initializing a V\d LLM engine|Starting to load model|Loading (?:model weights|safetensors|pt) "
)
_READY = re.compile(r'Application startup complete|Uvicorn running on |:\d{1,5} - "[A-Z]{3,7} /\S{0,99} HTTP/1\S\d"')
_SERVED = re.compile(
    r"EngineCore encountered a fatal error|Avg prompt throughput: | - \"(?:GET|HEAD|POST|PUT|DELETE|OPTIONS) /\S{0,400} HTTP/\d"
)
"""Only a server that was ready says so: its log may have lost the line that announces it (an engine fails to *start* in other words)."""
_STOP = re.compile(
    r"\[shutdown\] API server: shutdown triggered|Received signal SIG(?:TERM|INT)|KeyboardInterrupt: terminated|Gracefully stopping http server"
)
_ENGINE_LOST = re.compile(
    r"engine core exited unexpectedly|EngineDeadError|[Ee]ngine core proc \S{1,60} died|Worker proc \S{1,60} died unexpectedly"
    r"|Engine(?:Core)? (?:encountered|hit) an? (?:fatal error|exception)|EngineCore encountered (?:a fatal error|an issue)"
    r"|MQLLMEngine is already dead|Engine process \S{0,20} ?(?:died|failed)|AsyncEngineDeadError|Background loop has errored"
)
_HANDLES = re.compile(r"output_handler failed|EngineDeadError|Background loop has errored")
_IN_SERVICE: Final = "vllm/v1/engine/core.py in run_busy_loop"
"""Under what an engine in service raises; a worker's own traceback does not show it."""
FATAL = re.compile(
    r"EngineCore failed to start|WorkerProc failed to start|EngineCore hit an exception|WorkerProc hit an exception|Engine core initialization failed"
    r"|WorkerProc initialization failed|Engine process failed to start|encountered a fatal error"
    r"|Worker proc \S{1,60} died unexpectedly|[Ee]ngine core proc \S{1,60} died unexpectedly"
)
_FAILED = re.compile(FATAL.pattern + r"|Value error, |: error: ")
_FRAME = re.compile(r"^[\s|]{0,12}File \"[^\"]{1,300}\", line \d")
_WARNED = re.compile(r"\S{1,300}:\d{1,6}: \w{0,40}Warning: ")
"""Python's own warnings: the line of source that they echo comes after them, indented."""
_DEEP = re.compile(r" {4,}(?!\| |\d{1,2}: )")
"""Source lines whose frame is not in the log (cut, or rotated away); not the numbered causes of an error of Rust."""
_MARKER = re.compile(
    r"^[\s|+-]{0,8}(?:Traceback \(most recent call last\)|The above exception was the direct cause|During handling of the above"
    r"|Exception Group Traceback|=+|-{3,}|\+-[+-]{3,}|\.\.\. \[\d+ lines cut\]|#{1,6} .{0,300}|For further information visit \S+)"
)
_NOISE = re.compile(
    r"^\s{0,8}[\^~]{3,}|it/s\]|s/it\]|\?it/s|(?:Fetching|Loading|Capturing) .{0,80}\d{1,3}%|\d{1,3}%\|"
    r"|\" \d{3} (?:OK|[A-Z][a-z]+)|Warning: |Warning\(|UserWarning|FutureWarning|DeprecationWarning|warnings\.warn"
    r"|^\s{0,8}(?:usage: |\.\.\. \[usage text cut\])|^\s{12,}\[?-{1,2}[a-z]"
    r"|kernel errors might be asynchronously|^For debugging consider passing|^Compile with `TORCH_USE_|^Search for `(?:cuda|hip)"
    r"|^Extension modules: |^Stack \(most recent call first\)|Got fatal signal from worker|^Set TORCHDYNAMO_VERBOSE"
    r"|^Process (?:EngineCore|SpawnProcess|VllmWorker|Worker)\S{0,20}:$"
)
_HARMLESS = re.compile(
    r"Error saving model info cache|Failed to import from vllm\._[A-Za-z]|Error retrieving (?:file list|safetensors)|, retrying \d of \d"
    r"|^Error while downloading from https?://|^\{\"timestamp\":\"[^\"]{1,40}\",\"level\":\"\w{4,5}\",\"fields\":"
    r"|Failed to collect processor kwargs|NVLink detection (?:failed|not possible)|XGMI detection failed|amdsmi device \w{4,5} query failed"
    r"|(?:Permission denied|No space left on device|Disk quota exceeded|Read-only file system): '/\S{0,80}\.config(?:/vllm\S{0,40})?'"  # usage statistics alone lie there
    r"|Ignoring import error|Failed to load plugin|Could not load .{0,60}plugin|Cannot use FlashAttention|Error in inspecting model architecture .{0,80}retry"
)
_CALL = re.compile(r"Invocation of \w{1,20}_lora method failed")
_WORKERS: Final = "WorkerProc hit an exception"
_FATAL_CALL: Final = "encountered a fatal error"
_CALL_LINES: Final = 600
"""Within so many lines the engine says what became of a worker's failure: eight tracebacks of 70 lines."""
_ENGINE_SITE = re.compile(
    r"^(?:[\w/]{0,80}/)?(?:core|engine|llm_engine|async_llm_engine|multiproc|worker|gpu_|cpu_|ray_|launcher|async_llm|core_client|client|cuda|pynccl|shm_|dump_input)"
)
_ALWAYS = re.compile(
    r"error while attempting to bind on address|must provide a chat template|default chat template is no longer allowed|Cannot use chat template functions"
    r"|NCCL WARN|ProcessGroupNCCL(?![^\n]{0,80}destroy_process_group)|Fatal Python error|terminate called|Memory access fault by GPU|HW Exception by GPU|NVRM: Xid"
    r"|CUDA initialization: .{0,200}(?:Error 80[34]|is too old)"
)
_PID = re.compile(r"pid=(\d{1,10})")
_CALMLY = re.compile(r"No platform detected, vLLM is running on")
"""What vLLM logs as information, though nothing can come of it."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The lines that may name the cause, joined for matching, and what is known about the server's life."""

    text: str
    everything: str
    whole: bool
    """The log shows a start of the server: what is not in it was not said."""
    ready: bool
    served: bool
    """It was ready once, by its own word or by what only a ready server logs."""
    stopped: bool
    engine_lost: bool
    fatal: bool
    root: str
    stack: str
    """The frames under which the root was raised; "" when the log does not show them."""
    root_ends: int | None
    """Where in the text another exception, or another process, has the word after the root; else None."""
    complaint: str
    """The first line that sounds like an error, for logs without an exception."""
    tail: str
    pids: frozenset[str]
    """The numbers of the server's processes, as the lines name them."""


_ENDED_FROM_OUTSIDE: Final = (137, 143)
"""SIGKILL and SIGTERM: they end the start that they meet, which need not have failed."""


def gather(raw: object, exit_code: int | None = None) -> Evidence:
    """The evidence in a log; empty for an empty or healthy one. Exit code 0 is that of no server that failed to start."""
    starts = [with_losers_last(without_survived(start, EXCEPTION, WRAPPER)) for start in _starts(read_lines(raw))]
    chosen = _evidence(starts[-1], exit_code == 0)
    only_begun = not chosen.text and not chosen.ready and exit_code not in _ENDED_FROM_OUTSIDE
    return _evidence(starts[-2], exit_code == 0) if only_begun and len(starts) > 1 else chosen


def _starts(lines: Sequence[Line]) -> list[Sequence[Line]]:
    """The log cut at each start of a server; several announcements close together are one start."""
    cuts: list[int] = []
    busy = False
    for index, line in enumerate(lines):
        begins = _START.search(line.text[:200]) or (cuts and _USAGE.match(line.text))
        if begins and not line.from_engine and (not cuts or busy):
            cuts.append(index)
            busy = False
        busy = (
            busy
            or EXCEPTION.match(line.text) is not None
            or _FAILED.search(line.text) is not None
            or _STOP.search(line.text) is not None
        )
    if len(cuts) < 2:
        return [lines]
    cuts[0] = 0
    return [lines[start:end] for start, end in zip(cuts, [*cuts[1:], len(lines)], strict=True)]


def _evidence(lines: Sequence[Line], ended_well: bool) -> Evidence:
    ready_at = _first(lines, _READY)
    whole = _first(lines, _BEGINS) < len(lines)
    served_at = _served_at(lines, ready_at, whole, ended_well)
    stop_at = _first(lines, _STOP)
    lost_at = _first(lines, _ENGINE_LOST, start=served_at)
    lost = lost_at < len(lines) and lost_at < stop_at
    end = len(lines) if lost or stop_at < served_at else min(stop_at, len(lines))
    last = () if lost else ended_by(lines[served_at:end], EXCEPTION)
    kept = _unique(
        [*last, *_candidates(lines[:served_at], serving=False), *_candidates(lines[served_at:end], serving=True)]
    )
    text = "\n".join(line.text for line in kept)[:MAX_EVIDENCE_CHARS]
    root = root_of(kept)
    stack = stack_of("" if aborted_before(root, text) else root, stacks(lines, EXCEPTION))
    if stack and served_at < len(lines) and _IN_SERVICE not in stack:
        stack = f"{_IN_SERVICE}\n{stack}"
    root_ends = end_of_chain(root, lines, EXCEPTION, text, 0 if served_at == len(lines) else served_at)
    if (said := with_its_line(root, stack)) != root:
        root_ends = root_ends and root_ends + len(said) - len(root)
        text, root = text.replace(root, said, 1), said
    return Evidence(
        text=text,
        everything="\n".join(line.text for line in lines if line.level in ("INFO", "WARNING", ""))[
            : 4 * MAX_EVIDENCE_CHARS
        ],
        whole=whole,
        ready=ready_at < len(lines),
        served=served_at < len(lines),
        stopped=stop_at < len(lines) and not lost,
        engine_lost=lost,
        fatal=FATAL.search(text) is not None or (ready_at == len(lines) and _ENGINE_LOST.search(text) is not None),
        root=root,
        stack=stack,
        root_ends=root_ends,
        complaint=complaint(kept),
        tail=_tail(lines),
        pids=frozenset(pid for line in lines for pid in _PID.findall(line.speaker)),
    )


def _served_at(lines: Sequence[Line], ready_at: int, whole: bool, ended_well: bool) -> int:
    """From which line on the server served; the number of lines where nothing shows that it did."""
    found = min(ready_at, _first(lines, _SERVED))
    if found == len(lines) and ended_well:
        return _first(lines, _ENGINE_LOST)
    return _first(lines, _HANDLES) if found == len(lines) and not whole else found


def _tail(lines: Sequence[Line]) -> str:
    """The last lines that are no progress, whole ones, each cut to what fits beside others."""
    kept = [line.text[:_TAIL_LINE_CHARS] for line in lines if line.text.strip() and not _NOISE.search(line.text)]
    length, first = 0, len(kept)
    while first and (length := length + len(kept[first - 1]) + 1) <= _TAIL_CHARS:
        first -= 1
    return "\n".join(kept[first:])


def _first(lines: Sequence[Line], pattern: re.Pattern[str], start: int = 0) -> int:
    return next((i for i in range(start, len(lines)) if pattern.search(lines[i].text)), len(lines))


def _candidates(lines: Sequence[Line], *, serving: bool) -> Iterable[Line]:
    """Lines that are neither progress nor the body of a traceback; while serving only the engine's."""
    frames: dict[str, str | None] = {}  # of each process the indent of the frame that is being read
    aside = Aside(EXCEPTION)
    harmless: tuple[str, str] | None = None
    for index, line in enumerate(lines):
        text = line.text
        is_aside = aside.holds(line)
        if _FRAME.match(text):
            frames[line.speaker] = text[: len(text) - len(text.lstrip())]
            continue
        in_frame = frames.get(line.speaker)
        if in_frame is not None and _echoes(text, in_frame):
            continue
        frames[line.speaker] = " " if _WARNED.match(text) else None
        if _MARKER.match(text):
            continue
        harmless = _harmless(lines, index, serving, harmless)
        if harmless and harmless == (line.process, line.site):
            continue
        if _counts(line, serving, is_aside):
            yield line


def _harmless(
    lines: Sequence[Line], index: int, serving: bool, before: tuple[str, str] | None
) -> tuple[str, str] | None:
    """Whose words at which site end nothing, from this line on."""
    line = lines[index]
    if line.site and (_HARMLESS.search(line.text) or (serving and _of_a_call(lines, index))):
        return (line.process, line.site)
    return None if _WORKERS in line.text else before


def _of_a_call(lines: Sequence[Line], index: int) -> bool:
    """True where the engine's call to load an adapter failed: in service it answers so and lives on."""
    if _WORKERS not in lines[index].text:
        return _CALL.search(lines[index].text) is not None
    # The worker says it first, in the words of one that dies.
    after = (line.text for line in lines[index : index + _CALL_LINES])
    return next((_CALL.search(text) is not None for text in after if _CALL.search(text) or _FATAL_CALL in text), False)


def _echoes(text: str, frame_indent: str) -> bool:
    """True for the source a traceback shows under a frame: deeper than the frame, or anything that is no exception."""
    indent = len(text) - len(text.lstrip())
    if indent > len(frame_indent):
        return True
    return (
        indent == len(frame_indent)
        and not frame_indent
        and EXCEPTION.match(text) is None
        and text.endswith(("(", ")", ",", "]"))
    )


def _counts(line: Line, serving: bool, is_aside: bool) -> bool:
    text = line.text
    if not text.strip() or line.level in ("INFO", "DEBUG", "TRACE") or _DEEP.match(text):
        return _CALMLY.match(text) is not None
    if _ALWAYS.search(text):
        return True
    if line.level == "WARNING" and not _ENGINE_LOST.search(text):
        return False
    if _NOISE.search(text) or _HARMLESS.search(text) or is_aside:
        return False
    return (
        not serving or line.from_engine or line.level == "CRITICAL" or bool(line.site and _ENGINE_SITE.match(line.site))
    )


def _unique(lines: Iterable[Line]) -> list[Line]:
    seen: set[str] = set()
    return [line for line in lines if not (line.text in seen or seen.add(line.text))]  # type: ignore[func-returns-value]
