"""Objects by name and owner: which exist, whose they are, which the plan names, and which the spec lacks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from vllm_operator.api import Scheme
from vllm_operator.cluster import Cluster
from vllm_operator.cluster.kinds import AUTOSCALERS, CLAIMS, CONFIG_MAPS, SCALED_OBJECTS, Json, ref_of
from vllm_operator.decide.situation import Situation
from vllm_operator.decide.types import NodeCacheSeen, Ref
from vllm_operator.observe.reading import is_ours, is_owned, metadata_of
from vllm_operator.plan import Plan
from vllm_operator.plan.jobs import pull_on


@dataclass(slots=True)
class Inventory:
    """What a look has found so far, by reference."""

    uid: str
    own: dict[Ref, Json] = field(default_factory=dict)  # carry the model's ownerReference
    shared: dict[Ref, Json] = field(default_factory=dict)
    strangers: list[Ref] = field(default_factory=list)

    def add_own(self, live: Json | None) -> Json | None:
        """Notes an object under a name that is the model's alone; returns it when it is the model's."""
        if live is None:
            return None
        if not is_owned(live, self.uid):
            self.strangers.append(ref_of(live))
            return None
        self.own[ref_of(live)] = live
        return live

    def add_shared(self, live: Json | None) -> Json | None:
        """Notes an object that models share; one that the operator did not make is a stranger."""
        if live is None:
            return None
        if not is_ours(live):
            self.strangers.append(ref_of(live))
            return None
        self.shared[ref_of(live)] = live
        return live

    def versions(self) -> dict[Ref, tuple[str, str]]:
        """The uid and resourceVersion of everything that was seen."""
        return {ref: version_of(body) for ref, body in {**self.own, **self.shared}.items()}


def version_of(body: Json) -> tuple[str, str]:
    """The uid and resourceVersion of a live object."""
    return str(metadata_of(body).get("uid")), str(metadata_of(body).get("resourceVersion"))


def planned_refs(here: Situation, cache: NodeCacheSeen) -> frozenset[tuple[str, str]] | None:
    """(kind, name) of everything that the plan names; None while the plan is not known to its end."""
    if here.weights is None or here.server is None:
        return None
    weights, server = here.weights, here.server
    names = [
        ("Job", here.plan.inspect.name if here.plan.inspect else None),
        ("Job", weights.pull.name if weights.pull else None),
        ("PersistentVolumeClaim", weights.claim_name),
        ("ConfigMap", server.chat_template.name if server.chat_template else None),
        ("Deployment", server.deployment.name),
        ("Service", server.service.name),
    ]
    nodes = weights.nodes
    pulls = [pull_on(nodes.pull, n.name, n.uid, cache.life).name for n in cache.nodes] if nodes and cache.life else []
    return frozenset((kind, name) for kind, name in names if name is not None) | {("Job", name) for name in pulls}


async def is_autoscaled(cluster: Cluster, namespace: str, deployment: str) -> bool:
    """Whether a HorizontalPodAutoscaler or a ScaledObject of KEDA targets the Deployment itself."""
    scalers, scaled = await asyncio.gather(
        cluster.all_if_served(AUTOSCALERS, namespace), cluster.all_if_served(SCALED_OBJECTS, namespace)
    )
    targets = ((body.get("spec") or {}).get("scaleTargetRef") or {} for body in (*scalers, *scaled))
    return any(t.get("kind", "Deployment") == "Deployment" and t.get("name") == deployment for t in targets)


async def missing_references(cluster: Cluster, plan: Plan, claims: Iterable[str]) -> tuple[str, ...]:
    """What the spec names and the namespace lacks, in words: "claim models", "key t of ConfigMap chat"."""
    namespace, template = plan.model.metadata.namespace, plan.model.spec.chat_template
    mounted = {part.source.name for part in plan.parts if part.source.scheme is Scheme.PVC} | set(claims)
    names = sorted(mounted)
    found = await asyncio.gather(*(cluster.get(CLAIMS, namespace, name) for name in names))
    lacking = [f"claim {name}" for name, live in zip(names, found, strict=True) if live is None]
    reference = template.config_map_key_ref if template else None
    if reference is not None:
        config_map = await cluster.get(CONFIG_MAPS, namespace, reference.name)
        if config_map is None:
            lacking.append(f"ConfigMap {reference.name}")
        elif reference.key not in {**(config_map.get("data") or {}), **(config_map.get("binaryData") or {})}:
            lacking.append(f"key {reference.key} of ConfigMap {reference.name}")
    return tuple(lacking)
