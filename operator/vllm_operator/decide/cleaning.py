"""What the plan no longer names: given back or deleted, but never from under a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from vllm_operator.decide.situation import Situation
from vllm_operator.decide.types import Ref

OWN_KINDS: Final = frozenset({"Deployment", "Service", "ConfigMap"})


def clean(here: Situation) -> tuple[tuple[Ref, ...], tuple[Ref, ...]]:
    """(own objects to delete, shared objects to release): once no pod and no template is of another version."""
    if not here.seen.stale or not _is_quiet(here):
        return (), ()
    # A pinned template may name what a newer plan calls otherwise.
    free = [ref for ref in here.seen.stale if ref.name not in _in_use(here)]
    return (
        tuple(ref for ref in free if ref.kind in OWN_KINDS),
        tuple(ref for ref in free if ref.kind not in OWN_KINDS),
    )


def _is_quiet(here: Situation) -> bool:
    # Pods on their way out still have their volumes.
    others = any(pod.wanted != here.current for pod in here.seen.pods)
    return not others and (here.deployment is None or here.deployed)


def _in_use(here: Situation) -> frozenset[str]:
    template = here.deployment.template if here.deployment is not None else None
    spec = template.get("spec") if template is not None else None
    volumes = spec.get("volumes") if isinstance(spec, Mapping) else None
    return frozenset(_named(volumes if isinstance(volumes, list | tuple) else ()))


def _named(volumes: object) -> Iterator[str]:
    for volume in volumes if isinstance(volumes, list | tuple) else ():
        for kind, key in (("persistentVolumeClaim", "claimName"), ("configMap", "name")):
            source = volume.get(kind) if isinstance(volume, Mapping) else None
            name = source.get(key) if isinstance(source, Mapping) else None
            if isinstance(name, str):
                yield name
