"""Errors that were logged and survived: a start that failed says last, under a line of its own, what it failed of."""

import re
from collections.abc import Sequence
from typing import Final

from vllm_operator.diagnose.lines import Line

_FAILED = re.compile(
    r"(?:EngineCore|WorkerProc) failed to start|(?:EngineCore|WorkerProc) hit an exception|EngineCore encountered a fatal error"
)
"""vLLM's own line before the traceback that ended the engine, or a worker."""
_REPORTS = re.compile(r"(?:requests|urllib3|httpx|httpcore|aiohttp|opentelemetry|grpc)\.[\w.]{1,80}: ")
"""What an HTTP client raised: the engine that goes on had asked for nothing that it needs (usage, traces)."""
_OF_ANOTHER = re.compile(r"NCCL|RCCL|[Gg]loo|[Pp]eer|[Rr]emote|[Tt]im(?:ed|e) ?out|cancelled|closed|reset|died|store")
"""Words of a process that only lost another one: what ended that one may stand before."""
_QUOTED_CHARS: Final = 60
"""By so many characters of its words an error is known again where another one quotes it."""


def without_survived(lines: Sequence[Line], exception: re.Pattern[str], wrapper: re.Pattern[str]) -> Sequence[Line]:
    """The lines without those by which loggers (or HTTP clients of the same process) told of errors before the one that ended the
    engine, which is not of them.

    All lines where the log does not show that one, or where it only says that another process was lost.
    """
    at = next((index for index, line in enumerate(lines) if _FAILED.search(line.text)), len(lines))
    raised = (line.text for line in lines[at:] if exception.match(line.text))
    ended = next((text for text in raised if not wrapper.search(text)), "")
    if not ended or _OF_ANOTHER.search(ended):
        return lines
    end = "\n".join(line.text for line in lines[at:])
    speaker = lines[at].speaker
    survived = (
        line
        for line in lines[:at]
        if (line.level == "ERROR" and line.site) or (speaker and line.speaker == speaker and _REPORTS.match(line.text))
    )
    gone = {id(line) for line in survived if _words(line.text, exception) not in end}
    return [line for line in lines if id(line) not in gone] if gone else lines


def _words(text: str, exception: re.Pattern[str]) -> str:
    """What of an error's line stands wherever it is quoted: without the exception's name, the first characters."""
    said = text.split(": ", 1)[-1] if exception.match(text) else text
    return said.strip()[:_QUOTED_CHARS]
