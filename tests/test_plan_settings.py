"""No key of the settings is accepted and ignored: each one changes a manifest or what stands against a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from tests.builders import a_model
from tests.golden.canned import answer_to, settings
from vllm_operator.plan import plan_model, plan_server, plan_weights
from vllm_operator.render import render_part
from vllm_operator.settings import Profile, Settings

S3: dict[str, Any] = {"model": "s3://bucket/prefix"}
NPU: dict[str, Any] = {"vendor": "nvidia", "resourceName": "example.com/npu"}

# The key, a value that is not the built-in one, and the model that shows the difference.
SAMPLES: dict[str, tuple[Any, dict[str, Any]]] = {
    "images.server": ({"nvidia": "ours:1"}, {}),
    "images.weights": ("ours:1", {}),
    "accelerators": ({"nvidia": {"count": 2}}, {}),
    "defaultAccelerator": ("nvidia-l4", {}),
    "hub.endpoint": ("https://hub.example.com", {}),
    "sources.s3.endpoint": ("https://s3.example.com", S3),
    "sources.s3.region": ("eu-1", S3),
    "sources.gs.endpoint": ("https://gs.example.com", {"model": "gs://bucket/prefix"}),
    "sources.modelscope.endpoint": ("https://ms.example.com", {"model": "modelscope://org/name"}),
    "sources.trustedCertificates": ({"configMap": "trusted"}, {}),
    "policy.allowedImages": (["ours/"], {"image": "theirs:1"}),
    "policy.allowTrustRemoteCode": (False, {"trust_remote_code": True}),
    "policy.allowedSources": (["hf://ours/*"], {}),
    "policy.allowedEnv": ([], {"env": ({"name": "TZ", "value": "UTC"},)}),
    "policy.allowNodePaths": (True, {"model": "file:///srv/model"}),
    "nodeCache": ({"path": "/srv/weights"}, {"cache": {"type": "Node"}}),
    "policy.allowLiveAdapters": (True, {"adapter_loading": "Live"}),
    "policy.allowedMediaDomains": (["*"], {}),
    "defaults.storageClassName": ("fast", {}),
    "defaults.startupTimeoutSeconds": (99, {}),
    "defaults.shutdownTimeoutSeconds": (99, {}),
    "defaults.preStopSeconds": (0, {}),
    "defaults.imagePullPolicy": ("Always", {}),
    "defaults.shmSize": ("3Gi", {}),
    "defaults.cpuRequest": ("2", {}),
    "defaults.memoryRequest": ("5Gi", {}),
    "defaults.readSpeed": ("1M", {}),
    "defaults.temporarySize": ("1Gi", {}),
    "probes.startup.periodSeconds": (7, {}),
    "probes.startup.timeoutSeconds": (7, {}),
    "probes.startup.failureThreshold": (999, {}),
    "probes.readiness.periodSeconds": (7, {}),
    "probes.readiness.timeoutSeconds": (7, {}),
    "probes.readiness.failureThreshold": (7, {}),
    "probes.liveness.periodSeconds": (7, {}),
    "probes.liveness.timeoutSeconds": (7, {}),
    "probes.liveness.failureThreshold": (7, {}),
    "clusterDomain": ("cluster.local", {}),
    "childAnnotations": ({"a": "b"}, {}),
}
PROFILE: dict[str, Any] = {
    "vendor": "amd",
    "resourceName": "example.com/other",
    "nodeSelector": {"a": ["b", "c"]},
    "nodeHints": {"a": "b"},
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "runtimeClassName": "npu",
    "image": "ours:1",
    "env": {"A": "b"},
    "args": ["--npu"],
    "count": 2,
    "supplementalGroups": [44],
}
# What the fit, and what the decision about a failing server, read from here.
READ_BY_OTHERS = {"crashPolicy.stopPermanent", "crashPolicy.tries"}
READ_BY_THE_FIT = {"memory", "computeCapability"}


def keys_of(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        key, inner = f"{prefix}{field.alias or name}", field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from keys_of(inner, f"{key}.")
        else:
            yield key


def outcome(document: dict[str, Any], spec: dict[str, Any]) -> Any:
    """Everything that follows from a model: what stands against it, its manifests, its address."""
    plan = plan_model(a_model(**spec), settings(**document))
    weights = plan_weights(plan, answer_to(plan))
    server = plan_server(plan, weights)
    parts = (plan.inspect, weights.claim, weights.pull, server.deployment, server.service)
    return [plan.problems, server.url, [render_part(part) for part in parts if part is not None]]


def nested(key: str, value: Any) -> dict[str, Any]:
    name, _, rest = key.partition(".")
    return {name: nested(rest, value) if rest else value}


def test_every_key_has_a_sample() -> None:
    assert set(keys_of(Settings)) == set(SAMPLES) | READ_BY_OTHERS
    assert set(keys_of(Profile)) == set(PROFILE) | READ_BY_THE_FIT


@pytest.mark.parametrize("key", sorted(SAMPLES))
def test_a_key_of_the_settings_changes_something(key: str) -> None:
    value, spec = SAMPLES[key]

    assert outcome(nested(key, value), spec) != outcome({}, spec)


@pytest.mark.parametrize("key", sorted(PROFILE))
def test_a_key_of_an_accelerator_changes_something(key: str) -> None:
    spec = {"accelerator": "npu"}

    changed = outcome({"accelerators": {"npu": NPU | {key: PROFILE[key]}}}, spec)
    assert changed != outcome({"accelerators": {"npu": NPU}}, spec)
