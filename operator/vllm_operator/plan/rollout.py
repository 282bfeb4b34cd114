"""How new pods replace old ones: by default so that it never waits for itself, and serves on wherever it can."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vllm_operator.api import Spec
from vllm_operator.plan.types import Problem, ProblemReason

GIVING_WAY: Mapping[str, Any] = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
"""One goes, one comes: what a rollout by default becomes when its new pod finds no device beside the old one."""

SURGE: Mapping[str, Any] = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
"""The new one comes first."""

RECREATE: Mapping[str, Any] = {"type": "Recreate"}


def strategy_of(spec: Spec, one_node: bool, one_pod: bool) -> Mapping[str, Any]:
    """A Deployment's strategy. `one_node`, `one_pod`: what the volume of the weights can be mounted by.

    - Several replicas: one goes, one comes. A surge would wait for devices that the old pods hold.
    - One replica whose volume another node can mount: the new one comes first. Where no device is free, it waits for a
      while, and then the old one gives way (see `may_give_way`); the old one serves on only where the user asked for it.
    - One replica whose volume is bound to a node: the old one goes first, since the new one would wait for its devices.
    """
    wish = spec.rollout
    surge, unavailable = _number(wish.max_surge), _number(wish.max_unavailable)
    if wish.strategy == "Recreate" or (wish.strategy is None and one_pod):
        return RECREATE
    if surge is None and unavailable is None:
        if wish.strategy is None and one_node and spec.replicas <= 1:
            return RECREATE
        surge, unavailable = (1, 0) if spec.replicas <= 1 and not one_node else (0, 1)
    elif surge is None:
        surge = 1 if _is_zero(unavailable) else 0
    elif unavailable is None:
        unavailable = 1 if _is_zero(surge) else 0
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}


def may_give_way(spec: Spec) -> bool:
    """Whether nobody chose between serving on and going through, so that a rollout must not wait for itself."""
    wish = spec.rollout
    return wish.strategy is None and wish.max_surge is None and wish.max_unavailable is None


def rollout_problems(spec: Spec) -> list[Problem]:
    """What Kubernetes would refuse, or ignore, in `spec.rollout`."""
    wish = spec.rollout
    if wish.strategy == "Recreate" and (wish.max_surge is not None or wish.max_unavailable is not None):
        return [_invalid("rollout.maxSurge and maxUnavailable have no effect with Recreate.", "Leave them out.")]
    if wish.strategy is None and any((wish.max_surge, wish.max_unavailable)) and _one_pod(spec):
        message = (
            "rollout.maxSurge and maxUnavailable have no effect: cache.accessModes ReadWriteOncePod allows one pod."
        )
        return [_invalid(message, "Leave them out, or use ReadWriteOnce.")]
    both = (wish.max_surge, wish.max_unavailable)
    if all(value is not None and _is_zero(_number(value)) for value in both):
        message = "rollout: maxSurge and maxUnavailable are both 0: no pod could change."
        return [_invalid(message, "Set one of them to 1.")]
    return []


def _one_pod(spec: Spec) -> bool:
    return "ReadWriteOncePod" in spec.cache.access_modes


def _number(text: str | None) -> int | str | None:
    """Kubernetes writes a count as a number and a share as text; given back as read, or the object would differ for ever."""
    return int(text) if text is not None and text.isdigit() else text


def _is_zero(value: int | str | None) -> bool:
    return value in (0, "0%") or (isinstance(value, str) and value.rstrip("%").strip("0") == "")


def _invalid(message: str, remedy: str) -> Problem:
    return Problem(ProblemReason.INVALID_SPEC, message, remedy)
