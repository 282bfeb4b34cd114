"""Events: one object for each model and reason, counted up, never a storm, never a reason to fail."""

from __future__ import annotations

from aiohttp import web

from tests.wire.fixtures import a_cluster
from vllm_operator.cluster import Owner
from vllm_operator.decide.types import Event, EventType
from vllm_operator.events import Recorder

OWNER = Owner("team", "m", "uid-1")
CRASH = Event(EventType.WARNING, "EngineDied", "The engine died.")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_the_same_reason_is_one_object_that_is_counted_up() -> None:
    async with a_cluster() as (fake, cluster):
        clock = Clock()
        recorder = Recorder(cluster.connection, clock=clock)
        for _ in range(3):
            await recorder.tell(OWNER, CRASH)
            clock.now += 61.0
        events = fake.all("Event")

    assert [(event["reason"], event["count"], event["type"]) for event in events] == [("EngineDied", 3, "Warning")]
    assert events[0]["involvedObject"]["uid"] == "uid-1"


async def test_a_storm_is_one_write_a_minute_and_none_is_lost_from_the_count() -> None:
    async with a_cluster() as (fake, cluster):
        clock = Clock()
        recorder = Recorder(cluster.connection, clock=clock)
        for _ in range(120):
            await recorder.tell(OWNER, CRASH)
            clock.now += 1.0
        await recorder.tell(OWNER, CRASH)
        writes = sum(verb in {"POST", "PATCH"} for verb, _ in fake.audit)

    assert fake.all("Event")[0]["count"] == 121
    assert writes <= 6


async def test_models_and_reasons_do_not_hold_each_other_back() -> None:
    async with a_cluster() as (fake, cluster):
        recorder = Recorder(cluster.connection)
        await recorder.tell(OWNER, CRASH)
        await recorder.tell(OWNER, Event(EventType.NORMAL, "Serving", "1 of 1 servers answer."))
        await recorder.tell(Owner("team", "n", "uid-2"), CRASH)

    assert len(fake.all("Event")) == 3


async def test_an_event_that_cannot_be_written_fails_nothing() -> None:
    async with a_cluster() as (fake, cluster):
        fake.faults.append(lambda request: web.json_response({"message": "forbidden"}, status=403))
        await Recorder(cluster.connection).tell(OWNER, CRASH)

    assert fake.all("Event") == []


async def test_after_a_restart_the_count_goes_on() -> None:
    async with a_cluster() as (fake, cluster):
        for _ in range(2):
            await Recorder(cluster.connection).tell(OWNER, CRASH)

    assert [event["count"] for event in fake.all("Event")] == [2]
