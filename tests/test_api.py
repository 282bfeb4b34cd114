"""The types: names, bounds, quantities and sources, as a user writes them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.admission_cases import GOOD, Bad, bad_cases, body, example_bodies
from tests.builders import a_model, a_spec
from vllm_operator.api import (
    Condition,
    ConditionType,
    Scheme,
    Source,
    Spec,
    Status,
    VLLMModel,
    camel,
    parse_source,
    parse_strict,
    quantity_bytes,
)
from vllm_operator.plan.flags import refusals

CASES = bad_cases()


@pytest.mark.parametrize(
    ("name", "json_name"),
    [
        ("max_model_len", "maxModelLen"),
        ("cpu_offload_gb", "cpuOffloadGB"),
        ("max_lora_rank", "maxLoRARank"),
        ("max_loras", "maxLoRAs"),
        ("max_cpu_loras", "maxCPULoRAs"),
        ("enable_lora", "enableLoRA"),
        ("limit_mm_per_prompt", "limitMMPerPrompt"),
        ("mm_processor_cache_gb", "mmProcessorCacheGB"),
        ("kv_cache_dtype", "kvCacheDtype"),
        ("api_key_secret_ref", "apiKeySecretRef"),
        ("tls", "tls"),
        ("env", "env"),
    ],
)
def test_a_field_has_vllms_name_in_camel_case(name: str, json_name: str) -> None:
    assert name in Spec.model_fields
    assert camel(name) == json_name


def test_unset_fields_are_none_and_lists_are_empty() -> None:
    spec = a_spec()
    set_by_us = {"model", "replicas", "cache", "adapter_cache", "download", "resources", "pod", "rollout"}
    assert {name for name in Spec.model_fields if getattr(spec, name) not in (None, ())} == set_by_us
    assert spec.cache.type == "PersistentVolumeClaim"
    assert spec.replicas == 1


def test_an_older_operator_reads_a_newer_object() -> None:
    newer = body({"fieldOfTomorrow": 1, "cache": {"type": "Node", "another": 2}})
    assert VLLMModel.model_validate(newer).spec.cache.type == "Node"


def test_a_file_with_an_unknown_field_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="maxModelLength"):
        parse_strict(body({"maxModelLength": 1}))


def test_the_spec_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(a_spec(), "model", "a/b")  # noqa: B010 - a plain assignment would not pass mypy, which is the point


def test_a_dump_has_json_names_and_nothing_unset() -> None:
    dumped = a_model(max_lora_rank=16, enable_lora=True, hf_overrides={"a": None}).as_json()["spec"]
    assert dumped == {
        "model": "demo/tiny",
        "maxLoRARank": 16,
        "enableLoRA": True,
        "hfOverrides": {"a": None},
        "cache": {"type": "PersistentVolumeClaim"},
        "replicas": 1,
    }


@pytest.mark.parametrize("name", sorted(GOOD))
def test_a_good_value_survives_the_way_there_and_back(name: str) -> None:
    model = parse_strict(body(GOOD[name]))
    assert VLLMModel.model_validate(model.as_json()) == model
    assert refusals(model.spec.extra_args) == ()


@pytest.mark.parametrize("name", sorted(example_bodies()))
def test_each_example_is_read_strictly(name: str) -> None:
    document = example_bodies()[name]
    model = parse_strict(document)
    assert model.metadata.name == document["metadata"]["name"]
    assert refusals(model.spec.extra_args) == ()


@pytest.mark.parametrize("case", [case for case in CASES if case.by == "types"], ids=lambda case: case.name)
def test_the_types_refuse_what_the_schema_refuses(case: Bad) -> None:
    with pytest.raises(ValidationError):
        parse_strict(case.body)


@pytest.mark.parametrize("case", [case for case in CASES if case.by == "flags"], ids=lambda case: case.name)
def test_the_flag_tables_refuse_what_the_rules_refuse(case: Bad) -> None:
    assert refusals(VLLMModel.model_validate(case.body).spec.extra_args)


@pytest.mark.parametrize("case", [case for case in CASES if case.by == "rules"], ids=lambda case: case.name)
def test_what_only_the_rules_refuse_can_still_be_read(case: Bad) -> None:
    """The operator must live with an object that was stored before a rule was there."""
    assert VLLMModel.model_validate(case.body).spec.model


@pytest.mark.parametrize("case", [case for case in CASES if case.by == "old names"], ids=lambda case: case.name)
def test_an_old_name_is_no_field(case: Bad) -> None:
    with pytest.raises(ValidationError, match="not permitted"):
        parse_strict(case.body)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("20Gi", 20 * 2**30),
        ("1.5Gi", 3 * 2**29),
        ("500M", 500_000_000),
        ("1", 1),
        ("1500m", 2),
        ("1e3", 1000),
        ("3Ti", 3 * 2**40),
    ],
)
def test_a_quantity_is_whole_bytes_rounded_up(text: str, size: int) -> None:
    assert quantity_bytes(text) == size


@pytest.mark.parametrize("text", ["", "Gi", "-1", "1 Gi", "1gb", "1Gi\n", "٣Gi", "NaN", "1" * 30, "0x10"])
def test_what_is_no_quantity_is_told_so(text: str) -> None:
    with pytest.raises(ValueError, match="such as"):
        quantity_bytes(text)


@pytest.mark.parametrize("text", ["9e99", "9223372036854775808", "8Ei", "9999999999999999999e99"])
def test_a_quantity_beyond_what_kubernetes_counts_is_refused(text: str) -> None:
    """A status that names such a number would never be taken."""
    with pytest.raises(ValidationError, match=r"limits.memory[\s\S]*9223372036854775807"):
        a_spec(resources={"limits": {"memory": text}})


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("org/name", Source(Scheme.HF, "org/name")),
        ("hf://org/name@refs/pr/1", Source(Scheme.HF, "org/name", revision="refs/pr/1")),
        ("modelscope://org/name", Source(Scheme.MODELSCOPE, "org/name")),
        ("s3://bucket/a/b/", Source(Scheme.S3, "bucket", "a/b")),
        ("gs://bucket/a", Source(Scheme.GS, "bucket", "a")),
        ("pvc://claim", Source(Scheme.PVC, "claim")),
        ("pvc://claim/a/b", Source(Scheme.PVC, "claim", "a/b")),
        ("oci://r:5000/a/b@sha256:" + "0" * 64, Source(Scheme.OCI, "r:5000/a/b@sha256:" + "0" * 64)),
        ("file:///models/a", Source(Scheme.FILE, "", "models/a")),
    ],
)
def test_a_source_is_taken_apart(text: str, source: Source) -> None:
    assert parse_source(text) == source


@given(st.text(max_size=60))
def test_no_text_makes_a_source_that_climbs_or_expands(text: str) -> None:
    try:
        found = parse_source(text)
    except ValueError:
        return
    assert ".." not in found.path.split("/")
    assert "$" not in text and not text.startswith("-") and text.isprintable()


def test_strict_numbers_and_switches() -> None:
    for wrong in ({"max_model_len": "1"}, {"max_model_len": True}, {"enforce_eager": 1}, {"seed": 1.5}):
        with pytest.raises(ValidationError):
            a_spec(**wrong)


def test_a_condition_is_found_by_its_type() -> None:
    ready = Condition(type=ConditionType.READY, status="True", reason="Serving")
    assert Status(conditions=(ready,)).condition("Ready") == ready
    assert Status().condition("Ready") is None


def test_a_status_of_another_version_can_be_read() -> None:
    old: dict[str, Any] = {"conditions": [{"type": "Ready"}], "phase": "Running", "fit": {"verdict": "x"}}
    assert VLLMModel.model_validate(body({}) | {"status": old}).status.condition("Ready") == Condition(type="Ready")
