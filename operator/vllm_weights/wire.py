"""HTTP for every source that speaks it: one client, and what its failures mean."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import httpx2

from vllm_weights import VERSION, proxies, tls
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
_WANTS_TLS = re.compile(r"(?i)\bhttp request\b.{0,40}\bhttps\b|\bTLS\b.{0,20}\brequired")
_RATELIMIT_RESET = re.compile(r"\bt=(\d+)")


def client(headers: Mapping[str, str], read_seconds: float, connections: int) -> httpx2.Client:
    """A client that follows redirects (credentials stay with their host) and honours the proxy variables."""
    return httpx2.Client(
        headers={"User-Agent": f"{CLIENT_NAME}/{VERSION}", "Accept-Encoding": "identity", **headers},
        timeout=httpx2.Timeout(read_seconds, connect=min(CONNECT_SECONDS, read_seconds)),
        limits=httpx2.Limits(max_connections=connections + 4, max_keepalive_connections=connections + 4),
        follow_redirects=True,
    )


@contextmanager
def connection_errors_named(host: str) -> Iterator[None]:
    """Turns the client's own exceptions into ours, as a rule HubUnreachable of the host that was asked at last."""
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
        raise unreachable(_asked_at_last(error, host), why, _address_of(error)) from error
    except RuntimeError as error:  # "Cannot send a request, as the client has been closed": another worker failed.
        raise unreachable(host, str(error)) from error


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


def _asked_at_last(error: Exception, host: str) -> str:
    """The source's own host, or the one to which that one redirects."""
    url = _address_of(error)
    asked = url.netloc.decode() if url is not None else ""
    own = host.lower().removesuffix(":443").removesuffix(":80")
    return host if asked in ("", own) else f"{asked}, to which {host} redirects,"


def unreachable(host: str, why: str, url: httpx2.URL | str | None = None) -> WeightsError:
    """What a connection failed of, in a library's words. `url` is what was asked for, where a proxy may be on the way."""
    through = proxies.on_the_way(str(url)) if url is not None else None
    if through is not None and (of_proxy := proxies.failure(through, host.rstrip(","), why)):
        return of_proxy
    if found := proxies.REFUSED.search(why):
        return proxies.refused(through, host.rstrip(","), int(found[1] or found[2] or 407), why)
    if of_tls := tls.failure(host, why):
        return of_tls
    return _breaks_off(host, why, through)


def _breaks_off(host: str, why: str, through: Proxy | None = None) -> WeightsError:
    by, what = (f", by way of {through},", f"{through}, ") if through else ("", "")
    return WeightsError(
        Reason.HUB_UNREACHABLE,
        f"{host} cannot be reached{by} or breaks off: {why.rstrip('.')}.",
        f"Check that the namespace may reach it ({what}NetworkPolicy, proxy variables, DNS), and its status page; "
        "for a mirror set its address in the platform's settings (hub.endpoint, sources.modelscope.endpoint).",
    )


def is_page(response: httpx2.Response) -> bool:
    """Whether a person's page came, as of a proxy or of another server."""
    return response.headers.get("content-type", "").startswith("text/html")


def common_failure(response: httpx2.Response, host: str, *, has_token: bool = False) -> WeightsError:
    """The failure of an answer that its source gives no meaning of its own, with what the answer says."""
    said = what_it_says(response)
    if _WANTS_TLS.search(said):
        return WeightsError(
            Reason.HUB_REFUSED,
            f"{host} is asked in plain HTTP and wants TLS: {said}",
            "Have its address in the platform's settings begin with https://.",
        )
    about = f"for {response.url.path}" + (f": {said}" if said else "")
    seconds = retry_after(response.headers)
    if response.status_code == 429:
        return limited(host, said, seconds, has_token=has_token)
    failure = status_failure(response.status_code, host, about, seconds)
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
    return words_of(text, is_page=is_page(response))


def words_of(text: str, *, is_page: bool = False) -> str:
    """One short line of an answer's text, none of it of a page that has no title."""
    text = text[:4000]
    title, message, code = _TITLE.search(text), _MESSAGE.search(text), _XML.search(text)
    if title or ((is_page or _PAGE.search(text)) and "<" in text):
        text = title[1] if title else ""
    elif code:
        text = ": ".join(part for part in (code[1], code[2]) if part)
    elif message:
        text = message[1]
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line.rstrip(". ") if len(line) <= _MOST_SAID else f"{line[: _MOST_SAID - 1]}…"


def limited(host: str, said: str, seconds: float | None, *, has_token: bool = False) -> WeightsError:
    """Of a 429, in the words of who limits."""
    if has_token:
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
        failure = _breaks_off(host, f"HTTP {status} {about}")
        failure.retry_after = seconds
        return failure
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
