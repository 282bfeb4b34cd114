"""Where an exception was raised: the frames of its traceback, for exceptions whose words no rule knows.

A message may be of any wording; the place it comes from says what it is about all the same: an exception out of `vllm/lora/`
is about an adapter, one out of `load_weights` about the checkpoint, one out of `vllm/config/` about the arguments.
"""

import re
from collections.abc import Sequence
from typing import Final

from vllm_operator.diagnose.lines import Line

MAX_FRAMES: Final = 60
"""Of each traceback the innermost frames are kept; vLLM's deepest have about 45."""
MAX_EXCEPTION_CHARS: Final = 400
"""By so many characters of its text an exception is found again."""

_FRAME = re.compile(r"^[\s|]{0,12}File \"(?P<path>[^\"]{1,300})\", line \d{1,6},? in (?P<function>\S{1,120})")
_START = re.compile(r"^[\s|+-]{0,8}Traceback \(most recent call last\)")
_ABORT = re.compile(r"^Fatal Python error: ")
_STDLIB = re.compile(r"/python3\.\d{1,2}/(?!site-packages|dist-packages)|^<|^$")
_INSTALLED = re.compile(
    r"site-packages|dist-packages|/(?:vllm|torch|triton|flashinfer|aiter|transformers|lmcache|nixl|ray)\b|(?i:/lmcache)|\.pyx$"
    r"|transformers_modules|torch_?(?:compile|inductor)|inductor|/compile-cache|/\.cache/|/\.triton|/tmp/"
)
"""Also of checkouts, and of what is generated or fetched while the server runs."""
_CHAIN = re.compile(r"^[\s|]{0,12}(?:The above exception was the direct cause|During handling of the above exception)")


def stacks(lines: Sequence[Line], exception: re.Pattern[str]) -> dict[str, str]:
    """The text of each exception to the frames it was first raised under, one a line: `path in function: source line`."""
    found: dict[str, str] = {}
    opened: dict[str, list[str]] = {}
    aborted: dict[str, str] = {}
    for line in lines:
        frames = opened.setdefault(line.speaker, [])
        if match := _FRAME.match(line.text):
            frames.append(f"{match['path']} in {match['function']}")
            if words := aborted.get(line.speaker):  # the interpreter's own last words come before their frames
                found[words] = "\n".join(frames[-MAX_FRAMES:])
        elif _START.match(line.text):
            aborted.pop(line.speaker, None)
            frames.clear()
        elif _ABORT.match(line.text):
            aborted[line.speaker] = line.text[:MAX_EXCEPTION_CHARS]
            frames.clear()
        elif frames and exception.match(line.text):
            found.setdefault(line.text[:MAX_EXCEPTION_CHARS], "\n".join(frames[-MAX_FRAMES:]))
            frames.clear()
        elif frames and line.text[:4] == "    " and ": " not in frames[-1] and line.text.strip(" ^~|"):
            frames[-1] += f": {line.text.strip()[:200]}"
    return found


def foreign_file(stack: str) -> str:
    """The file of the innermost frame, where that is neither vLLM's nor an installed package's: a plugin's; else ""."""
    frames = [frame.partition(" in ")[0] for frame in stack.split("\n")]
    own = next((path for path in reversed(frames) if not _STDLIB.search(path)), "")
    return own if own.startswith("/") and not _INSTALLED.search(own) else ""


def stack_of(root: str, found: dict[str, str]) -> str:
    """The frames of the exception that `root` begins with, without one those of an abort; "" when the log does not show them."""
    if not root:
        return next((frames for text, frames in found.items() if _ABORT.match(text)), "")
    first = root.split("\n", 1)[0].strip()[:MAX_EXCEPTION_CHARS]
    return found.get(first, "") or next((frames for text, frames in found.items() if text.strip() == first), "")


def end_of_chain(root: str, lines: Sequence[Line], exception: re.Pattern[str], text: str, since: int = 0) -> int | None:
    """Where in `text` stands what was not raised out of the root: another process's words, an exception of its own, an abort.

    None where nothing such follows, or where the root stands before the line `since`. What stands there is no cause of the
    root, though it may come of it.
    """
    first = root.split("\n", 1)[0]
    begins = next((i for i, line in enumerate(lines) if root and line.text.strip() == first), len(lines))
    at, chained, said = text.find(first) + len(first), False, set(text.split("\n"))
    for line in lines[begins + 1 :] if begins >= since else ():
        chained = chained or _CHAIN.match(line.text) is not None
        raised = exception.match(line.text) is not None
        other = line.speaker != lines[begins].speaker or _ABORT.match(line.text) is not None
        if line.text.strip() and line.text in said and (other or (raised and not chained)):
            ends = text.find(line.text, at)
            if ends >= 0:
                return ends
        chained = chained and not raised
    return None
