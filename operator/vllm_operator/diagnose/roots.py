"""Which exception of a log is the root: not the wrappers that pass it on, and not what came of it in other processes."""

import re
from collections.abc import Sequence
from itertools import islice
from typing import Final

from vllm_operator.diagnose.lines import Line

WRAPPER = re.compile(
    r"Engine core initialization failed|WorkerProc initialization failed|Engine process failed to start|EngineDeadError"
    r"|EngineCore failed to start|WorkerProc failed to start|See (?:root cause|stack trace)|Executor failed|CancelledError"
    r"|failed to start\.?$|hit an exception|encountered a fatal error|EngineGenerateError|AsyncEngineDeadError|Process (?:EngineCore|VllmWorker|SpawnProcess)"
    r"|BrokenPipeError|^(?:EOFError(?!: Ran out)|ConnectionResetError)|leaked (?:semaphore|shared_memory)|NCCL WARN|died unexpectedly|TaskGroup|KeyError: '/(?:psm|mp)[_-]"
    r"|^(?:Exception in worker|Traceback|Invocation of|SystemExit|Worker failed with error)|output_handler failed|Shutting down|shutting down"
)
EXCEPTION = re.compile(
    r"^(?:\|? {0,8}\+?-?\|? )?(?P<name>(?:[A-Za-z_][\w]{0,60}\.){0,8}[A-Z][A-Za-z_]{0,60}"
    r"(?:Error|Exception|Interrupt|Exit|Exhausted|Warning|Timeout|Iteration|Forbidden|InvalidCxxCompiler)|Exception)(?::|$| \()"
    r"|^(?:[a-z_]\w{0,60}\.){1,8}(?:[A-Z]\w{1,60}|(?:[a-z]\w{0,60})?(?:[Ee]rror|Exception|timeout)): "
)
_LOST = re.compile(r"remote process exited|Connection (?:closed|reset) by (?:remote )?peer|ncclRemoteError")
"""What a worker says that only met the end of another one."""
_QUOTED_CHARS: Final = 60
"""By so many characters of its words an exception is known again where a line before it quotes it."""
_LOUD = re.compile(r"(?i)\berror\b|_ERROR|\bfatal\b|\bfailed\b|\babort")


def with_its_line(root: str, stack: str) -> str:
    """An assertion without words says what it asserted: the line it stands in."""
    source = stack.rpartition("\n")[2].partition(": ")[2]
    return (
        f"{root.rstrip(':')}: {source}"
        if root.rstrip(":") == "AssertionError" and source.startswith("assert ")
        else root
    )


def begins_at(root: str, text: str) -> int:
    """Where in the text the first line stands that has the root's words: its own, or one that quotes it; 0 where there is none."""
    said = [line.partition(": ")[2] or line.partition("error, ")[2] for line in root.split("\n")]
    places = [text.find(words[:_QUOTED_CHARS]) for words in said if len(words) >= _QUOTED_CHARS // 3]
    own = text.find(root.split("\n", 1)[0])
    first = min((place for place in [*places, own] if place >= 0), default=0)
    return text.rfind("\n", 0, first) + 1


def aborted_before(root: str, text: str) -> bool:
    """True when an interpreter's own last words stand before the exception: that one only met a process that was gone."""
    aborted = text.find("Fatal Python error: ")
    return 0 <= aborted < text.find(root.split("\n", 1)[0])


def with_losers_last(lines: Sequence[Line]) -> Sequence[Line]:
    """The lines in an order in which a worker that only lost another one has the word after that one.

    They write at the same time, and the one that lost the other may be through with its traceback first.
    """
    raised = [
        index
        for index, line in enumerate(lines)
        if line.from_engine and EXCEPTION.match(line.text) and not WRAPPER.search(line.text)
    ]
    if not raised or not _LOST.search(lines[raised[0]].text):
        return lines
    lost = {lines[index].speaker for index in raised if _LOST.search(lines[index].text)}
    own = (i for i in raised if lines[i].speaker not in lost and lines[i].process == lines[raised[0]].process)
    if (cause := next(own, None)) is None:
        return lines
    losers = [line for line in lines[:cause] if line.speaker in lost and line.level in ("ERROR", "")]
    late = {id(line) for line in losers}
    return [*(line for line in lines[: cause + 1] if id(line) not in late), *losers, *lines[cause + 1 :]]


def complaint(kept: Sequence[Line]) -> str:
    """The first line that sounds like an error; "" when there is none."""
    return next((line.text.strip() for line in kept if _LOUD.search(line.text) and not WRAPPER.search(line.text)), "")


def _fatal_one(kept: Sequence[Line], raised: Sequence[Line]) -> Line | None:
    """The exception of which an engine says that it ended; None where it only passes on a worker's."""
    said = next((index for index, line in enumerate(kept) if "encountered a fatal error" in line.text), len(kept))
    after = (line for line in kept[said:] if line in raised and line.process == kept[said].process)
    first = next(after, None)
    return None if first is None or "Worker failed with error" in first.text else first


def root_of(kept: Sequence[Line]) -> str:
    """The first exception that is no mere wrapper, the engine's before the API server's; "" when there is none."""
    raised = [line for line in kept if EXCEPTION.match(line.text) and not WRAPPER.search(line.text)]
    engines = next((line for line in raised if line.from_engine), raised[0] if raised else None)
    first = _fatal_one(kept, raised) or engines
    if first is None:
        return ""
    text = first.text.strip()
    if text.endswith(":") or "validation error" in text:  # the words themselves stand on the next line
        after = (line for line in kept[kept.index(first) + 1 :] if line.speaker == first.speaker)
        text += "".join(f"\n{line.text.strip()}" for line in islice(after, 1))
    return text
