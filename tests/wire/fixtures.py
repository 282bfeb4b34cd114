"""What tests of the runtime share: a client of the fake API server, and a model in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from kubernetes.aio import client

from tests.wire.apiserver import Kubernetes, running
from vllm_operator.api import API_VERSION, KIND
from vllm_operator.cluster import Cluster, Connection


@asynccontextmanager
async def a_cluster() -> AsyncIterator[tuple[Kubernetes, Cluster]]:
    """A fake API server and a client of it."""
    async with running() as fake:
        configuration = client.Configuration()
        configuration.host = fake.url
        async with Connection(configuration) as connection:
            yield fake, Cluster(connection)


def a_job(name: str = "pull-x", **metadata: Any) -> dict[str, Any]:
    """A Job of the weights program, as small as can be."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "team", **metadata},
        "spec": {"backoffLimit": 4},
    }


def a_vllmmodel(name: str = "m", **spec: Any) -> dict[str, Any]:
    """A VLLMModel as a user writes it."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": "team"},
        "spec": {"model": "demo/tiny", "replicas": 1} | spec,
    }
