"""containerd: its configuration, its life, and the images in it.

Images stay in the cache when the node goes down, so that the next one need not import gigabytes again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.cluster import binary, processes
from tests.cluster.network import CNI_CONFIG
from tests.cluster.places import BINARIES, CACHE, CONTAINERD_SOCKET, CONTAINERD_STATE, DEVICES, HERE, MACHINE, STATE
from tests.cluster.steps import pipe, run, say, succeeds

IMAGE_STORE = CACHE / "containerd-2"  # its number is part of the name: no release reads the store of one before it
PAUSE = "vllm-operator.local/pause"
REGISTRIES = MACHINE / "registries"
ENDPOINT = f"unix://{CONTAINERD_SOCKET}"
# kubelet removes unused images when it thinks that the disk is full; the label keeps it from ours.
PINNED = "io.cri-containerd.pinned=pinned"
CTR = (str(BINARIES / "ctr"), "--address", str(CONTAINERD_SOCKET), "--namespace", "k8s.io")


def start(pause_reference: str) -> None:
    """Starts containerd, and waits until it answers. Builds it when the cache lacks it."""
    if processes.is_running("containerd") and answers():
        return
    binary.link_runtime(binary.built_runtime())
    CONTAINERD_STATE.mkdir(parents=True, exist_ok=True)
    IMAGE_STORE.mkdir(parents=True, exist_ok=True)
    config = STATE / "containerd.toml"
    places = {
        "STORE": IMAGE_STORE,
        "STATE": CONTAINERD_STATE,
        "SOCKET": CONTAINERD_SOCKET,
        "CNI_CONFIG": CNI_CONFIG,
        "REGISTRIES": REGISTRIES,
        "DEVICES": DEVICES,
        "PAUSE": pause_reference,
        # The file itself: a pod's shim is found by its command line, wherever the checkout goes.
        "SHIM": binary.runtime_folder() / "containerd-shim-runc-v2",
    }
    text = (HERE / "containerd.toml").read_text()
    for name, value in places.items():
        text = text.replace(f'"@{name}@"', json.dumps(str(value)))
    config.write_text(text)
    processes.start("containerd", BINARIES / "containerd", "--config", config)
    processes.wait_for("containerd", "containerd answers", answers)


def answers() -> bool:
    """Whether containerd is there and talks."""
    return CONTAINERD_SOCKET.exists() and succeeds(*CTR, "version")


def images() -> set[str]:
    """References of all images in containerd."""
    return set(run(*CTR, "images", "list", "--quiet").split())


def take(save: Sequence[str], reference: str) -> None:
    """Takes in what the command writes, keeps kubelet's hands off it, and removes older tags of the same image."""
    pipe(save, (*CTR, "images", "import", "-"))
    run(*CTR, "images", "label", reference, PINNED)
    _remove_older(reference)


def _remove_older(reference: str) -> None:
    """Removes what went by the same name before, unless a container still uses it.

    The runtime names each image a second time, by its digest: as long as that name is there, the gigabytes are, too.
    """
    digests = {line.split()[0]: line.split()[2] for line in run(*CTR, "images", "list").splitlines()[1:]}
    used = {line.split()[1] for line in run(*CTR, "containers", "list").splitlines()[1:]}
    repository = reference.rpartition(":")[0]
    older = {name for name in digests if name.rpartition(":")[0] == repository and name != reference} - used
    kept = {digest for name, digest in digests.items() if not name.startswith("sha256:") and name not in older}
    unnamed = {name for name, digest in digests.items() if name.startswith("sha256:") and digest not in kept} - used
    if older | unnamed:
        # At once (--sync): containerd would keep the bytes until a hundred changes have come together.
        run(*CTR, "images", "remove", "--sync", *sorted(older | unnamed))


@contextmanager
def plain_registry(host: str) -> Iterator[None]:
    """Lets the node pull from a registry that speaks no TLS; what was pulled from it goes with it."""
    folder = REGISTRIES / host
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hosts.toml").write_text(f'server = "http://{host}"\n')
    yield
    pulled = sorted(name for name in images() if name.startswith(f"{host}/"))
    if pulled:
        run(*CTR, "images", "remove", *pulled)


def remove_pods() -> None:
    """Stops and removes all pods of an earlier life, or of this one. Failures are said: `down` has harder means afterwards."""
    if not succeeds(BINARIES / "remove-pods", ENDPOINT):
        say("  some pods could not be removed in the regular way")
