"""Takes the node down, whatever state it is in: afterwards no process, mount, interface, namespace or rule of it is left."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from tests.cluster import network, ownership, processes, runtime
from tests.cluster.kubernetes import COMPONENTS
from tests.cluster.places import BINARIES, CACHE, CONTAINERD_SOCKET, MACHINE, STATE
from tests.cluster.steps import run, say, step, succeeds, wait_until

CGROUPS = Path("/sys/fs/cgroup")
KUBELET_CGROUP = "kubepods"
KUBELET_SHARED = Path("/var/lib/kubelet")  # kubelet makes this beside its root folder, for device plugins
BUILDAH_STORE = CACHE / "buildah"
LOG_LINKS = Path("/var/log/containers")
RUNTIME_SHARED = tuple(Path("/run/containerd") / name for name in ("runc/k8s.io", "runc", "s", ""))


def down() -> None:
    """Nothing of the node is left. Works on a node that is half up, and on none."""
    ownership.require_root()
    with ownership.sole_command():
        holder = ownership.other_holder()
        if holder is not None:
            say(f"  the node that is up belongs to {holder} and is left alone; nothing of this checkout is up")
            return
        remove_everything()


def remove_everything() -> None:
    """The work of `down`, for who holds the lock already."""
    with step("taking the node down"):
        _end_processes()
        _end_containers()
        _unmount()
        network.take_down()
        _remove_cgroups()
        _remove_files()


def _end_processes() -> None:
    """kubelet first, or it would start again what is being stopped; then pods, while containerd can still remove them."""
    processes.stop("kubelet")
    if (BINARIES / "remove-pods").exists() and processes.is_running("containerd") and runtime.answers():
        runtime.remove_pods()
    for name in reversed((*processes.recorded(), *COMPONENTS)):
        # containerd's store lives on, so it may close it; the rest has nothing worth an orderly end, and some take a minute for it.
        processes.stop(name, patience_seconds=20 if name == "containerd" else 1)


def _end_containers() -> None:
    """What an orderly removal has left: processes in pods' control groups, and the shims of our containerd."""
    left = _pids_in_cgroups() | _shims()
    processes.end(left)
    wait_until("the containers' processes have ended", lambda: not (_pids_in_cgroups() | _shims()), 20)


def _pids_in_cgroups() -> set[int]:
    found: set[int] = set()
    for top in _our_cgroups():
        for listed in (*top.rglob("cgroup.procs"), top / "cgroup.procs"):
            with contextlib.suppress(OSError):
                found.update(int(pid) for pid in listed.read_text().split() if pid != "0")
    return found


def _our_cgroups() -> list[Path]:
    candidates = (CGROUPS / KUBELET_CGROUP, *CGROUPS.glob(f"*/{KUBELET_CGROUP}"))
    return [path for path in candidates if path.is_dir() and not path.is_symlink()]


def _shims() -> set[int]:
    """containerd-shim processes that name our socket: other containerds on this machine have theirs."""
    found: set[int] = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            if "containerd-shim" in words[0].decode() and str(CONTAINERD_SOCKET).encode() in words and state != "Z":
                found.add(int(process.name))
    return found


def _unmount() -> None:
    """Deepest first. A mount that is still busy is taken off the tree, and goes with its last user."""
    ours = tuple(f"{folder}/" for folder in (*_states(), MACHINE))
    # The kernel writes a blank in a path as \040.
    mounts = [line.split()[1].replace("\\040", " ") for line in Path("/proc/self/mounts").read_text().splitlines()]
    deepest_first = sorted(mounts, key=len, reverse=True)
    for mount in deepest_first:
        if mount.startswith(ours) and not succeeds("umount", mount):
            run("umount", "--lazy", mount, check=False)
        elif mount.startswith(f"{BUILDAH_STORE}/"):
            succeeds("umount", mount)  # left by builds that ended; that of a build at work is busy, and stays


def _states() -> set[Path]:
    """Our own folder, and that of the checkout which brought this node up, if it was another."""
    checkout = ownership.recorded_checkout()
    return {STATE, checkout / STATE.name} if checkout else {STATE}


def _remove_cgroups() -> None:
    for top in _our_cgroups():
        for folder, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()


def _remove_files() -> None:
    """Folders that containerd, runc and kubelet make outside of ours go only when they are empty: they may be another's."""
    if LOG_LINKS.is_dir():
        for link in LOG_LINKS.iterdir():
            if link.is_symlink() and str(link.readlink()).startswith(tuple(f"{state}/" for state in _states())):
                link.unlink()
    shutil.rmtree(KUBELET_SHARED / "device-plugins", ignore_errors=True)
    for empty in (KUBELET_SHARED, LOG_LINKS, *RUNTIME_SHARED):
        with contextlib.suppress(OSError):
            empty.rmdir()
    for state in _states():
        shutil.rmtree(state, ignore_errors=True)
    shutil.rmtree(MACHINE, ignore_errors=True)
