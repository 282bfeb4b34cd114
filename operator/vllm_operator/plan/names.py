"""Names of objects: short enough for Kubernetes, readable, and never the same for two different things."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

LABEL_LIMIT = 63  # the length of a DNS label and of a label's value
# A Job's pods get "-xxxxx" behind their name; the Job's own name must stay a label's value with room for that.
JOB_LIMIT = 52
_HASH_LENGTH = 10  # 40 bits: among 10^4 objects of a namespace two meet once in 20,000 namespaces
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def canonical(value: Any) -> str:
    """One JSON text for equal values: sorted keys, no blanks."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: Any, length: int = _HASH_LENGTH) -> str:
    """The first hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()[:length]


def slug(text: str) -> str:
    """Lower-case letters, digits and single hyphens of a text; "model" when nothing is left."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "model"


def hashed_name(prefix: str, text: str, key: Any, limit: int = JOB_LIMIT) -> str:
    """`prefix-slug-hash`, at most `limit` characters: the slug is for people, the hash of the key tells things apart."""
    tail = digest(key)
    room = limit - len(prefix) - len(tail) - 2
    middle = slug(text)[: max(room, 0)].strip("-")
    return "-".join(piece for piece in (prefix, middle, tail) if piece)


def short_name(name: str, suffix: str = "", limit: int = LABEL_LIMIT) -> str:
    """An object's name from the model's: the name itself where it is a DNS label that fits, else cut, with its hash."""
    if len(name) + len(suffix) <= limit and _DNS_LABEL.fullmatch(name):
        return name + suffix
    tail = digest(name)
    room = limit - len(tail) - len(suffix) - 1
    return f"{slug(name)[:room].strip('-')}-{tail}{suffix}"


def service_name(name: str) -> str:
    """A Service's name from the model's: also a host name, which may not begin with a digit."""
    return short_name(name if name[:1].isalpha() else f"m-{name}")
