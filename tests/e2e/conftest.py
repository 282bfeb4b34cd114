"""Every test gets a namespace of its own in which Pod Security enforces `restricted`."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.world import Namespace, images, kubectl

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def image_names() -> dict[str, str]:
    return images()


def _make(name: str) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    kubectl("apply", "-f", "-", input=json.dumps(body))


@pytest.fixture(scope="session")
def new_namespace(image_names: dict[str, str]) -> Iterator[Callable[[str], Namespace]]:
    """Makes namespaces; all of them go at the end of the session."""
    made: list[str] = []

    def make(stem: str) -> Namespace:
        name = f"{stem}-{os.getpid()}-{next(_numbers)}"[:60].lower().replace("_", "-")
        _make(name)
        made.append(name)
        return Namespace(name, image_names)

    yield make
    for name in made:
        kubectl("delete", "namespace", name, "--wait=false", check=False)


@pytest.fixture
def namespace(request: pytest.FixtureRequest, new_namespace: Callable[[str], Namespace]) -> Iterator[Namespace]:
    """One test's own namespace, deleted after it."""
    made = new_namespace(request.node.name.removeprefix("test_").replace("[", "-").replace("]", "")[:36].strip("-"))
    yield made
    kubectl("delete", "namespace", made.name, "--wait=false", check=False)


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest, new_namespace: Callable[[str], Namespace]) -> Iterator[Namespace]:
    """A namespace that the tests of one file share."""
    made = new_namespace(request.module.__name__.rpartition(".")[2].removeprefix("test_"))
    yield made
    kubectl("delete", "namespace", made.name, "--wait=false", check=False)
