"""A file that the store behind a hub refuses: its next signed address may open it, and when none does it stays refused."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet

import httpx2

from vllm_weights import wire
from vllm_weights.addresses import is_public
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.listing import RemoteFile

_EXPIRED = re.compile(r"(?i)\bexpired\b|RequestTimeTooSkewed|ExpiredToken|not yet valid|too large.{0,20}current time")
"""What stores say of a signed address whose time is over, or has not come."""
_ANOTHER = "have hub.endpoint of the platform's settings name the hub itself, or another mirror"


class RefusedByStore(WeightsError):
    """HubUnreachable, to be tried with a fresh address. `given` grows: the hosts that gave bytes of any file.

    `is_same`: the hub led to this very address before.
    """

    def __init__(
        self, response: httpx2.Response, hub: str, file: RemoteFile, given: AbstractSet[str], *, is_same: bool = False
    ) -> None:
        said = wire.what_it_says(response)
        self._host, self._status, self._given = response.url.host, response.status_code, given
        self._is_page = wire.is_page(response)
        self._hub, self._path = hub, file.path
        self._is_mirror = not is_public(hub)
        self._is_same = is_same and bool(response.url.query)
        self._is_old = bool(_EXPIRED.search(said))
        self._words = f"HTTP {response.status_code}" + (f": {said}" if said else "")
        super().__init__(
            Reason.HUB_UNREACHABLE,
            f"{self._host}, where {hub} keeps its files, does not give {file.path} ({self._words}).",
            self._remedy(),
        )

    def _remedy(self) -> str:
        again = "It is tried again with a fresh address. Where that does not help, "
        if not self._is_mirror:
            return (
                f"{again}a proxy on the way changes what is asked, that host lets nobody through from here (have a mirror set, "
                "hub.endpoint), or the file is lost (have its owner upload it again)."
            )
        if self._is_old:
            led = (
                f"{self._hub} leads to the same address again, and its time is over"
                if self._is_same
                else again.rstrip(", ")
            )
            return (
                f"{led}: have whoever runs {self._hub} keep no redirects in its cache (and clear it), have the addresses last longer, and set "
                f"its clock and that of {self._host} right; or {_ANOTHER}."
            )
        return (
            f"{again}have whoever runs {self._hub} look at what it redirects to (its rights at {self._host}, its clock, redirects that it keeps, "
            f"a proxy that changes what is asked), or fetch the file again; or {_ANOTHER}."
        )

    def for_good(self) -> WeightsError:
        """What it is when no fresh address helped: the file's fault where others came from there, a gate's where a page came."""
        if self._host in self._given and not self._is_old:
            fetch = f"Have whoever runs {self._hub} fetch the file again. " if self._is_mirror else ""
            return WeightsError(
                Reason.WEIGHTS_MISSING,
                f"{self._host}, where {self._hub} keeps its files, gives others and not {self._path} ({self._words}).",
                f"{fetch}Where the hub has lost it, have the repository's owner upload the file again, or name another revision or a copy.",
            )
        if self._is_page and self._status in (401, 403):
            other = (
                _ANOTHER
                if self._is_mirror
                else "have a mirror set that may be reached (hub.endpoint of the platform's settings)"
            )
            return WeightsError(
                Reason.HUB_REFUSED,
                self.message,
                f"Have whoever refuses (a filter on the way, or {self._host} itself by country or address) let this cluster through, or {other}.",
            )
        return self


def refusal(
    response: httpx2.Response, hub: str, file: RemoteFile, given: AbstractSet[str], is_same: bool
) -> WeightsError:
    """What a 4xx of the store means; final where the hub leads to a port of TLS in plain HTTP."""
    said = wire.what_it_says(response)
    if response.url.scheme == "http" and wire.WANTS_TLS.search(said):
        return WeightsError(
            Reason.HUB_REFUSED,
            f"{hub} redirects {file.path} to http://{response.url.netloc.decode()}, which wants TLS (HTTP {response.status_code}: {said}).",
            f"Have whoever runs {hub} mend the addresses that it writes: its own base URL, or X-Forwarded-Proto of the proxy before it; or {_ANOTHER}.",
        )
    return RefusedByStore(response, hub, file, given, is_same=is_same)


def settled(error: WeightsError) -> WeightsError:
    """The error that a try which was the last ends with."""
    return error.for_good() if isinstance(error, RefusedByStore) else error
