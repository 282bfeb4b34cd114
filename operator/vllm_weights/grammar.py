"""The one grammar of sources: `org/name`, `hf://org/name[@rev]`, `modelscope://org/name[@rev]`, `s3://…`, `gs://…`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from vllm_weights.failure import Reason, WeightsError

Kind = Literal["hf", "modelscope", "s3", "gs"]
_REPO = re.compile(r"(?:[\w.-]+/)?[\w.-]+")
_BUCKET = re.compile(r"([a-z0-9][a-z0-9._-]*[a-z0-9])(?:/(.*))?")


@dataclass(frozen=True, slots=True)
class Name:
    """Where a model is: `repo` for a hub; `bucket` and `prefix` (no slash at its end) for a store."""

    kind: Kind
    repo: str = ""
    revision: str | None = None
    bucket: str = ""
    prefix: str = ""


def parse_source(text: str) -> Name:
    """The source a text names. Raises InvalidArgument with the grammar."""
    scheme, found, rest = text.partition("://")
    if not found:
        scheme, rest = "hf", text
    if scheme in ("hf", "modelscope"):
        repo, _, revision = rest.strip("/").partition("@")
        if _REPO.fullmatch(repo) and ".." not in repo:
            return Name("hf" if scheme == "hf" else "modelscope", repo=repo, revision=revision or None)
    elif scheme in ("s3", "gs"):
        match = _BUCKET.fullmatch(rest)
        if match:
            return Name("s3" if scheme == "s3" else "gs", bucket=match[1], prefix=(match[2] or "").strip("/"))
    small = " A bucket's name has small letters, digits, dots and hyphens." if scheme in ("s3", "gs") else ""
    raise WeightsError(
        Reason.INVALID_ARGUMENT,
        f"{text!r} names no source.{small}",
        "Write org/name, hf://org/name[@revision], modelscope://org/name[@revision], s3://bucket/prefix or "
        "gs://bucket/prefix.",
    )
