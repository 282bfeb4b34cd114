"""Builds the node's programs from source, once: containerd first, then localkube, the one binary that is all the rest.

Both are kept in the cache under a hash over what they are made from. containerd has a build of its own because its shim runs
once for every pod: it must not carry all of Kubernetes. It comes first because images are put on it while Kubernetes compiles.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Mapping
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
    "device-driver",
    "remove-pods",
)
# go.mod names them as tools: their version is there.
RUNTIME_PROGRAMS = ("containerd", "containerd-shim-runc-v2", "ctr")
RUNTIME_SOURCES = ("go.mod", "go.sum")
# Ways to store an image that the node does not use.
RUNTIME_TAGS = "no_btrfs no_devmapper no_zfs"


def sources_hash() -> str:
    """Twelve hexadecimal digits over the names and contents of all sources."""
    return _hash(sorted(path for path in SOURCES.rglob("*") if path.is_file()))


def _hash(files: list[Path], also: str = "") -> str:
    digest = hashlib.sha256(also.encode())
    for path in files:
        digest.update(f"{path.relative_to(SOURCES)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def version_of(module: str) -> str:
    """As go.mod requires it, such as v1.36.3."""
    found = re.search(rf"{re.escape(module)} (v[\d.]+)", (SOURCES / "go.mod").read_text())
    assert found is not None, f"go.mod requires {module}"
    return found[1]


def kubernetes_version() -> str:
    """The node's version, such as v1.36.3."""
    return version_of("k8s.io/kubernetes")


def containerd_version() -> str:
    """The container runtime's version, such as v2.2.9."""
    return version_of("github.com/containerd/containerd/v2")


def runtime_folder() -> Path:
    """Where containerd, its shim and ctr lie once they are built."""
    return CACHE / f"runtime-{_hash([SOURCES / name for name in RUNTIME_SOURCES], RUNTIME_TAGS)}"


def built_runtime() -> Path:
    """The folder with containerd, its shim and ctr; builds them when the cache lacks them (two minutes)."""
    return cached(runtime_folder(), f"building containerd {containerd_version()}", _build_runtime)


def built() -> Path:
    """The folder with `localkube` and `pause`; builds them when the cache lacks them (minutes)."""
    title = f"building Kubernetes {kubernetes_version()}, etcd, CoreDNS and helm into one binary"
    return cached(CACHE / f"localkube-{sources_hash()}", title, _build)


def cached(folder: Path, title: str, build: Callable[[Path], None]) -> Path:
    """The folder of the cache, which `build` fills when it is not there. What it replaces is removed."""
    kind = folder.name.partition("-")[0]
    if folder.exists():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    with sole_command(CACHE / f"{kind}.lock"):
        if not folder.exists():
            unfinished = folder.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            with step(title):
                build(unfinished)
            unfinished.rename(folder)
        for old in CACHE.glob(f"{kind}-*"):
            if old != folder:
                shutil.rmtree(old)
    return folder


def _build(folder: Path) -> None:
    version = kubernetes_version()
    major, minor, _ = version.removeprefix("v").split(".")
    stamps = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    stamped = {f"k8s.io/component-base/version.{name}": value for name, value in stamps.items()}
    _compile(folder / "localkube", stamped, ".")
    _compile(folder / "pause", stamped, "./pause")


def _build_runtime(folder: Path) -> None:
    module = "github.com/containerd/containerd/v2"
    programs = (f"{module}/cmd/{name}" for name in RUNTIME_PROGRAMS)
    _compile(folder, {f"{module}/version.Version": containerd_version()}, f"-tags={RUNTIME_TAGS}", *programs)


def _compile(target: Path, stamped: Mapping[str, str], *words: str) -> None:
    """Runs `go build`: a static program, or several into a folder. `stamped` are variables of a package and their values."""
    linker = " ".join(("-s", "-w", *(f"-X {name}={value}" for name, value in stamped.items())))
    build = (host.go_compiler(), "build", "-trimpath", "-buildvcs=false", "-ldflags", linker)
    run(*build, "-o", target, *words, cwd=SOURCES, env={"CGO_ENABLED": "0"})


def link(folder: Path) -> None:
    """Puts each component under its own name into .cluster/bin: the binary goes by the name that it is called by."""
    for name in COMPONENTS:
        _link(name, folder / "localkube")


def link_runtime(folder: Path) -> None:
    """Puts containerd's programs into .cluster/bin."""
    for name in RUNTIME_PROGRAMS:
        _link(name, folder / name)


def _link(name: str, target: Path) -> None:
    BINARIES.mkdir(parents=True, exist_ok=True)
    path = BINARIES / name
    if path.is_symlink() and path.readlink() == target:
        return
    path.unlink(missing_ok=True)
    path.symlink_to(target)
