"""The plan of any model: it never raises, it is the same each time, and it is either refused or whole."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from tests.builders import a_model
from tests.golden.canned import answer_to, settings
from tests.test_plan_fields import SAMPLES, with_value
from vllm_operator.plan import plan_model, plan_server, plan_weights
from vllm_operator.render import render_part

SOURCES = (
    "org/name",
    "modelscope://org/name@v1",
    "s3://bucket/prefix",
    "gs://bucket/prefix",
    "pvc://claim/path",
    "file:///srv/model",
    "oci://registry.example.com/tiny@sha256:" + "a" * 64,
)


def a_mixture(seed: int) -> dict[str, Any]:
    """A spec of several fields that were not made for each other."""
    random = Random(seed)
    spec: dict[str, Any] = {"model": random.choice(SOURCES)}
    for path in random.sample(sorted(set(SAMPLES) - {"model"}), random.randint(1, 12)):
        sample = SAMPLES[path]
        around, value = sample if isinstance(sample, tuple) and isinstance(sample[0], dict) else ({}, sample)
        if "." in path:
            top = path.partition(".")[0]
            spec[top] = with_value({top: spec.get(top, around.get(top, {}))}, path, value)[top]
        else:
            spec[path] = value
    template = spec.get("chat_template", {})
    if "config_map_key_ref" in template:
        template["config_map_key_ref"] = {"name": "c", "key": "k"}
    return spec


@pytest.mark.parametrize("start", range(0, 400, 100))
def test_any_mixture_of_fields_is_refused_with_remedies_or_becomes_whole_manifests(start: int) -> None:
    for seed in range(start, start + 100):
        model = a_model(**completed(a_mixture(seed)))
        plan = plan_model(model, settings())
        weights = plan_weights(plan, answer_to(plan))
        server = plan_server(plan, weights)
        refused = [*plan.problems, *weights.problems, *server.problems]
        assert all(problem.message and problem.remedy for problem in refused)
        if refused:
            continue
        for part in (
            plan.inspect,
            weights.claim,
            weights.pull,
            server.chat_template,
            server.deployment,
            server.service,
        ):
            if part is not None:
                manifest = render_part(part)
                assert manifest["metadata"]["namespace"] == "demo"
                assert len(manifest["metadata"]["name"]) <= 63


def completed(spec: dict[str, Any]) -> dict[str, Any]:
    """The required fields of nested objects, where the mixture took only one of them."""
    needed: dict[str, dict[str, Any]] = {
        "token_secret_ref": {"name": "s"},
        "api_key_secret_ref": {"name": "s", "key": "k"},
    }
    for field, values in needed.items():
        if field in spec:
            spec[field] = values | spec[field]
    for field, item in (("adapters", {"name": "a", "source": "org/a"}), ("env", {"name": "TZ"})):
        if field in spec:
            items = spec[field] if isinstance(spec[field], tuple) else (spec[field],)
            spec[field] = tuple(item | one for one in items)
    pod = spec.get("pod", {})
    for field in ("tolerations", "image_pull_secrets"):
        if isinstance(pod.get(field), dict):
            pod[field] = ({"name": "s"} | pod[field],) if field == "image_pull_secrets" else (pod[field],)
    return spec


def test_the_same_model_and_settings_give_the_same_plan() -> None:
    model = a_model(adapters=({"name": "a", "source": "org/a"},), env=({"name": "TZ", "value": "UTC"},))

    first, second = (plan_model(model, settings()) for _ in range(2))

    assert first == second
    assert plan_server(first, plan_weights(first, answer_to(first))) == plan_server(
        second, plan_weights(second, answer_to(second))
    )


def test_the_order_in_which_a_user_writes_labels_changes_no_pod() -> None:
    one = a_model(
        pod={"labels": {"a": "1", "b": "2"}, "node_selector": {"x": "1", "y": "2"}}, hf_overrides={"p": 1, "q": 2}
    )
    two = a_model(
        pod={"node_selector": {"y": "2", "x": "1"}, "labels": {"b": "2", "a": "1"}}, hf_overrides={"q": 2, "p": 1}
    )

    rendered = []
    for model in (one, two):
        plan = plan_model(model, settings())
        rendered.append(render_part(plan_server(plan, plan_weights(plan, answer_to(plan))).deployment))
    assert rendered[0] == rendered[1]
