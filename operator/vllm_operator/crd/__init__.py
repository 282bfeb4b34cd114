"""The CustomResourceDefinition, made from the types: bounds, enums, help text, CEL rules, columns, /status and /scale.

`python -m vllm_operator.crd` prints it; crds/vllmmodels.yaml is that output, and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from vllm_operator.api import EPOCH, GROUP, KIND, PLURAL, VERSION, Spec, Status
from vllm_operator.api.old_names import OLD_FIELDS, OLD_OVERRIDES, OLD_VALUES, OldField
from vllm_operator.api.rules import RULES
from vllm_operator.crd.extra_args import extra_arg_rules, extra_args_rules
from vllm_operator.crd.structural import Schema, structural

_COLUMNS = (
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0),
    ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', 0),
    ("Model", "string", ".spec.model", 0),
    ("Percent", "integer", ".status.weights.percent", 0),  # of the download: `kubectl get -w` follows it
    ("Replicas", "integer", ".status.readyReplicas", 0),
    ("URL", "string", ".status.url", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Max length", "integer", ".status.maxModelLen", 1),
    ("Accelerator", "string", ".status.fit.accelerator", 1),
    ("Commit", "string", ".status.source.commit", 1),
)
# Until the operator has looked, GitOps tools must not take a new model for a healthy one.
_UNSEEN = {
    "observedGeneration": 0,
    "conditions": [
        {
            "type": "Ready",
            "status": "Unknown",
            "reason": "Pending",
            "message": "The operator has not looked at this model yet.",
            "observedGeneration": 0,
            "lastTransitionTime": EPOCH,
        }
    ],
}


def crd() -> dict[str, Any]:
    """The CustomResourceDefinition as it is applied."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["vllm"],
                "categories": ["all"],
            },
            "versions": [_version()],
        },
    }


def crd_yaml() -> str:
    """The same as YAML, with the line that says where it comes from."""
    made = yaml.safe_dump(crd(), sort_keys=False, width=120, allow_unicode=True)
    return f"# Made by `python -m vllm_operator.crd` from the types in vllm_operator/api; do not edit.\n{made}"


def _version() -> dict[str, Any]:
    columns = [
        {"name": name, "type": type_, "jsonPath": path} | ({"priority": priority} if priority else {})
        for name, type_, path, priority in _COLUMNS
    ]
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema()},
        "additionalPrinterColumns": columns,
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
    }


def schema() -> Schema:
    """The object's structural schema with all rules in their places."""
    spec = structural(Spec)
    spec["description"] = "What is served, and how: vLLM's arguments under vLLM's names, Kubernetes' concerns nested."
    _keep_old_names(spec)
    _open(spec)
    status = structural(Status) | {"default": _UNSEEN}
    whole = {
        "type": "object",
        "description": "A model that is served by vLLM.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    }
    for place, rules in RULES.items():
        _at(whole, place)["x-kubernetes-validations"] = [rule.as_json() for rule in rules]
    extra_args = spec["properties"]["extraArgs"]
    extra_args["x-kubernetes-validations"] = extra_args_rules()
    extra_args["items"]["x-kubernetes-validations"] = extra_arg_rules()
    return whole


def _keep_old_names(spec: Schema) -> None:
    """Old fields stay in the schema with their type: one that is unknown would be pruned, and nobody would be told."""
    for name, old in OLD_FIELDS.items():
        spec["properties"][name] = _old(old)
    for name, old in OLD_OVERRIDES.items():
        spec["properties"]["overrideGenerationConfig"]["properties"][name] = _old(old)
    for name, values in OLD_VALUES.items():
        if "enum" in spec["properties"][name]:
            spec["properties"][name]["enum"] += list(values)


def _old(old: OldField) -> Schema:
    found: Schema = {"type": old.type, "description": f"Refused: {old.answer}."}
    if old.type == "object":
        found["x-kubernetes-preserve-unknown-fields"] = True
    if old.type == "array":
        found |= {"items": {"x-kubernetes-int-or-string": True}, "maxItems": 64}
    if old.type == "string":
        found["maxLength"] = 256
    return found


# The keys of vLLM's own objects that rules look at; the others pass as they are.
_OPENED: Mapping[str, Mapping[str, Schema]] = {
    "speculativeConfig": {
        "method": {"type": "string", "maxLength": 64},
        "model": {"type": "string", "maxLength": 512},
        "num_speculative_tokens": {"type": "integer", "minimum": 1, "maximum": 1024},
    },
    "structuredOutputsConfig": {"reasoning_parser_plugin": {"type": "string", "maxLength": 512}},
    "compilationConfig": {
        "backend": {"type": "string", "maxLength": 512},
        "inductor_passes": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}


def _open(spec: Schema) -> None:
    for name, keys in _OPENED.items():
        spec["properties"][name]["properties"] = dict(keys)


def _at(whole: Schema, place: str) -> Schema:
    found = whole
    for name in place.split(".") if place else []:
        found = found["properties"][name.removesuffix("[]")]
        found = found["items"] if name.endswith("[]") else found
    return found
