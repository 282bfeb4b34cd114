"""containerd: its configuration, its life, and the images in it.

Images stay in the cache when the node goes down, so that the next one need not import gigabytes again.
"""

from __future__ import annotations

import json

from tests.cluster import processes
from tests.cluster.network import CNI_CONFIG
from tests.cluster.places import BINARIES, CACHE, CONTAINERD_SOCKET, CONTAINERD_STATE, HERE, STATE
from tests.cluster.steps import run, say, succeeds

IMAGE_STORE = CACHE / "containerd"
PAUSE = "vllm-operator.local/pause"
ENDPOINT = f"unix://{CONTAINERD_SOCKET}"
# kubelet removes unused images when it thinks that the disk is full; the label keeps it from ours.
PINNED = "io.cri-containerd.pinned=pinned"
CTR = ("ctr", "--address", str(CONTAINERD_SOCKET), "--namespace", "k8s.io")


def start(pause_reference: str) -> None:
    """Starts containerd, and waits until it answers."""
    CONTAINERD_STATE.mkdir(parents=True, exist_ok=True)
    IMAGE_STORE.mkdir(parents=True, exist_ok=True)
    config = STATE / "containerd.toml"
    places = {
        "STORE": IMAGE_STORE,
        "STATE": CONTAINERD_STATE,
        "SOCKET": CONTAINERD_SOCKET,
        "CNI_CONFIG": CNI_CONFIG,
        "PAUSE": pause_reference,
    }
    text = (HERE / "containerd.toml").read_text()
    for name, value in places.items():
        text = text.replace(f'"@{name}@"', json.dumps(str(value)))
    config.write_text(text)
    processes.start("containerd", "containerd", "--config", config)
    processes.wait_for("containerd", "containerd answers", answers)


def answers() -> bool:
    """Whether containerd is there and talks."""
    return CONTAINERD_SOCKET.exists() and succeeds(*CTR, "version")


def images() -> set[str]:
    """References of all images in containerd."""
    return set(run(*CTR, "images", "list", "--quiet").split())


def import_archive(archive: str, reference: str) -> None:
    """Takes an image archive in, keeps kubelet's hands off it, and removes older tags of the same image."""
    run(*CTR, "images", "import", archive)
    run(*CTR, "images", "label", reference, PINNED)
    repository = reference.rpartition(":")[0]
    for other in images():
        if other.rpartition(":")[0] == repository and other != reference:
            run(*CTR, "images", "remove", other)


def remove_pods() -> None:
    """Stops and removes all pods of an earlier life, or of this one. Failures are said: `down` has harder means afterwards."""
    if not succeeds(BINARIES / "remove-pods", ENDPOINT):
        say("  some pods could not be removed in the regular way")
