"""A user's affinity is any object to the CRD: one of another form is told by its path, and nothing else comes of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.builders import a_model
from tests.golden.canned import answer_to, settings
from vllm_operator.decide import decide
from vllm_operator.decide.types import Seen
from vllm_operator.plan import plan_model, plan_server, plan_weights
from vllm_operator.plan.affinity import PREFERRED, REQUIRED


def terms(*found: Any) -> dict[str, Any]:
    return {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": list(found)}}}


@pytest.mark.parametrize(
    ("affinity", "said"),
    [
        ({"nodeAffinity": "zone a"}, "pod.affinity.nodeAffinity is no object."),
        ({"podAffinity": 5}, "pod.affinity.podAffinity is no object."),
        ({"podAntiAffinity": []}, "pod.affinity.podAntiAffinity is no object."),
        ({"podAffinity": {REQUIRED: {}}}, f"pod.affinity.podAffinity.{REQUIRED} is no list."),
        ({"nodeAffinity": {REQUIRED: []}}, f"pod.affinity.nodeAffinity.{REQUIRED} is no object."),
        ({"nodeAffinity": {PREFERRED: 7}}, f"pod.affinity.nodeAffinity.{PREFERRED} is no list."),
        (terms("zone"), f"pod.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms[0] is no object."),
        (terms({}, None), f"pod.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms[1] is no object."),
        (terms({"matchExpressions": {}}), ".nodeSelectorTerms[0].matchExpressions is no list."),
        (terms({"matchFields": ["name"]}), ".nodeSelectorTerms[0].matchFields[0] is no object."),
        (terms({"matchExpressions": [{"key": "a", "operator": "In", "values": "b"}]}), ".values is no list."),
    ],
)
def test_another_form_is_refused_by_its_path(affinity: Any, said: str) -> None:
    model = a_model(pod={"affinity": affinity}, accelerators=("nvidia-l40s", "nvidia-l4"))
    plan = plan_model(model, settings())
    status = decide(model, plan, Seen(), datetime.now(UTC)).status

    [problem] = plan.problems
    assert problem.message.endswith(said)
    ready = status.condition("Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == ("False", "InvalidSpec")


@pytest.mark.parametrize(
    "affinity",
    [
        {"nodeAffinity": None, "podAffinity": {REQUIRED: None}},
        {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": None}, PREFERRED: None}},
        terms({"matchExpressions": None}),
        terms({"matchExpressions": [{"key": "a", "operator": "Exists", "values": None}]}),
    ],
)
def test_a_null_is_as_good_as_nothing(affinity: Any) -> None:
    plan = plan_model(a_model(pod={"affinity": affinity}, accelerators=("nvidia-l40s", "nvidia-l4")), settings())

    assert not plan.problems
    assert plan_server(plan, plan_weights(plan, answer_to(plan))).deployment.placement.affinity
