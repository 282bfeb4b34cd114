"""CLUSTER=kind: a cluster of kind's on a Docker engine, and the demo's images on its node.

kind's own files stay as they are: the kubeconfig is ours, and a network that was there before stays there.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from tests.cluster.engine import docker_answers, engine
from tests.cluster.steps import pipe, succeeds, wait_until
from tests.demo.shell import KUBECONFIG, STATE, StepFailed, python, run, side_by_side, step

NAME = "vllm-operator"
NODE = f"{NAME}-control-plane"
NETWORK = "kind"
READY_WITHIN = 180  # seconds
PROGRAMS = ("docker", "kind", "kubectl", "helm")


def up(names: tuple[str, ...]) -> dict[str, str]:
    """Creates the cluster unless it is there, beside it builds the images, and puts those on the node that it lacks.

    Returns each image's reference by its name. Raises StepFailed when the machine lacks something, before anything is started.
    """
    _check_machine()
    if NAME in _clusters() and not _made_cluster().exists():
        raise StepFailed(
            f"there is a kind cluster {NAME} that this checkout did not make: use it with CLUSTER=existing, or remove it "
            f"(kind delete cluster --name {NAME})"
        )
    STATE.mkdir(exist_ok=True)
    images: dict[str, str] = {}
    side_by_side(_create, lambda: images.update(_images(names)))
    there = _images_on_node()
    for reference in images.values():
        if reference not in there:
            _load(reference)
    return images


def down() -> None:
    """Deletes the cluster that we made, its network if nothing else needs it, and our folder. Harmless when there is none."""
    if shutil.which("kind") is None or not docker_answers():
        if STATE.exists():
            raise StepFailed("the kind cluster cannot be removed: kind, or a running Docker engine, is missing")
        return
    with step("deleting the kind cluster"):
        if _made_cluster().exists():
            run("kind", "delete", "cluster", "--name", NAME, "--kubeconfig", KUBECONFIG)
        # kind makes its network for all its clusters and never removes it.
        if _made_network().exists() and not _clusters():
            run("docker", "network", "rm", NETWORK, check=False)
    shutil.rmtree(STATE, ignore_errors=True)


def _check_machine() -> None:
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        raise StepFailed(
            f"CLUSTER=kind needs {', '.join(missing)}: install it, or use CLUSTER=embedded, which brings all it needs"
        )
    if not docker_answers():
        raise StepFailed(
            "CLUSTER=kind needs a running Docker engine, and `docker info` fails: start it, or use CLUSTER=embedded"
        )


def _create() -> None:
    """The cluster, with our kubeconfig, its node Ready. One that was stopped, as by a restart of the machine, is started again."""
    if NAME in _clusters():
        run("docker", "start", NODE)
        run("kind", "export", "kubeconfig", "--name", NAME, "--kubeconfig", KUBECONFIG)
    else:
        if NETWORK not in run("docker", "network", "ls", "--format", "{{.Name}}").split():
            _made_network().touch()
        _made_cluster().touch()
        image = os.environ.get("KIND_NODE_IMAGE")
        chosen = ("--image", image) if image else ()
        with step("creating the kind cluster" + (f" from {image}" if image else "")):
            run("kind", "create", "cluster", "--name", NAME, "--kubeconfig", KUBECONFIG, *chosen)
    with step("waiting for the kind node to be Ready"):
        # Asked again and again: an API server that just starts refuses connections, and kubectl ends at once.
        wait = ("kubectl", "--kubeconfig", KUBECONFIG, "wait", "node", NODE, "--for=condition=Ready", "--timeout=5s")
        wait_until("the kind node is Ready", lambda: succeeds(*wait), READY_WITHIN)


def _clusters() -> list[str]:
    return run("kind", "get", "clusters").split()


def _images(names: Iterable[str]) -> dict[str, str]:
    command = python("tests.cluster", "images", *names, "--no-import", "--output", "json")
    return dict(json.loads(run(*command, aloud=True)))


def _images_on_node() -> set[str]:
    return set(run("docker", "exec", NODE, "ctr", "--namespace", "k8s.io", "images", "list", "--quiet").split())


def _load(reference: str) -> None:
    """Whichever engine built the image, and without a file between: vLLM has 3 GB."""
    name = reference.rpartition("/")[2].partition(":")[0]
    with step(f"loading the image {name} into kind"):
        pipe(engine().save(reference), ("kind", "load", "image-archive", "/dev/stdin", "--name", NAME))


def _made_cluster() -> Path:
    """A file that says that the cluster is ours to remove, also one that came only halfway."""
    return STATE / "made-cluster"


def _made_network() -> Path:
    """A file that says that the network was not there before us."""
    return STATE / "made-network"
