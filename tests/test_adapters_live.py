"""Adapters that are added to and removed from running servers, on a fake API: no pod is made anew for any of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.wire.controllers import COMMIT
from tests.wire.fixtures import a_vllmmodel
from tests.wire.operator import Operator, an_operator
from vllm_operator.queue import Key
from vllm_operator.settings import Settings, load

SQL = {"name": "sql", "source": "demo/sql"}
CHAT = {"name": "chat", "source": "demo/chat"}


def allowing() -> Settings:
    settings = load(None)
    return settings.model_copy(update={"policy": settings.policy.model_copy(update={"allow_live_adapters": True})})


@asynccontextmanager
async def a_live_model(**spec: Any) -> AsyncIterator[Operator]:
    """A model at rest that loads adapters live."""
    async with an_operator(settings=allowing()) as op:
        op.fake.put(a_vllmmodel(adapterLoading="Live", **spec))
        await settled(op)
        yield op


async def settled(op: Operator, looks: int = 20) -> None:
    """Looks until one writes nothing and calls no server but to probe it."""
    for _ in range(looks):
        before = op.writes() + changes(op)
        await op.look()
        if op.writes() + changes(op) == before:
            return
    raise AssertionError(f"not at rest: {op.status()}")


def changes(op: Operator) -> int:
    return sum("lora_adapter" in asked for asked in op.controllers.server.asked)


async def with_adapters(op: Operator, *adapters: dict[str, str], **more: Any) -> None:
    op.fake.edit("VLLMModel", "m", {"spec": {"adapters": list(adapters), **more}})
    await settled(op)


def pods(op: Operator) -> dict[str, str]:
    """The servers' uids by name."""
    return {
        pod["metadata"]["name"]: pod["metadata"]["uid"]
        for pod in op.fake.all("Pod")
        if pod["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet"
    }


def jobs(op: Operator) -> list[str]:
    return [job["metadata"]["annotations"]["vllm-operator.dev/source"] for job in op.fake.all("Job")]


async def test_adapters_come_to_a_running_server_and_go_without_a_restart() -> None:
    async with a_live_model() as op:
        before = pods(op)
        template = op.fake.all("Deployment")[0]["spec"]["template"]
        assert op.condition("AdaptersReady") == ("True", "AdaptersLoaded")

        await with_adapters(op, SQL, CHAT)
        loaded = op.controllers.server.adapters
        assert sorted(loaded) == ["chat", "sql"]
        assert loaded["sql"].startswith("/adapters/demo-sql-")
        assert op.condition("AdaptersReady") == ("True", "AdaptersLoaded")
        assert op.status()["adapters"] == [
            {"name": "sql", "source": "hf://demo/sql", "commit": COMMIT, "pods": list(before)},
            {"name": "chat", "source": "hf://demo/chat", "commit": COMMIT, "pods": list(before)},
        ]

        await with_adapters(op, CHAT)
        assert list(op.controllers.server.adapters) == ["chat"]
        assert "hf://demo/sql" not in jobs(op)
        assert [adapter["name"] for adapter in op.status()["adapters"]] == ["chat"]

        assert pods(op) == before
        assert op.fake.all("Deployment")[0]["spec"]["template"] == template
        assert op.condition("Ready") == ("True", "Serving")


async def test_the_pull_writes_what_the_servers_mount_and_runs_beside_them() -> None:
    async with a_live_model(adapters=[SQL]) as op:
        pull = next(
            job
            for job in op.fake.all("Job")
            if job["metadata"]["labels"]["vllm-operator.dev/job"] == "pull" and "sql" in job["metadata"]["name"]
        )
        pod = pull["spec"]["template"]
        request = json.loads(
            next(v["value"] for v in pod["spec"]["containers"][0]["env"] if v["name"] == "WEIGHTS_REQUEST")
        )
        claims = [
            v["persistentVolumeClaim"]["claimName"] for v in pod["spec"]["volumes"] if "persistentVolumeClaim" in v
        ]
        server = op.fake.all("Deployment")[0]["spec"]["template"]
        mounted = {v["name"]: v.get("persistentVolumeClaim", {}).get("claimName") for v in server["spec"]["volumes"]}

        assert claims == [mounted["adapters"]]
        assert "/adapters/" + request["destination"].removeprefix("/weights/") == op.controllers.server.adapters["sql"]
        label = "vllm-operator.dev/adapters"
        assert pod["metadata"]["labels"][label] == server["metadata"]["labels"][label]
        terms = pod["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert [term["labelSelector"]["matchLabels"] for term in terms] == [
            {label: server["metadata"]["labels"][label]}
        ]


async def test_a_server_that_was_made_anew_gets_its_adapters_again() -> None:
    async with a_live_model(adapters=[SQL]) as op:
        had = dict(op.controllers.server.adapters)
        op.controllers.server.adapters.clear()
        await settled(op)

        assert op.controllers.server.adapters == had


async def test_what_somebody_else_loaded_or_moved_is_put_right() -> None:
    async with a_live_model(adapters=[SQL]) as op:
        had = dict(op.controllers.server.adapters)
        op.controllers.server.adapters |= {"sql": "/tmp/other", "theirs": "/tmp/x"}
        await settled(op)

        assert op.controllers.server.adapters == had


@pytest.mark.parametrize("knows_in_place", [True, False])
async def test_another_commit_takes_the_place_of_the_one_that_is_loaded(knows_in_place: bool) -> None:
    async with a_live_model(adapters=[SQL]) as op:
        server, before = op.controllers.server, pods(op)
        had, server.knows_in_place = dict(server.adapters), knows_in_place
        op.controllers.answer["commit"] = "f" * 40
        await with_adapters(op, {**SQL, "revision": "v2"})

        assert server.adapters.keys() == had.keys()
        assert server.adapters != had
        assert op.status()["adapters"][0]["commit"] == "f" * 40
        assert server.asked.count("POST /v1/unload_lora_adapter") == (0 if knows_in_place else 1)
        assert pods(op) == before


async def test_at_rest_nothing_but_the_probe_is_asked() -> None:
    async with a_live_model(adapters=[SQL, CHAT]) as op:
        requests, asked = len(op.fake.audit), len(op.controllers.server.asked)
        for _ in range(3):
            await op.look()

        through_the_proxy = [path for _, path in op.fake.audit[requests:]]
        assert all("/proxy/" in path for path in through_the_proxy)
        assert set(op.controllers.server.asked[asked:]) == {"GET /health", "GET /v1/models"}


async def test_a_rank_that_is_too_high_is_told_once_and_the_model_serves_on() -> None:
    async with a_live_model() as op:
        op.controllers.server.refuses["sql"] = (500, "LoRA rank 64 is greater than max_lora_rank 16.")
        await with_adapters(op, SQL, CHAT)

        assert op.condition("Ready") == ("True", "Serving")
        assert op.condition("AdaptersReady") == ("False", "AdapterRankTooHigh")
        assert op.condition("Stalled") == ("True", "AdapterRankTooHigh")
        assert op.status()["lastFailure"]["reason"] == "AdapterRankTooHigh"
        sql, chat = op.status()["adapters"]
        assert (sql["reason"], "rank 64" in sql["message"], sql.get("pods")) == ("AdapterRankTooHigh", True, None)
        assert ("reason" in chat, len(chat["pods"])) == (False, 1)

        tries = changes(op)
        op.doormen.reconciler.changed(Key("team", "m"))
        await op.look()
        assert changes(op) == tries


async def test_what_is_wrong_with_an_adapter_is_told_by_its_own_inspection() -> None:
    async with a_live_model() as op:
        op.controllers.holds.add("inspect")
        op.fake.edit("VLLMModel", "m", {"spec": {"adapters": [SQL]}})
        await op.look()
        said = {"version": 1, "ok": False, "reason": "RepoNotFound", "message": "demo/sql is not on the hub.",
                "remedy": "Correct adapters[].source.", "retry": False}  # fmt: skip
        job = next(job["metadata"]["name"] for job in op.fake.all("Job") if "sql" in job["metadata"]["name"])
        op.controllers.end_job(job, json.dumps(said), code=3)
        await settled(op)

        assert op.condition("Ready") == ("True", "Serving")
        assert op.condition("AdaptersReady") == ("False", "RepoNotFound")
        assert "demo/sql is not on the hub." in op.status()["adapters"][0]["message"]

        op.controllers.holds.clear()
        await with_adapters(op, CHAT)
        assert op.condition("AdaptersReady") == ("True", "AdaptersLoaded")
        assert op.condition("Stalled") == ("", "")


async def test_without_a_server_no_adapter_is_brought_and_the_first_server_brings_them() -> None:
    async with a_live_model(adapters=[SQL], replicas=0) as op:
        assert jobs(op) == ["hf://demo/tiny", "hf://demo/tiny"]
        assert op.condition("AdaptersReady") == ("False", "NoServer")

        op.fake.edit("VLLMModel", "m", {"spec": {"replicas": 1}})
        await settled(op)
        assert op.condition("AdaptersReady") == ("True", "AdaptersLoaded")


async def test_the_platform_has_to_allow_it() -> None:
    async with an_operator() as op:
        op.fake.put(a_vllmmodel(adapterLoading="Live"))
        await op.settle()

        assert op.condition("Ready") == ("False", "LiveAdaptersNotAllowed")
        assert op.fake.all("Job") == []


async def test_a_model_that_is_deleted_takes_its_adapters_along() -> None:
    async with a_live_model(adapters=[SQL]) as op:
        op.fake.remove("VLLMModel", "m")
        assert await op.look() is None

        assert [place.plural for place in op.fake.store.objects if place.plural != "events"] == []
