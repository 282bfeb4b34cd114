"""Whom a model's parts are asked of: each with the platform's address, and a token or keys that are its own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.builders import a_model
from tests.golden.canned import answer_to, problems, settings
from vllm_operator.plan import JobPlan, plan_model, plan_server, plan_weights
from vllm_operator.plan.labels import MADE_WITH_ANNOTATION
from vllm_operator.render import render_part

MIRRORS = {
    "hub": {"endpoint": "https://hf.example.com"},
    "sources": {
        "s3": {"endpoint": "https://s3.example.com"},
        "gs": {"endpoint": "https://gs.example.com"},
        "modelscope": {"endpoint": "https://ms.example.com"},
    },
}
ADDRESSES = {
    "HF_ENDPOINT": "https://hf.example.com",
    "MODELSCOPE_ENDPOINT": "https://ms.example.com",
    "AWS_ENDPOINT_URL": "https://s3.example.com",
    "GOOGLE_BASE_URL": "https://gs.example.com",
}
HF, MODELSCOPE, S3, GS = "org/name", "modelscope://org/name", "s3://bucket/name", "gs://bucket/name"


def variables(job: JobPlan | None) -> dict[str, Any]:
    assert job is not None
    return {str(item["name"]): item for item in job.env}


def asked(**spec: Any) -> dict[str, Any]:
    return variables(plan_model(a_model(**spec), settings(**MIRRORS)).inspect)


def adapter(source: str) -> dict[str, Any]:
    return {"adapters": ({"name": "a", "source": source},)}


def draft(source: str) -> dict[str, Any]:
    return {"speculative_config": {"method": "eagle3", "model": source, "num_speculative_tokens": 2}}


@pytest.mark.parametrize(
    ("spec", "hosts"),
    [
        ({"model": HF}, "HF_ENDPOINT"),
        ({"model": S3, "tokenizer": HF}, "AWS_ENDPOINT_URL HF_ENDPOINT"),
        ({"model": HF, "tokenizer": MODELSCOPE}, "HF_ENDPOINT MODELSCOPE_ENDPOINT"),
        ({"model": MODELSCOPE, "tokenizer": GS}, "GOOGLE_BASE_URL MODELSCOPE_ENDPOINT"),
        ({"model": GS, "tokenizer": "pvc://claim/tokenizer"}, "GOOGLE_BASE_URL"),
        ({"model": GS, **adapter(S3)}, "AWS_ENDPOINT_URL GOOGLE_BASE_URL"),
        ({"model": GS, **draft(HF)}, "GOOGLE_BASE_URL HF_ENDPOINT"),
    ],
)
def test_every_place_that_is_asked_has_the_platforms_address(spec: dict[str, Any], hosts: str) -> None:
    found = asked(**spec)

    assert sorted(name for name in found if name in ADDRESSES) == hosts.split()
    assert all(found[name]["value"] == ADDRESSES[name] for name in hosts.split())


@pytest.mark.parametrize(
    ("spec", "token"),
    [
        ({"model": HF}, "HF_TOKEN"),
        ({"model": MODELSCOPE}, "MODELSCOPE_API_TOKEN"),
        ({"model": MODELSCOPE, "tokenizer": HF}, "MODELSCOPE_API_TOKEN"),
        ({"model": MODELSCOPE, **adapter(HF)}, "MODELSCOPE_API_TOKEN"),
        ({"model": HF, "tokenizer": MODELSCOPE, **adapter(MODELSCOPE)}, "HF_TOKEN"),
        ({"model": S3, "tokenizer": MODELSCOPE}, "MODELSCOPE_API_TOKEN"),
        ({"model": S3, **draft(HF), **adapter(MODELSCOPE)}, "HF_TOKEN"),
        ({"model": "pvc://claim/x", **adapter(MODELSCOPE)}, "MODELSCOPE_API_TOKEN"),
    ],
)
def test_the_token_is_for_the_models_hub_or_the_first_that_is_asked(spec: dict[str, Any], token: str) -> None:
    found = asked(**spec, token_secret_ref={"name": "t"})

    assert [name for name in found if name in ("HF_TOKEN", "MODELSCOPE_API_TOKEN")] == [token]


def test_a_live_adapter_of_another_hub_is_asked_for_without_the_models_token() -> None:
    spec = {"adapter_loading": "Live", "token_secret_ref": {"name": "t"}}
    other = plan_model(a_model(model=MODELSCOPE, **spec, **adapter(HF)), settings())
    same = plan_model(a_model(model=S3, **spec, **adapter(HF)), settings())

    assert not {"HF_TOKEN", "MODELSCOPE_API_TOKEN"} & variables(other.adapters[0].inspect).keys()
    assert "HF_TOKEN" in variables(same.adapters[0].inspect)


@pytest.mark.parametrize(
    "spec", [{"model": HF, "tokenizer": S3}, {"model": HF, **draft(S3)}, {"model": HF, **adapter(S3)}]
)
def test_a_buckets_keys_come_along_whatever_lies_in_it(spec: dict[str, Any]) -> None:
    found = asked(**spec, credentials_secret_ref={"name": "keys"})

    assert found["AWS_ACCESS_KEY_ID"]["valueFrom"]["secretKeyRef"]["name"] == "keys"
    assert "value" in found["AWS_ENDPOINT_URL"]


@pytest.mark.parametrize("model", [S3, GS, "pvc://claim/x", "oci://r.example/m@sha256:" + "0" * 64])
def test_a_token_that_no_hub_gets_is_told(model: str) -> None:
    ((reason, message),) = problems(model=model, token_secret_ref={"name": "t"})

    assert reason == "InvalidSpec"
    assert message.startswith("tokenSecretRef has no effect")


@pytest.mark.parametrize(
    ("model", "name"),
    [(HF, "org/name"), ("hf://org/name@v1", "org/name"), (S3, "name"), ("pvc://claim/models/qwen", "qwen")],
)
def test_an_adapter_cannot_have_the_models_own_name(model: str, name: str) -> None:
    spec: dict[str, Any] = {"model": model, "adapters": ({"name": name, "source": "org/a"},)}

    ((_, message),) = problems(**spec)
    assert message.startswith(f"adapters: {name} is the model's own name")
    assert not problems(**spec, served_model_name=("other",))


def test_every_download_trusts_the_platforms_authorities() -> None:
    given = settings(sources={"trustedCertificates": {"configMap": "trusted", "key": "bundle.pem"}})
    plan = plan_model(a_model(), given)
    for job in (plan.inspect, plan_weights(plan, answer_to(plan)).pull):
        assert variables(job)["SSL_CERT_FILE"]["value"] == "/certificates/ca.crt"
        pod = render_part(job)["spec"]["template"]["spec"] if job else {}
        items = [{"key": "bundle.pem", "path": "ca.crt"}]
        assert {"name": "certificates", "configMap": {"name": "trusted", "items": items}} in pod["volumes"]
        mount = {"name": "certificates", "mountPath": "/certificates", "readOnly": True}
        assert mount in pod["containers"][0]["volumeMounts"]


def test_a_pod_that_downloads_for_itself_trusts_them_and_its_server_does_not_know_them() -> None:
    given = settings(sources={"trustedCertificates": {"configMap": "trusted"}})
    plan = plan_model(a_model(cache={"type": "None"}), given)
    server = plan_server(plan, plan_weights(plan, answer_to(plan)))
    pod = render_part(server.deployment)["spec"]["template"]["spec"]

    assert [volume["name"] for volume in pod["volumes"]].count("certificates") == 1
    assert "certificates" in [mount["name"] for mount in pod["initContainers"][0]["volumeMounts"]]
    assert "certificates" not in json.dumps(pod["containers"])
    assert "SSL_CERT_FILE" not in json.dumps(pod["containers"])


def test_a_download_that_failed_is_tried_again_with_other_authorities() -> None:
    trusted = {"trustedCertificates": {"configMap": "trusted"}}
    without, others = (plan_model(a_model(), settings(sources=sources)).inspect for sources in ({}, trusted))

    assert without is not None and others is not None
    assert without.name == others.name
    assert without.annotations[MADE_WITH_ANNOTATION] != others.annotations[MADE_WITH_ANNOTATION]
