"""What Prometheus sees of the operator."""

from __future__ import annotations

import aiohttp
import pytest
from aiohttp import web

from tests.wire.fixtures import a_vllmmodel
from tests.wire.operator import an_operator
from vllm_operator.cluster import ApiError
from vllm_operator.metrics import served
from vllm_operator.queue import Key


async def scraped(port: int) -> dict[str, float]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as response:
        lines = (await response.text()).splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}


async def test_looks_models_and_sizes_are_counted() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel())
        await op.settle()
        await op.look()
        op.queue.add(Key("team", "m"))
        op.metrics.queue_length = op.queue.__len__
        async with served(op.metrics, "127.0.0.1", 0) as port:
            seen = await scraped(port)

        assert seen['vllm_operator_reconciles_total{result="full"}'] >= 4
        assert seen['vllm_operator_reconciles_total{result="probe"}'] == 1
        assert seen["vllm_operator_reconcile_duration_seconds_count"] >= 5
        assert seen['vllm_operator_models{condition="Ready",reason="Serving",status="True"}'] == 1
        assert seen['vllm_operator_model_weights_bytes{name="m",namespace="team"}'] == 1_000_000
        assert seen["vllm_operator_queue_length"] == 1


def ready(seen: dict[str, float]) -> list[str]:
    return [name for name in seen if name.startswith('vllm_operator_models{condition="Ready"')]


async def test_a_model_is_counted_by_what_its_status_says_also_where_a_write_was_refused() -> None:
    def quota(request: web.Request) -> web.Response | None:
        if request.method == "POST" and request.path.endswith("/persistentvolumeclaims"):
            return web.json_response({"message": "exceeded quota: storage, requested: 1Gi"}, status=403)
        return None

    async with an_operator() as op:
        op.fake.faults.append(quota)
        op.fake.put(a_vllmmodel())
        with pytest.raises(ApiError):
            await op.settle()
        async with served(op.metrics, "127.0.0.1", 0) as port:
            seen = await scraped(port)

        assert ready(seen) == ['vllm_operator_models{condition="Ready",reason="QuotaExceeded",status="False"}']


async def test_a_model_that_cannot_be_read_is_counted() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel())
        await op.settle()
        op.fake.edit("VLLMModel", "m", {"spec": {"maxModelLen": "many"}})
        op.doormen.reconciler.changed(Key("team", "m"))
        await op.look()
        async with served(op.metrics, "127.0.0.1", 0) as port:
            seen = await scraped(port)

        assert ready(seen) == ['vllm_operator_models{condition="Ready",reason="InvalidSpec",status="False"}']


async def test_a_model_that_is_gone_is_not_counted() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel())
        await op.settle()
        op.fake.remove("VLLMModel", "m")
        op.doormen.reconciler.changed(Key("team", "m"))
        await op.look()
        async with served(op.metrics, "127.0.0.1", 0) as port:
            seen = await scraped(port)

        assert not any("model_weights_bytes{" in name or "operator_models{" in name for name in seen)


async def test_a_download_is_told_in_bytes_percent_speed_and_time_left_until_its_model_goes() -> None:
    async with an_operator() as op:
        pull = await op.begin_download()
        await op.look()
        async with served(op.metrics, "127.0.0.1", 0) as port:
            during = await scraped(port)
            op.controllers.end_job(pull, "{}")
            await op.settle()
            after = await scraped(port)
            op.fake.remove("VLLMModel", "m")
            op.doormen.reconciler.changed(Key("team", "m"))
            await op.look()
            gone = await scraped(port)

    assert weights_of(during) == {
        "bytes": 1_000_000, "done_bytes": 420_000, "percent": 42, "bytes_per_second": 100_000, "eta_seconds": 10,
    }  # fmt: skip
    assert weights_of(after) == {"bytes": 1_000_000, "done_bytes": 1_000_000, "percent": 100}
    assert weights_of(gone) == {}


def weights_of(seen: dict[str, float]) -> dict[str, float]:
    start, end = "vllm_operator_model_weights_", '{name="m",namespace="team"}'
    return {name.removeprefix(start).removesuffix(end): value for name, value in seen.items() if name.startswith(start)}
