"""Which nodes may run a model: what the scheduler would say for good, and not what passes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.builders import a_spec
from tests.golden.canned import settings, some_weights
from vllm_operator.observe.places import fingerprint, may_run, takes_pods
from vllm_operator.plan import NodesPlan
from vllm_operator.plan.accelerator import place, profiles_of

GIVEN = settings(nodeCache={"path": "/srv/weights"})


def a_plan(**spec: Any) -> NodesPlan:
    """Where a model with these fields may run; a CPU without labels unless an accelerator is given."""
    nodes = some_weights(GIVEN, **{"accelerator": "cpu", "cache": {"type": "Node"}, **spec}).nodes
    assert nodes is not None
    return nodes


def a_node(labels: dict[str, str] | None = None, ready: str = "True", gpus: int = 0, **spec: Any) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": ready}]
    capacity = {"cpu": "8"} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    metadata = {"name": "a", "uid": "u", "labels": labels or {}}
    return {"metadata": metadata, "spec": spec, "status": {"conditions": conditions, "capacity": capacity}}


def required(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, **({"values": list(values)} if values else {})}]}


@pytest.mark.parametrize(
    ("term", "labels", "expected"),
    [
        (expression("zone", "In", "a", "b"), {"zone": "b"}, True),
        (expression("zone", "In", "a", "b"), {"zone": "c"}, False),
        (expression("zone", "In", "a"), {}, False),
        (expression("zone", "NotIn", "a"), {}, True),
        (expression("zone", "NotIn", "a"), {"zone": "a"}, False),
        (expression("zone", "Exists"), {"zone": ""}, True),
        (expression("zone", "Exists"), {}, False),
        (expression("zone", "DoesNotExist"), {}, True),
        (expression("zone", "DoesNotExist"), {"zone": "a"}, False),
        (expression("size", "Gt", "4"), {"size": "5"}, True),
        (expression("size", "Gt", "4"), {"size": "4"}, False),
        (expression("size", "Lt", "4"), {"size": "3"}, True),
        (expression("size", "Lt", "4"), {"size": "large"}, False),
        (expression("size", "Near", "4"), {"size": "4"}, False),
        ({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}, {}, True),
        ({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}, {}, False),
        ({}, {}, False),
    ],
)
def test_a_term_holds_as_in_the_scheduler(term: Any, labels: dict[str, str], expected: bool) -> None:
    plan = replace(a_plan(), placement=replace(a_plan().placement, affinity=required(term)))

    assert may_run(a_node(labels), plan) is expected


def test_one_of_several_terms_is_enough() -> None:
    affinity = required(expression("zone", "In", "a"), expression("zone", "In", "b"))

    assert may_run(a_node({"zone": "b"}), replace(a_plan(), placement=replace(a_plan().placement, affinity=affinity)))


def test_the_selector_and_the_accelerators_labels_count() -> None:
    plan = a_plan(accelerator="nvidia-l4", pod={"node_selector": {"pool": "x"}})
    labels = {"pool": "x", "nvidia.com/gpu.product": "NVIDIA-L4"}
    (wanted,) = profiles_of(a_spec(accelerator="nvidia-l4"), GIVEN)[0]
    known = {key: value if isinstance(value, str) else value[0] for key, value in wanted[1].node_selector.items()}

    assert may_run(a_node(labels | known, gpus=1), plan)
    assert not may_run(a_node({"pool": "x"}, gpus=1), plan)
    assert not may_run(a_node(known, gpus=1), plan)


@pytest.mark.parametrize(
    ("taint", "toleration", "expected"),
    [
        ({"key": "a", "effect": "NoSchedule"}, None, False),
        ({"key": "a", "effect": "NoExecute"}, None, False),
        ({"key": "a", "effect": "PreferNoSchedule"}, None, True),
        ({"key": "a", "effect": "NoSchedule"}, {"key": "a", "operator": "Exists"}, True),
        ({"key": "a", "value": "x", "effect": "NoSchedule"}, {"key": "a", "value": "x"}, True),
        ({"key": "a", "value": "x", "effect": "NoSchedule"}, {"key": "a", "value": "y"}, False),
        ({"key": "a", "effect": "NoSchedule"}, {"key": "a", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "a", "effect": "NoSchedule"}, {"operator": "Exists"}, True),
        ({"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}, None, True),
        ({"key": "node.kubernetes.io/disk-pressure", "effect": "NoSchedule"}, None, True),
    ],
)
def test_taints_that_last_must_be_borne(taint: Any, toleration: Any, expected: bool) -> None:
    plan = a_plan(pod={"tolerations": [toleration] if toleration else []})

    assert may_run(a_node(taints=[taint]), plan) is expected


@pytest.mark.parametrize(("gpus", "expected"), [(0, False), (1, False), (2, True), (8, True)])
def test_the_node_has_the_devices_of_one_server(gpus: int, expected: bool) -> None:
    assert may_run(a_node(gpus=gpus), a_plan(accelerator="nvidia", tensor_parallel_size=2)) is expected


def test_a_node_that_is_away_is_one_of_them_all_the_same() -> None:
    for node in (a_node(ready="Unknown"), a_node(unschedulable=True)):
        assert may_run(node, a_plan())
        assert not takes_pods(node)
    assert takes_pods(a_node())


def test_a_heartbeat_changes_nothing_that_matters_and_a_taint_does() -> None:
    beat = a_node()
    beat["status"]["conditions"][0]["lastHeartbeatTime"] = "2026-11-21T10:00:00Z"
    beat["status"]["images"] = [{"names": ["x"]}]

    assert fingerprint(beat) == fingerprint(a_node())
    for other in (a_node(ready="False"), a_node({"a": "b"}), a_node(gpus=1), a_node(taints=[{"key": "a"}])):
        assert fingerprint(other) != fingerprint(a_node())


def test_servers_ask_for_the_label_beside_what_they_asked_for_before() -> None:
    given = profiles_of(a_spec(accelerators=("nvidia-l4", "nvidia-a10")), GIVEN)[0]
    spec = a_spec(accelerators=("nvidia-l4", "nvidia-a10"))
    before = place(spec, given).affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]  # type: ignore[index]
    after = place(spec, given, node_label="w/x").affinity["nodeAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]  # type: ignore[index]

    assert len(after["nodeSelectorTerms"]) == len(before["nodeSelectorTerms"]) == 2
    for old, new in zip(before["nodeSelectorTerms"], after["nodeSelectorTerms"], strict=True):
        assert new["matchExpressions"] == [*old["matchExpressions"], {"key": "w/x", "operator": "Exists"}]
