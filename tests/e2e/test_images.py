"""Models that are images on the real node: pulled by the container runtime, mounted read-only, served; and what goes wrong."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import models, runtime
from tests.e2e.world import Namespace, await_that
from tests.stores.registry import PASSWORD, USER, Registry

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """A registry on this machine, which the node's container runtime reaches."""
    with Registry() as running, runtime.plain_registry(running.host):
        yield running


@pytest.fixture(scope="module")
def digest(registry: Registry) -> str:
    """Of the tiny chat model as an image."""
    return registry.add(models.folder() / "vllm-operator" / "tiny-chat")


def test_a_model_in_an_image_is_pulled_with_a_login_and_served(
    namespace: Namespace, registry: Registry, digest: str
) -> None:
    login = (f"--docker-server={registry.host}", f"--docker-username={USER}", f"--docker-password={PASSWORD}")
    namespace.kubectl("create", "secret", "docker-registry", "models", *login)

    model = f"oci://{registry.host}/private/tiny-chat@{digest}"
    namespace.apply_real(model=model, pod={"imagePullSecrets": [{"name": "models"}]})

    namespace.await_ready(seconds=240)
    messages = [{"role": "user", "content": "the quick brown"}]
    answer = namespace.ask("/v1/chat/completions", body={"model": "tiny-chat", "messages": messages, "max_tokens": 4})
    assert answer["usage"]["completion_tokens"] == 4
    assert namespace.condition("WeightsReady")["reason"] == "InPlace"
    assert (namespace.condition("Fits")["status"], namespace.condition("Fits")["reason"]) == ("Unknown", "FitUnknown")
    assert "config.json" in namespace.condition("Fits")["message"]
    assert namespace.list("jobs,persistentvolumeclaims") == []


def test_an_image_that_cannot_be_had_is_named_and_the_right_digest_mends_it(
    namespace: Namespace, registry: Registry, digest: str
) -> None:
    absent = f"{registry.host}/models/tiny-chat@sha256:{'0' * 64}"
    private = f"{registry.host}/private/nobody-pulled-this-one@{digest}"
    namespace.apply_fake("absent", model=f"oci://{absent}")
    namespace.apply_fake("private", model=f"oci://{private}")

    told = {
        name: await_that(
            lambda: namespace.status(name).get("lastFailure", {}),  # noqa: B023
            lambda failure: failure.get("reason") == "ImagePullFailed",
            60,
            f"lastFailure of {name}",
        )
        for name in ("absent", "private")
    }

    assert f"There is no image {absent}" in told["absent"]["message"]
    assert "digest in `model`" in told["absent"]["remedy"]
    assert private in told["private"]["message"]
    assert "login" in told["private"]["message"]
    assert "`pod.imagePullSecrets`" in told["private"]["remedy"]

    namespace.patch("absent", model=f"oci://{registry.host}/models/tiny-chat@{digest}")
    namespace.await_ready("absent", seconds=60)
