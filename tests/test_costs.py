"""What the operator costs, as bounds: what is measured now, rounded up a little. `make bench` tells more, with time.

The first tests look by hand, so that their counts are the same on every machine; the last one is the bench itself, with
the real process.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path

import pytest

from tests.bench.cluster import Pace
from tests.bench.phases import WATCHES, measure
from tests.bench.report import table
from tests.wire.fixtures import a_vllmmodel
from tests.wire.operator import Operator, an_operator
from vllm_operator.cluster.connection import proxy_of
from vllm_operator.queue import Key
from vllm_operator.resync import Resync

QUIET = 2.0  # much longer than the queue's spacing and than every step of the cluster below: the machine may be busy


def cost(op: Operator) -> Counter[str]:
    """Requests since the last time: reads, writes, and Kubernetes Events."""
    kinds = Counter(
        "reads" if verb == "GET" else "events" if path.split("?")[0].endswith("/events") else "writes"
        for verb, path in op.fake.audit
        if "/proxy/" not in path
    )
    op.fake.audit.clear()
    return kinds


async def a_ready_model(op: Operator, name: str = "m", **spec: object) -> Counter[str]:
    """What it cost to get it there."""
    op.fake.put(a_vllmmodel(name, **spec))
    await op.settle(name)
    assert op.condition("Ready", name) == ("True", "Serving")
    return cost(op)


async def test_a_model_is_created_with_so_many_requests() -> None:
    async with an_operator() as op:
        created = await a_ready_model(op)

        assert created["reads"] <= 48  # 46: six looks, the last of which writes nothing
        assert (
            created["writes"] <= 14
        )  # 13: three shared objects made and owned, an answer kept, two applied, four statuses
        assert created["events"] <= 5


async def test_a_second_model_of_the_same_source_pulls_nothing_and_costs_less() -> None:
    async with an_operator() as op:
        first = await a_ready_model(op)
        second = await a_ready_model(op, "n")

        assert len(op.fake.all("Job")) == 2
        assert second["reads"] <= 31 < first["reads"]  # 29
        assert second["writes"] <= 8 < first["writes"]  # 7: the same three owned, two applied, two statuses


async def test_the_fiftieth_model_of_a_namespace_costs_the_requests_of_the_first() -> None:
    async with an_operator() as op:
        first = await a_ready_model(op, "first", model="demo/first")
        for number in range(48):
            op.fake.put(a_vllmmodel(f"waiting-{number}", model=f"demo/{number}"))
        last = await a_ready_model(op, "last", model="demo/last")

        # Nodes, and whether the cluster has KEDA, are known by then.
        assert first["reads"] - 2 == last["reads"]
        assert first["writes"] == last["writes"]


async def test_a_changed_field_costs_so_many_requests() -> None:
    async with an_operator() as op:
        await a_ready_model(op)
        op.fake.edit("VLLMModel", "m", {"spec": {"maxModelLen": 1024}})
        await op.settle()
        changed = cost(op)

        assert changed["reads"] <= 26  # 24
        assert changed["writes"] <= 4  # 3: the Deployment, and two statuses
        assert changed["events"] <= 2  # 1


async def test_a_deleted_model_costs_one_read_and_no_write() -> None:
    async with an_operator() as op:
        await a_ready_model(op)
        op.fake.remove("VLLMModel", "m")
        await op.look()

        assert cost(op) == {"reads": 1}
        assert not [body for kind in ("Job", "Deployment", "Service", "Pod") for body in op.fake.all(kind)]


async def test_a_server_that_loads_for_long_is_looked_at_and_nothing_is_written() -> None:
    async with an_operator() as op:
        op.controllers.holds.add("ready")
        op.fake.put(a_vllmmodel())
        await op.settle()
        cost(op)
        for _ in range(10):
            await op.look()
        loading = cost(op)

        assert loading["reads"] <= 9  # at most its log, and once in a minute everything
        assert loading["writes"] == loading["events"] == 0


async def test_the_full_list_costs_one_request_and_one_look_at_each_model() -> None:
    async with an_operator() as op:
        for name in ("a", "b", "c"):
            await a_ready_model(op, name, model=f"demo/{name}")
            await op.look(name)
        cost(op)
        await Resync(op.cluster, op.queue, op.doormen.reconciler).list_once()
        assert cost(op) == {"reads": 1}
        for name in ("a", "b", "c"):
            await op.look(name)

        assert cost(op) == {"reads": 3 * 8}
        assert len(op.doormen.reconciler.keys & {Key("team", name) for name in "abc"}) == 3


async def test_models_that_are_looked_at_together_after_a_restart_share_one_list_of_their_namespace() -> None:
    async with an_operator() as op:
        names = [f"m{number}" for number in range(6)]
        for name in names:
            await a_ready_model(op, name, model=f"demo/{name}")
    async with an_operator() as restarted:
        restarted.fake.store.objects.update(op.fake.store.objects)
        restarted.fake.pod_servers.update(op.fake.pod_servers)
        await asyncio.gather(*(restarted.look(name) for name in names))
        lists = Counter(path.split("?")[0] for _, path in restarted.fake.audit if "managed-by" in path)

        assert lists == {
            "/apis/batch/v1/namespaces/team/jobs": 1,
            "/api/v1/namespaces/team/persistentvolumeclaims": 1,
        }
        assert cost(restarted)["writes"] == 0


async def test_what_an_older_process_left_behind_is_found_by_the_shared_list_too() -> None:
    async with an_operator() as op:
        await a_ready_model(op)
        await a_ready_model(op, "n", model="demo/n")
        old = {body["metadata"]["name"] for kind in ("Job", "PersistentVolumeClaim") for body in op.fake.all(kind)}
        op.fake.edit("VLLMModel", "m", {"spec": {"model": "demo/n"}})  # nobody watches
    async with an_operator() as restarted:
        restarted.fake.store.objects.update(op.fake.store.objects)
        restarted.fake.pod_servers.update(op.fake.pod_servers)
        await restarted.look("n")  # lists
        for name in ("m", "n"):
            await restarted.settle(name)
        kinds = ("Job", "PersistentVolumeClaim")
        left = {body["metadata"]["name"] for kind in kinds for body in restarted.fake.all(kind)}

        assert len(old) == 6
        assert left < old
        assert len(left) == 3


def test_the_environments_proxy_is_known_once_and_not_looked_up_at_each_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "10.0.0.1,fd00::1,.svc")

    assert proxy_of("https://api.example:6443") == "http://proxy.example:3128"
    assert proxy_of("https://10.0.0.1:443") is proxy_of("https://[fd00::1]:443") is None
    assert proxy_of("https://kubernetes.default.svc") is None
    assert proxy_of("http://127.0.0.1:8001") is None


def test_the_real_process_asks_nothing_at_rest_writes_nothing_after_a_restart_and_is_gone_at_the_end() -> None:
    before = children()
    measured = measure(2, print, rest=0.5, loading=0.2, quiet=QUIET, pace=Pace(job=0.2, load=0.4))

    rest, restart = measured.phase("rest").tally, measured.phase("restart").tally
    assert (rest.reads, rest.writes) == (0, 0)
    assert restart.writes == 0
    assert restart.watches == WATCHES
    # Events may come in any order, so the bounds are for the worst of them: each event has a look of its own.
    create, change = measured.phase("create").tally, measured.phase("change").tally
    assert create.reads <= 2 * 80
    assert create.writes <= 2 * 22
    assert change.writes <= 2 * 10
    assert len(table(measured).splitlines()) > len(measured.phases)
    assert children() == before


def children() -> set[int]:
    """The processes that this one has started and that are still there; the one that counts semaphores aside."""
    listed = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    found = {int(number) for file in listed for number in file.read_text().split()}
    return {number for number in found if b"resource_tracker" not in Path(f"/proc/{number}/cmdline").read_bytes()}
