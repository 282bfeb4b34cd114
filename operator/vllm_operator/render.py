"""From a part of the plan to its manifest: templates of whole YAML that place values and decide nothing.

Every `{{ value }}` lands in the YAML as JSON, so no value can change the structure; a name that the plan lacks is an
error. The YAML is read by the safe loader.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from functools import cache
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, Template, Undefined

from vllm_operator.plan.labels import TEMPLATE_ANNOTATION
from vllm_operator.plan.types import ClaimPlan, ConfigMapPlan, DeploymentPlan, JobPlan, ServicePlan

PlanPart = JobPlan | ClaimPlan | DeploymentPlan | ServicePlan | ConfigMapPlan
Manifest = dict[str, Any]

_TEMPLATES: Mapping[type, str] = {
    ClaimPlan: "claim",
    ConfigMapPlan: "configmap",
    DeploymentPlan: "deployment",
    ServicePlan: "service",
}


def render(template: str, part: PlanPart) -> Manifest:
    """The manifest of a plan's part from `templates/<template>.yaml.j2` (the ending may be left out).

    Raises jinja2.UndefinedError, by name, for a value that the plan lacks.
    """
    manifest = yaml.load(_template(template.removesuffix(".yaml.j2")).render(plan=part), Loader=yaml.CSafeLoader)
    return _with_template_annotation(manifest) if isinstance(part, DeploymentPlan) else manifest


def render_part(part: PlanPart) -> Manifest:
    """The manifest of a plan's part, from the template of its kind."""
    return render(f"{part.action}-job" if isinstance(part, JobPlan) else _TEMPLATES[type(part)], part)


def with_live_template(part: DeploymentPlan, template: Mapping[str, Any]) -> Manifest:
    """The Deployment with a pod template that was applied before: another version of the operator restarts no pod."""
    manifest = render("deployment", part)
    manifest["spec"]["template"] = dict(template)
    return _with_template_annotation(manifest)


def without_replicas(part: DeploymentPlan) -> DeploymentPlan:
    """The same Deployment, its number of pods left to an autoscaler."""
    return replace(part, replicas=None)


def _with_template_annotation(manifest: Manifest) -> Manifest:
    template = json.dumps(manifest["spec"]["template"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    manifest["metadata"]["annotations"][TEMPLATE_ANNOTATION] = template
    return manifest


@cache
def _template(name: str) -> Template:
    return _environment().get_template(f"{name}.yaml.j2")


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("vllm_operator", "templates"),
        undefined=StrictUndefined,
        finalize=_place,
        autoescape=False,  # JSON is the escaping
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )


def _place(value: object) -> str:
    """A value as JSON. str() of a StrictUndefined raises, by name. ASCII only: YAML breaks lines at U+2028, JSON does not."""
    if isinstance(value, Undefined):
        return str(value)
    return json.dumps(value, sort_keys=True, default=_plain, allow_nan=False)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no value for a manifest" + (" (a part?)" if is_dataclass(value) else ""))
