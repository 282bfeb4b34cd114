"""The inspection: asked once, kept, and told with the hub's own reason when it fails."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.builders import a_model
from tests.decide_facts import (
    CONFIG,
    SETTINGS,
    Truth,
    an_answer,
    permanent,
    ready,
    said,
)
from tests.decide_world import Cluster
from vllm_operator.decide.annotations import REFRESH, RESULT
from vllm_operator.decide.types import Decision, JobSeen, JobState
from vllm_operator.diagnose import Reason, failure


def test_the_first_thing_is_to_look_the_source_up():
    decision = Cluster().reconcile()

    assert [manifest["kind"] for manifest in decision.create] == ["Job"]
    assert [ref.kind for ref in decision.own] == ["Job"]
    assert decision.apply == ()
    assert ready(decision.status) == ("False", "Inspecting")


def test_the_inspections_answer_is_kept_on_its_job_and_only_once():
    cluster = Cluster()
    cluster.reconcile()
    cluster.advance()

    first, second = cluster.reconcile(), cluster.reconcile()

    assert [list(values) for values in first.annotate.values()] == [[RESULT]]
    assert second.annotate == {}


@pytest.mark.parametrize("reason", [Reason.RepoNotFound, Reason.GatedRepo, Reason.InvalidToken, Reason.HubUnreachable])
def test_an_inspection_that_failed_is_told_with_the_hubs_reason_and_not_repeated(reason: Reason):
    cluster = Cluster(truth=Truth(inspection=permanent(reason)))

    status = cluster.settle().status

    assert said(status, "WeightsReady").reason == reason
    assert said(status, "Stalled").reason == reason
    assert REFRESH in said(status, "Stalled").message
    assert status.last_failure is not None and status.last_failure.reason == reason
    assert cluster.claims == {}
    assert cluster.rests()


def test_a_new_refresh_value_asks_again_under_another_name():
    cluster = Cluster(truth=Truth(inspection=permanent(Reason.InvalidToken)))
    cluster.settle()
    cluster.truth.inspection = None
    before = cluster.job_named("inspect")

    cluster.refresh("token-renewed")
    status = cluster.settle().status

    assert ready(status) == ("True", "Serving")
    assert status.refreshed == "token-renewed"
    assert before not in cluster.jobs  # given back once nothing needed it


@pytest.mark.parametrize("replicas", [0, 1])
def test_an_inspection_that_somebody_deleted_is_asked_about_the_pinned_commit(replicas: int):
    cluster = Cluster(model=a_model(replicas=replicas))
    commit = cluster.settle().status.source.commit
    before = cluster.job_named("inspect")
    cluster.jobs.clear()

    decision = cluster.reconcile()

    assert commit and asked_of(decision)["commit"] == commit
    assert decision.status.source is not None and decision.status.source.commit == commit
    assert cluster.job_named("inspect") == before


@pytest.mark.parametrize("change", ["refresh", "revision"])
def test_a_branch_is_looked_up_again_when_somebody_asks(change: str):
    cluster = Cluster()
    cluster.settle()
    if change == "refresh":
        cluster.refresh("again")
    else:
        cluster.edit(revision="dev")
    cluster.jobs.clear()

    assert "commit" not in asked_of(cluster.reconcile())


def asked_of(decision: Decision) -> dict[str, Any]:
    """The request of the Job that is made."""
    job = next(manifest for manifest in decision.create if manifest["kind"] == "Job")
    env = job["spec"]["template"]["spec"]["containers"][0]["env"]
    return dict(json.loads(next(variable["value"] for variable in env if variable["name"] == "WEIGHTS_REQUEST")))


def test_a_changed_spec_tries_a_failed_inspection_again():
    cluster = Cluster(truth=Truth(inspection=permanent()))
    cluster.settle()
    cluster.truth.inspection = None

    cluster.edit(max_model_len=2048)

    assert ready(cluster.settle().status) == ("True", "Serving")


def test_changed_settings_try_a_failed_inspection_again():
    cluster = Cluster(truth=Truth(inspection=permanent(Reason.HubUnreachable)))
    cluster.settle()
    cluster.truth.inspection = None
    assert cluster.rests()

    cluster.settings = SETTINGS.model_copy(update={"images": SETTINGS.images.model_copy(update={"weights": "ours:2"})})

    assert ready(cluster.settle().status) == ("True", "Serving")


def test_a_secret_that_is_missing_is_waited_for_and_not_stalled():
    cluster = Cluster(truth=Truth(inspection=failure(Reason.SecretNotFound, 'secret "hub" not found')))

    status = cluster.settle().status

    assert ready(status) == ("False", "SecretNotFound")
    assert said(status, "Reconciling").reason == "SecretNotFound"
    cluster.truth.inspection = None
    assert ready(cluster.settle().status) == ("True", "Serving")


def test_an_answer_that_was_lost_with_its_pod_is_asked_for_again():
    cluster = Cluster()
    cluster.reconcile()
    name = cluster.job_named("inspect")
    cluster.jobs[name] = JobSeen(JobState.SUCCEEDED, owned=True)

    decision = cluster.reconcile()

    assert [ref.name for ref in decision.delete] == [name]
    assert ready(cluster.settle().status) == ("True", "Serving")


def test_an_answer_that_somebody_forged_is_a_problem_and_no_crash():
    cluster = Cluster()
    cluster.reconcile()
    cluster.jobs[cluster.job_named("inspect")] = JobSeen(JobState.SUCCEEDED, {"commit": 7}, owned=True)

    status = cluster.settle().status

    assert said(status, "Stalled").reason == "InspectionUnreadable"


def test_code_of_the_repository_needs_a_word_before_anything_is_pulled():
    cluster = Cluster(truth=Truth(custom_code=True))

    status = cluster.settle().status

    assert said(status, "Stalled").reason == "TrustRemoteCodeRequired"
    assert said(status, "WeightsReady").status == "False"
    assert cluster.claims == {}


@pytest.mark.parametrize("word", [True, False])
def test_either_word_about_remote_code_goes_on(word: bool):
    cluster = Cluster(model=a_model(trust_remote_code=word), truth=Truth(custom_code=True))

    assert ready(cluster.settle().status) == ("True", "Serving")


def test_code_that_transformers_has_itself_needs_no_word():
    cluster = Cluster()
    cluster.reconcile()
    answer = an_answer(customCode=True, config=CONFIG | {"model_type": "phi3"})
    cluster.jobs[cluster.job_named("inspect")] = JobSeen(JobState.SUCCEEDED, answer, owned=True)

    assert said(cluster.reconcile().status, "WeightsReady").reason == "Downloading"


@pytest.mark.parametrize(
    ("base", "named"), [("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct"), ("/content/base", "its model card")]
)
def test_an_adapter_in_the_place_of_the_model_is_told_before_anything_is_pulled(base: str, named: str):
    cluster = Cluster()
    cluster.reconcile()
    config = {"peft_type": "LORA", "base_model_name_or_path": base, "r": 16}
    answer = an_answer(architectures=[], config=config)
    cluster.jobs[cluster.job_named("inspect")] = JobSeen(JobState.SUCCEEDED, answer, owned=True)

    stalled = said(cluster.settle().status, "Stalled")

    assert stalled.reason == "WeightsMissing"
    assert "adapters[].source" in stalled.message and named in stalled.message
    assert cluster.claims == {}


@pytest.mark.parametrize("source", ["pvc://models/tiny", "oci://registry.example/tiny@sha256:" + "a" * 64])
def test_a_source_that_is_mounted_is_neither_inspected_nor_pulled(source: str):
    cluster = Cluster(
        model=a_model(model=source, cache={"type": "Image" if source.startswith("oci") else "ExistingClaim"})
    )

    status = cluster.settle().status

    assert ready(status) == ("True", "Serving"), said(status, "Ready").message
    assert cluster.jobs == {} and cluster.claims == {}
    assert said(status, "WeightsReady").reason == "InPlace"
