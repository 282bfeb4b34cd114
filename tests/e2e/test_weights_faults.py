"""What goes wrong with a pull on the real node, from `kubectl apply` to the status' sentence and to the end of the fault.

Each fault has a model, and a name of the hub's repository, of its own: they fail side by side, and are mended together.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.world import TINY, Audit, Namespace, await_that, break_hub, kubectl, mend_hub

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
GATED = "vllm-operator/gated"
SLOW = 8_000_000
ONCE = {"tries": 1}
TWICE = {"tries": 2}
PULLS = "vllm-operator.dev/job=pull"
WEIGHTS = {"path": "model.safetensors"}
SOON = {"stallTimeoutSeconds": 5}
SILENT = {"where": "cdn", "seconds": 60, "skip": 1}  # the inspection reads a header, and the pull hears nothing
PINNED = {"where": "api", "path": "[0-9a-f]*"}  # the inspection lists a branch, and the pull may not list its commit
FILL = "with open('/weights/filler', 'wb') as f:\n while True: f.write(bytes(1 << 20)); f.flush()"


def claim_of(namespace: Namespace, name: str) -> dict[str, Any]:
    """The claim of a model's weights, as the status names it."""
    return namespace.get("persistentvolumeclaim", str(namespace.status(name)["weights"]["claimName"]))


def pull_of(namespace: Namespace, name: str) -> dict[str, Any]:
    """The pull Job that this model owns."""
    jobs = namespace.list("jobs", "-l", PULLS)
    owned = (job for job in jobs if any(owner["name"] == name for owner in job["metadata"]["ownerReferences"]))
    return next(owned, {})


def pods_of(namespace: Namespace, job: dict[str, Any]) -> list[dict[str, Any]]:
    """Of a Job that is there; before it there is none."""
    if not job:
        return []
    return namespace.list("pods", "-l", f"batch.kubernetes.io/job-name={job['metadata']['name']}")


def await_percent(namespace: Namespace, name: str) -> None:
    percent = lambda: namespace.status(name).get("weights", {}).get("percent") or 0  # noqa: E731
    await_that(percent, lambda p: p > 0, 90, f"a first percent of {name}")


def own(repo: str, namespace: Namespace, name: str) -> str:
    """The repository under a name that is this model's alone."""
    return "_".join((repo, "", *namespace.name.split("-")[-2:], name))


def pull_only(namespace: Namespace, name: str, repo: str, **spec: Any) -> None:
    namespace.apply_fake(name, model=own(repo, namespace, name), replicas=0, **spec)


def fault(namespace: Namespace, name: str, repo: str, kind: str, **how: object) -> None:
    break_hub(own(repo, namespace, name), kind, **how)


def test_each_fault_of_a_pull_ends_in_its_own_words_and_stays_until_somebody_asks_again(
    namespace: Namespace, new_namespace: Callable[[str], Namespace]
) -> None:
    repos = {
        "wrong": TINY,
        "limited": TINY,
        "down": TINY,
        "cut": TINY,
        "silent": TINY,
        "revoked": GATED,
        "full": MINILM,
    }
    token = own("hf_other", namespace, "revoked")
    namespace.kubectl("create", "secret", "generic", "hub", f"--from-literal=token={token}")
    fault(namespace, "wrong", TINY, "corrupt", **WEIGHTS, where="cdn", afterBytes=500_000)
    fault(namespace, "limited", TINY, "status", status=429, retryAfter=0, **PINNED)
    fault(namespace, "down", TINY, "status", status=503, retryAfter=0, **PINNED)
    fault(namespace, "cut", TINY, "cut", **PINNED)
    fault(namespace, "silent", TINY, "stall", **WEIGHTS, **SILENT)
    fault(namespace, "revoked", GATED, "revoke", token=token, **PINNED)
    fault(namespace, "full", MINILM, "slow", **WEIGHTS, bytesPerSecond=SLOW // 4)
    for name in ("wrong", "limited", "cut"):
        pull_only(namespace, name, repos[name], download=ONCE)
    pull_only(namespace, "down", TINY, download=TWICE)
    pull_only(namespace, "silent", TINY, download=SOON | TWICE)
    pull_only(namespace, "revoked", GATED, tokenSecretRef={"name": "hub"})
    limited = {"storageClassName": "limited", "size": "200Mi", "compileCache": False}
    pull_only(namespace, "full", MINILM, runner="pooling", cache=limited)
    doomed = pulling_namespace(new_namespace)
    audit = Audit(doomed.name)

    await_percent(namespace, "full")
    (pod,) = pods_of(namespace, pull_of(namespace, "full"))
    namespace.kubectl("exec", pod["metadata"]["name"], "--", "python", "-c", FILL, check=False)
    kubectl("delete", "namespace", doomed.name, "--wait=true", "--timeout=90s")
    before = len(audit.requests())

    ends = {
        "wrong": ("WeightsCorrupt", "model.safetensors"),
        "limited": ("HubRateLimited", "429"),
        "cut": ("HubUnreachable", "cannot be reached"),
        "down": ("HubUnreachable", "503"),
        "silent": ("DownloadStalled", "No byte arrived"),
        "revoked": ("InvalidToken", "revoked"),
        "full": ("DiskFull", "Enlarge the volume"),
    }
    failed = {name: failed_for_good(namespace, name, *end) for name, end in ends.items()}
    pods = {name: len(pods_of(namespace, job)) for name, job in failed.items()}
    assert pods == dict.fromkeys(ends, 1) | {"down": 2, "silent": 2}

    assert {name: uid(pull_of(namespace, name)) for name in ends} == {name: uid(job) for name, job in failed.items()}
    assert len(audit.requests()) - before <= 2, "a namespace that is gone is not asked for again and again"
    for name, repo in repos.items():
        mend_hub(own(repo, namespace, name))
    kubectl("-n", namespace.name, "delete", "pvc", claim_of(namespace, "full")["metadata"]["name"], "--wait=false")
    namespace.kubectl("annotate", "vllmmodel", *ends, "vllm-operator.dev/refresh=again")
    for name in ends:
        namespace.await_condition("WeightsReady", "True", "Downloaded", name=name, seconds=120)


def failed_for_good(namespace: Namespace, name: str, reason: str, says: str) -> dict[str, Any]:
    """The failed Job, once the status says so: nothing is tried any more, and the sentence says what to do."""
    of_weights = "DownloadFailed" if reason in ("HubRateLimited", "HubUnreachable", "DownloadStalled") else reason
    told = namespace.await_condition("WeightsReady", "False", of_weights, name=name, seconds=120)
    stalled = await_that(
        lambda: namespace.condition("Stalled", name), lambda c: c.get("reason") == reason, 90, f"the end of {name}"
    )
    assert says in told["message"] + stalled["message"]
    assert "refresh" in stalled["message"]
    assert namespace.status(name)["lastFailure"]["reason"] == reason
    job = pull_of(namespace, name)
    assert any(c["type"] == "Failed" and c["status"] == "True" for c in job["status"]["conditions"])
    return job


def uid(job: dict[str, Any]) -> str:
    return str(job["metadata"]["uid"])


def pulling_namespace(new_namespace: Callable[[str], Namespace]) -> Namespace:
    """A namespace in the middle of a pull."""
    made = new_namespace("doomed")
    fault(made, "m", MINILM, "slow", **WEIGHTS, bytesPerSecond=SLOW // 4)
    pull_only(made, "m", MINILM, runner="pooling")
    await_percent(made, "m")
    return made


def test_a_volume_that_is_deleted_is_made_and_filled_again_and_the_server_goes_on_until_then(
    namespace: Namespace,
) -> None:
    fault(namespace, "pulling", MINILM, "slow", **WEIGHTS, bytesPerSecond=SLOW)
    pull_only(namespace, "pulling", MINILM, runner="pooling")
    namespace.apply_fake("serving")
    namespace.await_ready("serving")
    await_percent(namespace, "pulling")
    claims = {name: claim_of(namespace, name)["metadata"] for name in ("pulling", "serving")}

    namespace.kubectl("delete", "pvc", *(claim["name"] for claim in claims.values()), "--wait=false")

    waiting = namespace.await_condition("WeightsReady", "False", "WaitingForVolume", name="serving")
    assert "deleted" in waiting["message"]
    assert namespace.condition("Ready", "serving")["status"] == "True"
    (pod,) = namespace.server_pods("serving")
    namespace.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")
    mend_hub(own(MINILM, namespace, "pulling"))
    for name, old in claims.items():
        await_that(
            lambda name=name: claim_of(namespace, name).get("metadata", {}).get("uid", ""),
            lambda found, old=old: found not in ("", old["uid"]),
            120,
            f"a new volume of {name}",
        )
        namespace.await_condition("WeightsReady", "True", "Downloaded", name=name, seconds=120)
    assert "lastFailure" not in namespace.await_ready("serving"), "no server started on the empty volume"


def test_a_pull_that_hears_nothing_is_begun_again_goes_on_from_its_byte_and_is_served(namespace: Namespace) -> None:
    fault(namespace, "m", TINY, "stall", **WEIGHTS, **SILENT, afterBytes=500_000, times=1)
    fault(namespace, "m", TINY, "stall", **WEIGHTS, **SILENT)
    namespace.apply_fake(model=own(TINY, namespace, "m"), download=SOON)

    phases = lambda: [pod["status"]["phase"] for pod in pods_of(namespace, pull_of(namespace, "m"))]  # noqa: E731
    await_that(phases, lambda found: "Failed" in found, 60, "the end of the first try")
    mend_hub(own(TINY, namespace, "m"))

    namespace.await_ready()
    report = json.loads(last_line_of_the_pull(namespace))
    assert 0 < report["bytesFetched"] <= report["bytes"] - 500_000
    failed = next(pod for pod in pods_of(namespace, pull_of(namespace, "m")) if pod["status"]["phase"] == "Failed")
    assert "DownloadStalled" in failed["status"]["containerStatuses"][0]["state"]["terminated"]["message"]


@pytest.mark.alone
def test_a_hub_that_goes_away_in_the_middle_and_comes_back_is_resumed_from(namespace: Namespace) -> None:
    fault(namespace, "m", MINILM, "slow", **WEIGHTS, bytesPerSecond=SLOW)
    pull_only(namespace, "m", MINILM, runner="pooling")
    await_percent(namespace, "m")
    done = namespace.status()["weights"]["bytesDone"]

    hub_pods = ("-n", "hub", "delete", "pod", "-l", "app=hub", "--grace-period=0", "--force")
    kubectl(*hub_pods)  # its faults go with it

    namespace.await_condition("WeightsReady", "True", "Downloaded", seconds=180)
    report = json.loads(last_line_of_the_pull(namespace))
    assert report["ok"]
    assert report["bytesFetched"] <= report["bytes"]
    assert namespace.status()["weights"]["bytesDone"] == report["bytes"] > done


def last_line_of_the_pull(namespace: Namespace) -> str:
    pods = pods_of(namespace, pull_of(namespace, "m"))
    done = next(pod for pod in pods if pod["status"]["phase"] == "Succeeded")
    return str(done["status"]["containerStatuses"][0]["state"]["terminated"]["message"])
