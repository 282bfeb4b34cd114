"""The three kinds of cluster that the demo runs on: our own node, kind, or one that exists already.

Each gives a kubeconfig in a folder of its own, kubectl and helm, and the four images where its nodes find them.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from tests.demo import kind
from tests.demo.shell import CLUSTER, KUBECONFIG, ROOT, STATE, StepFailed, python, run, show, step

IMAGES = ("operator", "weights", "vllm-cpu", "hub")


def kind_of_cluster() -> str:
    """embedded, kind or existing. Raises StepFailed for any other word."""
    if CLUSTER not in {"embedded", "kind", "existing"}:
        raise StepFailed(f"CLUSTER={CLUSTER} is unknown: use embedded, kind or existing")
    return CLUSTER


def up() -> dict[str, str]:
    """Brings the cluster up with the images on it; returns each image's reference by its name."""
    match kind_of_cluster():
        case "embedded":
            show(*python("tests.cluster", "up"))
            return dict(json.loads(run(*python("tests.cluster", "images", "--output", "json"))))
        case "kind":
            return kind.up(IMAGES)
        case _:
            return _existing_up()


def down() -> None:
    """Takes away what `up` brought; an existing cluster stays (the demo's objects are removed by the caller)."""
    match kind_of_cluster():
        case "embedded":
            show(*python("tests.cluster", "down"))
        case "kind":
            kind.down()
        case _:
            shutil.rmtree(STATE, ignore_errors=True)


def tool(name: str) -> tuple[str, ...]:
    """kubectl or helm with this cluster's kubeconfig: the embedded node brings its own."""
    own = STATE / "bin" / name
    program = str(own) if own.exists() else shutil.which(name)
    if program is None:
        raise StepFailed(f"{name} is not installed: install it, or use CLUSTER=embedded, which brings it")
    return (program, "--kubeconfig", str(KUBECONFIG))


def _existing_up() -> dict[str, str]:
    """The current context of the user's kubeconfig. Its nodes must have the images, or reach REGISTRY."""
    STATE.mkdir(exist_ok=True)
    kubectl = shutil.which("kubectl") or str(STATE / "bin" / "kubectl")
    config = run(kubectl, "config", "view", "--minify", "--flatten", "--raw")
    _write_private(KUBECONFIG, config)
    if os.environ.get("IMAGES_PRELOADED") == "yes":
        return dict(json.loads(run(*python("tests.cluster", "images", "--names-only", "--output", "json"))))
    registry = os.environ.get("REGISTRY")
    if not registry:
        raise StepFailed(
            "CLUSTER=existing needs to know how its nodes get the images: set REGISTRY=host/path (docker builds and pushes there), "
            "or IMAGES_PRELOADED=yes when the nodes have them"
        )
    images = dict(json.loads(run(*python("tests.cluster", "images", "--no-import", "--output", "json"))))
    pushed = {name: f"{registry}/{images[name].rpartition('/')[2]}" for name in IMAGES}
    with step(f"pushing the images to {registry}"):
        for name in IMAGES:
            run("docker", "tag", images[name], pushed[name])
            run("docker", "push", pushed[name])
    return pushed


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


__all__ = ["IMAGES", "ROOT", "down", "kind_of_cluster", "tool", "up"]
