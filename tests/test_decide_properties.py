"""Whatever happens in whatever order: the status stays true, and the model comes to rest.

Sequences of events (Jobs fail, servers crash, people edit and delete) are played on the small cluster. After every
decision the promises are checked; at the end everything is healed, and the model has to serve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders import a_model
from tests.decide_facts import passing, permanent
from tests.decide_world import Cluster
from vllm_operator.api import Status
from vllm_operator.decide import decide
from vllm_operator.decide.annotations import WANTED
from vllm_operator.decide.situation import look, works
from vllm_operator.decide.types import Decision, JobState, Ref, Seen
from vllm_operator.diagnose import Reason, failure

COMMITS = ("a" * 40, "b" * 40)


@dataclass(frozen=True)
class Happening:
    """Something that happens to a cluster, by a name that reads well in a failing example."""

    name: str
    apply: Callable[[Cluster], None]

    def __repr__(self) -> str:
        return self.name


def _drop_job(start: str) -> Callable[[Cluster], None]:
    def drop(cluster: Cluster) -> None:
        for name in [name for name in cluster.jobs if name.startswith(start)]:
            del cluster.jobs[name]

    return drop


def _delete_kind(kind: str) -> Callable[[Cluster], None]:
    def delete(cluster: Cluster) -> None:
        for ref in [ref for ref in cluster.live if ref.kind == kind]:
            del cluster.live[ref]
            if kind == "Deployment":
                cluster.pods = []

    return delete


def _tamper(cluster: Cluster) -> None:
    for manifest in cluster.live.values():
        if manifest["kind"] == "Deployment":
            manifest["spec"]["template"]["spec"]["containers"][0]["args"] = ["--evil"]
            manifest["metadata"]["generation"] += 1


def _set(**truth: object) -> Callable[[Cluster], None]:
    return lambda cluster: cluster.__setattr__("truth", replace(cluster.truth, **truth))  # type: ignore[arg-type]


def _edit(**spec: object) -> Callable[[Cluster], None]:
    return lambda cluster: cluster.edit(**spec)


def _restart_pod(cluster: Cluster) -> None:
    cluster.pods = [replace(pod, ready=False, answer=None) for pod in cluster.pods]


def _kill_pods(cluster: Cluster) -> None:
    cluster.pods = []


def _age_status(cluster: Cluster) -> None:
    """Somebody wiped the status."""
    cluster.model = cluster.model.model_copy(update={"status": Status()})


HAPPENINGS = st.sampled_from(
    [
        Happening("the hub refuses the token", _set(inspection=permanent(Reason.InvalidToken))),
        Happening("the hub is down", _set(inspection=failure(Reason.HubUnreachable, "down"))),
        Happening("the secret is missing", _set(inspection=failure(Reason.SecretNotFound, "none"))),
        Happening("the hub is well", _set(inspection=None)),
        Happening("the disk is full", _set(download=permanent(Reason.DiskFull))),
        Happening("the pull's pod has no secret", _set(download=failure(Reason.SecretNotFound, "none"))),
        Happening("downloads work", _set(download=None)),
        Happening("servers crash for good", _set(crash=permanent())),
        Happening("servers crash", _set(crash=passing())),
        Happening("images cannot be pulled", _set(crash=permanent(Reason.ImagePullFailed))),
        Happening("servers run", _set(crash=None)),
        Happening("servers do not answer", _set(works=False)),
        Happening("servers answer", _set(works=True)),
        Happening("the branch moves", _set(commit=COMMITS[1])),
        Happening("the branch moves back", _set(commit=COMMITS[0])),
        Happening("the repository has code", _set(custom_code=True)),
        Happening("the repository has no code", _set(custom_code=False)),
        Happening("a spec of 1024", _edit(max_model_len=1024)),
        Happening("a spec of 2048", _edit(max_model_len=2048)),
        Happening("another model", _edit(model="demo/other")),
        Happening("a claim of the user's", _edit(model="pvc://models/tiny")),
        Happening("an accelerator that nobody knows", _edit(accelerator="abacus")),
        Happening("the usual accelerator", _edit(accelerator="nvidia")),
        Happening("no replicas", _edit(replicas=0)),
        Happening("the volume is to be retained", _edit(cache={"retain": True})),
        Happening("two replicas", _edit(replicas=2)),
        Happening("a refresh", lambda cluster: cluster.refresh(f"r{len(cluster.decisions)}")),
        Happening("the pull's Job is deleted", _drop_job("pull")),
        Happening("the inspection's Job is deleted", _drop_job("inspect")),
        Happening("the volume is deleted", lambda cluster: cluster.claims.clear()),
        Happening("the Service is deleted", _delete_kind("Service")),
        Happening("the Deployment is deleted", _delete_kind("Deployment")),
        Happening("the template is edited", _tamper),
        Happening("pods restart", _restart_pod),
        Happening("pods are gone", _kill_pods),
        Happening("the status is wiped", _age_status),
        Happening("a stranger has the name", lambda c: setattr(c, "strangers", (Ref("v1", "Service", "m"),))),
        Happening("the stranger goes", lambda c: setattr(c, "strangers", ())),
        Happening("a reference is missing", lambda c: setattr(c, "missing", ("configmap prompts",))),
        Happening("the reference is there", lambda c: setattr(c, "missing", ())),
        Happening("an autoscaler comes", lambda c: setattr(c, "autoscaled", True)),
        Happening("the autoscaler goes", lambda c: setattr(c, "autoscaled", False)),
    ]
)
STORIES = st.lists(st.tuples(HAPPENINGS, st.integers(0, 4)), max_size=8)


def check(cluster: Cluster, seen: Seen, decision: Decision) -> None:
    """The promises, after one decision about one look."""
    status = decision.status
    conditions = {condition.type: condition for condition in status.conditions}
    is_ready = conditions["Ready"].status == "True"
    assert len(conditions) == len(status.conditions)
    assert all(c.observed_generation == cluster.model.metadata.generation for c in status.conditions)
    assert all(len(c.message.encode()) <= 1024 and c.reason.isalnum() for c in status.conditions)
    _progress_is_told(conditions, is_ready)
    serving = [pod for pod in seen.pods if works(pod) and not pod.terminating]
    if is_ready:
        here = look(cluster.model, cluster.plan, seen)
        assert [pod for pod in serving if pod.wanted == here.current], "Ready without a pod of the version asked for"
        assert not [pod for pod in seen.pods if pod.ready and pod.wanted != here.current], "Ready on old pods"
    assert (conditions["Available"].status == "True") == bool(serving)
    assert (status.url is not None) <= bool(serving)
    for manifest in decision.apply:
        if manifest["kind"] == "Deployment":
            _weights_came_first(cluster, seen, manifest)


def _progress_is_told(conditions: dict[str, object], is_ready: bool) -> None:
    stalled, reconciling = "Stalled" in conditions, "Reconciling" in conditions
    assert not (stalled and reconciling)
    if not is_ready and conditions["Ready"].reason != "ScaledToZero":  # type: ignore[attr-defined]
        assert stalled or reconciling


def _weights_came_first(cluster: Cluster, seen: Seen, manifest: object) -> None:
    version = manifest["metadata"]["annotations"][WANTED]  # type: ignore[index]
    is_new = seen.deployment is None or seen.deployment.wanted != version
    weights = look(cluster.model, cluster.plan, seen).weights
    if is_new and weights is not None and weights.pull is not None:
        assert seen.pull.state is JobState.SUCCEEDED and seen.claim is not None


def step(cluster: Cluster) -> None:
    seen, before = cluster.see(), cluster.model
    decision = cluster.reconcile()
    after, cluster.model = cluster.model, before
    check(cluster, seen, decision)
    cluster.model = after
    cluster.advance()


def play(cluster: Cluster, story: list[tuple[Happening, int]]) -> None:
    for happening, looks in story:
        happening.apply(cluster)
        for _ in range(looks):
            step(cluster)


QUICK = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


@QUICK
@given(STORIES)
def test_whatever_happens_the_promises_hold_and_the_model_comes_to_rest(story: list[tuple[Happening, int]]):
    cluster = Cluster(model=a_model())
    play(cluster, story)

    for _ in range(20):
        step(cluster)
    cluster.settle()
    assert cluster.rests(), cluster.decisions[-1]


@QUICK
@given(STORIES)
def test_whatever_happened_a_good_spec_and_a_refresh_make_the_model_serve(story: list[tuple[Happening, int]]):
    cluster = Cluster(model=a_model())
    play(cluster, story)

    cluster.truth = replace(cluster.truth, inspection=None, download=None, crash=None, works=True, custom_code=False)
    cluster.strangers, cluster.missing, cluster.autoscaled = (), (), False
    cluster.edit(model="demo/healed", accelerator="nvidia", replicas=1)
    cluster.refresh("heal")
    for _ in range(20):
        step(cluster)

    status = cluster.settle().status
    assert status.condition("Ready").status == "True", status  # type: ignore[union-attr]
    assert cluster.rests()


@QUICK
@given(STORIES)
def test_the_same_look_gives_the_same_decision(story: list[tuple[Happening, int]]):
    cluster = Cluster(model=a_model())
    play(cluster, story)
    seen = cluster.see()

    assert decide(cluster.model, cluster.plan, seen, cluster.now) == decide(
        cluster.model, cluster.plan, seen, cluster.now
    )
