"""What carries a model's ownerReference and is in its plan no more: the remains of an older spec.

No selector finds objects by their owner, so all shared objects of the namespace are listed; the list is the same for all
its models, and after a restart all of them want it at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vllm_operator.api import VLLMModel
from vllm_operator.cluster import Cluster
from vllm_operator.cluster.kinds import CLAIMS, CONFIG_MAPS, DEPLOYMENTS, JOBS, SERVICES, Json, owner_uids
from vllm_operator.decide.types import Ref
from vllm_operator.observe.inventory import version_of
from vllm_operator.observe.reading import MANAGED_BY, is_deleting, metadata_of
from vllm_operator.plan.labels import MANAGER, MODEL_LABEL, model_selector

SHARED_KINDS = (JOBS, CLAIMS)
OWN_KINDS = (CONFIG_MAPS, SERVICES, DEPLOYMENTS)
FRESH_SECONDS = 60.0  # as long as the looks of a resync are spread

Versions = Mapping[Ref, tuple[str, str]]  # uid and resourceVersion


@dataclass(frozen=True, slots=True)
class _Listed:
    at: float
    by_owner: Mapping[str, Versions]


class Leftovers:
    """Finds them. `clock` is monotonic."""

    def __init__(self, cluster: Cluster, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._clock = clock
        self._listed: dict[str, _Listed] = {}  # by namespace
        self._listing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def of(
        self, model: VLLMModel, planned: frozenset[tuple[str, str]], *, live: bool
    ) -> dict[Ref, tuple[str, str]]:
        """The model's objects that its plan does not name, with uid and version.

        `live`: the shared ones are listed now; else a list up to a minute old will do. Raises ApiError.
        """
        namespace, uid = model.metadata.namespace, model.metadata.uid
        label = f"{MODEL_LABEL}={model_selector(model.metadata)[MODEL_LABEL]}"
        shared, *own = await asyncio.gather(
            self._shared(namespace, live), *(self._list(kind, namespace, label) for kind in OWN_KINDS)
        )
        found = dict(shared.get(uid, {}))
        for by_owner in own:
            found |= by_owner.get(uid, {})
        return {ref: version for ref, version in found.items() if (ref.kind, ref.name) not in planned}

    async def _shared(self, namespace: str, live: bool) -> Mapping[str, Versions]:
        if live:
            return await self._list_shared(namespace)
        async with self._listing[namespace]:  # who comes second waits for the first one's list
            now = self._clock()
            self._listed = {name: kept for name, kept in self._listed.items() if now - kept.at < FRESH_SECONDS}
            if namespace not in self._listed:
                self._listed[namespace] = _Listed(now, await self._list_shared(namespace))
            return self._listed[namespace].by_owner

    async def _list_shared(self, namespace: str) -> Mapping[str, Versions]:
        lists = await asyncio.gather(*(self._list(kind, namespace, f"{MANAGED_BY}={MANAGER}") for kind in SHARED_KINDS))
        return {uid: {**lists[0].get(uid, {}), **lists[1].get(uid, {})} for uid in {**lists[0], **lists[1]}}

    async def _list(self, kind: tuple[str, str], namespace: str, labels: str) -> Mapping[str, Versions]:
        bodies = await self._cluster.all(kind, namespace, labels=labels, metadata_only=True)
        return _by_owner(kind, bodies)


def _by_owner(kind: tuple[str, str], bodies: list[Json]) -> Mapping[str, Versions]:
    """The objects that are not on their way out, under the uid of each model that owns them."""
    found: defaultdict[str, dict[Ref, tuple[str, str]]] = defaultdict(dict)
    for body in bodies:
        if not is_deleting(body):
            for uid in owner_uids(body):
                found[uid][Ref(kind[0], kind[1], str(metadata_of(body)["name"]))] = version_of(body)
    return found
