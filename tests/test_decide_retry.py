"""Trying again: a failed download is tried again when somebody changes something, and then once."""

from __future__ import annotations

from tests.builders import a_model
from tests.decide_facts import SETTINGS, Truth, an_answer, permanent, ready, said
from tests.decide_world import Cluster
from vllm_operator.decide.annotations import MADE_WITH
from vllm_operator.diagnose import Reason
from vllm_operator.plan import plan_model, plan_weights
from vllm_operator.settings.types import Hub, Sources


def test_a_refresh_tries_a_failed_download_again_once():
    cluster = Cluster(truth=Truth(download=permanent(Reason.DownloadFailed)))
    cluster.settle()

    cluster.refresh("1")
    status = cluster.settle().status
    deletions = [ref for decision in cluster.decisions for ref in decision.delete if ref.name.startswith("pull")]

    assert len(deletions) == 1
    assert said(status, "Stalled").reason == "DownloadFailed"
    cluster.truth.download = None
    cluster.refresh("2")
    assert ready(cluster.settle().status) == ("True", "Serving")


def test_a_changed_secret_tries_a_failed_download_again_after_the_inspection_that_it_brings():
    cluster = Cluster(truth=Truth(download=permanent(Reason.DownloadFailed)))
    cluster.settle()
    cluster.truth.download = None

    cluster.edit(token_secret_ref={"name": "renewed"})

    assert ready(cluster.settle().status) == ("True", "Serving")


def test_a_changed_spec_tries_a_failed_download_again_after_what_came_before_it():
    cluster = Cluster(truth=Truth(download=permanent(Reason.DownloadFailed)))
    cluster.settle()
    cluster.truth.download = None

    cluster.missing = ("ConfigMap chat",)
    cluster.edit(max_model_len=2048)
    cluster.settle()
    cluster.missing = ()

    assert ready(cluster.settle().status) == ("True", "Serving")


def test_changed_settings_try_a_failed_download_again_once():
    cluster = Cluster(truth=Truth(download=permanent(Reason.DownloadFailed)))
    cluster.settle()

    cluster.settings = SETTINGS.model_copy(update={"hub": Hub(endpoint="http://mirror.example")})
    status = cluster.settle().status
    deletions = [ref for decision in cluster.decisions for ref in decision.delete if ref.name.startswith("pull")]

    assert len(deletions) == 1
    assert said(status, "Stalled").reason == "DownloadFailed"
    assert cluster.rests()


def test_settings_that_do_not_concern_a_failed_download_leave_it_alone():
    cluster = Cluster(truth=Truth(download=permanent(Reason.DownloadFailed)))
    cluster.settle()

    cluster.settings = SETTINGS.model_copy(update={"sources": Sources(gs=Hub(endpoint="http://mirror.example"))})
    cluster.settle()

    assert [ref for decision in cluster.decisions for ref in decision.delete] == []


def test_models_of_one_download_do_not_take_turns_in_trying_it_again():
    """Patience is each model's own; what the platform's settings say is the same for all of them."""
    one, other = a_model("one"), a_model("other", download={"tries": 7, "parallelism": 2})
    plans = [plan_model(model, SETTINGS) for model in (one, other)]
    pulls = [plan_weights(plan, an_answer()).pull for plan in plans]

    assert pulls[0] and pulls[1] and pulls[0].name == pulls[1].name
    assert pulls[0].annotations[MADE_WITH] == pulls[1].annotations[MADE_WITH]
    assert pulls[0].annotations != pulls[1].annotations
