"""One machine holds one node: who may bring it up or take it down, and what is said to the other.

A lock keeps two commands from working at once; a record says which checkout the node belongs to.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster import processes
from tests.cluster.places import CERTIFICATES, LOCK, MACHINE, OWNER, ROOT
from tests.cluster.steps import StepFailed, say


@contextmanager
def sole_command(lock: Path = LOCK, *, quietly: bool = False) -> Iterator[None]:
    """Holds the lock file: a second command waits, and says so unless it waits quietly."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not quietly:
                say(f"  another command is at work ({lock}); waiting for it to end")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def require_root() -> None:
    """Raises StepFailed when we lack the rights: namespaces, mounts and routes are root's."""
    if os.geteuid() != 0:
        raise StepFailed("the node needs root for its namespaces, mounts and routes: run the same command with sudo")


def recorded_checkout() -> Path | None:
    """The checkout that last brought a node up here and did not take it down."""
    try:
        return Path(json.loads(OWNER.read_text())["checkout"])
    except (FileNotFoundError, ValueError, KeyError):
        return None


def owner() -> Path | None:
    """The checkout whose node runs on this machine; None when none runs."""
    return recorded_checkout() if any(processes.is_running(name) for name in processes.recorded()) else None


def is_orphaned() -> bool:
    """Whether there is a node whose checkout, or whose state in it, was deleted: nobody can use it any more."""
    checkout = recorded_checkout()
    return checkout is not None and (checkout != ROOT or not (CERTIFICATES / "done").exists())


def claim() -> None:
    """Makes the node ours."""
    MACHINE.mkdir(parents=True, exist_ok=True)
    OWNER.write_text(json.dumps({"checkout": str(ROOT)}))


def other_holder() -> Path | None:
    """The other checkout whose node runs here and which can still take it down; None when there is none."""
    holder = owner()
    # A folder may survive its own deletion: what is mounted in it cannot be deleted.
    usable = holder is not None and (holder / "tests" / "cluster").is_dir()
    return holder if usable and holder != ROOT else None


def refuse_if_anothers() -> None:
    """Raises StepFailed when the node that runs here belongs to another checkout which still exists."""
    holder = other_holder()
    if holder is not None:
        raise StepFailed(
            f"a node of another checkout is up on this machine: {holder}\n"
            f"One machine holds one node. Stop it with make demo-down there:\n"
            f"  make -C {shlex.quote(str(holder))} demo-down"
        )
