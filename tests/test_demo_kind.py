"""CLUSTER=kind from no cluster to none again. docker, kind and kubectl are programs that we wrote; they keep a small world in files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cluster import images
from tests.demo import kind
from tests.demo.shell import StepFailed

NAMES = ("operator", "weights")
DOCKER = """
case "$*" in
  info) [ ! -e $WORLD/stopped ];;
  "build --help") echo "  --secret stringArray";;
  "network ls "*) cat $WORLD/networks;;
  "network rm "*) : > $WORLD/networks;;
  "exec "*" images list --quiet") cat $WORLD/node;;
  "save "*) echo "$2";;
esac
"""
KIND = """
case "$*" in
  "get clusters") cat $WORLD/clusters;;
  "create cluster "*) echo vllm-operator >> $WORLD/clusters; echo kind >> $WORLD/networks; : > $WORLD/node;;
  "delete cluster "*) sed -i /^vllm-operator$/d $WORLD/clusters;;
  "load image-archive /dev/stdin "*) cat >> $WORLD/node;;
esac
"""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a Docker engine that keeps all images already, kind, kubectl and helm; each call is a line in `calls`."""
    for name, script in {"docker": DOCKER, "kind": KIND, "kubectl": "", "helm": ""}.items():
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f'#!/bin/sh\necho "{name} $*" >> $WORLD/calls\n{script}')
        file.chmod(0o755)
    for tool in ("cat", "sed"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool) or tool)
    for kept in ("clusters", "networks", "node", "calls"):
        (tmp_path / kept).touch()
    monkeypatch.setenv("WORLD", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kind, "STATE", tmp_path / "state")
    monkeypatch.setattr(kind, "KUBECONFIG", tmp_path / "state" / "kubeconfig")
    return tmp_path


def calls(world: Path, *beginnings: str) -> list[str]:
    """What was called since the last time, of what begins so."""
    said = (world / "calls").read_text().splitlines()
    (world / "calls").write_text("")
    return [call for call in said if call.startswith(beginnings)]


def test_a_cluster_is_created_with_the_images_on_its_node_and_used_again(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KIND_NODE_IMAGE", "registry.example/node:v1")
    wanted = images.references(NAMES)

    assert kind.up(NAMES) == wanted
    config = world / "state" / "kubeconfig"
    assert calls(world, "kind create") == [
        f"kind create cluster --name vllm-operator --kubeconfig {config} --image registry.example/node:v1"
    ]
    assert set((world / "node").read_text().split()) == set(wanted.values())

    assert kind.up(NAMES) == wanted
    assert calls(world, "kind create", "kind load", "kind export", "docker start") == [
        "docker start vllm-operator-control-plane",
        f"kind export kubeconfig --name vllm-operator --kubeconfig {config}",
    ]


def test_only_the_image_that_the_node_lacks_is_loaded(world: Path) -> None:
    wanted = images.references(NAMES)
    kind.up(NAMES)
    (world / "node").write_text(wanted["operator"])
    calls(world)

    kind.up(NAMES)

    assert calls(world, "docker save") == [f"docker save {wanted['weights']}"]


def test_down_leaves_no_cluster_no_network_and_no_folder_and_may_be_repeated(world: Path) -> None:
    kind.up(NAMES)

    kind.down()

    assert (world / "clusters").read_text() == ""
    assert (world / "networks").read_text() == ""
    assert not (world / "state").exists()
    kind.down()


def test_a_cluster_of_our_name_that_somebody_else_made_is_neither_used_nor_removed(world: Path) -> None:
    (world / "clusters").write_text("vllm-operator\n")

    with pytest.raises(StepFailed, match="this checkout did not make"):
        kind.up(NAMES)
    kind.down()

    assert (world / "clusters").read_text() == "vllm-operator\n"


@pytest.mark.parametrize(
    ("file", "somebody"), [("networks", "kind"), ("clusters", "another")], ids=["made before us", "used by another"]
)
def test_a_network_that_is_not_ours_alone_stays(world: Path, file: str, somebody: str) -> None:
    (world / file).write_text(f"{somebody}\n")
    kind.up(NAMES)

    kind.down()

    assert calls(world, "docker network rm") == []


def test_what_the_machine_lacks_is_named_before_anything_starts(world: Path) -> None:
    (world / "bin" / "kind").unlink()
    (world / "bin" / "helm").unlink()

    with pytest.raises(StepFailed, match="needs kind, helm: install"):
        kind.up(NAMES)

    assert (world / "calls").read_text() == ""


def test_an_engine_that_does_not_run_is_named(world: Path) -> None:
    (world / "stopped").touch()

    with pytest.raises(StepFailed, match="running Docker engine"):
        kind.up(NAMES)
    kind.down()

    (world / "state").mkdir()
    with pytest.raises(StepFailed, match="cannot be removed"):
        kind.down()
