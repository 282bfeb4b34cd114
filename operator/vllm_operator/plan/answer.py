"""What an inspection found, read from the answer that its Job carries. Anyone who may edit the Job may edit the answer."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

Commit = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/+-]{0,127}$")]

_IN_A_LINE = re.compile(r"([A-Za-z0-9_-]{27}):(\d{1,18})")


class AnswerError(ValueError):
    """The answer is none. The message says which part of it is missing or wrong."""


class _Tokenizer(BaseModel):
    model_config = ConfigDict(extra="ignore")
    commit: Commit


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")
    commit: Commit
    bytes: Annotated[int, Field(ge=0, le=1 << 60, strict=True)]
    tokenizer: _Tokenizer | None = None


@dataclass(frozen=True, slots=True)
class FoundPart:
    """One repository: the commit that its revision meant, and its tokenizer's."""

    commit: str
    tokenizer_commit: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """All parts in the order in which they were asked for, and their bytes together (None: nobody counted)."""

    parts: tuple[FoundPart, ...]
    bytes: int | None


def read_answer(answer: Mapping[str, object], count: int) -> Answer:
    """The answer about `count` parts. Raises AnswerError."""
    parts = answer.get("parts") if count > 1 else [answer]
    if not isinstance(parts, list) or len(parts) != count:
        raise AnswerError(f"The inspection's answer has not the {count} parts that were asked for.")
    try:
        read = [_Part.model_validate(_spelled_out(part)) for part in parts]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(piece) for piece in first["loc"])
        raise AnswerError(f"The inspection's answer cannot be read: {where}: {first['msg']}.") from error
    found = tuple(FoundPart(part.commit, part.tokenizer.commit if part.tokenizer else None) for part in read)
    return Answer(found, sum(part.bytes for part in read))


def _spelled_out(part: object) -> object:
    """A part as an object; of many parts all but the first are lines, `COMMIT:BYTES` with the commit in base 64."""
    found = _IN_A_LINE.fullmatch(part) if isinstance(part, str) else None
    if found is None:
        return part
    return {"commit": base64.urlsafe_b64decode(f"{found[1]}=").hex(), "bytes": int(found[2])}
