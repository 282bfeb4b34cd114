"""What a log of the weights program tells: its own answer at the end, or how far it was when something ended it."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from vllm_operator.diagnose.failure import Failure, failure, masked, shortened
from vllm_operator.diagnose.reasons import MEANINGS, Reason

_LAST_CHARS: Final = 64 * 1024
_LINES_AFTER: Final = 10
_LINES_SHOWN: Final = 4
_ANSWER = re.compile(r'\{"version": ?1, ?"ok": ?(?:true|false),')
"""How the weights program's answer begins."""
_PROGRESS = re.compile(r'\{"(?:version|event|phase)": ?|^\s*[~^]+\s*$')
_SAYS_NO = re.compile(r'\{"version": ?1, ?"ok": ?false,')
_WENT_WELL = re.compile(r'\{"version": ?1, ?"ok": ?true,')
_TELLS_PROGRESS = re.compile(r'\{"event": ?"(?:progress|waiting|trying again|already complete)"')
_DONE = re.compile(r'"bytesDone": ?(\d{1,20}), ?"bytesTotal": ?(\d{1,20})')
_WRAPPED = re.compile(r'\{\\"(?:version|event)\\":')
"""The beginning of an object of the program's, as a string in another."""
_BODIES: Final = ("log", "message", "msg", "MESSAGE", "line", "body", "textPayload")
_CUT_ANSWER = re.compile(r'"reason": ?"(?P<reason>\w{3,40})", ?"message": ?(?P<message>"(?:[^"\\]|\\.)*")')
_KILLED: Final = 137
_MAY_PASS: Final = 1
_FINAL: Final = 3
"""How the program ends when it has answered."""
_GOES_ON: Final = "The next try goes on from there."


def from_weights_log(text: str, exit_code: int | None = None) -> Failure | None:
    """What the weights program said at the end of its log, with what stands before it as the excerpt; None for other logs.

    Its answer is the last line, but for what others may write after it: a line of stderr, of a wrapper's, of the collector's.
    Progress behind an answer is of a newer try, which has not answered; of several the one counts that the exit code is of.
    """
    lines = _lines(text)
    answers: list[Failure] = []
    for index in range(len(lines) - 1, max(len(lines) - _LINES_AFTER, 0) - 1, -1):
        if not answers and _TELLS_PROGRESS.search(lines[index]):
            return None
        if _ANSWER.search(lines[index]) or index == len(lines) - 1:
            said = from_termination_message(lines[index])
            if said is not None:
                answers.append(said if said.excerpt else replace(said, excerpt=_excerpt(lines, index)))
            elif _ANSWER.search(lines[index]):  # it went well
                break
    if not answers or exit_code == _KILLED:  # whom something kills does not answer: an older try did
        return None
    return next((said for said in answers if exit_code == (_MAY_PASS if said.retry else _FINAL)), answers[0])


def of_a_download(text: str, exit_code: int | None) -> Failure:
    """A download that something ended before it could say why."""
    whole = _lines(text)
    lines = _since_the_last_answer(whole)
    found = next((found for line in reversed(lines) if (found := _DONE.search(line))), None)
    so_far = f" at {found[1]} of {found[2]} bytes" if found else ""
    if exit_code == _KILLED:
        message = f"The download was killed{so_far} (exit code 137, SIGKILL): for its memory, by an eviction, or with its node."
        remedy = f"{_GOES_ON} Where the pod says OOMKilled lower `download.parallelism`; else see to the node."
    elif exit_code is None:
        message = f"The log ends{so_far}, and the program has not said how it ended."
        remedy = (
            f"Where it still runs nothing is wrong. Else it was killed, and the pod's state tells by what. {_GOES_ON}"
        )
    else:
        message = f"The download ended with exit code {exit_code}{so_far}, and did not say why."
        remedy = f"{_GOES_ON} Where it ends so again, the pod's state and events, and the node, tell more."
    return failure(
        Reason.DownloadFailed, message, remedy=remedy, excerpt="\n".join((lines or whole)[-_LINES_SHOWN:]), retry=True
    )


def of_a_download_that_went_well(text: str) -> Failure | None:
    """What to say of a log whose last word is that all came; None for any other log."""
    lines = _lines(text)[-_LINES_AFTER:]
    answers = [line for line in lines if _ANSWER.search(line)]
    if not answers or not _WENT_WELL.search(answers[-1]) or lines[-1] is not answers[-1]:
        return None
    return failure(
        Reason.ServerCrashed,
        "The weights program ended well, and this log shows no failure.",
        remedy="Nothing is to be done about it. Where the model does not serve, the server's own log tells why.",
        excerpt=answers[-1],
        retry=False,
    )


def is_cut_download(text: str, exit_code: int | None = None) -> bool:
    """Whether this is the log of a download that was still telling its progress when it was ended, or read."""
    lines = _lines(text)[-_LINES_AFTER:]
    newest = _since_the_last_answer(lines)
    if exit_code == _KILLED and not newest and lines:
        return _SAYS_NO.search(lines[-1]) is not None
    return any(map(_TELLS_PROGRESS.search, newest)) and not any("Traceback" in line for line in newest)


def _since_the_last_answer(lines: Sequence[str]) -> Sequence[str]:
    last = next((index for index in range(len(lines) - 1, -1, -1) if _ANSWER.search(lines[index])), -1)
    return lines[last + 1 :]


def _lines(text: str) -> list[str]:
    return [_bare(line) for line in text[-_LAST_CHARS:].split("\n") if line.strip()]


def _bare(line: str) -> str:
    """What the program wrote, out of the object in which a collector keeps each line."""
    if not _WRAPPED.search(line):
        return line
    try:
        record, _ = json.JSONDecoder().raw_decode(line[line.find("{") :])
    except (ValueError, RecursionError):
        return line
    said = (record.get(key) for key in _BODIES) if isinstance(record, dict) else ()
    return next((body.rstrip("\n") for body in said if isinstance(body, str)), line)


def _excerpt(lines: Sequence[str], at: int) -> str:
    """The last lines before the answer that tell no progress; where there is none, the answer itself."""
    before = [line.strip() for line in lines[:at] if not _PROGRESS.search(line)][-_LINES_SHOWN:]
    return shortened(masked("\n".join(before or [lines[at].strip()])))


def from_termination_message(text: str) -> Failure | None:
    """What the weights program said itself: JSON with a reason of ours; None for anything else, or for a success."""
    answer = _ANSWER.search(text)
    start = answer.start() if answer else text.find("{")
    if start < 0:
        return None
    try:
        said, _ = json.JSONDecoder().raw_decode(text[start:])
    except (ValueError, RecursionError):
        said = _what_is_whole(text[start:]) if answer else None
    if not isinstance(said, Mapping) or said.get("ok") is not False or said.get("reason") not in Reason.__members__:
        return None
    retry = said.get("retry")
    return failure(
        Reason(said["reason"]),
        str(said.get("message") or MEANINGS[Reason(said["reason"])].text),
        remedy=str(said.get("remedy") or "") or None,
        excerpt=str(said.get("excerpt") or ""),
        retry=retry if isinstance(retry, bool) else None,
        rule="termination-message",
    )


def _what_is_whole(answer: str) -> Mapping[str, object] | None:
    """Reason and message of an answer that somebody cut behind them."""
    found = _CUT_ANSWER.search(answer)
    if found is None or not _SAYS_NO.match(answer):
        return None
    return {"ok": False, "reason": found["reason"], "message": json.loads(found["message"], strict=False)}
