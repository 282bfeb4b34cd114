"""HTTP for every source that speaks it: one client, and what its failures mean."""

from __future__ import annotations

import email.utils
import html
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus

import httpx2

from vllm_weights import VERSION, blame, limits, proxies, tls
from vllm_weights.addresses import bare, is_public
from vllm_weights.failure import REFRESH, Reason, WeightsError
from vllm_weights.listing import RemoteFile
from vllm_weights.proxies import Proxy

CLIENT_NAME = "vllm-operator-weights"
CONNECT_SECONDS = 4.0
"""So that an unreachable hub is named within the five seconds an inspection may take."""
LONGEST_RETRY_AFTER_SECONDS = 300.0
"""The hub's rate limits count in windows of five minutes."""
_NO_LOCATION = re.compile(r"(?i)Invalid URL in location header|unsupported protocol|missing an 'https?://'")
ACCOUNT_REMEDY = (
    "Have the owner of the account (the token's, or the repository's) mend its plan or quota, or use another source."
)
_MOST_SAID = 200
"""Characters of an answer that are quoted."""
_TITLE = re.compile(r"(?is)<title>([^<]{1,200})</title>")
_MESSAGE = re.compile(r"\"(?:message|error|detail|msg|error_description)\": ?\"([^\"]{1,300})\"")
_XML = re.compile(r"(?s)<Code>([^<]{1,80})</Code>(?:.{0,200}?<Message>([^<]{1,300}))?")
_PAGE = re.compile(r"(?i)<!doctype|<html\b|<body\b")
WANTS_TLS = re.compile(r"(?i)\bhttp request\b.{0,40}\bhttps\b|\bTLS\b.{0,20}\brequired")
_OTHER_PHRASES = "Moved Temporarily, Service Temporarily Unavailable, Gateway Time-out, Request Time-out, Time-out, Authorization Required, Payload Too Large, Request Entity Too Large, Requested Range Not Satisfiable"
_RATELIMIT_RESET = re.compile(r"\bt=(\d+)")


def client(headers: Mapping[str, str], read_seconds: float, connections: int) -> httpx2.Client:
    """A client that follows redirects (credentials stay with their host) and honours the proxy variables."""
    return httpx2.Client(
        headers={"User-Agent": f"{CLIENT_NAME}/{VERSION}", "Accept-Encoding": "identity", **headers},
        timeout=httpx2.Timeout(read_seconds, connect=min(CONNECT_SECONDS, read_seconds)),
        limits=httpx2.Limits(max_connections=connections + 4, max_keepalive_connections=connections + 4),
        follow_redirects=True,
    )


def asked_last(client: httpx2.Client, host: str) -> Callable[[], str]:
    """Where the client's latest request went, as messages call it: the host, or the one to which that one redirects."""
    latest = [""]

    def note(request: httpx2.Request) -> None:
        latest[0] = request.url.netloc.decode()

    client.event_hooks = {"request": [note]}
    return lambda: host if latest[0] in ("", host) else f"{latest[0]}, to which {host} redirects"


@contextmanager
def connection_errors_named(host: str, endpoint: str = "") -> Iterator[None]:
    """Turns the client's own exceptions into ours, as a rule HubUnreachable of the host that was asked at last.

    `endpoint` tells what is no redirect: the scheme, host and port that were asked for.
    """
    try:
        yield
    except httpx2.TooManyRedirects as error:
        raise WeightsError(
            Reason.HUB_REFUSED,
            f"{host} redirects for ever.",
            "Mend the mirror, or the gate before it, that redirects; or its address in the platform's settings.",
        ) from error
    except (httpx2.UnsupportedProtocol, httpx2.InvalidURL) as error:
        raise _leads_nowhere(host, str(error)) from error
    except (httpx2.TransportError, httpx2.StreamError) as error:
        if _NO_LOCATION.search(str(error)):
            raise _leads_nowhere(host, str(error)) from error
        why = f"{type(error).__name__} {error}".strip()
        raise unreachable(_asked_at_last(error, host, endpoint), why, _address_of(error)) from error
    except RuntimeError as error:  # "Cannot send a request, as the client has been closed": another worker failed.
        raise limits.of_threads(error) or unreachable(host, str(error)) from error


def _leads_nowhere(host: str, why: str) -> WeightsError:
    return WeightsError(
        Reason.HUB_REFUSED,
        f"{host} redirects to what is no address: {why.rstrip('.')}.",
        "Have whoever runs it mend where it redirects to, or have another address set in the platform's settings.",
    )


def _address_of(error: Exception) -> httpx2.URL | None:
    try:
        return error.request.url if isinstance(error, httpx2.RequestError) else None
    except RuntimeError:  # The client does not know: raised before there was a request.
        return None


def _asked_at_last(error: Exception, host: str, endpoint: str) -> str:
    """The source's own host, or what that one redirects to: another host, or another scheme or port of its own."""
    url = _address_of(error)
    if url is None or not url.host:
        return host
    first = httpx2.URL(endpoint or f"{url.scheme}://{host}")
    if url.host != first.host:
        return f"{url.netloc.decode()}, to which {host} redirects,"
    if (url.scheme, _port(url)) == (first.scheme, _port(first)):
        return host
    return f"{url.scheme}://{url.host}:{_port(url)}, to which {host} redirects by its own name,"


def _port(url: httpx2.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def unreachable(host: str, why: str, url: httpx2.URL | str | None = None) -> WeightsError:
    """What a connection failed of, in a library's words. `url` is what was asked for, where a proxy may be on the way."""
    through = proxies.on_the_way(str(url)) if url is not None else None
    if through is not None and (of_proxy := proxies.failure(through, host.rstrip(","), why)):
        return of_proxy
    if found := proxies.REFUSED.search(why):
        return proxies.refused(through, host.rstrip(","), int(found[1] or found[2] or 407), why)
    if of_tls := tls.failure(host, why, str(url) if url is not None and through is None else ""):
        return of_tls
    return _breaks_off(host, why, through)


def _breaks_off(host: str, why: str, through: Proxy | None = None) -> WeightsError:
    if "redirects by its own name" in host and through is None:
        return blame.another_port(host, why)
    before = re.search(r", to which (\S+) redirects", host)
    if before and blame.is_this_pod(host):
        return blame.to_ourselves(host, before[1], why)
    filtered = (
        f" Where that host is none that {before[1]} keeps its files at (a filter's page, or one to sign in at), ask who runs the way out, or what stands "
        f"before {before[1]}, to let these pods through to it without."
        if before and not is_public(host)
        else ""
    )
    by, what = (f", by way of {through},", f"{through}, ") if through else ("", "")
    return WeightsError(
        Reason.HUB_UNREACHABLE,
        f"{host} cannot be reached{by} or breaks off: {why.rstrip('.')}.",
        f"Check that the namespace may reach it ({what}NetworkPolicy, proxy variables, DNS), and its status page; "
        f"for a mirror set its address in the platform's settings (hub.endpoint, sources.modelscope.endpoint).{filtered}",
    )


def is_page(response: httpx2.Response) -> bool:
    """Whether a person's page came, as of a proxy or of another server."""
    return response.headers.get("content-type", "").startswith("text/html")


def common_failure(response: httpx2.Response, host: str, *, has_token: bool = False) -> WeightsError:
    """The failure of an answer that its source gives no meaning of its own, with what the answer says."""
    said = what_it_says(response)
    if WANTS_TLS.search(said):
        return WeightsError(
            Reason.HUB_REFUSED,
            f"{host} is asked in plain HTTP and wants TLS: {said}",
            "Have its address in the platform's settings begin with https://.",
        )
    if response.status_code == 400 and (of_tls := tls.failure(host, said)):
        return of_tls
    about = f"for {response.url.path}" + (f": {said}" if said else "")
    seconds = retry_after(response.headers)
    if response.status_code == 429:
        return limited(host, said, seconds, has_token=has_token)
    failure = status_failure(response.status_code, host, about, seconds)
    if blame.is_of_a_mesh(response.status_code, response.headers, said):
        failure.remedy = (
            f"The mesh's proxy of this pod answers so of hosts that it does not know, or cannot reach: have a ServiceEntry name {bare(host)}, or the pods "
            f"of downloads be outside the mesh. Else: {failure.remedy}"
        )
    through = proxies.on_the_way(str(response.url)) if response.url.scheme == "http" else None
    if through is not None and (response.status_code >= 500 or is_page(response)):
        failure.message = f"{failure.message.rstrip('.')} (by way of {through}, which may be what answers)."
        failure.remedy = f"Where {host} may be reached without a proxy, have NO_PROXY name it. {failure.remedy}"
    return failure


def what_it_says(response: httpx2.Response) -> str:
    """A refusal's own words in one short line: the hub's header, a page's title, the message in an object, or the text."""
    try:
        text = response.headers.get("x-error-message") or response.text[:4000]
    except httpx2.ResponseNotRead:
        return ""
    said, reason = words_of(text, is_page=is_page(response)), response.reason_phrase.strip()
    if (
        not reason
        or reason.lower() in said.lower()
        or response.http_version == "HTTP/2"
        or reason.lower() in _usual(response.status_code)
    ):
        return said
    return words_of(f"{said}: {reason}" if said else reason)


def _usual(status: int) -> str:
    """The reason phrases that say no more than the status; servers of old have others for some."""
    with suppress(ValueError):
        return f"{HTTPStatus(status).phrase}, {_OTHER_PHRASES}".lower()
    return _OTHER_PHRASES.lower()


def words_of(text: str, *, is_page: bool = False) -> str:
    """One short line of an answer's text, none of it of a page that has no title."""
    text = text[:4000]
    title, message, code = _TITLE.search(text), _MESSAGE.search(text), _XML.search(text)
    if title or ((is_page or _PAGE.search(text)) and "<" in text):
        more = blame.sentence_of(text)
        text = " ".join(html.unescape(title[1]).split()) if title else ""
        text = text if more.lower() in text.lower() else ": ".join(part for part in (text, more) if part)
    elif code:
        text = ": ".join(part for part in (code[1], code[2]) if part)
    elif message:
        text = message[1]
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line.rstrip(". ") if len(line) <= _MOST_SAID else f"{line[: _MOST_SAID - 1]}…"


_BY_A_GUARD = re.compile(r"(?i)error code: 10\d\d|cloudflare")
"""In what a 429 says that comes of a guard before the hub."""


def limited(host: str, said: str, seconds: float | None, *, has_token: bool = False) -> WeightsError:
    """Of a 429, in the words of who limits."""
    if _BY_A_GUARD.search(said):
        remedy = "Wait, or have fewer downloads at a time: what stands before it limits by address, whatever the token; or use another mirror, or the hub itself."
    elif has_token:
        remedy = "Wait, have fewer downloads at a time, or a plan of the token's account with a higher limit; or use a mirror."
    else:
        remedy = "Set a token: signed-in clients have a higher limit; or wait, or use a mirror."
    words = f": {said}" if said else ""
    message = f"{host} limits the rate of requests (HTTP 429){words}."
    return WeightsError(Reason.HUB_RATE_LIMITED, message, remedy, retry_after=seconds)


def status_failure(status: int, host: str, about: str, seconds: float | None) -> WeightsError:
    """The failure that a status alone tells; `about` what was asked, or what the answer said, `seconds` when to ask again."""
    if status == 429:
        return limited(host, "", seconds)
    if status >= 500 or status == 408:
        return blame.of_a_server(host, status, about, seconds)
    if status == 407:
        return WeightsError(
            Reason.HUB_REFUSED,
            f"A proxy before {host} wants a login (HTTP 407) {about}.",
            proxies.LOGIN_REMEDY,
        )
    if status == 402:
        return WeightsError(
            Reason.HUB_REFUSED,
            f"{host} wants to be paid (HTTP 402) {about}.",
            ACCOUNT_REMEDY,
        )
    if status == 451:
        return WeightsError(
            Reason.HUB_REFUSED,
            f"{host} may not give it from here, for legal reasons (HTTP 451), {about}.",
            "Use another source, or a copy that you may have.",
        )
    return WeightsError(
        Reason.HUB_REFUSED,
        f"{host} answered HTTP {status} {about}.",
        "Check the name of the source, that the endpoint speaks this protocol, and what stands before it (a proxy).",
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait that the other side asks for, by Retry-After or the hub's RateLimit header."""
    text = headers.get("retry-after", "").strip()
    if text.replace(".", "", 1).isdecimal():
        return min(float(text), LONGEST_RETRY_AFTER_SECONDS)
    if date := email.utils.parsedate_tz(text):
        with suppress(ValueError, OverflowError):  # a year that no clock shows
            return min(max(0.0, email.utils.mktime_tz(date) - time.time()), LONGEST_RETRY_AFTER_SECONDS)
    if match := _RATELIMIT_RESET.search(headers.get("ratelimit", "")):
        return min(float(match[1]), LONGEST_RETRY_AFTER_SECONDS)
    return None


def source_changed(file: RemoteFile, how: str) -> WeightsError:
    return WeightsError(
        Reason.REVISION_NOT_FOUND,
        f"{file.path} is not what was listed: {how}.",
        f"The source changed meanwhile: {REFRESH}, and it is looked up again.",
    )
