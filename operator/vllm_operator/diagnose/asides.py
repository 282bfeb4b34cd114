"""Tracebacks that end nothing: of a request that failed while the server went on, of a thread that only reports usage."""

import re
from typing import Final

from vllm_operator.diagnose.lines import Line

_BEGINS = re.compile(
    r"Exception in ASGI application|Error (?:in|with) (?:preprocessing|applying|completion|chat|generating|processing|request|model error)"
    r"|Exception in thread \S{1,40} \((?:_report_\w{1,40}|\w{0,20}monitor\w{0,20})\)"
    r"|Error in \w{1,40} (?:stream )?generator|ErrorResponse\(|Error with model error"
)
_GOES_ON: Final = ("The above exception was the direct cause", "During handling of the above exception")


class Aside:
    """The one that is being read, line by line."""

    def __init__(self, exception: re.Pattern[str]) -> None:
        self._exception = exception
        self._process: str | None = None  # whose it is; None while none is read
        self._is_told = False

    def holds(self, line: Line) -> bool:
        """Whether this line, the next of the log, belongs to one.

        With a process before its lines one ends at its exception, since the next lines may be of the same process: what
        ended it, without a level of its own either. Else it ends where vLLM's own lines go on.
        """
        if _BEGINS.search(line.text):
            self._process, self._is_told = line.speaker, False
            return True
        if self._process is None or (self._process and line.speaker != self._process):
            return False
        goes_on = line.text.lstrip().startswith(_GOES_ON)
        if line.level or line.speaker != self._process or (self._is_told and line.text.strip() and not goes_on):
            self._process = None
            return False
        if self._process:
            self._is_told = not goes_on and (self._is_told or self._exception.match(line.text) is not None)
        return True
