"""Weights on the real node: reasons before anything is taken, one pull for all who ask the same, resumption, the end of a volume."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.world import API_VERSION, TINY, Namespace, await_that, kubectl, slow_hub

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]


def claims(namespace: Namespace) -> list[str]:
    return [
        claim["metadata"]["name"]
        for claim in namespace.list("persistentvolumeclaims")
        if "deletionTimestamp" not in claim["metadata"]
    ]


@pytest.mark.parametrize(
    ("model", "extra", "reason"),
    [
        ("nobody/nothing", {}, "RepoNotFound"),
        (TINY, {"revision": "no-such-branch"}, "RevisionNotFound"),
        ("vllm-operator/gated", {}, "GatedRepo"),
    ],
)
def test_what_the_hub_refuses_is_said_before_a_volume_is_taken(
    namespace: Namespace, model: str, extra: dict[str, str], reason: str
) -> None:
    namespace.apply_fake(model=model, **extra)

    condition = namespace.await_condition("WeightsReady", "False", reason)

    assert condition["message"]
    assert claims(namespace) == []
    assert namespace.get("deployment", "m") == {}
    assert namespace.condition("Stalled")["status"] == "True"


def test_a_token_by_secret_reference_opens_a_gated_repository(namespace: Namespace) -> None:
    namespace.kubectl("create", "secret", "generic", "hub-token", "--from-literal=token=hf_test")

    namespace.apply_fake(model="vllm-operator/gated", tokenSecretRef={"name": "hub-token", "key": "token"})

    namespace.await_ready()


def test_a_missing_secret_is_named_and_awaited(namespace: Namespace) -> None:
    namespace.apply_fake(tokenSecretRef={"name": "hub-token", "key": "token"})
    await_that(
        lambda: namespace.condition("Ready"), lambda c: c.get("reason") == "SecretNotFound", 60, "SecretNotFound"
    )
    assert "hub-token" in namespace.condition("Ready")["message"]

    namespace.kubectl("create", "secret", "generic", "hub-token", "--from-literal=token=hf_test")

    namespace.await_ready(seconds=180)


def test_fifty_models_of_one_source_share_one_inspection_one_volume_and_one_pull(namespace: Namespace) -> None:
    spec = {"model": TINY, "accelerator": "cpu", "replicas": 0}
    models = [
        {
            "apiVersion": API_VERSION,
            "kind": "VLLMModel",
            "metadata": {"name": f"m{n}", "namespace": namespace.name},
            "spec": spec,
        }
        for n in range(50)
    ]
    kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": models}))

    def weights_ready() -> int:
        found = namespace.list("vllmmodels")
        return sum(
            any(
                c["type"] == "WeightsReady" and c["status"] == "True"
                for c in model.get("status", {}).get("conditions", [])
            )
            for model in found
        )

    await_that(weights_ready, lambda n: n == 50, 240, "fifty models with weights")
    jobs = namespace.list("jobs")
    assert len(jobs) == 2
    assert len(claims(namespace)) == 1
    owners = namespace.list("persistentvolumeclaims")[0]["metadata"]["ownerReferences"]
    assert len(owners) == 50


def test_the_volume_stays_for_its_other_owners_and_goes_with_the_last(namespace: Namespace) -> None:
    namespace.apply_fake("one", replicas=0)
    namespace.apply_fake("two", replicas=0)
    for name in ("one", "two"):
        namespace.await_condition("WeightsReady", "True", name=name)
    assert len(claims(namespace)) == 1

    namespace.kubectl("delete", "vllmmodel", "one", "--wait=true")
    namespace.await_condition("WeightsReady", "True", name="two")
    assert len(claims(namespace)) == 1

    namespace.kubectl("delete", "vllmmodel", "two", "--wait=true")
    await_that(lambda: claims(namespace), lambda left: not left, 60, "the end of the volume")


def owners(namespace: Namespace, claim: str) -> list[str]:
    """The models that take the claim along when they go."""
    return sorted(owner["name"] for owner in namespace.get("pvc", claim)["metadata"].get("ownerReferences") or [])


def test_a_volume_that_is_retained_from_some_day_on_outlives_all_its_models(namespace: Namespace) -> None:
    for name in ("m", "n"):
        namespace.apply_fake(name, replicas=0)
        namespace.await_condition("WeightsReady", "True", name=name)
    (claim,) = claims(namespace)
    await_that(lambda: owners(namespace, claim), lambda found: found == ["m", "n"], 60, "two owners")

    namespace.patch("m", cache={"retain": True, "size": "3Gi"})

    await_that(lambda: owners(namespace, claim), lambda found: found == [], 60, "no owners")
    # The node's storage cannot be enlarged, as most of a machine's own cannot.
    said = await_that(
        lambda: namespace.condition("WeightsReady").get("message", ""), lambda text: "enlarged" in text, 60, "a word"
    )
    assert f"Delete claim {claim}" in said
    assert namespace.condition("WeightsReady")["status"] == "True"
    namespace.kubectl("delete", "vllmmodel", "m", "n", "--wait=true")
    await_that(lambda: len(namespace.list("jobs")), lambda n: n == 0, 60, "no Jobs")
    assert claims(namespace) == [claim]


def test_a_claim_that_exists_is_read_and_never_written(namespace: Namespace) -> None:
    namespace.apply_fake("first", replicas=0, cache={"retain": True})
    namespace.await_condition("WeightsReady", "True", name="first")
    claim = claims(namespace)[0]
    folder = next(
        mount
        for pod in namespace.list("pods", "-l", "vllm-operator.dev/job=pull")
        for mount in pod["spec"]["containers"][0]["env"]
        if mount["name"] == "WEIGHTS_REQUEST"
    )
    request = json.loads(folder["value"])
    path = (request.get("pulls") or [request])[0]["destination"].removeprefix("/weights/")

    volume = json.loads(kubectl("get", "pv", namespace.get("pvc", claim)["spec"]["volumeName"], "-o", "json"))
    disk = Path((volume["spec"].get("local") or volume["spec"]["hostPath"])["path"])
    shutil.copytree(disk / path, disk / TINY)  # as somebody would who fills a claim by hand
    before = sorted((str(file), file.stat().st_mtime_ns) for file in disk.rglob("*"))

    namespace.apply_fake("second", model=f"pvc://{claim}/{path}")
    namespace.apply_fake("third", model=TINY, cache={"type": "ExistingClaim", "claimName": claim})

    for name in ("second", "third"):
        namespace.await_ready(name)
        mounts = namespace.server_pods(name)[0]["spec"]["containers"][0]["volumeMounts"]
        assert any(mount.get("readOnly") for mount in mounts if mount["mountPath"].startswith("/models"))
    assert namespace.status("third")["servedModels"] == [TINY]
    namespace.kubectl("delete", "vllmmodel", "second", "third", "--wait=true")
    assert sorted((str(file), file.stat().st_mtime_ns) for file in disk.rglob("*")) == before
    assert claims(namespace) == [claim]


def test_progress_is_shown_while_a_slow_hub_sends(namespace: Namespace) -> None:
    repo = "sentence-transformers/all-MiniLM-L6-v2"
    with slow_hub(repo, 4_000_000):
        namespace.apply_fake(model=repo, replicas=0, runner="pooling")
        percent = await_that(
            lambda: namespace.status().get("weights", {}).get("percent", 0),
            lambda p: 0 < p < 100,
            90,
            "a percent between",
        )
        assert 0 < percent < 100
        assert namespace.condition("WeightsReady")["reason"] == "Downloading"
    namespace.await_condition("WeightsReady", "True", seconds=180)


def test_a_killed_pull_is_taken_up_again(namespace: Namespace) -> None:
    repo = "sentence-transformers/all-MiniLM-L6-v2"
    with slow_hub(repo, 4_000_000):
        namespace.apply_fake(model=repo, replicas=0, runner="pooling")
        await_that(lambda: namespace.status().get("weights", {}).get("percent", 0), lambda p: p > 5, 90, "a first part")
        namespace.kubectl("delete", "pod", "-l", "vllm-operator.dev/job=pull", "--wait=false")

    namespace.await_condition("WeightsReady", "True", seconds=180)
