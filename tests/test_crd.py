"""The CRD: the file is what the types say, its schema is structural, and everything that CEL reads is bounded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.admission_cases import bad_cases
from vllm_operator import crd as making
from vllm_operator.api import Spec, Status, camel
from vllm_operator.api.old_names import OLD_FIELDS
from vllm_operator.api.rules import RULES
from vllm_operator.crd.structural import structural

crd = cache(making.crd)
crd_yaml = cache(making.crd_yaml)
schema = cache(making.schema)

FILE = Path(__file__).parent.parent / "crds" / "vllmmodels.yaml"
CLIENT_SIDE_LIMIT = 256 * 1024  # bytes of the annotation that `kubectl apply` writes


def spec_properties() -> dict[str, Any]:
    found: dict[str, Any] = schema()["properties"]["spec"]["properties"]
    return found


def parts(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Each schema inside a schema, with its path."""
    yield path, node
    for name, inner in node.get("properties", {}).items():
        yield from parts(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            yield from parts(node[key], f"{path}[]")


def test_the_file_is_what_the_types_say() -> None:
    assert FILE.read_text("utf-8") == crd_yaml(), "run: python -m vllm_operator.crd > crds/vllmmodels.yaml"


def test_kubectl_can_apply_it() -> None:
    assert len(json.dumps(crd())) < CLIENT_SIDE_LIMIT


def test_it_is_yaml_without_anchors() -> None:
    assert yaml.load(FILE.read_text("utf-8"), Loader=yaml.CSafeLoader) == crd()
    assert not re.search(r"(?m)^\s*\S+: [&*]id\d", FILE.read_text("utf-8"))


@pytest.mark.parametrize("word", ["$ref", "$defs", "oneOf", "const", "title", "patternProperties", "propertyNames"])
def test_nothing_is_left_that_kubernetes_does_not_take(word: str) -> None:
    assert [path for path, node in parts(schema()) if word in node] == []


def test_each_part_has_a_type_or_takes_both_numbers_and_words() -> None:
    assert [
        path for path, node in parts(schema()) if "type" not in node and "x-kubernetes-int-or-string" not in node
    ] == []


def test_an_exclusive_bound_is_a_switch_beside_the_bound() -> None:
    assert spec_properties()["gpuMemoryUtilization"] == {
        "type": "number",
        "minimum": 0,
        "exclusiveMinimum": True,
        "maximum": 1,
        "description": spec_properties()["gpuMemoryUtilization"]["description"],
    }


def test_quantities_are_numbers_or_words() -> None:
    size = spec_properties()["cache"]["properties"]["size"]
    assert size["x-kubernetes-int-or-string"] is True
    assert "type" not in size


def test_objects_of_vllm_keep_their_unknown_keys() -> None:
    for name in (
        "hfOverrides",
        "compilationConfig",
        "speculativeConfig",
        "mmProcessorKwargs",
        "structuredOutputsConfig",
    ):
        assert spec_properties()[name]["x-kubernetes-preserve-unknown-fields"] is True


def test_every_text_list_and_map_of_the_spec_is_bounded() -> None:
    """CEL's cost estimate takes an unbounded one for three megabytes."""
    open_ended = [
        path
        for path, node in parts(schema()["properties"]["spec"], "spec")
        if (node.get("type") == "string" and not {"maxLength", "enum"} & node.keys())
        or (node.get("type") == "array" and "maxItems" not in node)
        or ("additionalProperties" in node and "maxProperties" not in node)
    ]
    assert open_ended == []


def test_every_field_is_there_with_help() -> None:
    names = {camel(name) for name in Spec.model_fields}
    assert set(spec_properties()) == names | set(OLD_FIELDS)
    assert [name for name in names if not spec_properties()[name].get("description")] == []
    assert set(schema()["properties"]["status"]["properties"]) == {camel(name) for name in Status.model_fields}


def test_only_the_model_must_be_said() -> None:
    assert schema()["properties"]["spec"]["required"] == ["model"]
    assert schema()["required"] == ["spec"]


def test_few_defaults_are_filled_in() -> None:
    """What the API server writes into a spec stays there for ever."""
    found = {path: node["default"] for path, node in parts(schema()["properties"]["spec"], "") if "default" in node}
    assert found == {".replicas": 1, ".tokenSecretRef.key": "token"}


def test_an_unseen_model_is_pending() -> None:
    (condition,) = schema()["properties"]["status"]["default"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Ready", "Unknown", "Pending")
    assert schema()["properties"]["status"]["default"]["observedGeneration"] == 0


def test_it_can_be_scaled_and_has_a_status() -> None:
    assert crd()["spec"]["versions"][0]["subresources"] == {
        "status": {},
        "scale": {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    }


def test_columns() -> None:
    columns = crd()["spec"]["versions"][0]["additionalPrinterColumns"]
    assert [column["name"] for column in columns if "priority" not in column] == [
        "Ready",
        "Reason",
        "Model",
        "Percent",
        "Replicas",
        "URL",
        "Age",
    ]
    assert [column["name"] for column in columns if "priority" in column] == [
        "Max length",
        "Accelerator",
        "Commit",
    ]


def test_names() -> None:
    names = crd()["spec"]["names"]
    assert (names["plural"], names["shortNames"], names["categories"]) == ("vllmmodels", ["vllm"], ["all"])
    assert crd()["metadata"]["name"] == "vllmmodels.vllm-operator.dev"


@pytest.mark.parametrize("place", sorted(RULES))
def test_a_rule_says_in_one_sentence_which_field_and_what_to_do(place: str) -> None:
    for rule in RULES[place]:
        assert "\n" not in rule.message
        assert 10 < len(rule.message) <= 400
        assert not rule.field or rule.field.split(".")[0] in rule.expression


def test_every_rule_is_broken_by_a_case_for_the_api_server() -> None:
    """By a part of its message; test_admission.py puts the cases to the real one."""
    told = [case.message for case in bad_cases()]
    untried = [rule.message for rules in RULES.values() for rule in rules if not any(m in rule.message for m in told)]
    assert untried == []


def test_no_two_rules_of_a_place_are_the_same() -> None:
    for rules in RULES.values():
        assert len({rule.expression for rule in rules}) == len(rules)


def test_the_types_of_a_schema_are_converted_without_them() -> None:
    assert structural(Status)["type"] == "object"
    assert "default" not in structural(Status)
