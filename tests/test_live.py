"""A live object that holds the manifest is not written again; one that does not, is."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from vllm_operator.live import differences, holds, owns, quantity


def a_manifest() -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "m", "namespace": "n", "labels": {"app": "m"}, "annotations": {"a/b": "1"}},
        "spec": {
            "replicas": 1,
            "template": {
                "spec": {
                    "enableServiceLinks": False,
                    "containers": [
                        {
                            "name": "vllm",
                            "image": "vllm:1",
                            "args": ["/models/m", "--max-model-len=4096"],
                            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                            "ports": [{"containerPort": 8000, "name": "http"}],
                            "resources": {"limits": {"nvidia.com/gpu": 1, "memory": "1024Mi", "cpu": "1000m"}},
                            "volumeMounts": [{"mountPath": "/dev/shm", "name": "shm"}],
                        }
                    ],
                    "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "0.5Gi"}}],
                    "tolerations": [{"key": "gpu", "operator": "Exists"}],
                }
            },
        },
    }


def as_the_server_keeps_it() -> dict[str, Any]:
    live = copy.deepcopy(a_manifest())
    live["metadata"] |= {"uid": "u", "resourceVersion": "7", "generation": 1}
    live["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "1"
    live["spec"] |= {"revisionHistoryLimit": 10, "progressDeadlineSeconds": 600}
    pod = live["spec"]["template"]["spec"]
    pod |= {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst"}
    vllm = pod["containers"][0]
    vllm["terminationMessagePath"] = "/dev/termination-log"
    vllm["ports"][0]["protocol"] = "TCP"
    vllm["resources"]["limits"] = {"nvidia.com/gpu": "1", "memory": "1Gi", "cpu": "1"}
    pod["volumes"][0]["emptyDir"]["sizeLimit"] = "512Mi"
    live["status"] = {"readyReplicas": 1}
    return live


def container(live: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = live["spec"]["template"]["spec"]["containers"][0]
    return found


def pod_spec(live: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = live["spec"]["template"]["spec"]
    return found


def test_defaults_and_the_servers_way_of_writing_quantities_are_no_drift():
    assert differences(as_the_server_keeps_it(), a_manifest()) == ()


def test_an_object_holds_itself():
    assert holds(a_manifest(), a_manifest())


def test_what_others_added_is_theirs():
    live = as_the_server_keeps_it()
    live["metadata"]["labels"]["team"] = "search"
    pod_spec(live)["containers"].insert(0, {"name": "sidecar", "image": "proxy:1"})
    container(live)  # the sidecar comes first now
    pod_spec(live)["containers"][1]["env"].append({"name": "C", "value": "3"})

    assert holds(live, a_manifest())


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda live: live["spec"].update(replicas=2), "spec.replicas"),
        (lambda live: live["spec"].pop("replicas"), "spec.replicas"),
        (lambda live: live["metadata"]["labels"].pop("app"), "metadata.labels.app"),
        (lambda live: live["metadata"]["annotations"].update({"a/b": "2"}), "metadata.annotations.a/b"),
        (lambda live: container(live).update(image="vllm:2"), "spec.template.spec.containers[name=vllm].image"),
        (lambda live: container(live)["args"].append("--x"), "spec.template.spec.containers[name=vllm].args"),
        (lambda live: container(live)["args"].reverse(), "spec.template.spec.containers[name=vllm].args[0]"),
        (lambda live: container(live)["env"].pop(0), "spec.template.spec.containers[name=vllm].env[name=A]"),
        (
            lambda live: container(live)["env"][0].update(value="9"),
            "spec.template.spec.containers[name=vllm].env[name=A].value",
        ),
        (
            lambda live: container(live)["resources"]["limits"].update(memory="2Gi"),
            "spec.template.spec.containers[name=vllm].resources.limits.memory",
        ),
        (lambda live: pod_spec(live).pop("enableServiceLinks"), "spec.template.spec.enableServiceLinks"),
        (lambda live: pod_spec(live)["tolerations"].append({"key": "x"}), "spec.template.spec.tolerations"),
        (lambda live: pod_spec(live).update(containers=[]), "spec.template.spec.containers[name=vllm]"),
    ],
)
def test_another_value_or_a_missing_one_is_drift(change: Any, path: str):
    live = as_the_server_keeps_it()
    change(live)

    assert path in differences(live, a_manifest())


def test_an_empty_value_equals_an_absent_one():
    manifest = a_manifest()
    manifest["spec"]["template"]["spec"] |= {"nodeSelector": {}, "initContainers": [], "hostNetwork": False}
    manifest["spec"]["template"]["metadata"] = {"annotations": {}}

    assert holds(as_the_server_keeps_it(), manifest)


def test_an_empty_dir_that_is_gone_is_drift():
    manifest, live = a_manifest(), as_the_server_keeps_it()
    manifest["spec"]["template"]["spec"]["volumes"].append({"name": "tmp", "emptyDir": {}})
    pod_spec(live)["volumes"].append({"name": "tmp", "hostPath": {"path": "/"}})

    assert differences(live, manifest) == ("spec.template.spec.volumes[name=tmp].emptyDir",)


def test_null_says_that_a_field_must_not_be_there():
    manifest = a_manifest()
    manifest["spec"]["strategy"] = {"type": "Recreate", "rollingUpdate": None}
    live = as_the_server_keeps_it()
    live["spec"]["strategy"] = {"type": "Recreate"}

    assert holds(live, manifest)
    live["spec"]["strategy"]["rollingUpdate"] = {"maxSurge": 1}
    assert differences(live, manifest) == ("spec.strategy.rollingUpdate",)


def owned(fields: dict[str, Any], **changes: Any) -> dict[str, Any]:
    live = as_the_server_keeps_it()
    entry = {"manager": "vllm-operator", "operation": "Apply", "fieldsV1": fields} | changes
    live["metadata"]["managedFields"] = [entry]
    return live


def test_a_field_of_our_last_apply_that_the_manifest_no_longer_names_is_drift():
    live = owned({"f:spec": {"f:replicas": {}, "f:paused": {}}})

    assert differences(live, a_manifest()) == ("spec.paused",)


def test_an_item_of_our_last_apply_that_the_manifest_no_longer_names_is_drift():
    items = {'k:{"name":"vllm"}': {".": {}, "f:name": {}}, 'k:{"name":"old"}': {".": {}, "f:name": {}}}
    live = owned({"f:spec": {"f:template": {"f:spec": {"f:containers": items}}}})

    assert differences(live, a_manifest()) == ('spec.template.spec.containers[{"name":"old"}]',)


def test_a_key_that_the_server_filled_in_is_no_left_over():
    port = {
        'k:{"containerPort":8000,"protocol":"TCP"}': {".": {}, "f:containerPort": {}, "f:name": {}, "f:protocol": {}}
    }
    vllm = {'k:{"name":"vllm"}': {".": {}, "f:name": {}, "f:ports": port}}
    live = owned({"f:spec": {"f:template": {"f:spec": {"f:containers": vllm}}}})

    assert holds(live, a_manifest())


@pytest.mark.parametrize("change", [{"manager": "helm"}, {"operation": "Update"}, {"subresource": "status"}])
def test_fields_that_others_set_are_never_left_overs(change: dict[str, str]):
    assert holds(owned({"f:spec": {"f:paused": {}}}, **change), a_manifest())


def test_who_set_a_field_last_is_known():
    live = owned({"f:spec": {"f:replicas": {}}})

    assert owns(live, "spec", "replicas")
    assert not owns(live, "spec", "paused")
    assert not owns(as_the_server_keeps_it(), "spec", "replicas")


@pytest.mark.parametrize(
    ("one", "other"),
    [("1Gi", "1024Mi"), ("500m", "0.5"), (4, "4"), ("1e3", "1k"), ("2Ei", "2048Pi"), ("0.5Gi", "512Mi")],
)
def test_equal_quantities_are_equal_however_they_are_written(one: object, other: object):
    assert quantity(one) == quantity(other) is not None


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1gi", "ten", "1e"])
def test_what_is_no_quantity_is_none(text: str):
    assert quantity(text) is None


def test_an_environment_variable_is_no_quantity():
    manifest, live = a_manifest(), as_the_server_keeps_it()
    container(manifest)["env"][0]["value"] = "1000m"

    assert not holds(live, manifest)
