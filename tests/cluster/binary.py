"""Builds localkube once: one binary that is the whole node, kept in the cache under the hash of its sources."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

from tests.cluster import host
from tests.cluster.ownership import sole_command
from tests.cluster.places import BINARIES, CACHE, HERE
from tests.cluster.steps import run, step

SOURCES = HERE / "localkube"
COMPONENTS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
    "helm",
    "coredns",
    "volume-provisioner",
    "remove-pods",
)


def sources_hash() -> str:
    """Twelve hexadecimal digits over the names and contents of all sources."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(SOURCES)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def kubernetes_version() -> str:
    """As go.mod requires it, such as v1.36.3."""
    found = re.search(r"k8s\.io/kubernetes (v[\d.]+)", (SOURCES / "go.mod").read_text())
    assert found is not None, "go.mod requires k8s.io/kubernetes"
    return found[1]


def built() -> Path:
    """The folder with `localkube` and `pause`; builds them when the cache lacks them (minutes)."""
    folder = CACHE / f"localkube-{sources_hash()}"
    if (folder / "localkube").exists():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    with sole_command(CACHE / "localkube.lock"):
        if not (folder / "localkube").exists():
            with step(f"building Kubernetes {kubernetes_version()}, etcd, CoreDNS and helm into one binary"):
                _build(folder)
        for old in CACHE.glob("localkube-*"):
            if old != folder:
                shutil.rmtree(old)
    return folder


def _build(folder: Path) -> None:
    version = kubernetes_version()
    major, minor, _ = version.removeprefix("v").split(".")
    stamps = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    linker = ["-s", "-w", *(f"-X k8s.io/component-base/version.{name}={value}" for name, value in stamps.items())]
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    build = (host.go_compiler(), "build", "-trimpath", "-buildvcs=false", "-ldflags", " ".join(linker))
    static = {"CGO_ENABLED": "0"}
    run(*build, "-o", unfinished / "localkube", ".", cwd=SOURCES, env=static)
    run(*build, "-o", unfinished / "pause", "./pause", cwd=SOURCES, env=static)
    unfinished.rename(folder)


def link(folder: Path) -> None:
    """Puts each component under its own name into .cluster/bin: the binary goes by the name that it is called by."""
    BINARIES.mkdir(parents=True, exist_ok=True)
    for name in COMPONENTS:
        path = BINARIES / name
        if path.is_symlink() and path.readlink() == folder / "localkube":
            continue
        path.unlink(missing_ok=True)
        path.symlink_to(folder / "localkube")
