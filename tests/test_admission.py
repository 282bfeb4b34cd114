"""The CRD at a real API server: it is accepted, refuses each bad value with the answer, and takes each good one.

Dry runs with strict field validation; nothing is left behind but the CRD itself.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from tests.admission_cases import GOOD, Bad, bad_cases, body, example_bodies
from tests.corpus import body_of, kept
from vllm_operator.api import GROUP, PLURAL, VERSION
from vllm_operator.crd import crd

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NODE = Path(__file__).parent.parent / ".cluster" / "kubeconfig"
NAMESPACE = "default"


@pytest.fixture(scope="module")
def api() -> Iterator[client.CustomObjectsApi]:
    """A client of the node, with the CRD as it is now."""
    configuration = client.Configuration()
    node = os.environ.get("KUBECONFIG", str(NODE))
    config.load_kube_config(node, client_configuration=configuration)  # type: ignore[no-untyped-call]
    with client.ApiClient(configuration) as connection:
        found = client.CustomObjectsApi(connection)
        _establish(found)
        yield found


def _establish(api: client.CustomObjectsApi) -> None:
    wanted = crd()
    place = ("apiextensions.k8s.io", "v1", "customresourcedefinitions")
    try:
        live = cast(dict[str, Any], api.get_cluster_custom_object(*place, wanted["metadata"]["name"]))
    except ApiException as error:
        if error.status != 404:
            raise
        api.create_cluster_custom_object(*place, wanted)
    else:
        wanted["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
        api.replace_cluster_custom_object(*place, wanted["metadata"]["name"], wanted)
    for _ in range(100):
        if _is_current(api):
            return
        time.sleep(0.1)
    raise AssertionError("the API server does not serve the CRD")


def _is_current(api: client.CustomObjectsApi) -> bool:
    """Whether the newest rule holds: the API server takes a moment to put a changed CRD in force."""
    try:
        refused = why_refused(api, body({"extraArgs": ["--port=1"]}))
    except ApiException:
        return False
    return "operator" in refused and not why_refused(api, body({}))


def dry_run(api: client.CustomObjectsApi, made: dict[str, Any]) -> dict[str, Any]:
    """The object as the API server would store it."""
    metadata = {**made["metadata"], "namespace": NAMESPACE}
    stored = api.create_namespaced_custom_object(
        GROUP,
        VERSION,
        NAMESPACE,
        PLURAL,
        {**made, "metadata": metadata},
        dry_run="All",
        field_validation="Strict",
        _request_timeout=10,
    )
    return cast(dict[str, Any], stored)


def why_refused(api: client.CustomObjectsApi, made: dict[str, Any]) -> str:
    """What the API server says against an object; nothing when it takes it. Any failure but a refusal is raised."""
    try:
        dry_run(api, made)
    except ApiException as error:
        if error.status not in (400, 422):
            raise
        return str(json.loads(error.body or "{}")["message"])
    return ""


@pytest.mark.parametrize("case", bad_cases(), ids=lambda case: case.name)
def test_a_bad_value_is_refused_with_its_field_and_an_answer(api: client.CustomObjectsApi, case: Bad) -> None:
    said = why_refused(api, case.body)
    assert case.field in said
    assert case.message in said


@pytest.mark.parametrize("name", sorted(GOOD))
def test_a_good_value_is_taken(api: client.CustomObjectsApi, name: str) -> None:
    assert why_refused(api, body(GOOD[name])) == ""


@pytest.mark.parametrize("name", sorted(example_bodies()))
def test_each_example_is_taken(api: client.CustomObjectsApi, name: str) -> None:
    assert why_refused(api, example_bodies()[name]) == ""


@pytest.mark.parametrize("name", sorted(kept()))
def test_what_an_earlier_release_accepted_is_still_taken(api: client.CustomObjectsApi, name: str) -> None:
    assert why_refused(api, body_of(kept()[name])) == ""


def test_an_unknown_field_is_refused_by_name(api: client.CustomObjectsApi) -> None:
    assert "spec.maxModelLength" in why_refused(api, body({"maxModelLength": 1}))


def test_the_stored_spec_holds_what_was_said_and_two_defaults(api: client.CustomObjectsApi) -> None:
    stored = dry_run(api, body({"hfOverrides": {"a": {"b": 1}}, "tokenSecretRef": {"name": "s"}}))
    assert stored["spec"] == {
        "model": "demo/tiny",
        "replicas": 1,
        "hfOverrides": {"a": {"b": 1}},
        "tokenSecretRef": {"name": "s", "key": "token"},
    }


def test_a_new_model_is_not_ready_before_anybody_looked(api: client.CustomObjectsApi) -> None:

    stored = dry_run(api, body({}))
    (condition,) = stored["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Ready", "Unknown", "Pending")


def test_all_of_it_fits_into_the_time_of_a_refusal(api: client.CustomObjectsApi) -> None:
    """A spec near every bound at once: the rules' cost at run time stays inside the API server's budget."""
    largest = body(
        {
            "extraArgs": [f"--response-role={'x' * 1000}"] * 64,
            "env": [{"name": f"NCCL_{number}", "value": "x" * 4000} for number in range(64)],
            "adapters": [{"name": f"a{number}", "source": f"org/{'n' * 90}{number}"} for number in range(64)],
            "servedModelName": [f"name-{number}" for number in range(8)],
            "pod": {"labels": {f"example.org/label-{number}": "x" * 63 for number in range(32)}},
            "chatTemplate": {"inline": "x" * 65536},
        }
    )
    assert why_refused(api, largest) == ""
