"""What ended an API server that had served: the traceback that its own main thread left.

Other tracebacks of a server in service tell of requests, and it goes on. Nobody caught this one: it begins in the module that
was run, or where a process of its own begins.
"""

import re
from collections.abc import Iterator, Sequence

from vllm_operator.diagnose.lines import Line

_START = re.compile(r"^[\s|+-]{0,8}Traceback \(most recent call last\)")
_FRAME = re.compile(r"^[\s|]{0,12}File \"[^\"]{1,300}\", line \d{1,6},? in (?P<function>\S{1,120})")
_OUTERMOST = ("<module>", "_bootstrap")
_CHAIN = re.compile(r"^[\s|]{0,12}(?:The above exception was the direct cause|During handling of the above exception)")
_STOPS = re.compile(r"^(?:KeyboardInterrupt|SystemExit|(?:\w{1,40}\.){0,3}CancelledError)\b")
"""A wish to end, and no error."""
_CHILD = re.compile(r"Exception occurred while running API servers: ")
"""So begins what the parent of several API servers says of one that ended; the traceback that it logs is not its last."""


def ended_by(lines: Sequence[Line], exception: re.Pattern[str]) -> Sequence[Line]:
    """The exceptions of the tracebacks that nobody caught, each with those it was raised out of; none of a wish to end."""
    found = [line for line in lines if _CHILD.match(line.text)]
    for outermost, raised in _tracebacks(lines, exception):
        if outermost in _OUTERMOST and not any(_STOPS.match(line.text) for line in raised):
            found += raised
    return found


def _tracebacks(lines: Sequence[Line], exception: re.Pattern[str]) -> Iterator[tuple[str, Sequence[Line]]]:
    """Of each traceback the outermost function, and its exception behind those that it was raised out of."""
    reading: dict[str, str] = {}
    goes_on: set[str] = set()
    chain: dict[str, list[Line]] = {}
    for line in lines:
        who = line.speaker
        if _START.match(line.text):
            reading[who] = ""
            chain[who] = chain.get(who, []) if who in goes_on else []
            goes_on.discard(who)
        elif _CHAIN.match(line.text):
            goes_on.add(who)
        elif who in reading and (frame := _FRAME.match(line.text)):
            reading[who] = reading[who] or frame["function"]
        elif reading.get(who) and exception.match(line.text):
            chain[who] = [*chain[who], line]
            yield reading.pop(who), chain[who]
