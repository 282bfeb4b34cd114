"""HTTP for every source that speaks it: one client, and what its failures mean."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import httpx2

from vllm_weights import VERSION, body
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.listing import RemoteFile

CLIENT_NAME = "vllm-operator-weights"
CONNECT_SECONDS = 4.0
"""So that an unreachable hub is named within the five seconds an inspection may take."""
LONGEST_RETRY_AFTER_SECONDS = 300.0
"""The hub's rate limits count in windows of five minutes."""
_CERTIFICATES = (
    (
        re.compile(r"(?i)expired|not yet valid|NotValidYet"),
        "whose time is over, or has not come",
        "Have whoever runs it renew the certificate; where it is valid by its dates, have the node's clock set right.",
    ),
    (
        re.compile(r"(?i)mismatch|not valid for|NotValidForName|doesn't match"),
        "that is made out for another name",
        "Mend the address, or have the certificate made out for the name in it.",
    ),
)
_OF_PROXY = re.compile(
    r"ProxyError (\d{3})|Tunnel connection failed: (\d{3})|proxy authori[sz]ation required", re.IGNORECASE
)
"""What httpx, urllib3 and reqwest say of a proxy's answer to CONNECT."""
_MOST_SAID = 200
"""Characters of an answer that are quoted."""
_TITLE = re.compile(r"(?is)<title>([^<]{1,200})</title>")
_MESSAGE = re.compile(r"\"(?:message|error|detail|msg|error_description)\": ?\"([^\"]{1,300})\"")
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


def host_of(endpoint: str) -> str:
    """What messages call an address: host and port, without a name and password before them."""
    return urlsplit(endpoint).netloc.rpartition("@")[2] or "the hub"


def whole_address(variable: str, value: str) -> str:
    """An endpoint without the slash at its end. Raises InvalidArgument for one without a scheme or a host: no try mends that."""
    parts = urlsplit(value.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise WeightsError(
            Reason.INVALID_ARGUMENT,
            f"{variable} is no whole address: {value.rpartition('@')[2]!a}.",
            "Have the platform's settings name the hub's or mirror's whole address, https:// (or http://) before its host.",
        )
    return value.strip().rstrip("/")


@contextmanager
def connection_errors_named(host: str) -> Iterator[None]:
    """Turns the client's own exceptions into HubUnreachable, of the host that was asked at last."""
    try:
        yield
    except httpx2.TooManyRedirects as error:
        raise WeightsError(
            Reason.HUB_REFUSED,
            f"{host} redirects for ever.",
            "Mend the mirror, or the gate before it, that redirects; or its address in the platform's settings.",
        ) from error
    except (httpx2.TransportError, httpx2.StreamError) as error:
        raise unreachable(_asked_at_last(error, host), f"{type(error).__name__} {error}".strip()) from error
    except RuntimeError as error:  # "Cannot send a request, as the client has been closed": another worker failed.
        raise unreachable(host, str(error)) from error


def _asked_at_last(error: Exception, host: str) -> str:
    """The source's own host, or the one to which that one redirects."""
    if not isinstance(error, httpx2.RequestError):
        return host
    try:
        asked = error.request.url.netloc.decode()
    except RuntimeError:  # The client does not know: raised before there was a request.
        return host
    own = host.lower().removesuffix(":443").removesuffix(":80")
    return host if asked in ("", own) else f"{asked}, to which {host} redirects,"


def unreachable(host: str, why: str) -> WeightsError:
    if "CERTIFICATE_VERIFY_FAILED" in why:
        return not_trusted(host, why)
    if found := _OF_PROXY.search(why):
        return _refused_by_proxy(host, int(found[1] or found[2] or 407), why)
    if "WRONG_VERSION_NUMBER" in why:
        return WeightsError(
            Reason.HUB_UNREACHABLE,
            f"{host} does not speak TLS: {why}.",
            "If it speaks plain HTTP its address in the platform's settings begins with http://; else mend host and port.",
        )
    return WeightsError(
        Reason.HUB_UNREACHABLE,
        f"{host} cannot be reached or breaks off: {why}.",
        "Check that the namespace may reach it (NetworkPolicy, proxy variables, DNS), and its status page; "
        "for a mirror set its address in the platform's settings (HF_ENDPOINT, MODELSCOPE_ENDPOINT).",
    )


def _refused_by_proxy(host: str, status: int, why: str) -> WeightsError:
    """Of CONNECT, to which the hub itself has no answer."""
    if status == 407:
        return status_failure(status, host, f"({why})", None)
    message = f"The proxy does not connect to {host}: {why}."
    if status >= 500:
        remedy = "Have whoever runs the proxy look at its way to that host; where it may be reached without it, have NO_PROXY name it."
        return WeightsError(Reason.HUB_UNREACHABLE, message, remedy)
    remedy = "Have the proxy let these pods through to that host, or have a mirror set that may be reached."
    return WeightsError(Reason.HUB_REFUSED, message, remedy)


def not_trusted(host: str, why: str) -> WeightsError:
    """A certificate that is refused, by what is wrong with it."""
    for words, what, remedy in _CERTIFICATES:
        if words.search(why):
            return WeightsError(Reason.HUB_UNREACHABLE, f"{host} shows a certificate {what}: {why}.", remedy)
    return WeightsError(
        Reason.HUB_UNREACHABLE,
        f"{host} shows a certificate of an authority that is not trusted: {why}.",
        "Have the platform name the authority (sources.trustedCertificates of its settings), or mend the address.",
    )


def is_page(response: httpx2.Response) -> bool:
    """Whether a person's page came, as of a proxy or of another server."""
    return response.headers.get("content-type", "").startswith("text/html")


def common_failure(response: httpx2.Response, host: str) -> WeightsError:
    """The failure of an answer that its source gives no meaning of its own, with what the answer says."""
    said = what_it_says(response)
    if _WANTS_TLS.search(said):
        return WeightsError(
            Reason.HUB_REFUSED,
            f"{host} is asked in plain HTTP and wants TLS: {said}",
            "Have its address in the platform's settings begin with https://.",
        )
    about = f"for {response.url.path}" + (f": {said}" if said else "")
    return status_failure(response.status_code, host, about, retry_after(response.headers))


def what_it_says(response: httpx2.Response) -> str:
    """A refusal's own words in one short line: the hub's header, a page's title, the message in an object, or the text."""
    try:
        text = response.headers.get("x-error-message") or response.text[:4000]
    except httpx2.ResponseNotRead:
        return ""
    title, message = _TITLE.search(text), _MESSAGE.search(text)
    if title or (is_page(response) and "<" in text):
        text = title[1] if title else ""
    elif message:
        text = message[1]
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:_MOST_SAID].rstrip(". ")


def status_failure(status: int, host: str, about: str, seconds: float | None) -> WeightsError:
    """The failure that a status alone tells; `about` what was asked, or what the answer said, `seconds` when to ask again."""
    if status == 429:
        return WeightsError(
            Reason.HUB_RATE_LIMITED,
            f"{host} limits the rate of requests (HTTP 429).",
            "Set a token: signed-in clients have a higher limit; or wait, or use a mirror.",
            retry_after=seconds,
        )
    if status >= 500 or status == 408:
        failure = unreachable(host, f"HTTP {status} {about}")
        failure.retry_after = seconds
        return failure
    if status == 407:
        return WeightsError(
            Reason.HUB_REFUSED,
            f"A proxy before {host} wants a login (HTTP 407) {about}.",
            "Have the proxy let these pods through (or give its address with user and password, where the image sets one), "
            "or have a mirror set that is reached without it.",
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


def body_of_range(response: httpx2.Response, file: RemoteFile, start: int, end: int) -> Iterator[memoryview]:
    """The asked bytes of an answer; also where the server ignores ranges and sends the whole file."""
    total = response.headers.get("content-range", "").rpartition("/")[2]
    if total.isdecimal() and int(total) != file.size:
        raise source_changed(file, f"it is {total} bytes long, not {file.size}")
    kind, encoding = response.headers.get("content-type", ""), response.headers.get("content-encoding", "identity")
    is_packed = encoding not in ("", "identity")
    # A mirror may call everything a page; one that is none has the length of what was asked for.
    is_page = kind.startswith("text/html") and response.headers.get("content-length") not in (
        str(file.size),
        str(end - start),
    )
    if is_page or kind.startswith("multipart/") or (is_packed and response.status_code != 200):
        # The bytes of a part of something packed cannot be unpacked, and we asked for nothing packed.
        raise WeightsError(
            Reason.HUB_REFUSED,
            f"{response.url.host} answers {file.path} with {encoding if is_packed else kind.partition(';')[0]}, "
            "not with its bytes.",
            "Check the endpoint, and whether a proxy answers in its place.",
        )
    skipped = start if response.status_code == 200 else 0
    return body.pieces(response, skipped, end - start, is_packed=is_packed)


def source_changed(file: RemoteFile, how: str) -> WeightsError:
    return WeightsError(
        Reason.REVISION_NOT_FOUND,
        f"{file.path} is not what was listed: {how}.",
        "The source changed meanwhile: inspect it again (any change of spec.model or its revision does).",
    )
