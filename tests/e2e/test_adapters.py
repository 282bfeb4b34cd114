"""LoRA adapters: added to a running server and removed from it (the real vLLM), and given to the one that comes after it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.world import Namespace, Object, await_that

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(500)]
LORA = "vllm-operator/lora-rank-16"
SQL, CHAT = {"name": "sql", "source": LORA}, {"name": "chat", "source": f"hf://{LORA}@main"}
WRONG = {"name": "wrong", "source": "vllm-operator/tiny-chat"}


def life(ns: Namespace) -> list[tuple[str, int]]:
    """The servers' uids and restarts."""
    return [(pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]) for pod in ns.server_pods()]


def listed(ns: Namespace) -> list[str]:
    """Adapters that the server itself lists."""
    return sorted(card["id"] for card in ns.ask("/v1/models")["data"] if card["parent"])


def with_adapters(ns: Namespace, *adapters: dict[str, str], status: str = "True", reason: str = "") -> Object:
    ns.patch("m", adapters=list(adapters))
    ns.await_condition("AdaptersReady", status, reason, seconds=60)
    return {adapter["name"]: adapter for adapter in ns.status().get("adapters", [])}


def answers(ns: Namespace, model: str) -> Any:
    return ns.ask("/v1/completions", body={"model": model, "prompt": "Hello", "max_tokens": 1})["model"]


def test_adapters_come_and_go_while_the_real_server_runs(namespace: Namespace) -> None:
    namespace.apply_real(adapterLoading="Live", adapterCache={"size": "64Mi"}, maxCPULoRAs=4)
    namespace.await_ready(seconds=240)
    before, pod = life(namespace), namespace.server_pods()[0]["metadata"]["name"]

    seen = with_adapters(namespace, SQL, CHAT)
    assert listed(namespace) == ["chat", "sql"]
    assert [seen[name]["pods"] for name in ("sql", "chat")] == [[pod], [pod]]
    assert [answers(namespace, name) for name in ("sql", "chat")] == ["sql", "chat"]

    seen = with_adapters(namespace, CHAT, WRONG, status="False", reason="AdapterNotFound")
    assert listed(namespace) == ["chat"]
    assert "pods" not in seen["wrong"]
    assert namespace.condition("Ready")["status"] == "True"

    with_adapters(namespace, CHAT)
    assert life(namespace) == before


def test_the_next_server_gets_the_adapters_and_the_end_leaves_nothing(namespace: Namespace) -> None:
    namespace.apply_fake(adapterLoading="Live", adapters=[CHAT])
    namespace.await_condition("AdaptersReady", "True", seconds=120)
    pod = namespace.server_pods()[0]["metadata"]["name"]

    namespace.kubectl("delete", "pod", pod, "--wait=false")
    status = await_that(
        lambda: namespace.status(),
        lambda s: any(name != pod for adapter in s.get("adapters", []) for name in adapter.get("pods", [])),
        90,
        "the adapter on the new server",
    )
    assert [adapter["name"] for adapter in status["adapters"]] == ["chat"]
    assert listed(namespace) == ["chat"]
    assert answers(namespace, "chat") == "chat"

    namespace.kubectl("delete", "vllmmodel", "m", "--wait=true", "--timeout=60s")
    kinds = "deployments,jobs,persistentvolumeclaims,pods"
    await_that(
        lambda: [o["metadata"]["name"] for o in namespace.list(kinds)], lambda left: not left, 90, "an empty namespace"
    )


def test_adapters_that_servers_start_with_are_listed_with_their_pods(namespace: Namespace) -> None:
    namespace.apply_fake(adapters=[SQL])

    status = namespace.await_ready()

    pods = [pod["metadata"]["name"] for pod in namespace.server_pods()]
    assert [(adapter["name"], adapter["pods"]) for adapter in status["adapters"]] == [("sql", pods)]
    assert listed(namespace) == ["sql"]
