"""One look at everything there is of a model: a handful of live reads, then only what those call for.

At rest a look costs no request at all: the servers are asked what they were asked before, and only another answer, an
event or the resync leads to a full look.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from vllm_operator.api import VLLMModel
from vllm_operator.cluster import Cluster
from vllm_operator.cluster.kinds import CLAIMS, CONFIG_MAPS, DEPLOYMENTS, EVERY_NODE, PODS, SERVICES, Json
from vllm_operator.decide.situation import Situation, look
from vllm_operator.decide.types import AdapterCall, ClaimSeen, DeviceSeen, JobSeen, NodeCacheSeen, Ref, Seen
from vllm_operator.observe.adapters import AdapterLooker, adapter_names, followed_names, with_refusals
from vllm_operator.observe.claims import ClaimLooker
from vllm_operator.observe.explain import Explainer
from vllm_operator.observe.filling import FillingLooker
from vllm_operator.observe.inventory import Inventory, is_autoscaled, missing_references, planned_refs
from vllm_operator.observe.jobs import JobLooker
from vllm_operator.observe.leftovers import Leftovers
from vllm_operator.observe.nodes import are_needed, devices_seen
from vllm_operator.observe.reading import metadata_of
from vllm_operator.observe.servers import Servers, deployment_seen, is_unchanged, look_at_servers, server_pods
from vllm_operator.plan import Plan, WeightsPlan
from vllm_operator.plan.labels import MODEL_LABEL, model_selector
from vllm_operator.plan.names import service_name, short_name
from vllm_operator.plan.server import served_models
from vllm_operator.probe import Prober, Server

LEFTOVERS_SECONDS = 600.0  # leftovers are looked for when the plan changes, and this often


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen, and what is needed to act on it and to look again."""

    seen: Seen
    versions: Mapping[Ref, tuple[str, str]]  # uid and resourceVersion of what was seen
    servers: Servers
    pods: frozenset[str]  # uids
    followed: frozenset[tuple[str, str]]  # (kind, name) of shared objects whose events concern the model
    planned: frozenset[tuple[str, str]] | None
    tidy_since: float | None  # when leftovers were last looked for, and none were there


class Observer:
    """Looks at models. `clock` is monotonic."""

    def __init__(
        self,
        cluster: Cluster,
        prober: Prober,
        *,
        explainer: Explainer,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._cluster = cluster
        self._prober = prober
        self._explainer = explainer
        self._clock = clock
        self._now = now
        self._jobs = JobLooker(cluster, explainer, prober.reach, clock=clock)
        self._claims = ClaimLooker(cluster, now)
        self._adapters = AdapterLooker(cluster, self._jobs, self._claims)
        self._filling = FillingLooker(cluster, self._jobs)
        self._leftovers = Leftovers(cluster, clock=clock)

    async def look(self, model: VLLMModel, plan: Plan, before: Look | None) -> Look:
        """A full look. Raises ApiError when the API server does not answer."""
        metadata = model.metadata
        names = Inventory(metadata.uid)
        (inspect, job), deployment, _, pods, autoscaled, devices = await asyncio.gather(
            self._inspect(plan, metadata.uid),
            self._own(names, DEPLOYMENTS, metadata.namespace, short_name(metadata.name)),
            self._own(names, SERVICES, metadata.namespace, service_name(metadata.name)),
            self._pods(model),
            is_autoscaled(self._cluster, metadata.namespace, short_name(metadata.name)),
            self._devices(plan),
        )
        names.add_shared(job)
        live = deployment_seen(deployment, self._now()) if deployment else None
        begun = Seen(inspect=inspect, deployment=live, devices=devices)
        here = look(model, plan, begun)
        (pull, claim, cache), (adapters, volume), _, missing, servers = await asyncio.gather(
            self._weights(here, names),
            self._adapters.look(here, names),
            self._chat_template(here, names),
            missing_references(self._cluster, plan, _named_claims(here.weights)),
            look_at_servers(pods, served_models(plan), model.spec.runner, self._explainer, self._prober),
        )
        here = replace(here, seen=replace(begun, adapters=adapters, adapter_claim=volume))
        planned = _planned(here, cache)
        stale, tidy_since = await self._stale(model, planned, before)
        seen = Seen(
            inspect=inspect,
            claim=claim,
            pull=pull,
            deployment=begun.deployment,
            live=dict(names.own),
            strangers=tuple(names.strangers),
            pods=with_refusals(here, servers, self._prober.loader),
            devices=devices,
            stale=tuple(stale),
            autoscaled=autoscaled,
            adapters=adapters,
            adapter_claim=volume,
            missing=missing,
            cache=cache,
        )
        uids = frozenset(str(metadata_of(pod).get("uid")) for pod in pods)
        self._forget_pods(before, uids)
        ours = {Ref(*PODS, str(metadata_of(pod)["name"])): (str(metadata_of(pod)["uid"]), "") for pod in pods}
        found = {**ours, **stale, **names.versions()}
        return Look(seen, found, servers, uids, _followed(here, planned), planned, tidy_since)

    async def is_unchanged(self, before: Look) -> bool:
        """Asks the servers again (those that are not up: by their logs), and nobody else.

        True when all is as before, and no server is to be told something again.
        """
        if self._prober.loader.any_due(before.pods):
            return False
        servers = before.servers
        return await is_unchanged(servers.asked, servers.waiting, self._explainer, self._prober)

    async def call(self, calls: Sequence[AdapterCall], look: Look) -> None:
        """Tells servers that were just looked at to load or unload adapters."""
        servers = (Server(asked.target, asked.uid, asked.restarts) for asked in look.servers.asked)
        await self._prober.loader.carry_out(calls, servers)

    def forget(self, before: Look | None) -> None:
        """The model is gone."""
        self._forget_pods(before, frozenset())

    def _forget_pods(self, before: Look | None, living: frozenset[str]) -> None:
        gone = (before.pods if before is not None else frozenset()) - living
        self._prober.forget(gone)
        self._explainer.forget(gone)

    async def _inspect(self, plan: Plan, uid: str) -> tuple[JobSeen, Json | None]:
        return await self._jobs.look(plan.inspect, uid) if plan.inspect is not None else (JobSeen(), None)

    async def _own(self, names: Inventory, kind: tuple[str, str], namespace: str, name: str) -> Json | None:
        return names.add_own(await self._cluster.get(kind, namespace, name))

    async def _pods(self, model: VLLMModel) -> list[Json]:
        label = model_selector(model.metadata)[MODEL_LABEL]
        return server_pods(await self._cluster.all(PODS, model.metadata.namespace, labels=f"{MODEL_LABEL}={label}"))

    async def _devices(self, plan: Plan) -> Mapping[str, tuple[DeviceSeen, ...]]:
        if plan.inspect is None or not are_needed(profile for _, profile in plan.profiles):
            return {}
        return devices_seen(await self._cluster.nodes(), plan)

    async def _weights(self, here: Situation, names: Inventory) -> tuple[JobSeen, ClaimSeen | None, NodeCacheSeen]:
        weights = here.weights
        if weights is not None and weights.nodes is not None:
            claim = await self._claim(here, weights, names)
            return JobSeen(), claim, await self._filling.look(here, weights.nodes, claim, names)
        if weights is None or weights.pull is None:
            return JobSeen(), None, NodeCacheSeen()
        (pull, job), claim = await asyncio.gather(
            self._jobs.look(weights.pull, here.model.metadata.uid), self._claim(here, weights, names)
        )
        names.add_shared(job)
        return pull, claim, NodeCacheSeen()

    async def _claim(self, here: Situation, weights: WeightsPlan, names: Inventory) -> ClaimSeen | None:
        if weights.claim_name is None:
            return None
        metadata = here.model.metadata
        live = await self._cluster.get(CLAIMS, metadata.namespace, weights.claim_name)
        if weights.claim is not None:  # else it is the user's own, which has no label of ours
            live = names.add_shared(live)
        if live is None:
            return None
        return await self._claims.look(live, metadata.uid)

    async def _chat_template(self, here: Situation, names: Inventory) -> None:
        if here.server is not None and here.server.chat_template is not None:
            template = here.server.chat_template
            await self._own(names, CONFIG_MAPS, template.namespace, template.name)

    async def _stale(
        self, model: VLLMModel, planned: frozenset[tuple[str, str]] | None, before: Look | None
    ) -> tuple[dict[Ref, tuple[str, str]], float | None]:
        """Leftovers, and since when there are none. They come about only when the plan changes."""
        if planned is None:
            return {}, None
        tidy_since = before.tidy_since if before is not None and before.planned == planned else None
        if tidy_since is not None and self._clock() - tidy_since < LEFTOVERS_SECONDS:
            return {}, tidy_since
        # At the first look, and while the plan stays, leftovers can only be old: another model's list will do.
        live = before is not None and tidy_since is None
        stale = await self._leftovers.of(model, planned, live=live)
        return stale, None if stale else self._clock()


def _named_claims(weights: WeightsPlan | None) -> tuple[str, ...]:
    """The claim of the user that the plan mounts, where it is not one that the operator makes."""
    return (weights.claim_name,) if weights is not None and weights.claim is None and weights.claim_name else ()


def _planned(here: Situation, cache: NodeCacheSeen) -> frozenset[tuple[str, str]] | None:
    """(kind, name) of everything that the plan names; None while the plan is not known to its end."""
    names, live = planned_refs(here, cache), adapter_names(here)
    return names.union(live) if names is not None and live is not None else None


def _followed(here: Situation, planned: frozenset[tuple[str, str]] | None) -> frozenset[tuple[str, str]]:
    """Shared objects, and all nodes where the weights are on the nodes' own disks."""
    weights, inspect = here.weights, here.plan.inspect
    names = [
        ("Job", inspect.name if inspect else None),
        ("Job", weights.pull.name if weights and weights.pull else None),
        ("PersistentVolumeClaim", weights.claim_name if weights else None),
        EVERY_NODE if weights and weights.nodes else ("Node", None),
    ]
    jobs = frozenset((kind, name) for kind, name in planned or () if kind == "Job")
    return jobs | frozenset((kind, name) for kind, name in (*names, *followed_names(here)) if name is not None)
