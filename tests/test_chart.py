"""The chart: what helm renders, for the values that people set. helm itself comes with the node."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.demo.clusters import tool
from tests.demo.shell import ROOT

pytestmark = pytest.mark.cluster
CHART = ROOT / "charts" / "vllm-operator"


def helm_template(values: dict[str, Any] | None = None, *, ok: bool = True) -> Any:
    """The rendered objects by (kind, name), or helm's words when it refuses."""
    words = (tool("helm")[0], "template", "vllm-operator", str(CHART), "--namespace", "vllm-operator", "--values", "-")
    done = subprocess.run(words, input=json.dumps(values or {}), text=True, capture_output=True)
    if not ok:
        assert done.returncode != 0
        return done.stderr
    assert done.returncode == 0, done.stderr
    return {(doc["kind"], doc["metadata"]["name"]): doc for doc in yaml.safe_load_all(done.stdout) if doc}


def test_the_chart_carries_the_crd_of_this_version() -> None:
    rendered = helm_template()[("CustomResourceDefinition", "vllmmodels.vllm-operator.dev")]
    rendered["metadata"].get("annotations", {}).pop("helm.sh/resource-policy")
    own = yaml.safe_load((ROOT / "crds" / "vllmmodels.yaml").read_text())
    if not rendered["metadata"].get("annotations") and not own["metadata"].get("annotations"):
        rendered["metadata"].pop("annotations", None)

    assert rendered == own


def test_the_crd_can_be_left_out() -> None:
    assert not any(kind == "CustomResourceDefinition" for kind, _ in helm_template({"crds": {"enabled": False}}))


def test_no_rule_names_secrets_exec_or_writes_on_models() -> None:
    for (kind, name), doc in helm_template().items():
        if kind in {"ClusterRole", "Role"} and not name.endswith("-edit"):
            for rule in doc["rules"]:
                assert "secrets" not in rule["resources"]
                assert not {"pods/exec", "pods/attach", "roles", "*"} & set(rule["resources"])
                if rule["resources"] == ["vllmmodels"]:
                    assert set(rule["verbs"]) == {"get", "list", "watch"}


def test_a_list_of_namespaces_gives_roles_there_and_no_write_elsewhere() -> None:
    rendered = helm_template({"namespaces": ["team-a", "team-b"]})

    assert {
        doc["metadata"]["namespace"]
        for (kind, name), doc in rendered.items()
        if (kind, name) == ("Role", "vllm-operator")
    }
    cluster = rendered[("ClusterRole", "vllm-operator-vllm-operator")]
    assert all(set(rule["verbs"]) <= {"get", "list", "watch"} for rule in cluster["rules"])
    args = rendered[("Deployment", "vllm-operator")]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--namespace=team-a" in args
    assert "--namespace=team-b" in args


def rights(rendered: Any, kind: str, name: str) -> set[tuple[str, str]]:
    rules = rendered[(kind, name)]["rules"]
    return {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}


def test_nodes_and_volumes_are_written_only_where_the_settings_ask_for_it() -> None:
    cluster = ("ClusterRole", "vllm-operator-vllm-operator")
    without = helm_template()
    given = helm_template({"settings": {"nodeCache": {"path": "/srv/weights"}}, "namespaces": ["team-a"]})

    assert ("nodes", "patch") not in rights(without, *cluster)
    assert not any(resource == "persistentvolumes" for resource, _ in rights(without, *cluster))
    assert ("Role", "vllm-operator-node-cache") not in without
    more = rights(given, *cluster) - rights(helm_template({"namespaces": ["team-a"]}), *cluster)
    assert more == {("nodes", "watch"), ("nodes", "patch")} | {
        ("persistentvolumes", verb) for verb in ("get", "list", "watch", "create", "delete")
    }
    role = given[("Role", "vllm-operator-node-cache")]
    assert role["metadata"]["namespace"] == "vllm-operator"
    assert ("jobs", "create") in rights(given, "Role", "vllm-operator-node-cache")


def test_more_replicas_elect_a_leader() -> None:
    container = helm_template({"replicas": 2})[("Deployment", "vllm-operator")]["spec"]["template"]["spec"][
        "containers"
    ][0]

    assert "--leader-elect" in container["args"]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"image": {"repository": "x", "pullPolicy": "Sometimes"}}, "pullPolicy"),
        ({"policies": {}}, "policies"),
        ({"replicas": -1}, "replicas"),
        ({"metrics": {"port": 8080}}, "port"),
        ({"image": {"repository": "x", "digest": "sha256:12"}}, "digest"),
    ],
)
def test_a_wrong_value_is_refused_by_name(values: dict[str, Any], says: str) -> None:
    assert says in helm_template(values, ok=False)


def test_the_operator_s_pod_is_restricted() -> None:
    spec = helm_template()[("Deployment", "vllm-operator")]["spec"]["template"]["spec"]

    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert spec["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_chart_holds_no_file_that_differs_from_crds() -> None:
    assert (CHART / "files" / "vllmmodels.yaml").read_text() == (Path(ROOT) / "crds" / "vllmmodels.yaml").read_text()
