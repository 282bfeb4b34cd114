"""What the machine itself must have: Debian's packages, a Go compiler. Installs the first, asks for the second."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.cluster.ownership import sole_command
from tests.cluster.places import CACHE
from tests.cluster.steps import StepFailed, run, step

# A file that shows a package is there, and the package: asking dpkg would take longer than all of these.
NODE_PACKAGES = {
    "/usr/sbin/runc": "runc",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
    "/usr/sbin/nft": "nftables",
    "/usr/sbin/conntrack": "conntrack",
    "/usr/bin/ip": "iproute2",
    "/usr/bin/openssl": "openssl",
}
BASE_PACKAGES = {"/usr/bin/mmdebstrap": "mmdebstrap"}
BUILD_PACKAGES = {"/usr/bin/buildah": "buildah", **BASE_PACKAGES}
VLLM_PACKAGES = {
    "/usr/lib/x86_64-linux-gnu/libnuma.so.1": "libnuma1",
    "/usr/bin/gcc": "gcc",
    "/usr/bin/readelf": "binutils",
}


def missing(packages: dict[str, str]) -> list[str]:
    """Names of the packages whose file is not there."""
    return sorted({package for file, package in packages.items() if not Path(file).exists()})


def install(packages: dict[str, str]) -> None:
    """Installs what is missing with apt. Raises StepFailed with the list where there is no apt."""
    if not missing(packages):
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    with sole_command(CACHE / "packages.lock", quietly=True):
        wanted = missing(packages)
        if not wanted:
            return
        if shutil.which("apt-get") is None:
            raise StepFailed(f"missing on this machine, which has no apt-get: {' '.join(wanted)}; install them by hand")
        with step(f"installing {' '.join(wanted)}"):
            quiet = {"DEBIAN_FRONTEND": "noninteractive"}
            run("apt-get", "update", "-qq", env=quiet)
            run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *wanted, env=quiet)


def go_compiler() -> str:
    """The path of `go`. Raises StepFailed that says which version is wanted."""
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if found is None:
        raise StepFailed(
            "Go 1.26 or newer builds the node's Kubernetes and containerd, and there is no `go` here: install it from go.dev/dl"
        )
    return found
