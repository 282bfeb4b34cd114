"""The platform's policy, on the real API server: what the chart's ValidatingAdmissionPolicy refuses, and with which words."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.demo.clusters import tool
from tests.demo.shell import ROOT
from tests.e2e.world import API_VERSION, Namespace, await_that, kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.timeout(200)]
VALUES = {
    "policy": {
        "enabled": True,
        "allowedModels": ["Qwen/", "hf://Qwen/"],
        "allowedImages": ["registry.example.org/"],
        "maxGPUs": 4,
    },
    "crds": {"enabled": False},
    "replicas": 0,
}
REFUSED = "meta-llama/Llama-3.1-8B"


@pytest.fixture(scope="module")
def policy(new_namespace: Callable[[str], Namespace]) -> Iterator[None]:
    """The policy alone, from the chart, under a release name of its own; over when the API server has forgotten it."""
    words = (tool("helm")[0], "template", "policy-test", str(ROOT / "charts/vllm-operator"), "--namespace", "default")
    done = subprocess.run(
        [*words, "--values", "-", "--show-only", "templates/policy.yaml"],
        input=json.dumps(VALUES),
        text=True,
        capture_output=True,
        check=True,
    )
    kubectl("apply", "-f", "-", input=done.stdout)
    yield
    kubectl("delete", "-f", "-", "--wait=true", input=done.stdout)
    free = new_namespace("policy-over")
    await_that(lambda: attempt(free, model=REFUSED), lambda said: "created" in said, 60, "the end of the policy")


def attempt(namespace: Namespace, **spec: Any) -> str:
    """What the API server says to a model: its refusal, or "created"."""
    body = {"apiVersion": API_VERSION, "kind": "VLLMModel", "metadata": {"name": "m"}, "spec": spec}
    return namespace.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(body), check=False)


def test_the_policy_refuses_what_the_platform_does_not_want_and_says_what_it_allows(
    policy: None, namespace: Namespace
) -> None:
    refused = await_that(lambda: attempt(namespace, model=REFUSED), lambda said: "created" not in said, 60, "a refusal")

    assert f"spec.model {REFUSED} is not allowed here" in refused
    assert "Qwen/" in refused
    assert "created" in attempt(namespace, model="Qwen/Qwen2.5-7B-Instruct")
    assert "spec.image" in attempt(namespace, model="Qwen/Qwen2.5-7B-Instruct", image="docker.example.com/x:1")
    assert "8 GPUs" in attempt(namespace, model="Qwen/Qwen2.5-7B-Instruct", tensorParallelSize=4, replicas=2)
    assert "trust-remote-code=true" in attempt(namespace, model="Qwen/Qwen2.5-7B-Instruct", trustRemoteCode=True)


def test_no_more_gpus_come_by_way_of_scale(policy: None, namespace: Namespace) -> None:
    """`kubectl scale` writes another object than the model: it has the replicas, and not the GPUs of each."""
    body = {"apiVersion": API_VERSION, "kind": "VLLMModel", "metadata": {"name": "m"}}
    spec = {"model": "Qwen/Qwen2.5-7B-Instruct", "tensorParallelSize": 2, "replicas": 2}
    namespace.kubectl("create", "-f", "-", input=json.dumps(body | {"spec": spec}))

    def scaled(replicas: int) -> str:
        return namespace.kubectl("scale", "vllmmodel", "m", f"--replicas={replicas}", check=False)

    refused = await_that(lambda: scaled(50), lambda said: "scaled" not in said, 60, "a refusal")

    assert "at most 4 GPUs" in refused
    assert "spec.replicas" in refused
    assert "scaled" in scaled(1)


def test_a_label_on_the_namespace_allows_remote_code(policy: None, namespace: Namespace) -> None:
    kubectl("label", "namespace", namespace.name, "vllm-operator.dev/trust-remote-code=true")

    said = await_that(
        lambda: attempt(namespace, model="Qwen/Qwen2.5-7B-Instruct", trustRemoteCode=True),
        lambda said: "created" in said,
        60,
        "permission",
    )

    assert "created" in said
