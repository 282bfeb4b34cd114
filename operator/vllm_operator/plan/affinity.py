"""A user's affinity has the form of a pod's, as far as the operator reads it or puts its own beside it.

The CRD takes any object there, and the API server sees the pod's own rules only in what is made of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from vllm_operator.api import Spec
from vllm_operator.plan.types import Problem, ProblemReason

REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"
# An object with these keys (any of them may be missing), a list of such items, or (None) whatever Kubernetes says to it.
_REQUIREMENTS: Final[Any] = [{"values": [None]}]
_FORM: Final[Mapping[str, Any]] = {
    "nodeAffinity": {
        REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": _REQUIREMENTS, "matchFields": _REQUIREMENTS}]},
        PREFERRED: [{}],
    },
    "podAffinity": {REQUIRED: [{}]},
    "podAntiAffinity": {},
}


def affinity_problems(spec: Spec) -> list[Problem]:
    """The first place that has another form, if any."""
    fault = next(_faults(spec.pod.affinity or {}, _FORM, "pod.affinity"), None)
    remedy = "Write it as a pod's affinity: kubectl explain pod.spec.affinity."
    return [Problem(ProblemReason.INVALID_SPEC, f"{fault}.", remedy)] if fault else []


def _faults(value: Any, form: Any, path: str) -> Iterator[str]:
    if isinstance(form, Mapping):
        if not isinstance(value, Mapping):
            yield f"{path} is no object"
            return
        for key, inner in form.items():
            if value.get(key) is not None:
                yield from _faults(value[key], inner, f"{path}.{key}")
    elif isinstance(form, list):
        if not isinstance(value, list):
            yield f"{path} is no list"
            return
        for index, item in enumerate(value):
            yield from _faults(item, form[0], f"{path}[{index}]")
