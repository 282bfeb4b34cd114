"""What is asked of this program: the JSON of WEIGHTS_REQUEST, read once and checked by field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from vllm_weights.failure import Reason, WeightsError

VARIABLE = "WEIGHTS_REQUEST"


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class Tokenizer(_Asked):
    """A tokenizer from another source; its files come into the folder `tokenizer/` of the model's folder."""

    source: str = Field(min_length=1)
    revision: str | None = None
    commit: str | None = None


class Request(_Asked):
    """One model (or adapter) to inspect or to pull; defaults as in docs/weights.md."""

    version: Literal[1] = 1
    source: str = Field(min_length=1)
    revision: str | None = None
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    trust_remote_code: bool = False
    load_format: str | None = None
    tokenizer: Tokenizer | None = None
    commit: str | None = None
    destination: str | None = None
    parallelism: int = Field(8, ge=1, le=64)
    stall_seconds: float = Field(60, gt=0)
    tries: int = Field(5, ge=1, le=20)
    backoff_seconds: float = Field(1, ge=0, le=60)


class _Many(_Asked):
    version: Literal[1] = 1
    pulls: tuple[Request, ...] = Field(min_length=1)


def parse(environment: Mapping[str, str]) -> tuple[tuple[Request, ...], bool]:
    """The requests, and whether they came as a list under `pulls`. Raises InvalidArgument that names the field."""
    try:
        raw = _JSON.validate_json(environment.get(VARIABLE, ""))
        if "pulls" in raw:
            return _Many.model_validate(raw).pulls, True
        return (Request.model_validate(raw),), False
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or VARIABLE
        raise WeightsError(
            Reason.INVALID_ARGUMENT,
            f"{VARIABLE} is not understood: {where}: {first['msg']}.",
            f"Correct {where} in {VARIABLE}; the operator and the weights image must be of one release.",
        ) from error


_JSON = TypeAdapter(dict[str, object])
