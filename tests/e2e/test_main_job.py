"""The main job with nothing faked but the hub: real weights, the real vLLM, real answers."""

from __future__ import annotations

import pytest

from tests.demo.ask import api_server, client_of, similarities, streamed_answer
from tests.demo.shell import ROOT
from tests.e2e.world import Audit, Namespace, await_that, hub, kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture(scope="module")
def served(shared: Namespace) -> Namespace:
    """Both examples of the demo, Ready."""
    for name in ("minilm", "tiny-chat"):
        text = (
            (ROOT / "crds" / "examples" / f"{name}.yaml")
            .read_text()
            .replace("namespace: demo", f"namespace: {shared.name}")
        )
        kubectl("apply", "-f", "-", input=text)
    for name in ("minilm", "tiny-chat"):
        shared.await_ready(name, seconds=420)
    return shared


def test_a_kitten_is_nearer_to_a_cat_than_the_stock_market_is(served: Namespace) -> None:
    with api_server() as api, client_of(api, served.name, "minilm") as client:
        near, far = similarities(client, MINILM)

    assert near == pytest.approx(0.66, abs=0.1)
    assert far == pytest.approx(0.07, abs=0.1)


def test_a_chat_answer_is_streamed_through_the_service(served: Namespace) -> None:
    with api_server() as api, client_of(api, served.name, "tiny-chat") as client:
        _, pieces = streamed_answer(client, "vllm-operator/tiny-chat")

    assert pieces >= 1


def test_the_status_tells_what_the_server_says(served: Namespace) -> None:
    status = served.status("tiny-chat")
    card = served.ask("/v1/models", "tiny-chat")["data"][0]

    assert status["servedModels"] == [card["id"]]
    assert status["maxModelLen"] == card["max_model_len"]
    assert status["url"].startswith(f"http://tiny-chat.{served.name}.svc")
    assert status["readyReplicas"] == status["replicas"] == 1


def test_the_commit_of_the_hub_is_pinned_in_status(served: Namespace) -> None:
    commit = hub(f"/api/models/{MINILM}/revision/main")["sha"]

    assert served.status("minilm")["source"]["commit"] == commit
    assert served.status("minilm")["weights"]["percent"] == 100


def test_at_rest_the_operator_writes_nothing(served: Namespace) -> None:
    audit = Audit(served.name)
    looks = iter(range(60))
    await_that(lambda: next(looks), lambda n: n >= 59, seconds=60, what="half a minute")

    assert audit.writes() == []
    assert len(audit.requests()) == 0


def test_no_pod_carries_a_token_or_may_become_more(served: Namespace) -> None:
    for pod in served.list("pods"):
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert not any("projected" in volume for volume in pod["spec"]["volumes"])
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
