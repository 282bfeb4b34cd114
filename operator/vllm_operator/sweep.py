"""The sweep of the nodes' own disks: what no model uses any more is taken off them. Only where the settings name a folder.

It runs at the start, when a claim on the nodes' disks or a node changes, every ten minutes, and while something is under
way. At rest it is two lists in ten minutes.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable

from vllm_operator.cluster import ApiError, Cluster, PlatformWriter
from vllm_operator.cluster.kinds import JOBS, VOLUMES, Json
from vllm_operator.decide.sweeping import Disk, Kept, Sweeping, sweep
from vllm_operator.decide.types import JobState
from vllm_operator.observe.jobs import state_of
from vllm_operator.observe.places import takes_pods
from vllm_operator.observe.reading import MANAGED_BY, annotation, metadata_of
from vllm_operator.plan.labels import (
    HOME_LABEL,
    JOB_LABEL,
    MADE_WITH_ANNOTATION,
    MANAGER,
    NODE_ANNOTATION,
    NODE_LABELS,
    VOLUME_LABEL,
)
from vllm_operator.plan.names import digest
from vllm_operator.plan.nodes import CLEAR, NODE_CLASS, PREPARE, Folder, folders_made_with, home_of
from vllm_operator.settings import Settings

log = logging.getLogger(__name__)

EVERY_SECONDS = 600.0
AGAIN_SECONDS = 3.0  # a folder is removed in seconds; a large one in half a minute
RETRY_SECONDS = 30.0


class Sweep:
    """Looks, decides, writes. One at a time."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        self._settings = settings
        self._home = home_of(settings)
        self._writer = PlatformWriter(cluster.connection, self._home)
        self._changed = asyncio.Event()

    def nodes_changed(self) -> None:
        """A node, or what is on its disk, is another: sweep soon."""
        self._cluster.nodes_changed()
        self._changed.set()

    async def run(self) -> None:
        """Sweeps until it is cancelled."""
        while True:
            self._changed.clear()
            try:
                pause = AGAIN_SECONDS if await self.once() else EVERY_SECONDS * random.uniform(0.9, 1.1)
            except ApiError as error:
                log.warning("the sweep of the nodes' disks: %s", error)
                pause = RETRY_SECONDS
            try:
                async with asyncio.timeout(pause):
                    await self._changed.wait()
                await asyncio.sleep(1.0)  # events come in bursts
            except TimeoutError:
                pass

    async def once(self) -> bool:
        """One sweep; whether something is under way. Raises ApiError."""
        # Nodes first: a label is only ever younger than its volume.
        disks = [_disk(node) for node in await self._cluster.whole_nodes()]
        found = await self._cluster.all(VOLUMES, labels=f"{MANAGED_BY}={MANAGER}")
        bodies = [body for body in found if (body.get("spec") or {}).get("storageClassName") == NODE_CLASS]
        volumes = [await self._kept(body) for body in bodies]
        todo = sweep(self._settings, tuple(volumes), tuple(disks))
        await self._carry_out(todo)
        return todo.again

    async def _kept(self, body: Json) -> Kept:
        metadata, spec = metadata_of(body), body["spec"]
        folder = Folder(str(metadata["name"]), str(metadata["uid"]), str((spec.get("hostPath") or {}).get("path")))
        life = str((metadata.get("labels") or {}).get(VOLUME_LABEL))
        is_ours = (metadata.get("labels") or {}).get(HOME_LABEL) == self._home
        if (body.get("status") or {}).get("phase") != "Released" or not is_ours:
            return Kept(folder, life, is_released=False)
        jobs = await self._cluster.all(JOBS, self._home, labels=f"{VOLUME_LABEL}={digest(folder.uid)}")
        return Kept(
            folder,
            life,
            is_released=True,
            prepared=frozenset(annotation(job, NODE_ANNOTATION) for job in _of(jobs, PREPARE)),
            cleared={
                annotation(j, NODE_ANNOTATION): (str(metadata_of(j)["name"]), self._state(j)) for j in _of(jobs, CLEAR)
            },
        )

    def _state(self, job: Json) -> JobState:
        """One that the platform's settings kept from running counts as failed once they are others."""
        made = annotation(job, MADE_WITH_ANNOTATION)
        state = state_of(job)
        is_old = state is JobState.RUNNING and made != folders_made_with(self._settings)
        return JobState.FAILED if is_old else state

    async def _carry_out(self, todo: Sweeping) -> None:
        for mark in todo.unmark:
            await self._writer.mark(mark)
        for manifest in todo.establish:
            await self._writer.establish(manifest)
        for name in todo.discard:
            log.warning("Job %s/%s could not remove weights from its node's disk; it is tried again", self._home, name)
            await self._writer.discard(name)
        for folder in todo.remove:
            log.info("%s is on no node's disk any more", folder.path)
            await self._writer.remove_volume(folder.volume, folder.uid)
        if todo.unmark:
            self._cluster.nodes_changed()


def _of(jobs: Iterable[Json], action: str) -> list[Json]:
    return [job for job in jobs if (metadata_of(job).get("labels") or {}).get(JOB_LABEL) == action]


def _disk(node: Json) -> Disk:
    metadata = metadata_of(node)
    labels = ((key, str(value)) for key, value in (metadata.get("labels") or {}).items() if key.startswith(NODE_LABELS))
    return Disk(str(metadata["name"]), str(metadata["uid"]), tuple(labels), takes_pods(node))
