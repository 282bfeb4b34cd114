"""Conditions, progress and Events: what is said, when it is said, and that it is said once."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.builders import a_model
from tests.decide_facts import GIB, SETTINGS, START, Truth, an_answer, passing, permanent
from tests.decide_world import Cluster
from vllm_operator.api import EPOCH, Condition, ConditionType, Status, WeightsStatus
from vllm_operator.decide import refuse
from vllm_operator.decide.conditions import conditions
from vllm_operator.decide.finding import Fact
from vllm_operator.decide.progress import nodes_status, told, two_digits, weights_status
from vllm_operator.decide.reasons import StateReason
from vllm_operator.decide.telling import events_of
from vllm_operator.decide.types import Event, EventType, JobSeen, JobState, NodeCacheSeen, NodeSeen, Progress
from vllm_operator.diagnose import Reason
from vllm_operator.plan import ProblemReason, WeightsPlan, plan_model, plan_weights

PAGE = Path(__file__).parents[1] / "docs" / "conditions.md"


# The page.


def test_the_page_lists_every_reason_and_no_other():
    text = PAGE.read_text("utf-8").split("## States")[1]
    listed = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)

    assert set(listed) == {*map(str, StateReason), *map(str, ProblemReason), *map(str, Reason)}


def test_the_page_lists_every_type_of_condition():
    text = PAGE.read_text("utf-8").split("## Types")[1].split("##")[0]

    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == [str(type_) for type_ in ConditionType]


# Conditions.


def a_fact(status: str = "False", reason: str = "Starting", message: str = "…") -> Fact:
    return Fact(ConditionType.READY, status, reason, message)  # type: ignore[arg-type]


def test_the_time_of_a_condition_moves_only_with_its_status():
    before = Status(conditions=conditions(Status(), [a_fact()], 1, START))
    later = START + timedelta(minutes=1)

    (same,) = conditions(before, [a_fact(reason="NotAnswering", message="other")], 2, later)
    (moved,) = conditions(before, [a_fact("True")], 2, later)

    assert (same.last_transition_time, same.reason, same.observed_generation) == (
        "2026-01-01T00:00:00Z",
        "NotAnswering",
        2,
    )
    assert moved.last_transition_time == "2026-01-01T00:01:00Z"


def test_a_message_of_any_length_stays_within_a_kibibyte():
    (condition,) = conditions(Status(), [a_fact(message="ü" * 5000)], 1, START)

    assert len(condition.message.encode()) <= 1024


def test_the_first_status_follows_the_crds_default():
    default = Status(conditions=(Condition(type="Ready", status="Unknown", last_transition_time=EPOCH),))
    cluster = Cluster()
    cluster.model = cluster.model.model_copy(update={"status": default})

    ready = cluster.reconcile().status.condition("Ready")

    assert ready is not None
    assert (ready.status, ready.observed_generation, ready.last_transition_time) == ("False", 1, "2026-01-01T00:00:05Z")


def test_a_model_that_cannot_even_be_read_gets_a_status_too():
    facts = (a_fact(reason="InvalidSpec"), Fact(ConditionType.STALLED, "True", "InvalidSpec", "…"))

    status = refuse(Status(), 3, facts, START)

    assert [(c.type, c.reason, c.observed_generation) for c in status.conditions] == [
        ("Ready", "InvalidSpec", 3),
        ("Stalled", "InvalidSpec", 3),
    ]


# kstatus' and Argo CD's table, one row each.


def argo_and_kstatus(status: Status, generation: int = 1) -> tuple[str, str]:
    """The two tools' rules, as their health checks compute them."""
    if status.observed_generation != generation:
        return "Progressing", "InProgress"
    held = {condition.type: condition.status for condition in status.conditions}
    if held.get("Stalled") == "True":
        return "Degraded", "Failed"
    if held.get("Reconciling") == "True":
        return "Progressing", "InProgress"
    if held.get("Ready") == "True":
        return "Healthy", "Current"
    return ("Degraded", "InProgress") if held.get("Ready") == "False" else ("Progressing", "InProgress")


@pytest.mark.parametrize(
    ("truth", "expected"),
    [
        (Truth(), ("Healthy", "Current")),
        (Truth(inspection=permanent(Reason.InvalidToken)), ("Degraded", "Failed")),
        (Truth(download=permanent(Reason.DiskFull)), ("Degraded", "Failed")),
        (Truth(crash=permanent(Reason.GPUOutOfMemory)), ("Degraded", "Failed")),
        (Truth(crash=passing(Reason.Unschedulable)), ("Progressing", "InProgress")),
        (Truth(works=False), ("Progressing", "InProgress")),
    ],
)
def test_argo_and_flux_agree_about_a_model_at_rest(truth: Truth, expected: tuple[str, str]):
    cluster = Cluster(truth=truth)

    assert argo_and_kstatus(cluster.settle().status) == expected


def test_argo_and_flux_wait_while_a_model_comes_up():
    cluster = Cluster()
    verdicts = []
    while not verdicts or verdicts[-1] == ("Progressing", "InProgress"):
        verdicts.append(argo_and_kstatus(cluster.reconcile().status))
        cluster.advance()

    assert verdicts[-1] == ("Healthy", "Current")
    assert len(verdicts) > 3


def test_a_status_of_an_older_generation_is_nobodys_health():
    cluster = Cluster()
    cluster.settle()
    cluster.edit(max_model_len=1024)

    assert argo_and_kstatus(cluster.status, 2) == ("Progressing", "InProgress")


# Progress.


def a_weights_plan() -> WeightsPlan:
    return plan_weights(plan_model(a_model(), SETTINGS), an_answer())


def running(done: int, speed: float, total: int = 15 * GIB, tries: int = 0) -> JobSeen:
    return JobSeen(JobState.RUNNING, progress=Progress(done, total, speed), tries=tries)


def test_a_status_moves_with_the_percent_and_not_with_every_byte():
    plan = a_weights_plan()
    first = weights_status(None, plan, running(6 * GIB, 350e6))

    assert weights_status(first, plan, running(6 * GIB + 1000, 351e6)) is first
    moved = weights_status(first, plan, running(6 * GIB + GIB // 4, 351e6))
    assert moved is not None and moved.percent == 41


@pytest.mark.parametrize(
    ("speed", "moves"), [(340e6, False), (200e6, False), (100e6, True), (800e6, True), (0.0, True)]
)
def test_a_speed_that_changes_the_time_left_is_news(speed: float, moves: bool):
    plan = a_weights_plan()
    first = weights_status(None, plan, running(6 * GIB, 350e6))

    assert (weights_status(first, plan, running(6 * GIB, speed)) is not first) is moves


def test_a_progress_that_was_not_answered_keeps_what_was_known():
    plan = a_weights_plan()
    first = weights_status(None, plan, running(6 * GIB, 350e6))

    assert weights_status(first, plan, JobSeen(JobState.RUNNING)) == first


def test_a_hundred_percent_are_said_when_everything_is_verified():
    plan = a_weights_plan()
    last, done = (
        weights_status(None, plan, running(15 * GIB, 0)),
        weights_status(None, plan, JobSeen(JobState.SUCCEEDED)),
    )

    assert last is not None and last.percent == 99
    assert done is not None and done.percent == 100


def test_progress_of_another_volume_is_forgotten():
    plan = a_weights_plan()
    other = WeightsStatus(claim_name="other", percent=7, bytes_total=1)

    kept = weights_status(other, plan, JobSeen(JobState.RUNNING))

    assert kept is not None and kept.percent is None


@pytest.mark.parametrize(
    ("seen", "sentence"),
    [
        (running(GIB, 350 * 2**20), "6 %, 1.0 of 15.0 GiB, 350 MiB/s, about 45 s left"),
        (running(0, 3.5 * 2**20), "0 %, 0.0 of 15.0 GiB, 3.5 MiB/s, about 73 min left"),
        (running(0, 0), "0 %, 0.0 of 15.0 GiB"),
        (JobSeen(JobState.RUNNING), "The download has started."),
    ],
)
def test_progress_reads_as_a_sentence(seen: JobSeen, sentence: str):
    assert told(weights_status(None, a_weights_plan(), seen)) == sentence


@pytest.mark.parametrize(
    ("value", "rounded"), [(0, 0), (-1, 0), (0.4, 1), (7, 7), (123456, 120000), (987654321, 990000000)]
)
def test_a_speed_has_two_digits(value: float, rounded: int):
    assert two_digits(value) == rounded


# Events.


def reasons(cluster: Cluster) -> list[str]:
    return [event.reason for decision in cluster.decisions for event in decision.events]


def test_a_model_that_comes_up_tells_each_step_once():
    cluster = Cluster()
    cluster.settle()

    assert reasons(cluster) == ["Inspecting", "Downloading", "Downloaded", "Starting", "Serving"]


def test_a_failure_is_one_warning():
    cluster = Cluster(truth=Truth(crash=passing()))
    cluster.settle()
    told_events = [event for decision in cluster.decisions for event in decision.events if event.reason == "EngineDied"]

    assert [event.type for event in told_events] == [EventType.WARNING]


def test_a_status_that_stays_tells_nothing():
    status = Cluster().settle().status

    assert list(events_of(status, status)) == []


def test_a_model_that_is_met_for_the_first_time_while_it_serves_tells_only_that():
    cluster = Cluster()
    serving = cluster.settle().status

    assert list(events_of(Status(), serving)) == [Event(EventType.NORMAL, "Serving", "1 of 1 servers answer.")]


# Other fields.


def test_adapters_name_the_pods_that_serve_them():
    cluster = Cluster(model=a_model(adapters=({"name": "sql", "source": "demo/sql"},)))
    cluster.settle()
    (adapter,) = cluster.status.adapters
    assert (adapter.name, adapter.pods) == ("sql", ("m-001",))

    cluster.truth.works = False
    cluster.settle()
    assert cluster.status.adapters[0].pods == ()


def test_a_small_download_is_told_in_mebibytes():
    plan = replace(a_weights_plan(), bytes=10 * 2**20)
    seen = running(2**20, 2**20, 10 * 2**20)

    assert told(weights_status(None, plan, seen)) == "10 %, 1.0 of 10.0 MiB, 0.95 MiB/s, about 10 s left"


def test_the_percent_never_goes_back_on_one_volume():
    plan = a_weights_plan()
    at_60 = weights_status(None, plan, running(9 * GIB, 10))
    assert at_60 is not None and at_60.percent == 60
    new_pod, wrong_file, on = JobSeen(JobState.RUNNING), running(4 * GIB, 10), running(12 * GIB, 10)

    percents, now = [], at_60
    for seen in (new_pod, wrong_file, new_pod, on):
        now = weights_status(now, plan, seen) or at_60
        percents.append(now.percent)

    assert percents == [60, 60, 60, 80]


def test_a_pull_of_several_parts_counts_all_of_them_from_the_start():
    plan = replace(a_weights_plan(), bytes=15 * GIB)

    told_first = weights_status(None, plan, running(5 * GIB, 10, 5 * GIB))

    assert told_first is not None and (told_first.percent, told_first.bytes_total) == (33, 15 * GIB)


def test_a_node_whose_turn_comes_takes_nothing_from_the_percent():
    plan, half = replace(a_weights_plan(), bytes=15 * GIB), running(15 * GIB // 2, 10)
    done, waits = NodeSeen("a", "1", True, "life"), NodeSeen("b", "2", True)
    away, failed = NodeSeen("c", "3", False), NodeSeen("d", "4", True, pull=JobSeen(JobState.FAILED))
    steps = (
        (replace(done, mark="", pull=half), waits),
        (done, waits),
        (done, replace(waits, pull=JobSeen(JobState.RUNNING))),
        (done, replace(waits, pull=half)),
        (done, replace(done, name="b")),
    )

    percents, now = [], None
    for step in steps:
        now = nodes_status(now, plan, NodeCacheSeen(None, (*step, away, failed), "life"), "life")
        percents.append(now.percent)

    assert percents == [25, 25, 25, 75, 100]
