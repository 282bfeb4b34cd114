"""The operator as a developer runs it: outside the cluster, with a kubeconfig, asking servers through the API server's proxy."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.demo.shell import KUBECONFIG, ROOT
from tests.e2e.world import Namespace, await_that, kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.timeout(300)]


def operator_pods() -> list[str]:
    return [
        pod["metadata"]["name"]
        for pod in json.loads(kubectl("-n", "vllm-operator", "get", "pods", "-o", "json"))["items"]
    ]


@pytest.fixture
def outside(namespace: Namespace, tmp_path: Path) -> Iterator[Namespace]:
    """The installed operator rests; one outside works on the test's namespace with the same settings."""
    found = json.loads(kubectl("-n", "vllm-operator", "get", "configmap", "vllm-operator-settings", "-o", "json"))
    settings = tmp_path / "settings.yaml"
    settings.write_text(found["data"]["settings.yaml"])
    kubectl("-n", "vllm-operator", "scale", "deployment/vllm-operator", "--replicas=0")
    await_that(operator_pods, lambda names: not names, 60, "the end of the installed operator")
    words = ("run", "--namespace", namespace.name, "--settings", str(settings), "--probe-via", "proxy")
    log = (tmp_path / "log").open("w")
    running = subprocess.Popen(
        [sys.executable, "-m", "vllm_operator", *words],
        cwd=ROOT,
        env={**os.environ, "KUBECONFIG": str(KUBECONFIG)},
        stdout=log,
        stderr=log,
    )
    try:
        yield namespace
    finally:
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0
        log.close()
        kubectl("-n", "vllm-operator", "scale", "deployment/vllm-operator", "--replicas=1")
        kubectl("-n", "vllm-operator", "rollout", "status", "deployment/vllm-operator", "--timeout=120s")


def test_an_operator_outside_brings_a_model_to_ready_and_sees_it_fall_ill(outside: Namespace) -> None:
    outside.apply_fake()
    status = outside.await_ready()
    assert status["maxModelLen"] == 512

    outside.fault("unhealthy")

    outside.await_condition("Ready", "False", seconds=30)
