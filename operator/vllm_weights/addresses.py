"""Addresses of hubs and mirrors, as the platform's settings name them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import httpx2

from vllm_weights.failure import Reason, WeightsError

SETTINGS = {"HF_ENDPOINT": "hub.endpoint", "MODELSCOPE_ENDPOINT": "sources.modelscope.endpoint"}
_PUBLIC = ("huggingface.co", "hf.co", "modelscope.cn", "modelscope.ai", "amazonaws.com", "googleapis.com")
"""Whose own names these are, so that nobody here can have a certificate made out for them."""
_HARMLESS = re.compile(r"(?:\w+:)?/{0,2}[^:@/\s?#]*(?::\d*)?(?:/[^@?#]*)?")
"""An address in which there is no room for a login."""


def host_of(endpoint: str) -> str:
    """What messages call an address: host and port, without a name and password before them."""
    return urlsplit(endpoint).netloc.rpartition("@")[2] or "the hub"


def whole_address(variable: str, value: str) -> str:
    """An endpoint without the slash at its end. Raises InvalidArgument where it is none, or not all of one: no try mends that."""
    value = value.strip()
    if not _is_whole(value):
        shown = f": {value!a}" if _HARMLESS.fullmatch(value) else ""
        login = (
            " In a user and password before the host each of : / ? # [ ] @ % is written as %23 and the like."
            if "@" in value
            else ""
        )
        raise WeightsError(
            Reason.INVALID_ARGUMENT,
            f"{variable} is no whole address{shown}.",
            f"Have the platform's settings ({SETTINGS.get(variable, variable)}) name the hub's or mirror's whole address, "
            f"https:// (or http://) before its host, and nothing after its path.{login}",
        )
    return value.rstrip("/")


def _is_whole(value: str) -> bool:
    try:
        parts, url = urlsplit(value), httpx2.URL(value)
        port = parts.port if parts.port is not None else 1
    except (httpx2.InvalidURL, ValueError, UnicodeError):
        return False
    is_plain = (
        value.isprintable()
        and " " not in value
        and not parts.query
        and not parts.fragment
        and value[-1:] not in ("?", "#")
    )
    return is_plain and parts.scheme in ("http", "https") and bool(parts.hostname and url.host) and 0 < port < 65536


def bare(host: str) -> str:
    """The host's name alone, of what messages call it (`a:80`, or `a, to which b redirects,`)."""
    name = host.partition(",")[0].rpartition("://")[2].lower()
    return name.partition("]")[0] + "]" if name.startswith("[") else name.partition(":")[0]


def is_public(host: str) -> bool:
    """Whether it is a public hub, or a store of one: not run by anybody whom a platform could ask."""
    return any(bare(host) == name or bare(host).endswith(f".{name}") for name in _PUBLIC)
