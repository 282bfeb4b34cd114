"""Adapters that running servers load: their volume, the Jobs of each, and which servers would not load them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from vllm_operator.cluster import Cluster
from vllm_operator.cluster.kinds import CLAIMS
from vllm_operator.decide.adapters import adapter_pull
from vllm_operator.decide.situation import Situation
from vllm_operator.decide.types import AdapterSeen, ClaimSeen, JobState, PodSeen, Seen
from vllm_operator.observe.claims import ClaimLooker
from vllm_operator.observe.inventory import Inventory
from vllm_operator.observe.jobs import JobLooker
from vllm_operator.observe.servers import Servers
from vllm_operator.plan import AdapterPlan
from vllm_operator.probe import AdapterLoader

_UNDECIDED = (JobState.ABSENT, JobState.RUNNING)


class AdapterLooker:
    """Looks at what belongs to live adapters; costs nothing where there are none."""

    def __init__(self, cluster: Cluster, jobs: JobLooker, claims: ClaimLooker) -> None:
        self._cluster = cluster
        self._jobs = jobs
        self._claims = claims

    async def look(self, here: Situation, names: Inventory) -> tuple[Mapping[str, AdapterSeen], ClaimSeen | None]:
        """The adapters by name, and their volume."""
        if here.plan.adapter_claim is None:
            return {}, None
        claim, seen = await asyncio.gather(
            self._claim(here, names),
            asyncio.gather(*(self._one(here, adapter, names) for adapter in here.plan.adapters)),
        )
        return {adapter.name: one for adapter, one in zip(here.plan.adapters, seen, strict=True)}, claim

    async def _one(self, here: Situation, adapter: AdapterPlan, names: Inventory) -> AdapterSeen:
        uid = here.model.metadata.uid
        inspect, job = await self._jobs.look(adapter.inspect, uid)
        names.add_shared(job)
        found = AdapterSeen(inspect)
        pull = adapter_pull(_with(here, {adapter.name: found}), adapter)
        if pull is None or pull.pull is None:
            return found
        fetched, job = await self._jobs.look(pull.pull, uid)
        names.add_shared(job)
        return AdapterSeen(inspect, fetched)

    async def _claim(self, here: Situation, names: Inventory) -> ClaimSeen | None:
        plan, metadata = here.plan.adapter_claim, here.model.metadata
        assert plan is not None
        live = names.add_shared(await self._cluster.get(CLAIMS, plan.namespace, plan.name))
        return await self._claims.look(live, metadata.uid) if live is not None else None


def with_refusals(here: Situation, servers: Servers, loader: AdapterLoader) -> tuple[PodSeen, ...]:
    """The pods with what their servers refused. Of an adapter that is looked up anew nothing counts any more."""
    if here.plan.adapter_claim is None:
        return servers.pods
    unknown = [name for name, seen in here.seen.adapters.items() if seen.pull.state is not JobState.SUCCEEDED]
    by_pod = {one.target.pod: loader.refusals(one.uid, one.restarts, unknown) for one in servers.asked}
    return tuple(replace(pod, refusals=by_pod.get(pod.name, {})) for pod in servers.pods)


def adapter_names(here: Situation) -> list[tuple[str, str]] | None:
    """(kind, name) of everything of live adapters; None while one of them is looked up, and may be where it was."""
    claim = here.plan.adapter_claim
    if claim is None:
        return []
    if any(seen.inspect.state in _UNDECIDED for seen in here.seen.adapters.values()):
        return None
    return followed_names(here)


def followed_names(here: Situation) -> list[tuple[str, str]]:
    """(kind, name) of what is known so far of live adapters' objects."""
    claim = here.plan.adapter_claim
    names = [("PersistentVolumeClaim", claim.name)] if claim is not None else []
    for adapter in here.plan.adapters:
        pull = adapter_pull(here, adapter)
        names.append(("Job", adapter.inspect.name))
        names += [("Job", pull.pull.name)] if pull is not None and pull.pull is not None else []
    return names


def _with(here: Situation, adapters: Mapping[str, AdapterSeen]) -> Situation:
    return replace(here, seen=Seen(adapters=adapters))
