"""A log as a table that somebody exported (CSV): one line of the container's in one column, a time in another."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Final

_NAME = re.compile(r"[@\w][@\w .:-]{0,60}")
_LONGEST_HEAD: Final = 400
_LONGEST_CELL: Final = 4 * 1024 * 1024


def records_of(text: str, bodies: Sequence[str]) -> list[Mapping[str, str]]:
    """The rows of a table one of whose columns is among `bodies`, by column, as they stand; none where the text is no table."""
    head, _, rest = text.partition("\n")
    if not 0 < len(head) <= _LONGEST_HEAD or "," not in head or rest.lstrip()[:1] in ("", "{", "["):
        return []
    names = next(csv.reader([head.rstrip("\r")]), [])
    known = {name.lower(): name for name in names}
    if not all(_NAME.fullmatch(name) for name in names) or not any(body.lower() in known for body in bodies):
        return []
    column = known[next(body.lower() for body in bodies if body.lower() in known)]
    csv.field_size_limit(_LONGEST_CELL)
    try:
        rows = list(csv.DictReader(io.StringIO(rest), names, restval=""))
    except csv.Error:
        return []
    return [{"line": row[column], "timestamp": _time(row)} for row in rows if row.get(column)]


def _time(row: Mapping[str, str]) -> str:
    return next(
        (
            value
            for name, value in row.items()
            if name and name.lower().lstrip("@_") in ("timestamp", "time", "date", "ts") and value
        ),
        "",
    )
