"""From plan to manifest: the examples as they should be, confined pods, and values that stay values."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError

from tests.builders import a_model
from tests.golden.canned import a_server, answer_to, arrived, settings
from tests.golden.examples import EXAMPLES, GOLDEN, as_text, rendered
from vllm_operator.live import differences
from vllm_operator.plan import plan_model, plan_server, plan_weights
from vllm_operator.plan.manifests import PlanError, manifests
from vllm_operator.render import compiled, render, render_part

NAMES = [path.stem for path in EXAMPLES]
# Words that would do harm if they were read as YAML, as Jinja, by a shell or by the kubelet.
HOSTILE = (
    '"',
    "'",
    "a: b",
    "- a",
    "{{ 7 * 7 }}",
    "{% raw %}",
    "x\ny: z",
    "x\r\n---\nkind: Pod",
    "# no comment",
    "&a *a !!python/object",
    "$(HOME)",
    "$$(HOME)",
    "$$",
    "$",
    "`id`",
    "$(id); rm -rf /",
    "null",
    "true",
    "0o17",
    "1e3",
    "~",
    "",
    " ",
    "\t",
    "\u2028\u2029\x85",
    "é日本\U0001f600",
    "\\ud83d\\ude00",
    "\\\U0001f600",
    "\x00\x01\x1f\x7f\x80\x9f\xa0\ufeff\ufffe\uffff\U0010ffff",
    "]}]}",
    "\\",
    "\\n",
    "<<",
    "=",
    "--flag",
)
# The types refuse a zero byte where it would reach a process.
PASSABLE = tuple(value.replace("\0", "") for value in HOSTILE)


@pytest.mark.parametrize("path", EXAMPLES, ids=NAMES)
def test_an_example_becomes_the_manifests_beside_it(path: Path) -> None:
    text, golden = as_text(rendered(path)), GOLDEN / path.name
    if os.environ.get("UPDATE_GOLDEN") == "1":
        golden.write_text(text, encoding="utf-8")

    assert golden.is_file(), "run with UPDATE_GOLDEN=1 and look at the new file"
    assert text == golden.read_text(encoding="utf-8")


def test_no_golden_file_is_left_of_an_example_that_is_gone() -> None:
    assert sorted(path.stem for path in GOLDEN.glob("*.yaml")) == sorted(NAMES)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 50


def is_the_platforms(manifest: dict[str, Any]) -> bool:
    """A Job that makes a folder on a node: in the operator's namespace, not in the tenant's."""
    return manifest["metadata"].get("labels", {}).get("vllm-operator.dev/job") == "prepare"


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in EXAMPLES:
        for manifest in rendered(path):
            if "template" in manifest.get("spec", {}) and not is_the_platforms(manifest):
                yield (
                    f"{path.stem}: {manifest['kind']} {manifest['metadata']['name']}",
                    manifest["spec"]["template"]["spec"],
                )


PODS = list(pods())


def test_every_pod_is_restricted_field_by_field() -> None:
    for where, pod in PODS:
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True, where
        assert context["runAsUser"] in (2000, 65532), where
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert context["fsGroup"] == 65532 and context["fsGroupChangePolicy"] == "OnRootMismatch", where
        assert pod["automountServiceAccountToken"] is False, where
        assert pod["enableServiceLinks"] is False, where
        assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName", "shareProcessNamespace"} & set(pod), (
            where
        )
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            confined = container["securityContext"]
            assert confined["allowPrivilegeEscalation"] is False, where
            assert confined["capabilities"] == {"drop": ["ALL"]}, where
            assert confined["readOnlyRootFilesystem"] is True, where
            assert not {"privileged", "procMount", "seccompProfile", "windowsOptions"} & set(confined), where
            assert not any("hostPort" in port for port in container.get("ports", [])), where


def test_every_volume_is_of_a_kind_that_restricted_pods_may_have() -> None:
    allowed = {"configMap", "emptyDir", "image", "persistentVolumeClaim", "secret"}
    for where, pod in PODS:
        kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
        if "feature-node-folder" in where:
            kinds -= {"hostPath"}  # the platform allowed it for this one, and its namespaces must, too
        assert kinds <= allowed, where


def test_every_pod_says_what_it_needs_and_writes_within_bounds() -> None:
    for where, pod in PODS:
        for volume in pod["volumes"]:
            assert "emptyDir" not in volume or volume["emptyDir"].get("sizeLimit"), where
        for container in pod["containers"]:
            resources = container["resources"]
            for name in ("cpu", "memory"):
                assert name in resources.get("requests", {}) or name in resources.get("limits", {}), where


def test_every_mount_has_its_volume_and_every_volume_its_mount() -> None:
    for where, pod in PODS:
        mounts = [m for c in [*pod["containers"], *pod.get("initContainers", [])] for m in c["volumeMounts"]]
        assert {mount["name"] for mount in mounts} == {volume["name"] for volume in pod["volumes"]}, where
        for container in pod["containers"]:
            paths = [mount["mountPath"] for mount in container["volumeMounts"]]
            assert len(paths) == len(set(paths)), where
            variables = [variable["name"] for variable in container["env"]]
            assert variables == sorted(set(variables)), where


def test_no_shell_stands_between_kubernetes_and_a_program() -> None:
    for where, pod in PODS:
        for container in pod["containers"]:
            assert container["command"] in (["vllm", "serve"], ["python", "-m", "vllm_weights"]), where
            assert all(isinstance(arg, str) for arg in container["args"]), where


def test_jobs_end_and_end_at_once_when_another_try_is_useless() -> None:
    every = [manifest for path in EXAMPLES for manifest in rendered(path) if manifest["kind"] == "Job"]
    jobs = [job for job in every if not is_the_platforms(job)]

    assert jobs
    for job in jobs:
        spec = job["spec"]
        assert 0 <= spec["backoffLimit"] <= 19
        assert "ttlSecondsAfterFinished" not in spec
        assert "activeDeadlineSeconds" not in spec  # what the pod waits for may come late
        assert spec["template"]["spec"]["restartPolicy"] == "Never"
        rules = spec["podFailurePolicy"]["rules"]
        assert rules[0] == {
            "action": "FailJob",
            "onExitCodes": {"containerName": "weights", "operator": "In", "values": [3]},
        }
        assert rules[1] == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
        [container] = spec["template"]["spec"]["containers"]
        assert container["terminationMessagePolicy"] == "File"
        assert container["resources"]["limits"] == {"memory": "512Mi"}


def test_own_objects_have_their_model_for_owner_and_shared_ones_have_none() -> None:
    for path in EXAMPLES:
        for manifest in rendered(path):
            owners = manifest["metadata"].get("ownerReferences", [])
            if is_the_platforms(manifest):
                assert [owner["kind"] for owner in owners] == ["PersistentVolume"]
            elif manifest["kind"] in ("Job", "PersistentVolumeClaim", "PersistentVolume"):
                assert owners == []
            else:
                assert [(o["kind"], o["controller"], o["blockOwnerDeletion"]) for o in owners] == [
                    ("VLLMModel", True, True)
                ]


def test_the_platform_s_jobs_are_root_with_one_capability_in_the_platform_s_namespace() -> None:
    [job] = [manifest for path in EXAMPLES for manifest in rendered(path) if is_the_platforms(manifest)]
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]

    assert job["metadata"]["namespace"] == "vllm-operator"
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], "add": ["CHOWN"]},
        "readOnlyRootFilesystem": True,
    }
    assert [v["hostPath"]["path"] for v in pod["volumes"] if "hostPath" in v] == ["/var/lib/vllm-operator/weights"]
    assert container["env"][0]["value"].startswith("demo/weights-qwen-qwen3-4b")


def server_container(**spec: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    allowed = settings(policy={"allowedEnv": ["*"]})
    manifest = render_part(a_server(allowed, **spec).deployment)
    return manifest, manifest["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize("value", PASSABLE, ids=ascii)
def test_a_hostile_variable_arrives_as_it_was_written_and_changes_nothing_else(value: str) -> None:
    manifest, container = server_container(env=({"name": "A", "value": value},))
    harmless, beside = server_container(env=({"name": "A", "value": "x"},))

    variables = {item["name"]: item["value"] for item in container["env"]}
    assert arrived(variables["A"], {"HOME": "/secret"}) == value
    container["env"] = beside["env"]
    for key in ("annotations",):  # the hash of what was asked for differs, as it must
        manifest["metadata"][key] = harmless["metadata"][key]
        manifest["spec"]["template"]["metadata"][key] = harmless["spec"]["template"]["metadata"][key]
    assert manifest == harmless


@pytest.mark.parametrize("value", [value for value in PASSABLE if value], ids=ascii)
def test_a_hostile_argument_is_one_argument(value: str) -> None:
    # The plan refuses such words; an object that was stored before the rule must be no way out of the list either.
    plan = plan_model(a_model(extra_args=(f"--x={value}",)), settings())
    manifest = render_part(plan_server(plan, plan_weights(plan, answer_to(plan))).deployment)
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    _, beside = server_container()

    assert plan.problems
    assert arrived(container["args"][-1], {"HOME": "/secret"}) == f"--x={value}"
    assert container["args"][:-1] == beside["args"]


@pytest.mark.parametrize("value", [value for value in HOSTILE if value], ids=ascii)
def test_a_hostile_chat_template_is_text(value: str) -> None:
    template = a_server(chat_template={"inline": value}).chat_template

    assert template is not None
    assert render_part(template)["data"] == {"chat-template.jinja": value}


@pytest.mark.parametrize("value", HOSTILE, ids=ascii)
def test_a_hostile_annotation_and_hostile_json_are_values(value: str) -> None:
    manifest, container = server_container(pod={"annotations": {"a": value}}, hf_overrides={value or "k": [value]})

    assert manifest["spec"]["template"]["metadata"]["annotations"]["a"] == value
    assert [arg for arg in container["args"] if arg.startswith("--hf-overrides=")]
    assert list(manifest) == ["apiVersion", "kind", "metadata", "spec"]


def test_half_a_character_becomes_the_sign_for_one_that_is_lost() -> None:
    manifest, _ = server_container(
        pod={"affinity": {"podAffinity": {"x": ["a\ud83d", "\udc00b", "\ud83d\ud83d\ude00"]}}}
    )

    found = manifest["spec"]["template"]["spec"]["affinity"]["podAffinity"]["x"]
    assert found == ["a\ufffd", "\ufffdb", "\ufffd\U0001f600"]


def test_a_value_that_the_plan_lacks_is_an_error_with_its_name() -> None:
    with pytest.raises(UndefinedError, match=r"has no attribute .name."):
        render("service", a_server().deployment.placement)  # type: ignore[arg-type]


def test_the_number_of_pods_can_be_left_to_an_autoscaler() -> None:
    part = a_server(replicas=3).deployment

    assert render_part(part)["spec"]["replicas"] == 3
    assert "replicas" not in render_part(replace(part, replicas=None))["spec"]


def test_the_same_model_gives_the_same_bytes() -> None:
    for path in EXAMPLES[:5]:
        first = as_text(rendered(path))
        rendered.cache_clear()
        assert as_text(rendered(path)) == first


def test_a_model_at_rest_differs_in_nothing_from_its_manifest() -> None:
    manifest = render_part(a_server().deployment)

    assert differences(manifest, render_part(a_server().deployment)) == ()


def test_without_a_cluster_the_revision_stands_for_the_commit_and_the_size_is_assumed() -> None:
    objects = manifests(a_model(revision="v1.2"), settings())

    claim = next(item for item in objects if item["kind"] == "PersistentVolumeClaim")
    assert claim["spec"]["resources"]["requests"]["storage"] == f"{11 * 1024 + 64}Mi"
    assert [item["kind"] for item in objects] == ["Job", "PersistentVolumeClaim", "Job", "Deployment", "Service"]


def test_a_model_with_problems_is_not_rendered_but_explained() -> None:
    with pytest.raises(PlanError, match="AcceleratorUnknown: accelerator: the platform has no accelerator"):
        manifests(a_model(accelerator="abacus"), settings())


def test_a_template_is_compiled_once() -> None:
    part = a_server().deployment
    render_part(part)
    before = compiled.cache_info().misses

    for _ in range(3):
        render_part(part)

    assert compiled.cache_info().misses == before
