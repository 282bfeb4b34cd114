"""What builds images: a Docker engine that works, or else buildah on a base that Debian's packages make.

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

from tests.cluster import host
from tests.cluster.places import CACHE
from tests.cluster.steps import run, step, succeeds

# What every Dockerfile's ARG BASE says, and what stands in for it where no image registry is.
PYTHON_IMAGE = "python:3.11-slim"
DEBIAN = "bookworm"
DEBIAN_PACKAGES = "python3,python3-venv,ca-certificates"
DEBIAN_IMAGE = "localhost/python-3.11-slim:1"
BUILDAH = (
    "buildah",
    *("--root", str(CACHE / "buildah"), "--runroot", "/run/vllm-operator-buildah", "--storage-driver", "overlay"),
    # Else a mount stays on the cache's folder after every build, and nobody could remove that folder.
    *("--storage-opt", "overlay.skip_mount_home=true"),
)
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# Nobody reads manuals in an image: 40 MB less.
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")


class Engine(Protocol):
    """Builds, keeps and hands out images by reference."""

    def has(self, reference: str) -> bool: ...

    def base(self) -> str:
        """Reference of the image that ARG BASE of a Dockerfile is given."""

    def build(self, reference: str, context: Path, dockerfile: Path, arguments: Mapping[str, str]) -> None: ...

    def references(self, repository: str) -> list[str]:
        """All tags of one repository that the engine keeps."""

    def forget(self, reference: str) -> None: ...

    def save(self, reference: str) -> tuple[str, ...]:
        """The command that writes the image to its standard output, as `docker save` does."""


def engine() -> Engine:
    """Docker where `docker info` works, else buildah (installed when missing)."""
    if shutil.which("docker") and succeeds("docker", "info"):
        return Docker()
    host.install(host.BUILD_PACKAGES)
    return Buildah()


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
        return PYTHON_IMAGE

    def build(self, reference: str, context: Path, dockerfile: Path, arguments: Mapping[str, str]) -> None:
        with _secrets() as secrets:
            command = ("docker", "build", "--quiet", "--file", dockerfile, "--tag", reference)
            run(*command, *_build_arguments(arguments), *secrets, context, env={"DOCKER_BUILDKIT": "1"})

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
            with step("making a base image from Debian's packages"), tempfile.TemporaryDirectory(dir=CACHE) as folder:
                self._bootstrap(Path(folder))
        return DEBIAN_IMAGE

    def _bootstrap(self, folder: Path) -> None:
        without = [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
        packages = f"--include={DEBIAN_PACKAGES}"
        run("mmdebstrap", "--quiet", "--variant=minbase", packages, *without, DEBIAN, folder / "base.tar")
        file = folder / "Dockerfile"
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        file.write_text(f"FROM scratch\nADD base.tar /\nENV PATH={path}\nRUN ln -s python3 /usr/bin/python\n")
        self._run("bud", "--isolation", "chroot", "--force-rm", "--file", file, "--tag", DEBIAN_IMAGE, folder)

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

    def references(self, repository: str) -> list[str]:
        listed = self._run("images", "--format", "{{.Name}}:{{.Tag}}").split()
        return [reference for reference in listed if reference.rpartition(":")[0] == repository]

    def forget(self, reference: str) -> None:
        self._run("rmi", reference, check=False)

    def save(self, reference: str) -> tuple[str, ...]:
        return (*BUILDAH, "push", "--quiet", reference, f"docker-archive:/dev/stdout:{reference}")


def _build_arguments(arguments: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}"))
