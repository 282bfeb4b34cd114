"""From a container's raw log to plain lines that know who wrote them and how loudly.

A log reaches us through many hands: kubectl adds timestamps and pod names, CRI and Docker their stream headers, vLLM the
process and level, torch the rank, Ray the worker. All of it is taken off here, so that a rule sees the words only.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

MAX_LOG_CHARS: Final = 512 * 1024
"""Of a longer log the head and the tail are read, half each: a start and its end."""
MAX_LINE_CHARS: Final = 4096
"""Of a longer line the head is kept, and the last quarter: error texts stand at either end."""

_ANSI = re.compile(r"\x1b(?:\[[0-9;?]{0,16}[ -/]?[@-~]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)|[@-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_STAMP = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?"
_CARRIER = re.compile(
    rf"(?:{_STAMP} (?:stdout|stderr) [FP] )"  # CRI
    rf"|(?:\[?{_STAMP}\]?(?: ?\|)?(?: |\t|$))"  # kubectl logs --timestamps, GitLab, Grafana
    r"|(?:\{\w{1,60}=\"[^}\n]{0,600}\} )"  # the labels of Loki
    r"|(?:\[pod/[^\]\s]{1,120}\] )"  # kubectl logs --prefix
    rf"|(?:[A-Z]{{4,9}} {_STAMP} \[resource\.labels\.[^\]]{{1,120}}\] )"  # Google Cloud's log viewer
    r"|(?:[A-Za-z0-9][\w.-]{0,80} {1,20}\| )"  # docker compose
    r"|(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d [\w.-]{1,80} [\w.@/-]{1,80}(?:\[\d{1,8}\])?: )"  # syslog
)
_POD_AND_CONTAINER = re.compile(r"[a-z0-9][a-z0-9-]{2,62} [a-z0-9][a-z0-9-]{0,62} ")
_LINES_THAT_SHARE: Final = 3
_PROCESS = re.compile(
    r"\((?P<name>[A-Za-z_][\w.:-]{0,60}?)(?:_(?:DP|TP|PP|EP|DCP|PCP|CP)?\d{1,4}(?:_[A-Z]{1,4}\d{1,4}){0,5})?"
    r"(?: rank=\d{1,4})?,? ?(?:pid=\d{1,10})(?:, ip=[\w.:]{1,60})?\)(?: |$)"
    r"|\(pid=\d{1,10}(?:, ip=[\w.:]{1,60})?\)(?: |$)"
    r"|\[(?:default)?rank\d{1,4}\]:(?: |$|(?=\[))"
)
_STAMPED = re.compile(rf"{_STAMP} (?=- |\[?[A-Z]{{4,9}}\b)")
"""Another library's time, after vLLM's own prefix."""
_LEVEL = re.compile(
    r"(?P<level>TRACE|DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL|EXCEPTION)"
    r"(?: (?:\d{4}-)?\d\d-\d\d \d\d:\d\d(?::\d\d)?(?:[.,]\d{1,6})?)?"
    r"(?:(?: \[(?P<site>[\w./-]{1,120}:\d{1,6})\]| (?P<old>[\w./-]{1,120}:\d{1,6})\])(?: |$)"
    r"|:[\w.]{1,80}:|: {1,8}|: ?$| - )"
)
_LOGGING = re.compile(
    r"- (?:[\w]{1,40}\.){0,8}(?P<site>\w{1,60}) - (?P<level>TRACE|DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL) - "  # Python's own format
    r"|- (?P<plain>TRACE|DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL) - (?P<there>[\w./-]{1,120}:\d{1,6}) - "  # FlashInfer's
    r"|\[(?P<only>TRACE|DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL)\] (?:\[(?P<at>[\w./-]{1,120}:\d{1,6})[^\]]{0,40}\] )?"
)
_GLOG = re.compile(
    r"(?:\[rank\d{1,4}\]:)?\[?(?P<level>[IWEF])\d{4} \d\d:\d\d:\d\d\.\d{3,9} +\d{1,10} (?P<site>[\w./-]{1,120}:\d{1,6})\](?: {12,60}(?! )| ?)"
)
_LOGFMT = re.compile(r'(?:^|\s)level="?(?P<level>[a-zA-Z]{4,8})"?\s(?:.{0,400}?\s)??msg=(?P<msg>".{0,4000}"|\S{1,400})')
_REPEATED = re.compile(r" ?\[repeated \d{1,6}x across[^\]]{0,200}\]\s*$")
_LEVELS: Final = {
    "I": "INFO",
    "W": "WARNING",
    "E": "ERROR",
    "F": "CRITICAL",
    "WARN": "WARNING",
    "FATAL": "CRITICAL",
    "EXCEPTION": "ERROR",
}
_TELLS_LEVELS = re.compile(r'"(?:level|levelname|severity)" {0,2}: {0,2}"(?!info")[A-Za-z]', re.IGNORECASE)
"""Of a log in which everything is INFO that word is a collector's, and says nothing."""
_SAYS_ITSELF = re.compile(
    r'Traceback \(most|  File "|\s{1,4}(?:Value error|Assertion failed|Input should)|(?:[\w]{1,60}\.){0,8}\w{0,60}(?:Error|Exception|Exit)\b'
    r"|.{0,200} NCCL WARN |Fatal Python error|(?:double free|corrupted|free\(\)|malloc\(\)|terminate called)|exec \S{1,200}: |OpenBLAS blas_thread_init"
)
"""What a collector of JSON calls INFO because it knows no better."""
_ENGINE = re.compile(r"engine|worker|rank|core", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its wrapping: `process` is "" where the line does not say, `level` "" where it has none."""

    text: str
    process: str = ""
    level: str = ""
    site: str = ""
    speaker: str = ""
    """The process with its rank and number: the lines of two workers come interleaved."""

    @property
    def from_engine(self) -> bool:
        """True for the engine core, its workers and torch's ranks: what they say is nearer to the root."""
        return bool(self.process) and _ENGINE.search(self.process) is not None and "api" not in self.process.lower()


def read_text(raw: object) -> str:
    """Any log as text: bytes are decoded leniently, a very long log loses its middle; never raises."""
    text = bytes(raw).decode("utf-8", "replace") if isinstance(raw, bytes | bytearray) else str(raw or "")
    if len(text) > MAX_LOG_CHARS:
        half = MAX_LOG_CHARS // 2
        text = text[:half] + "\n" + text[-half:]
    return text


def read_lines(raw: object) -> list[Line]:
    """The log's lines in order, unwrapped; empty lines are kept (they end a traceback)."""
    text = _ANSI.sub("", read_text(raw)) if "\x1b" in (text := read_text(raw)) else text
    pieces = re.split(r"\r\n|\n|\r", text)
    shared, levels = _shared_prefix(pieces), _TELLS_LEVELS.search(text) is not None
    return [line for piece in pieces for line in _unwrap(_cut(piece[shared:]), levels)]


def _shared_prefix(pieces: Sequence[str]) -> int:
    """How many characters of each line are the pod and container that a reader of several logs puts before it (stern)."""
    told = [piece for piece in pieces if piece]
    if len(told) < _LINES_THAT_SHARE or (match := _POD_AND_CONTAINER.match(told[0])) is None:
        return 0
    return match.end() if all(piece.startswith(match[0]) or piece == match[0].rstrip() for piece in told) else 0


def _cut(line: str) -> str:
    if len(line) > MAX_LINE_CHARS:
        tail = MAX_LINE_CHARS // 4
        line = line[: MAX_LINE_CHARS - tail] + " … " + line[-tail:]
    return _CONTROL.sub("", line)


def _unwrap(piece: str, levels: bool) -> Iterator[Line]:
    rest = _without_carrier(piece)
    if rest[:1] == "{" and rest.rstrip()[-1:] == "}":
        unpacked = _from_json(rest, levels)
        if unpacked is not None:
            yield from unpacked
            return
    if "level=" in rest and (match := _LOGFMT.search(rest)):
        message = match["msg"].strip('"').replace('\\"', '"')
        yield _plain(message, level=match["level"].upper())
        return
    yield _plain(rest)


def _without_carrier(piece: str) -> str:
    for _ in range(3):
        match = _CARRIER.match(piece)
        if match is None:
            break
        piece = piece[match.end() :]
    return piece


def _plain(rest: str, level: str = "", process: str = "") -> Line:
    site, speaker = "", process
    for _ in range(4):
        if rest[:1] in "([" and (match := _PROCESS.match(rest)):
            process, speaker = match.groupdict().get("name") or process or "rank", match[0].rstrip()
        elif match := _STAMPED.match(rest):
            pass
        elif not site and (match := _LEVEL.match(rest) or _GLOG.match(rest) or _LOGGING.match(rest)):
            found = match.groupdict()
            said = found["level"] or found.get("plain") or found.get("only") or ""
            level = _LEVELS.get(said, said)
            site = found.get("site") or found.get("old") or found.get("at") or found.get("there") or "-"
        else:
            break
        rest = rest[match.end() :]
    rest = _REPEATED.sub("", rest) if "[repeated " in rest else rest
    return Line(rest.rstrip(), process, _LEVELS.get(level, level), site.strip("-"), speaker)


def _from_json(text: str, levels: bool) -> list[Line] | None:
    """Docker's json-file, and JSON loggers with a message and perhaps an exception; None for other JSON. `levels`: they mean something."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    body = next(
        (record[key] for key in ("log", "message", "msg", "MESSAGE", "event") if isinstance(record.get(key), str)), None
    )
    if body is None or "reason" in record or "phase" in record:  # what the weights program tells is read elsewhere
        return None
    level = next(
        (str(record[key]).upper() for key in ("level", "levelname", "severity") if levels and record.get(key)), ""
    )
    process = str(record.get("process_name") or record.get("processName") or "")
    details = [
        record[key]
        for key in ("exc_info", "exception", "traceback", "exc_text", "stack")
        if isinstance(record.get(key), str)
    ]
    lines = [piece for part in (body, *details) for piece in part.rstrip("\n").split("\n")]
    return [_told(_without_carrier(_cut(piece)), level, process) for piece in lines]


def _told(piece: str, level: str, process: str) -> Line:
    line = _plain(piece, "", process)
    if line.level or (level == "INFO" and _SAYS_ITSELF.match(line.text)):
        return line
    return replace(line, level=_LEVELS.get(level, level))
