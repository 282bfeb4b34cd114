"""From a part of the plan to its manifest: templates of whole YAML that place values and decide nothing.

Every `{{ value }}` lands in the YAML as JSON, so no value can change the structure; a name that the plan lacks is an
error. The YAML is read by the safe loader.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, Template, Undefined

from vllm_operator.plan.types import (
    ClaimPlan,
    ConfigMapPlan,
    DeploymentPlan,
    FolderJobPlan,
    JobPlan,
    ServicePlan,
    VolumePlan,
)

PlanPart = JobPlan | ClaimPlan | DeploymentPlan | ServicePlan | ConfigMapPlan | VolumePlan | FolderJobPlan
Manifest = dict[str, Any]

# Every escape of a JSON string, so that a written backslash is not taken for the beginning of one.
_ESCAPE = re.compile(r"\\(?:u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})|u(d[89a-f][0-9a-f]{2})|.)")
_TEMPLATES: Mapping[type, str] = {
    ClaimPlan: "claim",
    ConfigMapPlan: "configmap",
    DeploymentPlan: "deployment",
    FolderJobPlan: "folder-job",
    ServicePlan: "service",
    VolumePlan: "volume",
}


def render(template: str, part: PlanPart) -> Manifest:
    """The manifest of a plan's part from `templates/<template>.yaml.j2`.

    Raises jinja2.UndefinedError, by name, for a value that the plan lacks.
    """
    manifest: Manifest = yaml.load(compiled(template).render(plan=part), Loader=yaml.CSafeLoader)
    return manifest


def render_part(part: PlanPart) -> Manifest:
    """The manifest of a plan's part, from the template of its kind."""
    return render(f"{part.action}-job" if isinstance(part, JobPlan) else _TEMPLATES[type(part)], part)


@cache
def compiled(name: str) -> Template:
    """A template, compiled once for the life of the process."""
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
    """A value as JSON that is YAML, too. str() of a StrictUndefined raises, by name.

    ASCII, because YAML breaks lines where JSON does not (U+2028). JSON writes a character beyond 16 bits as two escapes,
    which YAML refuses: it gets one. Half of such a pair is no character and becomes U+FFFD, as the API server does it.
    """
    if isinstance(value, Undefined):
        return str(value)
    text = json.dumps(value, sort_keys=True, default=_plain, allow_nan=False).replace("\x7f", "\\u007f")
    return _ESCAPE.sub(_one_escape, text) if "\\ud" in text else text


def _one_escape(found: re.Match[str]) -> str:
    high, low, alone = found[1], found[2], found[3]
    if high and low:
        return f"\\U{0x10000 + ((int(high, 16) - 0xD800) << 10) + (int(low, 16) - 0xDC00):08x}"
    return "\\ufffd" if alone else found[0]


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(
        f"{type(value).__name__} is no value for a manifest" + (" (a part?)" if is_dataclass(value) else "")
    )
