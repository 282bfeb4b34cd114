"""What builds images: a Docker engine that works, or else buildah. Where no registry is, both build on a base that Debian's packages make.

Both read the same Dockerfiles. pip's settings and the machine's certificates reach a build as its secrets, never an image.
"""

from __future__ import annotations

import configparser
import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.cluster import host, ownership
from tests.cluster.places import CACHE
from tests.cluster.steps import StepFailed, run, say, step, succeeds

# Without attestations: they make an index of an image, which not every `ctr images import` reads.
BUILDKIT = {"DOCKER_BUILDKIT": "1", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
# What every Dockerfile's ARG BASE says, and what stands in for it where no image registry is.
PYTHON_IMAGE = "python:3.11-slim"
DEBIAN = "bookworm"
DEBIAN_PACKAGES = "python3,python3-venv,ca-certificates"
DEBIAN_IMAGE = "localhost/python-3.11-slim:1"
BOOTSTRAP = "making a base image from Debian's packages"
BUILDAH = (
    "buildah",
    *("--root", str(CACHE / "buildah"), "--runroot", "/run/vllm-operator-buildah", "--storage-driver", "overlay"),
    # Else a mount stays on the cache's folder after every build, and nobody could remove that folder.
    *("--storage-opt", "overlay.skip_mount_home=true"),
)
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# An engine that does not answer within this many seconds (a dead address in DOCKER_HOST) is none.
ENGINE_ANSWERS_WITHIN = 20
# Nobody reads manuals in an image: 40 MB less.
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")


class Engine(Protocol):
    """Builds, keeps and hands out images by reference."""

    def has(self, reference: str) -> bool: ...

    def base(self) -> str:
        """Reference of the image that ARG BASE of a Dockerfile is given."""

    def build(self, reference: str, context: Path, dockerfile: Path, arguments: Mapping[str, str]) -> None: ...

    def take(self, upstream: str, reference: str, context: Path, dockerfile: Path, check: tuple[str, ...]) -> bool:
        """Whether `reference` is now somebody else's image, with what our Dockerfile adds.

        A registry gave `upstream`, and the command `check` ends well in it.
        """

    def references(self, repository: str) -> list[str]:
        """All tags of one repository that the engine keeps."""

    def forget(self, reference: str) -> None: ...

    def save(self, reference: str) -> tuple[str, ...]:
        """The command that writes the image to its standard output, as `docker save` does."""


def engine() -> Engine:
    """Docker where an engine answers that can build these Dockerfiles, else buildah (installed when missing).

    Raises StepFailed without root where it must be buildah.
    """
    if docker_answers():
        if _docker_has_buildkit():
            return Docker()
        say(
            "  docker is here without BuildKit (its component buildx is missing), which our Dockerfiles need: buildah builds"
        )
    ownership.require_root()
    host.install(host.BUILD_PACKAGES)
    return Buildah()


def docker_answers() -> bool:
    """Whether a Docker engine runs: a client alone, or an engine that is installed and not started, is none."""
    return shutil.which("docker") is not None and succeeds("docker", "info", within_seconds=ENGINE_ANSWERS_WITHIN)


def _docker_has_buildkit() -> bool:
    """Whether builds know secrets and cache mounts. Clients before 23 bring BuildKit, later ones leave it to the component buildx."""
    return _docker_build_knows("--secret")


def _docker_build_knows(option: str) -> bool:
    return option in run("docker", "build", "--help", env=BUILDKIT, check=False).split()


def make_base(folder: Path) -> Path:
    """Fills the folder with what a base image is built from: Debian with Python, from Debian's packages. Returns its Dockerfile."""
    host.install(host.BASE_PACKAGES)
    without = [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    packages = f"--include={DEBIAN_PACKAGES}"
    run("mmdebstrap", "--quiet", "--variant=minbase", packages, *without, DEBIAN, folder / "base.tar")
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    file = folder / "Dockerfile"
    file.write_text(f"FROM scratch\nADD base.tar /\nENV PATH={path}\nRUN ln -s python3 /usr/bin/python\n")
    return file


@contextmanager
def _secrets() -> Iterator[tuple[str, ...]]:
    """Options that let a build see this machine's pip settings and certificates as long as it runs.

    pip's environment variables and files become one file, in which no Dockerfile needs to know a name.
    """
    with tempfile.TemporaryDirectory(prefix="pip-settings-") as folder:
        file = Path(folder) / "pip.conf"
        file.write_text(_pip_settings(os.environ, Path("/etc/pip.conf")))
        options = ["--secret", f"id=pip,src={file}"]
        if CERTIFICATES.exists():
            options += ["--secret", f"id=certificates,src={CERTIFICATES}"]
        yield tuple(options)


def _pip_settings(environment: Mapping[str, str], file: Path) -> str:
    """The text of a pip.conf that says what the machine's own file and its PIP_ variables say.

    Folders of this machine (find-links) are left out: a build does not see them.
    """
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(file)
    if not settings.has_section("global"):
        settings.add_section("global")
    for section in settings.sections():
        for local in ("cert", "find-links", "cache-dir"):
            settings.remove_option(section, local)
    for name in ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout", "retries"):
        if value := environment.get("PIP_" + name.upper().replace("-", "_")):
            settings["global"][name] = value
    settings["global"]["cert"] = str(CERTIFICATES)
    text = io.StringIO()
    settings.write(text)
    return text.getvalue()


@dataclass(frozen=True, slots=True)
class Docker:
    """A working Docker engine."""

    def has(self, reference: str) -> bool:
        return succeeds("docker", "image", "inspect", reference)

    def base(self) -> str:
        """The official Python image where it is or a registry gives it, else Debian with Python, made once."""
        if self.has(PYTHON_IMAGE) or succeeds("docker", "pull", "--quiet", PYTHON_IMAGE):
            return PYTHON_IMAGE
        if not self.has(DEBIAN_IMAGE):
            with step(BOOTSTRAP), tempfile.TemporaryDirectory(dir=CACHE) as folder:
                self._build(DEBIAN_IMAGE, make_base(Path(folder)), Path(folder))
        return DEBIAN_IMAGE

    def build(self, reference: str, context: Path, dockerfile: Path, arguments: Mapping[str, str]) -> None:
        with _secrets() as secrets:
            self._build(reference, dockerfile, context, *_build_arguments(arguments), *secrets)

    def _build(self, reference: str, dockerfile: Path, context: Path, *options: str) -> None:
        command = ("docker", "build", "--quiet", "--file", dockerfile, "--tag", reference)
        # A builder of the user's own, in a container, keeps what it builds unless it is told to hand it over.
        load = ("--load",) if _docker_build_knows("--load") else ()
        run(*command, *load, *options, context, env=BUILDKIT)

    def take(self, upstream: str, reference: str, context: Path, dockerfile: Path, check: tuple[str, ...]) -> bool:
        if not succeeds("docker", "pull", "--quiet", upstream):
            return False
        # Built, not tagged: what a registry gives may list platforms that were not pulled, and cannot be put on a kind node.
        self.build(reference, context, dockerfile, {"UPSTREAM": upstream})
        somebody = ("--rm", "--network", "none", "--user", "2000:0", "--entrypoint", check[0])
        if succeeds("docker", "run", *somebody, reference, *check[1:]):
            return True
        self.forget(reference)
        return False

    def references(self, repository: str) -> list[str]:
        return run("docker", "images", "--format", "{{.Repository}}:{{.Tag}}", repository).split()

    def forget(self, reference: str) -> None:
        run("docker", "rmi", "--force", reference, check=False)

    def save(self, reference: str) -> tuple[str, ...]:
        return ("docker", "save", reference)


@dataclass(frozen=True, slots=True)
class Buildah:
    """buildah as root, with its storage in our cache: no daemon, no registry."""

    def _run(self, *words: str | Path, check: bool = True) -> str:
        # Cache mounts (pip's downloads) go to the folder for temporary files: this one is kept.
        temporary = CACHE / "buildah-tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        return run(*BUILDAH, *words, check=check, env={"TMPDIR": str(temporary)})

    def has(self, reference: str) -> bool:
        return reference in self.references(reference.rpartition(":")[0])

    def base(self) -> str:
        """Debian with Python, made from Debian's packages once."""
        if not self.has(DEBIAN_IMAGE):
            with step(BOOTSTRAP), tempfile.TemporaryDirectory(dir=CACHE) as folder:
                file = make_base(Path(folder))
                # buildah takes --force-rm only beside --layers or --no-cache.
                once = ("bud", "--isolation", "chroot", "--no-cache", "--force-rm")
                self._run(*once, "--file", file, "--tag", DEBIAN_IMAGE, folder)
        return DEBIAN_IMAGE

    def build(self, reference: str, context: Path, dockerfile: Path, arguments: Mapping[str, str]) -> None:
        with _secrets() as secrets:
            command = (
                "bud",
                "--isolation",
                "chroot",
                "--layers",
                "--force-rm",
                "--file",
                dockerfile,
                "--tag",
                reference,
            )
            self._run(*command, *_build_arguments(arguments), *secrets, context)

    def take(self, upstream: str, reference: str, context: Path, dockerfile: Path, check: tuple[str, ...]) -> bool:
        """Never: buildah is for the machine that has no registry either."""
        return False

    def references(self, repository: str) -> list[str]:
        return [reference for reference in self._listed() if reference.rpartition(":")[0] == repository]

    def _listed(self, tries: int = 5) -> list[str]:
        """All tags. A list fails as a whole where the end of another build removes an image meanwhile: it is tried again."""
        try:
            return self._run("images", "--format", "{{.Name}}:{{.Tag}}").split()
        except StepFailed:
            if tries == 1:
                raise
            return self._listed(tries - 1)

    def forget(self, reference: str) -> None:
        self._run("rmi", reference, check=False)

    def save(self, reference: str) -> tuple[str, ...]:
        return (*BUILDAH, "push", "--quiet", reference, f"docker-archive:/dev/stdout:{reference}")


def _build_arguments(arguments: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}"))
