"""One leader at a time, by the monotonic clock, and none that writes after its time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from tests.wire.apiserver import Kubernetes
from tests.wire.fixtures import a_cluster
from vllm_operator.cluster import Connection, Request
from vllm_operator.lease import Lease, Times

QUICK = Times(duration=15.0, deadline=10.0, retry=0.01)


class Ended(Exception):
    """In place of the process' end."""


class Clock:
    """Seconds that pass when a test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def ended() -> None:
    raise Ended


@asynccontextmanager
async def leases(*names: str) -> AsyncIterator[tuple[Kubernetes, Clock, list[Lease]]]:
    async with a_cluster() as (fake, cluster):
        clock = Clock()
        yield (
            fake,
            clock,
            [Lease(cluster.connection, "team", name, times=QUICK, clock=clock, lost=ended) for name in names],
        )


def spec(fake: Kubernetes) -> dict[str, Any]:
    lease = fake.get("Lease", "vllm-operator")
    assert lease is not None
    found: dict[str, Any] = lease["spec"]
    return found


async def acquired(lease: Lease) -> bool:
    """Whether one try of `acquire` is enough: how many there are in a time depends on the machine."""
    return await lease._try()


async def test_the_first_comes_to_lead_and_the_second_waits() -> None:
    async with leases("a", "b") as (fake, _, (a, b)):
        assert await acquired(a)
        assert not await acquired(b)

        assert spec(fake)["holderIdentity"] == "a"
        assert (a.is_held, b.is_held) == (True, False)


async def test_a_lease_that_is_let_go_is_taken_at_once() -> None:
    async with leases("a", "b") as (fake, _, (a, b)):
        await acquired(a)
        await a.release()
        assert await acquired(b)

        assert (spec(fake)["holderIdentity"], spec(fake)["leaseTransitions"]) == ("b", 1)
        assert not a.is_held


async def test_a_dead_leader_is_followed_when_its_record_stood_still_for_the_whole_time() -> None:
    async with leases("a", "b") as (_, clock, (a, b)):
        await acquired(a)
        assert not await acquired(b)
        clock.now += 14.0
        assert not await acquired(b)
        clock.now += 1.5
        assert await acquired(b)


async def test_a_leader_that_renews_is_never_followed_whatever_the_wall_clock_says() -> None:
    async with leases("a", "b") as (fake, clock, (a, b)):
        await acquired(a)
        for _ in range(5):
            assert not await acquired(b)
            clock.now += 10.0
            fake.edit("Lease", "vllm-operator", {"spec": {"renewTime": "1999-01-01T00:00:00.000000Z"}})
            assert await a._try()

        assert not await acquired(b)


async def test_a_leader_that_cannot_renew_ends_before_another_can_lead() -> None:
    async with leases("a") as (fake, clock, (a,)):
        await acquired(a)
        fake.faults.append(lambda request: web.json_response({"message": "etcd is away"}, status=503))

        async def time_passes() -> None:
            while True:
                await asyncio.sleep(0.01)
                clock.now += 1.0

        passing = asyncio.create_task(time_passes())
        with pytest.raises(Ended):
            async with asyncio.timeout(5):
                await a.keep()
        passing.cancel()

        assert clock.now - 1000.0 < QUICK.duration


async def test_a_leader_that_finds_another_in_its_place_ends_at_once() -> None:
    async with leases("a") as (fake, _, (a,)):
        await acquired(a)
        fake.edit("Lease", "vllm-operator", {"spec": {"holderIdentity": "b"}})
        with pytest.raises(Ended):
            async with asyncio.timeout(5):
                await a.keep()


async def test_a_process_that_slept_past_its_lease_writes_nothing_when_it_wakes() -> None:
    async with leases("a") as (_, clock, (a,)):
        await acquired(a)
        async with a_cluster() as (other, cluster):
            guarded = Connection(cluster.connection._given, before_write=a.guard)
            await guarded.send(Request("POST", "/api/v1/namespaces/team/configmaps", body={"metadata": {"name": "c"}}))
            clock.now += 60.0
            with pytest.raises(Ended):
                await guarded.send(Request("DELETE", "/api/v1/namespaces/team/configmaps/c"))
            await guarded.close()

        assert [verb for verb, _ in other.audit] == ["POST"]
