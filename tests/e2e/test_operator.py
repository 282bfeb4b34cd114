"""The operator itself: killed in the middle, changed under serving models, without a right too many."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.demo.install import install_operator
from tests.e2e.world import OPERATOR_USER, Audit, Namespace, await_that, kubectl, slow_hub

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.timeout(400)]
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def operator_pod() -> str:
    pods = json.loads(kubectl("-n", "vllm-operator", "get", "pods", "-o", "json"))["items"]
    running = [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    return str(running[0]) if running else ""


def kill_operator() -> None:
    """Ends it at once, as SIGKILL does, and lets the Deployment start another."""
    kubectl("-n", "vllm-operator", "delete", "pod", operator_pod(), "--grace-period=0", "--force")


def test_an_operator_killed_between_weights_and_serving_goes_on_after_its_restart(namespace: Namespace) -> None:
    with slow_hub(MINILM, 8_000_000):
        namespace.apply_fake(model=MINILM, runner="pooling")
        await_that(
            lambda: namespace.status().get("weights", {}).get("percent", 0), lambda p: p > 0, 90, "a first percent"
        )
        kill_operator()

    namespace.await_ready(seconds=180)
    assert len(namespace.list("jobs")) == 2


def test_a_restarted_operator_writes_nothing_for_models_that_serve(namespace: Namespace) -> None:
    for name in ("a", "b", "c"):
        namespace.apply_fake(name)
    for name in ("a", "b", "c"):
        namespace.await_ready(name)
    audit = Audit(namespace.name)

    kill_operator()
    kubectl("-n", "vllm-operator", "rollout", "status", "deployment/vllm-operator", "--timeout=120s")
    await_that(lambda: len(audit.requests()), lambda n: n > 3, 90, "the new operator's first look")
    looks = iter(range(20))
    await_that(lambda: next(looks), lambda n: n >= 19, 60, "ten quiet seconds")

    assert audit.writes() == []


def a_policy_that_rewrites_deployments(namespace: str) -> dict[str, object]:
    """Gives every server 77 seconds to end, whatever its manifest says."""
    expression = "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{terminationGracePeriodSeconds: 77}}}}"
    rule = {
        "apiGroups": ["apps"],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["deployments"],
    }
    there = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    api, name = "admissionregistration.k8s.io/v1", {"name": f"rewrite-{namespace}"}
    policy = {
        "matchConstraints": {"resourceRules": [rule], "namespaceSelector": there},
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}],
        "reinvocationPolicy": "Never",
        "failurePolicy": "Fail",
    }
    items = [
        {"apiVersion": api, "kind": "MutatingAdmissionPolicy", "metadata": name, "spec": policy},
        {
            "apiVersion": api,
            "kind": "MutatingAdmissionPolicyBinding",
            "metadata": name,
            "spec": {"policyName": name["name"]},
        },
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}


@pytest.fixture
def rewriting(namespace: Namespace) -> Iterator[Namespace]:
    """A namespace whose admission rewrites our Deployments."""
    policy = json.dumps(a_policy_that_rewrites_deployments(namespace.name))
    kubectl("apply", "-f", "-", input=policy)
    yield namespace
    kubectl("delete", "-f", "-", input=policy)


def grace(namespace: Namespace) -> int:
    return int(namespace.get("deployment", "m")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"])


def test_what_the_cluster_s_admission_rewrites_is_no_drift_also_after_a_restart(rewriting: Namespace) -> None:
    rewriting.apply_fake()
    rewriting.await_ready()
    # The policy is known to the API server a moment after it was made; a drift of ours brings it in, if it came late.
    rewriting.kubectl("scale", "deployment", "m", "--replicas=2")
    await_that(lambda: rewriting.get("deployment", "m")["spec"]["replicas"], lambda n: n == 1, 60, "one replica")
    assert grace(rewriting) == 77
    rewriting.await_ready()
    audit, since = Audit(rewriting.name), rewriting.condition("Ready")["lastTransitionTime"]

    kill_operator()
    await_that(lambda: [r for r in audit.requests() if "dryRun=All" in r["requestURI"]], len, 90, "a dry run")
    looks = iter(range(20))
    await_that(lambda: next(looks), lambda n: n >= 19, 60, "ten quiet seconds")

    assert audit.writes() == []
    assert rewriting.condition("Ready") | {"lastTransitionTime": since} == rewriting.condition("Ready")
    assert grace(rewriting) == 77


def test_new_settings_and_a_new_operator_restart_no_serving_pod_until_they_are_asked_for(namespace: Namespace) -> None:
    namespace.apply(
        "m", model="vllm-operator/tiny-chat", accelerator="cpu", maxModelLen=512, image=namespace.images["vllm-fake"]
    )
    namespace.await_ready()
    before = namespace.server_pods()[0]["metadata"]["uid"]
    changed = {"podAnnotations": {"upgrade": "1"}, "settings": _settings(namespace, shutdown=45)}

    install_operator(dict(namespace.images), changed)
    try:
        namespace.kubectl("annotate", "vllmmodel", "m", "note=look-again")
        looks = iter(range(20))
        await_that(lambda: next(looks), lambda n: n >= 19, 60, "ten seconds")
        assert [pod["metadata"]["uid"] for pod in namespace.server_pods()] == [before]

        namespace.kubectl("annotate", "vllmmodel", "m", "vllm-operator.dev/upgrade=now")

        uids = lambda: [pod["metadata"]["uid"] for pod in namespace.server_pods()]  # noqa: E731
        await_that(uids, lambda seen: seen and before not in seen, 120, "a new pod")
        namespace.await_ready()
    finally:
        install_operator(dict(namespace.images), {})


def _settings(namespace: Namespace, shutdown: int) -> dict[str, object]:
    cpu = namespace.images["vllm-cpu"]
    return {
        "hub": {"endpoint": "http://hub.hub.svc"},
        "images": {"weights": namespace.images["weights"], "server": {"cpu": cpu, "nvidia": cpu}},
        "policy": {"allowedImages": ["vllm-operator.local/"]},
        "defaults": {"shutdownTimeoutSeconds": shutdown},
    }


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("get", "secrets"), ("list", "secrets"), ("create", "pods/exec"), ("create", "pods"), ("create", "serviceaccounts/token"),
        ("create", "rolebindings"), ("update", "vllmmodels"), ("patch", "vllmmodels"), ("create", "vllmmodels"), ("delete", "nodes"),
        ("patch", "nodes"), ("create", "validatingadmissionpolicies"), ("impersonate", "users"),
    ],
)  # fmt: skip
def test_the_operator_may_not(verb: str, resource: str) -> None:
    said = kubectl("auth", "can-i", verb, resource, "--as", OPERATOR_USER, "-A", check=False)

    assert said.strip().splitlines()[-1].startswith("no")


def test_its_metrics_are_read_in_the_cluster() -> None:
    pods = json.loads(kubectl("-n", "vllm-operator", "get", "pods", "-o", "json"))["items"]
    text = kubectl(
        "get", "--raw", f"/api/v1/namespaces/vllm-operator/pods/{pods[0]['metadata']['name']}:8081/proxy/metrics"
    )

    assert "vllm_operator_reconciles_total" in text
