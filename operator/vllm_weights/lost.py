"""A file that the store behind a hub refuses: its next signed address may open it, and when none does it stays refused."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

import httpx2

from vllm_weights import wire
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.listing import RemoteFile


class RefusedByStore(WeightsError):
    """HubUnreachable, to be tried with a fresh address. `given` grows: the hosts that gave bytes of any file."""

    def __init__(self, response: httpx2.Response, hub: str, file: RemoteFile, given: AbstractSet[str]) -> None:
        said = wire.what_it_says(response)
        self._host, self._status, self._given = response.url.host, response.status_code, given
        self._is_page = wire.is_page(response)
        self._hub, self._path = hub, file.path
        self._words = f"HTTP {response.status_code}" + (f": {said}" if said else "")
        super().__init__(
            Reason.HUB_UNREACHABLE,
            f"{self._host}, where {hub} keeps its files, does not give {file.path} ({self._words}).",
            "It is tried again with a fresh address. Where that does not help, a proxy on the way changes what is asked, that host "
            "lets nobody through from here (have a mirror set, hub.endpoint), or the file is lost (have its owner upload it again).",
        )

    def for_good(self) -> WeightsError:
        """What it is when no fresh address helped: the file's fault where others came from there, a gate's where a page came."""
        if self._host in self._given:
            return WeightsError(
                Reason.WEIGHTS_MISSING,
                f"{self._host}, where {self._hub} keeps its files, gives others and not {self._path} ({self._words}).",
                "The hub has lost it: have the repository's owner upload the file again, or name another revision or a copy.",
            )
        if self._is_page and self._status in (401, 403):
            return WeightsError(
                Reason.HUB_REFUSED,
                self.message,
                f"Have whoever refuses (a filter on the way, or {self._host} itself by country or address) let this cluster through, or "
                "have a mirror set that may be reached (hub.endpoint of the platform's settings).",
            )
        return self


def settled(error: WeightsError) -> WeightsError:
    """The error that a try which was the last ends with."""
    return error.for_good() if isinstance(error, RefusedByStore) else error
