"""A log as somebody saved it, back to the lines that the container wrote, oldest first.

Collectors give JSON documents (Google Cloud, CloudWatch, Loki, Elasticsearch), most of them the newest line first; PowerShell
writes UTF-16; beside the container's own lines may stand those of kubectl and of the mesh's sidecars.
"""

import codecs
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

from vllm_operator.diagnose.lines import read_text
from vllm_operator.diagnose.tables import records_of

_MOST_CHARS: Final = 64 * 1024 * 1024
"""Of a JSON document that is read in whole."""
_BODIES: Final = (
    *(
        "textPayload",
        "jsonPayload",
        "@message",
        "line",
        "log",
        "message",
        "msg",
        "MESSAGE",
        "body",
        "content",
        "_source",
    ),
)
_NOT_READ_ELSEWHERE: Final = ("textPayload", "jsonPayload", "@message", "line", "body", "content")
_DOCUMENTS: Final = ("hits", "data", "events", "results")
_TIMES: Final = ("timestamp", "@timestamp", "time", "ts", "_time")
_MARKS: Final = {b"\xff\xfe\x00\x00": "utf-32", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_STAMP: Final = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
_TIME_IN_JSON = re.compile(rf'"(?:@?timestamp|_?time|ts)" ?: ?"({_STAMP})')
_TIME_AT_HEAD = re.compile(rf"^.{{0,160}}?({_STAMP})")
_TIME_OF_VLLM = re.compile(r"^.{0,80}?\b(?:INFO|WARNING|ERROR|DEBUG|CRITICAL) (\d\d-\d\d \d\d:\d\d:\d\d)")
_SIDECARS: Final = re.compile(
    r"\[pod/[^\]\s/]{1,120}/(?:istio-(?:proxy|init|validation)|linkerd-(?:proxy|init|network-validator)|vault-agent(?:-init)?|envoy(?:-sidecar)?"
    r"|gke-gcsfuse-sidecar|consul-dataplane|consul-connect-\S{1,40}|kuma-(?:sidecar|init)|daprd|cloud-sql-proxy)\] "
    rf"|(?:^|[\s|\]]){_STAMP}Z\t(?:debug|info|warn|warning|error|fatal)\t"  # Istio's
    rf'|(?:^|\s)\[{_STAMP}Z\] "(?:[A-Z]{{3,7}} /|- - -)'  # what passed through Envoy
    r"|\b(?:ThreadId\(\d{1,3}\)|\w{2,20}) linkerd2?_[\w:]{2,80}: "
)
_PREFIX = re.compile(r"\[pod/([^\]\s]{1,250})\] ?")
_KUBECTL = re.compile(r"^(?:Defaulted container \"|Found \d{1,4} pods, using pod/)")
_SECONDS_DIGITS: Final = 10
_HEAD: Final = 400
"""Characters of a line within which it says whose it is."""


def collected(raw: object) -> str:
    """The log as its container wrote it; text that is no collection comes back as it is, but for its order. Never raises."""
    text = decoded(raw)
    if len(text) <= _MOST_CHARS:
        is_document = text.lstrip()[:1] in ("[", "{")
        text = _from_document(text) if is_document else _in_order_of_time(records_of(text, _BODIES)) or text
    lines = _own(read_text(text).split("\n"))
    if _is_newest_first(lines):
        lines = lines[::-1]
    return "\n".join(_out_of_record(line) if line.lstrip()[:1] == "{" else line for line in lines)


def of_each_pod(text: str) -> list[str]:
    """A log in which kubectl has put several pods' lines together (--prefix), one for each; the text alone else."""
    pods: dict[str, list[str]] = {}
    for line in text.split("\n"):
        found = _PREFIX.match(line)
        if found is None and line.strip():
            return [text]
        if found is not None:
            pods.setdefault(found[1], []).append(line)
    return ["\n".join(lines) for lines in pods.values()] if len(pods) > 1 else [text]


def decoded(raw: object) -> str:
    """Bytes in the encoding that they begin with, or show by every second one that is zero; UTF-8 else."""
    if not isinstance(raw, bytes | bytearray):
        return str(raw or "").removeprefix("\ufeff")
    head = bytes(raw[:512])
    encoding = next((name for mark, name in _MARKS.items() if head.startswith(mark)), "")
    if not encoding and len(head) > 8 and head[1::2].count(0) > len(head) * 0.4:
        encoding = "utf-16-le"
    return bytes(raw).decode(encoding or "utf-8", "replace").removeprefix("\ufeff")


def _own(lines: Sequence[str]) -> list[str]:
    """Without the lines of sidecars and of kubectl; all of them where nothing else is there."""
    own = [line for line in lines if not _SIDECARS.search(line[:_HEAD]) and not _KUBECTL.match(line)]
    return own if any(line.strip() for line in own) else list(lines)


def _is_newest_first(lines: Sequence[str]) -> bool:
    """Whether the times, which most lines carry, only ever go back."""
    told = [line for line in lines if line.strip()]
    times = [time for line in told if (time := _time_of(line))]
    if len(times) * 2 >= len(told):
        return _goes_back(times, 1)
    own = [found[1] for line in told if (found := _TIME_OF_VLLM.match(line))]
    return len(own) * 5 >= len(told) and _goes_back(own, 2)


def _time_of(line: str) -> str:
    found = _TIME_IN_JSON.search(line) if line.lstrip()[:1] == "{" else _TIME_AT_HEAD.match(line)
    return found[1].replace(" ", "T").replace(",", ".") if found else ""


def _goes_back(times: Sequence[str], least: int) -> bool:
    pairs = list(pairwise(times))
    return sum(after < before for before, after in pairs) >= least and all(after <= before for before, after in pairs)


def _from_document(text: str) -> str:
    """The lines in a JSON document of a collector's, or in several one after the other; the text itself where it is none."""
    try:
        records = [record for value in _values(text) for record in _records(value)]
    except (ValueError, RecursionError):
        return text
    return _in_order_of_time(records) or text


def _in_order_of_time(records: Sequence[Mapping[str, Any]]) -> str:
    told = [(_time_in(record), body) for record in records if (body := _body(record))]
    if _goes_back([time for time, _ in told if time], 1):
        told.reverse()
    return "\n".join(f"{time} {line}".strip() for time, body in told for line in body.rstrip("\n").split("\n"))


def _values(text: str) -> Iterator[Any]:
    """The JSON values of a text that has nothing else; none of one record a line, which is read line by line."""
    decoder, at = json.JSONDecoder(), len(text) - len(text.lstrip())
    if text[at] == "{" and _is_record(text[at:].partition("\n")[0]):
        return
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        yield value
        at = next((i for i in range(at, len(text)) if not text[i].isspace()), len(text))


def _is_record(line: str) -> bool:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, Mapping) and not any(isinstance(value.get(key), list | dict) for key in _DOCUMENTS)


def _records(value: Any) -> Iterator[Mapping[str, Any]]:
    """What of a document is one line each."""
    if isinstance(value, list):
        for part in value:
            yield from _records(part)
    elif not isinstance(value, Mapping):
        return
    elif isinstance(hits := value.get("hits"), Mapping):  # Elasticsearch
        yield from _records(hits.get("hits"))
    elif isinstance(value.get("data"), Mapping):  # Loki
        yield from _of_loki(value["data"].get("result"))
    elif isinstance(many := value.get("data"), list):  # Datadog
        yield from _of_datadog(many)
    elif isinstance(many := value.get("events") or value.get("results"), list):  # CloudWatch, and its Insights
        yield from (_fields(row) for row in many) if "results" in value else _records(many)
    else:
        yield value


def _of_datadog(events: Sequence[Any]) -> Iterator[Mapping[str, Any]]:
    for event in events:
        inner = event.get("attributes") if isinstance(event, Mapping) else None
        yield from _records(inner if isinstance(inner, Mapping) else event)


def _of_loki(streams: Any) -> Iterator[Mapping[str, Any]]:
    """Its lines come by stream, each with its own order."""
    values = [
        {"timestamp": pair[0], "line": pair[1]}
        for stream in (streams if isinstance(streams, list) else ())
        for pair in (stream.get("values") or () if isinstance(stream, Mapping) else ())
        if isinstance(pair, list) and len(pair) > 1
    ]
    several = isinstance(streams, list) and len(streams) > 1
    yield from sorted(values, key=lambda value: str(value["timestamp"])) if several else values


def _fields(row: Any) -> Mapping[str, Any]:
    cells = [cell for cell in (row if isinstance(row, list) else ()) if isinstance(cell, Mapping)]
    return {str(cell.get("field")): cell.get("value") for cell in cells}


def _body(record: Mapping[str, Any]) -> str:
    """The line that a record keeps, without what the collector adds; "" where it keeps none."""
    if isinstance(record.get("ok"), bool) or isinstance(record.get("event"), str):
        return json.dumps(_in_order(record), ensure_ascii=False)
    body = _first(record, _BODIES)
    if (
        isinstance(body, Mapping)
        and isinstance(read := body.get("attributes"), Mapping)
        and ("ok" in read or "event" in read)
    ):
        body = {**read, "message": body.get("message")}  # Datadog takes a line of JSON apart
    if isinstance(body, Mapping):
        inner = _first(body, ("message", "log", "line")) if "ok" not in body and "event" not in body else None
        return inner if isinstance(inner, str) else json.dumps(_in_order(body), ensure_ascii=False)
    return body if isinstance(body, str) else ""


def _time_in(record: Mapping[str, Any]) -> str:
    inner = record.get("_source")
    return _iso(_first(record, _TIMES) or (_first(inner, _TIMES) if isinstance(inner, Mapping) else None))


def _first(record: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((record[key] for key in keys if record.get(key)), None)


def _in_order(said: Mapping[str, Any]) -> dict[str, Any]:
    """As the weights program writes it: a collector may sort the names, and knows numbers only as fractions."""
    whole = {
        key: int(value) if isinstance(value, float) and value.is_integer() else value for key, value in said.items()
    }
    return {key: whole[key] for key in ("event", "version", "ok") if key in whole} | whole


def _iso(time: Any) -> str:
    """A time as text that sorts; "" where it is none. A number has ten digits of seconds, and behind them their parts."""
    if isinstance(time, str) and not time.isdigit():
        return time.replace(" ", "T", 1) if re.match(_STAMP, time) else ""
    try:
        digits = str(int(time))
        seconds = datetime.fromtimestamp(int(digits[:_SECONDS_DIGITS]), UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return ""
    return f"{seconds:%Y-%m-%dT%H:%M:%S}.{digits[_SECONDS_DIGITS:][:9] or 0}Z"


def _out_of_record(line: str) -> str:
    """What the container wrote, of a record that nothing else takes apart; the line itself else."""
    if not any(f'"{key}"' in line for key in _NOT_READ_ELSEWHERE):
        return line
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return line
    if not isinstance(record, Mapping) or "ok" in record or not _first(record, _NOT_READ_ELSEWHERE):
        return line
    return _body(record).rstrip("\n") or line
