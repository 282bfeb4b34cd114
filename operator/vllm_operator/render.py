"""From a part of the plan to its manifest: templates of whole YAML that place values and decide nothing.

Every `{{ value }}` lands in the YAML as JSON, so no value can change the structure; a name that the plan lacks is an
error. The YAML is read by the safe loader.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, Template, Undefined

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
    """The manifest of a plan's part from `templates/<template>.yaml.j2`.

    Raises jinja2.UndefinedError, by name, for a value that the plan lacks.
    """
    manifest: Manifest = yaml.load(_template(template).render(plan=part), Loader=yaml.CSafeLoader)
    return manifest


def render_part(part: PlanPart) -> Manifest:
    """The manifest of a plan's part, from the template of its kind."""
    return render(f"{part.action}-job" if isinstance(part, JobPlan) else _TEMPLATES[type(part)], part)


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
    raise TypeError(
        f"{type(value).__name__} is no value for a manifest" + (" (a part?)" if is_dataclass(value) else "")
    )
