"""Models from buckets and from ModelScope, by the platform's addresses: downloaded and served without the store, or streamed."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import obstore
import pytest

from tests.cluster import models
from tests.e2e.world import TINY, Namespace, await_failure, kubectl
from tests.hub.models import write_model
from tests.stores.gcs import FakeGoogleStorage
from tests.stores.modelscope import FakeModelScope
from tests.stores.s3 import MotoS3

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]


@dataclass(frozen=True)
class Source:
    """A model in a store, and the keys of the Secret that opens it."""

    scheme: str
    model: str
    served: str
    secret: dict[str, str] = field(default_factory=dict)

    @property
    def credentials(self) -> dict[str, Any]:
        return {"credentialsSecretRef": {"name": f"{self.scheme}-keys"}} if self.secret else {}


SOURCES = (
    Source("s3", "s3://models/llama", "llama", {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}),
    Source("gs", "gs://models/llama", "llama", {"GOOGLE_SKIP_SIGNATURE": "true"}),
    Source("modelscope", "modelscope://models/llama", "models/llama"),
)


@dataclass(frozen=True)
class Stores:
    """Three stores on this machine, behind the Services that the platform's settings name."""

    s3: MotoS3
    gs: FakeGoogleStorage
    modelscope: FakeModelScope


WEIGHTS_ON_DISK = (
    "import pathlib as p; print(*(f for d in ('/home', '/tmp') for f in p.Path(d).rglob('*.safetensors')))"
)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    root, address = tmp_path_factory.mktemp("stores"), _address_of_this_machine()
    folder = write_model(root / "models/llama", shards=2, shard_bytes=3_000_000)
    with ExitStack() as stack:
        moto = stack.enter_context(MotoS3(root / "moto.log", address))
        moto.fill("models", "llama", folder)
        gs = stack.enter_context(FakeGoogleStorage(root, host=address))
        modelscope = stack.enter_context(FakeModelScope(root, host=address))
        body = [
            _namespace(),
            *_service("s3", moto.url),
            *_service("gs", gs.url),
            *_service("modelscope", modelscope.url),
        ]
        kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": body}))
        yield Stores(moto, gs, modelscope)
        kubectl("delete", "namespace", "stores", "--wait=false")


def _address_of_this_machine() -> str:
    """The node's address, which is this machine's on a node that runs beside the tests."""
    return kubectl("get", "nodes", "-o", 'jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}')


def _namespace() -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "stores"}}


def _service(name: str, url: str) -> list[dict[str, Any]]:
    there = urlsplit(url)
    metadata = {"name": name, "namespace": "stores"}
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports}},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": metadata | {"labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": there.port, "protocol": "TCP"}],
            "endpoints": [{"addresses": [there.hostname]}],
        },
    ]


def test_models_from_every_store_are_served_and_servers_reach_none(namespace: Namespace, stores: Stores) -> None:
    for source in SOURCES:
        _give(namespace, source)
        namespace.apply_fake(source.scheme, model=source.model, **source.credentials)

    for source in SOURCES:
        status = namespace.await_ready(source.scheme)
        assert (status["source"]["uri"], len(status["source"]["commit"]) > 8) == (source.model, True)
        assert status["weights"]["bytesDone"] >= 6_000_000
        (pod,) = namespace.server_pods(source.scheme)
        container = pod["spec"]["containers"][0]
        assert container["args"][0].startswith("/models/")
        variables = {variable["name"]: variable.get("value", "") for variable in container["env"]}
        assert (variables["HF_HUB_OFFLINE"], variables["TRANSFORMERS_OFFLINE"]) == ("1", "1")
        assert variables["VLLM_USE_MODELSCOPE"] == "False"
        assert not {name for name in variables if name.startswith(("AWS_", "GOOGLE_", "MODELSCOPE_"))}
        assert namespace.ask("/v1/models", name=source.scheme)["data"][0]["id"] == source.served
    assert stores.gs.asked
    assert stores.modelscope.asked
    assert any(asker.startswith("modelscope_hub/") for asker in stores.modelscope.askers)


def test_without_a_cache_the_server_reads_the_bucket_itself_and_other_sources_are_brought_by_each_pod(
    namespace: Namespace, stores: Stores
) -> None:
    """The real vLLM with run:ai's loader; the model is then taken out of the bucket."""
    stores.s3.fill("models", "chat", models.folder() / TINY)
    _give(namespace, SOURCES[0])
    streamed = {"loadFormat": "runai_streamer", "cache": {"type": "None"}}
    namespace.apply_real(model="s3://models/chat", servedModelName=["chat"], **streamed, **SOURCES[0].credentials)
    namespace.apply_fake("each", cache={"type": "None"})
    namespace.apply_fake("absent", model="s3://models/nothing", **streamed, **SOURCES[0].credentials)
    namespace.apply_fake("wrong", download={"include": ["*.safetensors"]}, model="s3://models/chat", **streamed)

    absent = namespace.await_condition("WeightsReady", "False", "RepoNotFound", name="absent")
    wrong = namespace.await_condition("Ready", "False", "InvalidSpec", name="wrong")
    assert "s3://models/nothing" in absent["message"]
    assert "download.include" in wrong["message"]
    for name in ("each", "m"):
        namespace.await_ready(name, seconds=180)
        assert namespace.condition("WeightsReady", name)["reason"] == "InPlace"
    assert {job["metadata"]["labels"]["vllm-operator.dev/job"] for job in namespace.list("jobs")} == {"inspect"}
    assert namespace.list("persistentvolumeclaims") == []
    (each,), (pod,) = namespace.server_pods("each"), namespace.server_pods("m")
    assert each["spec"]["containers"][0]["args"][0].startswith("/models/")
    assert each["spec"]["initContainers"][0]["args"] == ["pull"]
    container = pod["spec"]["containers"][0]
    given = {variable["name"]: variable for variable in container["env"]}
    assert container["args"][0] == "s3://models/chat"
    assert given["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"]["name"] == "s3-keys"
    assert "initContainers" not in pod["spec"]
    assert namespace.kubectl("exec", pod["metadata"]["name"], "--", "python3", "-c", WEIGHTS_ON_DISK).split() == []
    body = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    answer = namespace.ask("/v1/chat/completions", body=body)["choices"][0]["message"]["content"]
    assert answer.startswith("Hello! I am a tiny model")

    bucket = stores.s3.store("models")
    obstore.delete(bucket, [found["path"] for found in bucket.list("chat").collect()])
    namespace.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")

    assert "bucket" in await_failure(namespace, "RepoNotFound", 120)["message"]


def _give(namespace: Namespace, source: Source) -> None:
    if source.secret:
        data = {key: base64.b64encode(value.encode()).decode() for key, value in source.secret.items()}
        metadata = {"name": f"{source.scheme}-keys"}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}
        namespace.kubectl("apply", "-f", "-", input=json.dumps(body))
