"""What the nodes' own disks no longer need: labels come off, folders go, and then the volume that stood for them.

Nothing is remembered: a volume whose claim is gone is the order, the Jobs that made its folders are the list of nodes. A
node that is away keeps its folder, and the volume stays until it is back or gone for good; it is in nobody's way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from vllm_operator.decide.types import JobState, Manifest, Mark
from vllm_operator.plan.labels import NODE_LABELS
from vllm_operator.plan.nodes import CLEAR, Folder, folder_job
from vllm_operator.render import render_part
from vllm_operator.settings import Settings


@dataclass(frozen=True, slots=True)
class Disk:
    """A node: the operator's labels on it, and whether it takes pods now."""

    name: str
    uid: str
    labels: tuple[tuple[str, str], ...]
    usable: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """A live volume: its life, whether a claim still has it, and its Jobs by the node that each is for."""

    folder: Folder
    life: str
    is_released: bool
    prepared: frozenset[str] = frozenset()
    cleared: dict[str, tuple[str, JobState]] = field(default_factory=dict)  # node: the Job's name, and its state


@dataclass(frozen=True, slots=True)
class Sweeping:
    """What to do now, in this order. `again`: something is under way that no event tells the end of."""

    unmark: tuple[Mark, ...] = ()
    establish: tuple[Manifest, ...] = ()
    discard: tuple[str, ...] = ()  # failed Jobs: made anew at the next sweep
    remove: tuple[Folder, ...] = ()
    again: bool = False


def sweep(settings: Settings, volumes: tuple[Kept, ...], disks: tuple[Disk, ...]) -> Sweeping:
    """Pure. Volumes in use are left alone, with all their labels."""
    released = [volume for volume in volumes if volume.is_released]
    todo = [part for volume in released for part in _clearings(settings, volume, disks)]
    busy = {volume.folder.volume for volume in released if any(_is_open(volume, disk) for disk in disks)}
    return Sweeping(
        unmark=tuple(_stale_marks(volumes, disks)),
        establish=tuple(todo),
        discard=tuple(name for v in released for name, state in v.cleared.values() if state is JobState.FAILED),
        remove=tuple(volume.folder for volume in released if volume.folder.volume not in busy),
        again=bool(todo) or any(s is JobState.RUNNING for v in released for _, s in v.cleared.values()),
    )


def _stale_marks(volumes: tuple[Kept, ...], disks: tuple[Disk, ...]) -> Iterator[Mark]:
    """Labels of lives that are over, also of volumes that somebody deleted by hand."""
    living = {volume.life for volume in volumes if not volume.is_released}
    for disk in disks:
        for label, life in disk.labels:
            if label.startswith(NODE_LABELS) and life not in living:
                yield Mark(disk.name, disk.uid, label, life, is_set=False)


def _clearings(settings: Settings, volume: Kept, disks: tuple[Disk, ...]) -> Iterator[Manifest]:
    for disk in disks:
        if disk.usable and disk.name in volume.prepared and disk.name not in volume.cleared:
            yield render_part(folder_job(settings, volume.folder, disk.name, disk.uid, CLEAR))


def _is_open(volume: Kept, disk: Disk) -> bool:
    """A node that is there and was prepared, and whose folder is not known to be gone."""
    state = volume.cleared.get(disk.name, ("", JobState.ABSENT))[1]
    return disk.name in volume.prepared and state is not JobState.SUCCEEDED
