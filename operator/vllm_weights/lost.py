"""The stores that a hub redirects to. One that refuses a file may give it at the next signed address; when none helps it stays refused."""

from __future__ import annotations

import re

import httpx2

from vllm_weights import wire
from vllm_weights.addresses import is_public
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.listing import RemoteFile

_EXPIRED = re.compile(r"(?i)\bexpired\b|RequestTimeTooSkewed|ExpiredToken|not yet valid|too large.{0,20}current time")
"""What stores say of a signed address whose time is over, or has not come."""
_GATEWAYS_WORDS = "x-tengine-error"
"""Where Alibaba's gateways say why they refuse; their pages do not."""


class Stores:
    """What is known of the stores behind one hub: which gave bytes, and which addresses were refused.

    `setting` is the key of the platform's settings that names the hub.
    """

    def __init__(self, hub: str, setting: str) -> None:
        self.hub = hub
        self.is_mirror = not is_public(hub)
        self.given: set[str] = set()
        self.another = f"have {setting} of the platform's settings name the hub itself, or another mirror"
        self.a_mirror = f"have a mirror set that may be reached ({setting} of the platform's settings)"
        self._refused: set[str] = set()

    def check(self, response: httpx2.Response, file: RemoteFile) -> None:
        """What a store says is about its signed address, which the next try gets anew. Raises WeightsError for a 4xx of one.

        The answer must have come by a redirect.
        """
        status = response.status_code
        if not 400 <= status < 500 or status in (408, 416, 429):
            return
        response.read()
        address = str(response.url)
        is_same = address in self._refused
        self._refused.add(address)
        said = wire.what_it_says(response)
        if response.url.scheme == "http" and wire.WANTS_TLS.search(said):
            raise self._plain(response, file, said)
        raise RefusedByStore(response, self, file, is_same=is_same)

    def gave(self, response: httpx2.Response) -> None:
        """Bytes came."""
        self.given.add(response.url.host)

    def _plain(self, response: httpx2.Response, file: RemoteFile, said: str) -> WeightsError:
        return WeightsError(
            Reason.HUB_REFUSED,
            f"{self.hub} redirects {file.path} to http://{response.url.netloc.decode()}, which wants TLS (HTTP {response.status_code}: {said}).",
            f"Have whoever runs {self.hub} mend the addresses that it writes: its own base URL, or X-Forwarded-Proto of the proxy before it; or "
            f"{self.another}.",
        )


class RefusedByStore(WeightsError):
    """HubUnreachable, to be tried with a fresh address. `is_same`: the hub led to this very address before."""

    def __init__(self, response: httpx2.Response, stores: Stores, file: RemoteFile, *, is_same: bool) -> None:
        told = wire.what_it_says(response), response.headers.get(_GATEWAYS_WORDS, "")[:200]
        said = ": ".join(part for part in told if part)
        self._host, self._status, self._stores = response.url.host, response.status_code, stores
        self._is_page = wire.is_page(response)
        self._path = file.path
        self._is_same = is_same and bool(response.url.query)
        self._is_old = bool(_EXPIRED.search(said))
        self._words = f"HTTP {response.status_code}" + (f": {said}" if said else "")
        super().__init__(
            Reason.HUB_UNREACHABLE,
            f"{self._host}, where {stores.hub} keeps its files, does not give {file.path} ({self._words}).",
            self._remedy(stores),
        )

    def _remedy(self, stores: Stores) -> str:
        again = "It is tried again with a fresh address. Where that does not help, "
        hub = stores.hub
        if not stores.is_mirror and self._is_old:
            return (
                f"{again}have the clock of this node looked at, and what is on the way (a proxy that keeps redirects, or takes long); or "
                f"{stores.a_mirror}."
            )
        if not stores.is_mirror:
            return (
                f"{again}a proxy on the way changes what is asked, or the file is lost (have its owner upload it again), or that host lets nobody "
                f"through from here: {stores.a_mirror}."
            )
        if self._is_old:
            led = (
                f"{hub} leads to the same address again, and its time is over" if self._is_same else again.rstrip(", ")
            )
            return (
                f"{led}: have whoever runs {hub} keep no redirects in its cache (and clear it), have the addresses last longer, and set "
                f"its clock and that of {self._host} right; or {stores.another}."
            )
        return (
            f"{again}have whoever runs {hub} look at what it redirects to (its rights at {self._host}, its clock, redirects that it keeps, "
            f"a proxy that changes what is asked), or fetch the file again; or {stores.another}."
        )

    def for_good(self) -> WeightsError:
        """What it is when no fresh address helped: the file's fault where others came from there, a gate's where a page came."""
        stores = self._stores
        is_lost = self._status in (404, 410) and "NoSuchKey" in self._words
        if is_lost or (self._host in stores.given and not self._is_old):
            fetch = f"Have whoever runs {stores.hub} fetch the file again. " if stores.is_mirror else ""
            others = "has lost" if is_lost else "gives others and not"
            return WeightsError(
                Reason.WEIGHTS_MISSING,
                f"{self._host}, where {stores.hub} keeps its files, {others} {self._path} ({self._words}).",
                f"{fetch}Where the hub has lost it, have the repository's owner upload the file again, or name another revision or a copy.",
            )
        if self._is_page and self._status in (401, 403) and not self._is_old:
            return WeightsError(
                Reason.HUB_REFUSED,
                self.message,
                f"Have whoever refuses (a filter on the way, or {self._host} itself by country or address) let this cluster through, or "
                f"{stores.another if stores.is_mirror else stores.a_mirror}.",
            )
        return self
