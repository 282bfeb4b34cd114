"""An answer that fails or refuses: who gave it (the source, what it redirects to, or what is on the way), and whom to ask."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping

from vllm_weights.addresses import bare, is_public
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.proxies import Proxy

_TOO_FAST = re.compile(r"(?i)slow ?down|reduce your request rate|throttl|too many (?:requests|connections)|rate limit")
_BETWEEN = re.compile(
    r"(?i)\b(?:page|site|request|access|content|url|download)\b[^.]{0,20}\b(?:blocked|filtered|restricted)|\bfirewall|web gateway|"
    r"fortigu?ar?|zscaler|access denied|configuration prevents|not allowed by"
)
"""In what an answer says that no hub and no mirror gives."""
REFUSING = re.compile(
    r"(?i)\bblock(?:ed|ing)\b|\bdenied\b|quarantin|forbidden|not (?:be )?allowed|\bpolic(?:y|ies)\b|\bprevents\b|suspicious|unusual traffic"
)
_OURSELVES = re.compile(r"(?:https?://)?(?:localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\]|0\.0\.0\.0)(?::\d{1,5})?,")
_UNSEEN = re.compile(r"(?is)<(script|style|head)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)")
_TAG = re.compile(r"<[^>]*(?:>|\Z)")
_MOST_OF_A_PAGE = 120
"""Characters of a page's own sentence that are quoted after its title."""


def sentence_of(page: str) -> str:
    """The first words of a page, between two tags, that tell a refusal; "" where none do."""
    parts = (" ".join(html.unescape(part).split()) for part in _TAG.split(_UNSEEN.sub(" ", page)))
    found = next((part for part in parts if REFUSING.search(part)), "")
    return found if len(found) <= _MOST_OF_A_PAGE else f"{found[: _MOST_OF_A_PAGE - 1]}…"


def is_this_pod(host: str) -> bool:
    """Whether a redirect leads to an address that is the asking machine's own."""
    return _OURSELVES.match(host) is not None


def to_ourselves(host: str, mirror: str, why: str) -> WeightsError:
    """Of a mirror that writes an address into its redirects which is none outside of itself."""
    return WeightsError(
        Reason.HUB_REFUSED,
        f"{host} cannot be reached: {why.rstrip('.')}. That is an address of this pod itself.",
        f"Have whoever runs {bare(mirror)} set the address under which it is known outside (its base URL or public host; Olah's mirror-netloc and "
        "mirror-lfs-netloc), which it writes into its redirects.",
    )


def another_port(host: str, why: str) -> WeightsError:
    """Of a redirect to another scheme or port of the same name."""
    return WeightsError(
        Reason.HUB_UNREACHABLE,
        f"{host} cannot be reached or breaks off: {why.rstrip('.')}.",
        f"Have whoever runs {bare(host)} mend where it redirects to: its own base URL, or X-Forwarded-Proto, -Host and -Port of the "
        "ingress or proxy before it; or have its address in the platform's settings be one that needs no redirect.",
    )


def is_of_a_mesh(status: int, headers: Mapping[str, str], said: str) -> bool:
    """Whether Envoy answers by itself: no server behind it had the request."""
    is_envoy = headers.get("server", "").endswith("envoy") and "x-envoy-upstream-service-time" not in headers
    return (
        is_envoy
        and status in (502, 503)
        and (not said or "upstream connect error" in said or "no healthy upstream" in said)
    )


def of_a_server(host: str, status: int, about: str, seconds: float | None) -> WeightsError:
    """HubUnreachable of a 5xx or 408: an answer came, so the way is open, and it is somebody's who answers."""
    name = bare(host)
    if _TOO_FAST.search(about):
        remedy = f"{name} wants fewer requests at a time: lower spec.download.parallelism, have fewer downloads at once, or wait; it is tried again."
    elif _BETWEEN.search(about):
        remedy = (
            f"What is on the way answers in its place, as a rule (a firewall, a filter, a proxy): ask who runs it to let these pods through to {name}, "
            "or have a mirror set that may be reached (hub.endpoint, sources.modelscope.endpoint of the platform's settings)."
        )
    elif is_public(host):
        remedy = (
            f"It is tried again. Where it stays so, look at the status page of {name}, or have a mirror set "
            "(hub.endpoint, sources.modelscope.endpoint of the platform's settings)."
        )
    else:
        remedy = (
            f"It is tried again. Where it stays so, ask who runs {name}: its log tells what fails (its way to the hub that it mirrors, "
            "its disk, a server behind it that is down); or have the platform's settings name another (hub.endpoint, sources.modelscope.endpoint)."
        )
    return WeightsError(
        Reason.HUB_UNREACHABLE, f"{host} answers with HTTP {status} {about}.", remedy, retry_after=seconds
    )


def refused_by_page(host: str, headers: Mapping[str, str], through: Proxy | None) -> str:
    """What helps where a person's page refuses: first who may have sent it, as its headers and the way tell."""
    name = bare(host)
    if through is not None:
        return f"Where {name} may be reached without {through}, have NO_PROXY name it; else ask who runs the proxy to let these pods through to it."
    if "cf-mitigated" in headers:
        return (
            f"{name} lets no programs in from this address: ask who runs it, or have the platform's settings name the hub itself, or another "
            "mirror (hub.endpoint, sources.modelscope.endpoint)."
        )
    if is_public(host):
        return (
            f"Such a page is of what is on the way (a firewall, a filter, a proxy) or before {name}: ask who runs the way out to let these pods "
            "through to it, or have a mirror set that may be reached (hub.endpoint, sources.modelscope.endpoint of the platform's settings)."
        )
    return (
        f"Ask who runs {name}, or what stands before it (a firewall, a filter, a proxy), to let this model and this cluster through; or use "
        "another model or source."
    )
