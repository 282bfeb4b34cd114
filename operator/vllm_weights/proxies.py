"""The proxies that the environment puts on the way: whether they can be any, and which one a request passes."""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies_environment

import httpx2

from vllm_weights import tls
from vllm_weights.failure import Reason, WeightsError

SPOKEN = ("http", "https")
WHERE_IT_IS_SET = "where it is set (the weights image, or what adds variables to pods)"
_ESCAPED = "each of : / ? # [ ] @ % in user and password written as %23 and the like"
REFUSED = re.compile(
    r"ProxyError (\d{3})|Tunnel connection failed: (\d{3})|proxy authori[sz]ation required", re.IGNORECASE
)
"""What httpx, urllib3 and reqwest say of a proxy's answer to CONNECT."""
_NOT_THERE = re.compile(r"ConnectError|ConnectTimeout|(?:Unable to|Cannot) connect to proxy|NameResolutionError")
_TLS = re.compile(r"(?i)\bSSL|certificate|\bTLS")
"""Of a TCP connection that stands."""
_HOST_AND_PORT = re.compile(r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,4}|:[1-5]\d{4})?/?")
_NO_HTTP = re.compile(r"RemoteProtocolError|RemoteDisconnected|BadStatusLine|ProxyError 400|failed: 400")
"""How a proxy that speaks TLS takes plain HTTP."""
_RESET = re.compile(r"(?i)reset by peer|broken pipe|\bEOF\b|disconnected")
LOGIN_REMEDY = (
    "Have the proxy let these pods through (or correct the user and password in its address, where the image sets one), "
    "or have a mirror set that is reached without it."
)
PROBE_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Proxy:
    """One proxy on the way. `variable` is what names it, `address` its host and port, without a login."""

    variable: str
    address: str
    scheme: str

    def __str__(self) -> str:
        return f"the proxy {self.address} ({self.variable})"


def on_the_way(url: str) -> Proxy | None:
    """The proxy that a request to this address passes, by the process's environment; None where it goes straight."""
    parts, known = urlsplit(url), getproxies_environment()
    name = parts.scheme if known.get(parts.scheme) else "all"
    value = known.get(name, "")
    if not value or _goes_straight(parts, known.get("no", "")):
        return None
    found = urlsplit(_with_scheme(value))
    return Proxy(_variable(name), found.netloc.rpartition("@")[2], found.scheme)


def check(endpoint: str | None) -> None:
    """Looks at every proxy variable before anything is sent, and takes away those that nothing can use and nobody needs.

    `endpoint` is the source's address, None where nothing of ours speaks to it. Raises InvalidArgument.
    """
    known = getproxies_environment()
    for name in (name for name in ("http", "https", "all") if known.get(name)):
        value = known[name].strip()
        if not value:
            _set(name, None)
            continue
        variable = _variable(name)
        parts = _parsed(variable, value)
        if parts.scheme in SPOKEN:
            _set(name, value)
        elif endpoint is None:
            continue
        elif _is_needed(name, endpoint, known):
            raise WeightsError(
                Reason.INVALID_ARGUMENT,
                f"{variable} names a proxy that is spoken to as {parts.scheme}://; this program speaks to proxies in HTTP.",
                f"Name an HTTP proxy (http://HOST:PORT) in {variable}, {WHERE_IT_IS_SET}, or have NO_PROXY name the source's host.",
            )
        else:
            _set(name, None)


def _is_needed(name: str, endpoint: str, known: Mapping[str, str]) -> bool:
    """Whether the way to the endpoint is by this variable."""
    parts = urlsplit(endpoint)
    if _goes_straight(parts, known.get("no", "")):
        return False
    return name == parts.scheme or (name == "all" and not known.get(parts.scheme))


def _goes_straight(asked: SplitResult, listed: str) -> bool:
    """Whether NO_PROXY names the host, as our clients read it: names with what is under them, addresses, and networks."""
    host = asked.hostname or ""
    whole = f"{host}:{asked.port}" if asked.port else host
    entries = [entry.strip().lower() for entry in listed.split(",") if entry.strip()]
    return any(entry == "*" or _names(entry.rpartition("://")[2], host, whole) for entry in entries)


def _names(entry: str, host: str, whole: str) -> bool:
    try:
        return ip_address(host) in ip_network(entry.strip("[]"), strict=False)
    except ValueError:  # One of both is a name.
        name = entry.removeprefix("*").removeprefix(".")
        return bool(name) and any(asked == name or asked.endswith(f".{name}") for asked in (host, whole))


def _parsed(variable: str, value: str) -> httpx2.URL:
    try:
        url = httpx2.URL(_with_scheme(value))
        urlsplit(_with_scheme(value))
    except (httpx2.InvalidURL, ValueError, UnicodeError):
        raise _no_address(variable, value) from None  # The library quotes what may be a part of the password.
    port = url.port if url.port is not None else 1
    is_whole = url.host and " " not in value and 0 < port < 65536
    if not is_whole or url.path not in ("", "/") or url.query or url.fragment:
        raise _no_address(variable, value)
    return url


def _no_address(variable: str, value: str) -> WeightsError:
    before, _, behind = value.rpartition("@")
    if before and _HOST_AND_PORT.fullmatch(behind):
        fault = "; there is a character in it, before the @, that must be escaped."
    else:
        fault = "; what stands for its host and port is none, or something follows it."
    login = f", with USER:PASSWORD@ before the host where it wants a login, {_ESCAPED}" if "@" in value else ""
    return WeightsError(
        Reason.INVALID_ARGUMENT,
        f"{variable} is no address of a proxy{fault}",
        f"Correct it {WHERE_IT_IS_SET}: http://HOST:PORT{login}.",
    )


def _with_scheme(value: str) -> str:
    return value if "://" in value else f"http://{value}"


def _variable(name: str) -> str:
    """As it is spelled in the environment: the small letters come first."""
    small = f"{name}_proxy"
    return small if os.environ.get(small) else small.upper()


def _set(name: str, value: str | None) -> None:
    for variable in (f"{name}_proxy", f"{name}_PROXY".upper()):
        if variable in os.environ and value is not None:
            os.environ[variable] = value
        elif variable in os.environ:
            del os.environ[variable]


def failure(through: Proxy, host: str, why: str) -> WeightsError | None:
    """What is at fault with the proxy itself, by a library's words on a connection; None where nothing is."""
    if through.scheme == "http" and _NO_HTTP.search(why) and _speaks_tls(through):
        return WeightsError(
            Reason.INVALID_ARGUMENT,
            f"{_at_the_start(through)} speaks TLS, and is asked in plain HTTP: {why.rstrip('.')}.",
            f"Have {through.variable} begin with https://, {WHERE_IT_IS_SET}.",
        )
    if REFUSED.search(why):
        return None
    if not _TLS.search(why):
        return _not_there(through, host, why) if _NOT_THERE.search(why) and not _stands(through, why) else None
    found = _refused_tls(through) if through.scheme == "https" else ""
    if "WRONG_VERSION_NUMBER" in found:
        return WeightsError(
            Reason.INVALID_ARGUMENT,
            f"{_at_the_start(through)} does not speak TLS: {found}.",
            f"Have {through.variable} begin with http://, {WHERE_IT_IS_SET}; that to {host} is encrypted all the same.",
        )
    return tls.failure(_at_the_start(through), found) if found else None


def _at_the_start(through: Proxy) -> str:
    return f"The{str(through).removeprefix('the')}"


def _not_there(through: Proxy, host: str, why: str) -> WeightsError:
    return WeightsError(
        Reason.HUB_UNREACHABLE,
        f"{_at_the_start(through)}, on the way to {host}, cannot be reached: {why}.",
        f"Correct {through.variable} {WHERE_IT_IS_SET}, or have the namespace reach the proxy (NetworkPolicy, DNS); "
        "where that host may be reached without it, have NO_PROXY name it.",
    )


def _stands(through: Proxy, why: str) -> bool:
    """Whether it is behind the proxy that nothing comes: a connection that is reset or silent may be either's."""
    if _RESET.search(why):
        return True
    if "imeout" not in why and "imed out" not in why:
        return False
    parts = urlsplit(f"//{through.address}")
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 80), PROBE_SECONDS):
            return True
    except OSError:
        return False


def _speaks_tls(through: Proxy) -> bool:
    found = _refused_tls(through)
    return not found or "CERTIFICATE_VERIFY_FAILED" in found


def _refused_tls(through: Proxy) -> str:
    """What a handshake with the proxy alone fails of; "" where it does not."""
    parts = urlsplit(f"//{through.address}")
    name, port = parts.hostname or "", parts.port or 443
    try:
        with (
            socket.create_connection((name, port), PROBE_SECONDS) as connection,
            ssl.create_default_context().wrap_socket(connection, server_hostname=name),
        ):
            return ""
    except OSError as error:
        return str(error)


def refused(through: Proxy | None, host: str, status: int, why: str) -> WeightsError:
    """Of a proxy's answer to CONNECT, to which the hub itself has no answer."""
    name = _at_the_start(through) if through else "The proxy"
    variable = through.variable if through else "the proxy's address"
    if status == 407:
        message = f"{name} on the way to {host} wants a login, or another one: {why}."
        remedy = f"Correct the user and password in {variable}, {WHERE_IT_IS_SET}; or have the proxy let these pods through, or "
        remedy += "have a mirror set that is reached without it."
        return WeightsError(Reason.HUB_REFUSED, message, remedy)
    message = f"{name} does not connect to {host}: {why}."
    if status >= 500:
        remedy = "Have whoever runs the proxy look at its way to that host; where it may be reached without it, have NO_PROXY name it."
        return WeightsError(Reason.HUB_UNREACHABLE, message, remedy)
    remedy = (
        "Have the proxy (its list of allowed hosts) let these pods through to that host, or have a mirror set that may be reached; where that host may "
        "be reached without it, as one inside the company, have NO_PROXY name it."
    )
    return WeightsError(Reason.HUB_REFUSED, message, remedy)
