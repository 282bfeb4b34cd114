"""What a model costs the API server: counted, so that it cannot grow unseen."""

from __future__ import annotations

import asyncio
from collections import Counter

from aiohttp import web

from tests.wire.fixtures import a_vllmmodel
from tests.wire.operator import Operator, an_operator
from vllm_operator.queue import Key

KEY = Key("team", "m")


async def requests_of_a_look(op: Operator, name: str = "m") -> Counter[str]:
    op.fake.audit.clear()
    await op.look(name)
    return Counter(verb for verb, path in op.fake.audit if "/proxy/" not in path)


async def a_resting_model(op: Operator, name: str = "m") -> None:
    op.fake.put(a_vllmmodel(name))
    await op.settle(name)
    await op.look(name)


async def test_at_rest_a_look_asks_the_servers_and_nobody_else() -> None:
    async with an_operator() as op:
        await a_resting_model(op)
        op.controllers.server.asked.clear()
        for _ in range(5):
            assert not await requests_of_a_look(op)

        assert op.controllers.server.asked == ["GET /health", "GET /v1/models"] * 5


async def test_a_full_look_at_a_ready_model_is_eight_reads_and_no_write() -> None:
    async with an_operator() as op:
        await a_resting_model(op)
        op.doormen.reconciler.changed(KEY)
        cost = await requests_of_a_look(op)

        # the model, two Jobs, the claim, Deployment, Service, pods, autoscalers; KEDA is not there
        assert cost == {"GET": 8}


async def test_a_whole_life_costs_a_bounded_number_of_writes() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel())
        await op.settle()
        writes = Counter(
            (verb, path.split("?")[0].split("/")[-2 if verb == "PATCH" else -1])
            for verb, path in op.fake.audit
            if verb not in {"GET", "WATCH"} and "/proxy/" not in path and "/events" not in path
        )

        # created with their owner: two Jobs and a claim; annotated: one; applied: Deployment and Service
        assert writes["POST", "jobs"] == 2
        assert writes["POST", "persistentvolumeclaims"] == 1
        assert writes["PATCH", "jobs"] == 1
        assert writes["PATCH", "deployments"] == writes["PATCH", "services"] == 1
        assert sum(writes.values()) <= 12


async def test_a_restarted_operator_writes_nothing() -> None:
    async with an_operator() as op:
        for number in range(10):
            await a_resting_model(op, f"m{number}")
        op.doormen.reconciler._memories.clear()
        op.fake.audit.clear()
        for number in range(10):
            await op.look(f"m{number}")

        assert op.writes() == 0
        assert not any("/events" in path for _, path in op.fake.audit)


async def test_another_answer_of_a_server_leads_to_a_full_look() -> None:
    async with an_operator() as op:
        await a_resting_model(op)
        op.controllers.server.health = 503
        cost = await requests_of_a_look(op)

        assert cost["GET"] >= 8
        assert op.condition("Ready")[0] == "False"
        op.controllers.server.health = 200
        await op.settle()
        assert op.condition("Ready") == ("True", "Serving")


async def test_an_event_leads_to_a_full_look_and_the_echo_of_our_own_status_does_not() -> None:
    async with an_operator() as op:
        await a_resting_model(op)
        model = op.fake.get("VLLMModel", "m")
        assert model is not None
        op.doormen.model({"type": "MODIFIED", "object": model})
        assert not await requests_of_a_look(op)

        op.fake.edit("VLLMModel", "m", {"status": {"url": "http://forged"}})
        assert (await requests_of_a_look(op))["GET"] >= 8
        assert op.status()["url"] != "http://forged"


async def test_an_event_that_comes_during_a_look_is_not_forgotten() -> None:
    async with an_operator() as op:
        await a_resting_model(op)
        op.doormen.reconciler.changed(KEY)

        def meanwhile(request: web.Request) -> None:
            if request.path.endswith("/services/m"):
                op.doormen.reconciler.changed(KEY)

        op.fake.faults.append(meanwhile)
        await op.look()
        op.fake.faults.clear()

        assert (await requests_of_a_look(op))["GET"] >= 8


async def test_progress_that_moves_less_than_a_percent_is_not_written() -> None:
    async with an_operator() as op:
        op.controllers.holds.add("pull")
        op.fake.put(a_vllmmodel())
        for _ in range(4):
            await op.look()
        done = 500_000
        pull = op.fake.all("Job")[1]["metadata"]["name"]

        def progress(method: str, path: str, body: bytes) -> tuple[int, object]:
            nonlocal done
            done += 100
            return 200, {"version": 1, "bytesDone": done, "bytesTotal": 1_000_000, "bytesPerSecond": 1000.0}

        op.fake.pod_servers[f"{pull}-pod"] = progress
        await op.look()
        writes = op.writes()
        for _ in range(20):
            await op.look()

        assert op.writes() == writes


async def test_a_download_is_asked_about_every_five_seconds_whoever_looks_and_however_often() -> None:
    async with an_operator() as op:
        op.controllers.holds.add("pull")
        for name in ("m", "n"):
            op.fake.put(a_vllmmodel(name))
        for _ in range(4):
            for name in ("m", "n"):
                await op.look(name)
        asked = 0
        (pull,) = [job["metadata"]["name"] for job in op.fake.all("Job") if "pull" in job["metadata"]["name"]]

        def progress(method: str, path: str, body: bytes) -> tuple[int, object]:
            nonlocal asked
            asked += 1
            return 200, {"version": 1, "bytesDone": asked * 100_000, "bytesTotal": 1_000_000, "bytesPerSecond": 1000.0}

        op.fake.pod_servers[f"{pull}-pod"] = progress
        again = [await op.look(name) or 0.0 for _ in range(5) for name in ("m", "n")]

        assert asked == 1
        assert (op.status("m")["weights"]["percent"], op.status("n")["weights"]["percent"]) == (10, 10)
        assert min(again) >= 5


async def test_a_look_never_blocks_the_event_loop() -> None:
    """The loop's own alarm: no step of a look may hold up everybody else for a noticeable time."""
    blocked: list[float] = []
    async with an_operator() as op:
        await a_resting_model(op)
        loop = asyncio.get_running_loop()

        async def heartbeat() -> None:
            while True:
                before = loop.time()
                await asyncio.sleep(0.005)
                blocked.append(loop.time() - before - 0.005)

        beat = asyncio.create_task(heartbeat())
        for _ in range(10):
            op.doormen.reconciler.changed(KEY)
            await op.look()
        beat.cancel()

    blocked.sort()
    # The median: a busy machine may stop the whole process at any moment, a blocking call would hold it up each time.
    assert blocked[len(blocked) // 2] < 0.05


async def test_what_a_pull_says_before_it_knows_and_what_no_pull_says_changes_nothing() -> None:
    async with an_operator() as op:
        pull = await op.begin_download()
        await op.look()
        before = op.status()["weights"]
        words: list[object] = [
            {"phase": "listing", "bytesDone": 0, "bytesTotal": 0, "bytesPerSecond": 0},
            {"bytesDone": 10**30, "bytesTotal": 5},
            {"bytesDone": -5, "bytesTotal": -7},
            {"bytesDone": True, "bytesTotal": True},
            {"bytesDone": 420_000, "bytesTotal": 1_000_000, "bytesPerSecond": float("inf")},
            [],
            "x",
        ]

        for said in words:
            op.fake.pod_servers[f"{pull}-pod"] = lambda method, path, body, said=said: (200, said)  # type: ignore[misc]
            pod = op.fake.get("Pod", f"{pull}-pod")
            assert pod is not None
            op.fake.remove("Pod", f"{pull}-pod")
            op.fake.put(pod)  # the Job's next pod, who has not been asked
            op.doormen.reconciler.changed(Key("team", "m"))
            await op.look()
            now = op.status()["weights"]
            assert (now["percent"], now["bytesDone"], now["bytesTotal"]) == (42, 420_000, 1_000_000)
        assert before["percent"] == 42
