"""What there is of weights on the nodes' own disks: the volume of the claim, the nodes' labels, and a Job or two for each."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from vllm_operator.cluster import Cluster
from vllm_operator.cluster.kinds import JOBS, VOLUMES, Json
from vllm_operator.decide.situation import Situation
from vllm_operator.decide.types import ClaimSeen, NodeCacheSeen, NodeSeen
from vllm_operator.observe.inventory import Inventory
from vllm_operator.observe.jobs import JobLooker
from vllm_operator.observe.places import may_run, takes_pods
from vllm_operator.observe.reading import is_ours, metadata_of
from vllm_operator.plan import NodesPlan
from vllm_operator.plan.jobs import pull_on
from vllm_operator.plan.labels import CLAIM_LABEL, VOLUME_LABEL
from vllm_operator.plan.names import digest
from vllm_operator.plan.nodes import PREPARE, Folder, folder_job, home_of, life_of, volume_of


class FillingLooker:
    """Looks at nodes. Jobs are listed, not read one by one; none at all where every node has its weights."""

    def __init__(self, cluster: Cluster, jobs: JobLooker) -> None:
        self._cluster = cluster
        self._jobs = jobs

    async def look(self, here: Situation, plan: NodesPlan, claim: ClaimSeen | None, names: Inventory) -> NodeCacheSeen:
        """The nodes that may run the model, in order of name. Raises ApiError."""
        nodes = sorted(await self._cluster.whole_nodes(), key=lambda node: str(metadata_of(node)["name"]))
        chosen = [node for node in nodes if may_run(node, plan)]
        folder = await self._volume(here, claim)
        if folder is None or claim is None:
            return NodeCacheSeen(None, tuple(_node_seen(node, plan) for node in chosen))
        life = life_of(claim.uid)
        pulls = await self._pulls(here, plan)
        folders = await self._folders(here, folder) if any(_mark(n, plan) != life for n in chosen) else {}
        looks = (self._node(here, plan, folder, node, pulls, folders, names, life) for node in chosen)
        return NodeCacheSeen(folder, tuple(await asyncio.gather(*looks)), life)

    async def _volume(self, here: Situation, claim: ClaimSeen | None) -> Folder | None:
        cache, plan = here.plan.settings.node_cache, here.weights.claim if here.weights else None
        if claim is None or cache is None or plan is None:
            return None
        live = await self._cluster.get(VOLUMES, "", volume_of(cache, plan, claim.uid).name)
        if live is None or not is_ours(live):
            return None
        path = str(((live.get("spec") or {}).get("hostPath") or {}).get("path"))
        return Folder(str(metadata_of(live)["name"]), str(metadata_of(live)["uid"]), path)

    async def _pulls(self, here: Situation, plan: NodesPlan) -> Mapping[str, Json]:
        label = f"{CLAIM_LABEL}={plan.pull.labels[CLAIM_LABEL]}"
        return _by_name(await self._cluster.all(JOBS, here.model.metadata.namespace, labels=label))

    async def _folders(self, here: Situation, folder: Folder) -> Mapping[str, Json]:
        label = f"{VOLUME_LABEL}={digest(folder.uid)}"
        return _by_name(await self._cluster.all(JOBS, home_of(here.plan.settings), labels=label))

    async def _node(
        self,
        here: Situation,
        plan: NodesPlan,
        folder: Folder,
        node: Json,
        pulls: Mapping[str, Json],
        folders: Mapping[str, Json],
        names: Inventory,
        life: str,
    ) -> NodeSeen:
        seen, uid = _node_seen(node, plan), here.model.metadata.uid
        job = pull_on(plan.pull, seen.name, seen.uid, life)
        made = folder_job(here.plan.settings, folder, seen.name, seen.uid, PREPARE)
        live = names.add_shared(pulls.get(job.name))
        pull, prepare = await asyncio.gather(
            self._jobs.seen(live, job.action, uid, job.progress_port),
            self._jobs.seen(folders.get(made.name), made.action, uid),
        )
        return NodeSeen(seen.name, seen.uid, seen.usable, seen.mark, prepare, pull)


def _node_seen(node: Json, plan: NodesPlan) -> NodeSeen:
    metadata = metadata_of(node)
    return NodeSeen(str(metadata["name"]), str(metadata["uid"]), takes_pods(node), _mark(node, plan))


def _mark(node: Json, plan: NodesPlan) -> str:
    return str((metadata_of(node).get("labels") or {}).get(plan.label, ""))


def _by_name(jobs: list[Json]) -> Mapping[str, Json]:
    return {str(metadata_of(job)["name"]): job for job in jobs}
