"""Where weights come from: the grammar of `spec.model`, `spec.tokenizer` and `adapters[].source`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_REPO = rf"{_NAME}/{_NAME}"
_REVISION = r"@[A-Za-z0-9][A-Za-z0-9._/-]{0,127}"
_LABEL = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
_BUCKET = r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]"
_SEGMENT = r"[.]?[A-Za-z0-9_][A-Za-z0-9._=+-]*"
_PATH = rf"{_SEGMENT}(/{_SEGMENT})*/?"
_DIGEST = r"@sha256:[a-f0-9]{64}"

# One alternative for each scheme. No segment is `.` or `..`, so no path climbs out of its root.
SOURCE_PATTERNS = {
    "repository": _REPO,
    "hf": rf"hf://{_REPO}({_REVISION})?",
    "modelscope": rf"modelscope://{_REPO}({_REVISION})?",
    "s3": rf"s3://{_BUCKET}/{_PATH}",
    "gs": rf"gs://{_BUCKET}/{_PATH}",
    "pvc": rf"pvc://{_LABEL}(/({_PATH})?)?",
    "oci": rf"oci://[A-Za-z0-9][A-Za-z0-9._:/-]{{0,254}}{_DIGEST}",
    "file": rf"file:///{_PATH}",
}
SOURCE_PATTERN = "^(" + "|".join(SOURCE_PATTERNS.values()) + ")$"
SOURCE_FORMS = (
    "org/name, hf://org/name[@revision], modelscope://org/name[@revision], s3://bucket/prefix, gs://bucket/prefix, "
    "pvc://claim/path, oci://image@sha256:digest or file:///path"
)
_COMPILED = {scheme: re.compile(pattern) for scheme, pattern in SOURCE_PATTERNS.items()}


class Scheme(StrEnum):
    """Who has the weights."""

    HF = "hf"
    MODELSCOPE = "modelscope"
    S3 = "s3"
    GS = "gs"
    PVC = "pvc"
    OCI = "oci"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Source:
    """A source, taken apart.

    `name` is the repository id, the bucket, the claim, the image with its digest, or empty (file);
    `path` is the prefix or folder below it; `revision` is what followed an `@`.
    """

    scheme: Scheme
    name: str
    path: str = ""
    revision: str | None = None

    @property
    def is_pulled(self) -> bool:
        """Whether bytes are copied before the server starts; claims, images and node folders are mounted as they are."""
        return self.scheme in {Scheme.HF, Scheme.MODELSCOPE, Scheme.S3, Scheme.GS}

    @property
    def uri(self) -> str:
        """The one way to write this source, without its revision: `hf://org/name`."""
        return f"{self.scheme}://{self.name}" + (f"/{self.path}" if self.path else "")


def check_source(text: str) -> str:
    """The same text, when it is a source; ValueError with the accepted forms otherwise."""
    if not any(pattern.fullmatch(text) for pattern in _COMPILED.values()):
        raise ValueError(f"{text!r} is no source; write {SOURCE_FORMS}")
    return text


def parse_source(text: str) -> Source:
    """The parts of a source. Raises ValueError with the accepted forms."""
    check_source(text)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Source(Scheme.HF, text)
    kind = Scheme(scheme)
    if kind is Scheme.OCI:
        return Source(kind, rest)
    if kind in {Scheme.HF, Scheme.MODELSCOPE}:
        name, _, revision = rest.partition("@")
        return Source(kind, name, revision=revision or None)
    if kind is Scheme.FILE:
        return Source(kind, "", rest.strip("/"))
    name, _, path = rest.partition("/")
    return Source(kind, name, path.strip("/"))
