"""The model's own objects as they are to be, and which of them the cluster does not hold yet.

A Deployment whose live version is the one asked for gets its pod template from its own annotation again: an operator or
settings upgrade restarts no server, and a template that somebody edited is put back all the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vllm_operator.api import GROUP
from vllm_operator.decide.annotations import AWAITS_WEIGHTS, STOPPED, TEMPLATE, WANTED
from vllm_operator.decide.situation import APPS_API, Situation, annotations_of
from vllm_operator.decide.types import DeploymentSeen, Manifest, Ref
from vllm_operator.live import differences, has_managers, owns
from vllm_operator.plan import ServerPlan
from vllm_operator.plan.labels import model_labels, owner_of
from vllm_operator.plan.rollout import GIVING_WAY
from vllm_operator.render import render_part


@dataclass(frozen=True, slots=True)
class Pending:
    """A manifest that is to be applied, and the paths where the live object differs (none: there is no live object)."""

    ref: Ref
    manifest: Manifest
    paths: tuple[str, ...]
    exists: bool


def pending(here: Situation, server: ServerPlan, stop: bool, yields: bool = False) -> tuple[Pending, ...]:
    """What has to be applied, in the order in which it is needed. Empty at rest. `yields`: the old pod gives way."""
    return tuple(_not_held(here, _own_objects(here, server, stop, yields)))


def ref_of(manifest: Manifest) -> Ref:
    """The reference to a manifest's object."""
    metadata = manifest["metadata"]
    assert isinstance(metadata, Mapping)
    return Ref(str(manifest["apiVersion"]), str(manifest["kind"]), str(metadata["name"]))


def _own_objects(here: Situation, server: ServerPlan, stop: bool, yields: bool) -> Iterator[Manifest]:
    if server.chat_template is not None:
        yield render_part(server.chat_template)
    yield render_part(server.service)
    yield deployment(here, server, stop, yields)


def deployment(here: Situation, server: ServerPlan, stop: bool, yields: bool = False) -> dict[str, Any]:
    """The whole Deployment: the template that is pinned or the new one, the replicas, the marks it carries."""
    manifest: dict[str, Any] = dict(render_part(server.deployment))
    spec: dict[str, Any] = dict(manifest["spec"])
    spec["template"] = _pinned(here) or _marked(spec["template"], server.wanted)
    spec |= {"strategy": GIVING_WAY} if yields else {}
    spec.pop("replicas", None)
    replicas = _replicas(here, stop)
    if replicas is not None:
        spec["replicas"] = replicas
    metadata: dict[str, Any] = dict(manifest["metadata"])
    marks = {WANTED: server.wanted, TEMPLATE: compact(spec["template"])} | ({STOPPED: server.wanted} if stop else {})
    marks |= {AWAITS_WEIGHTS: server.wanted} if here.weights_are_gone else {}
    metadata["annotations"] = dict(metadata.get("annotations") or {}) | marks
    return manifest | {"metadata": metadata, "spec": spec}


def scaled(here: Situation) -> dict[str, Any] | None:
    """The Deployment as it lives, with the spec's replicas; None where it has them.

    For a look that does not get as far as the servers. Fewer are always given: freeing devices waits for nothing and is
    never refused. More are given of the version that is asked for, while only its source is looked up again.
    """
    live, count = here.deployment, here.model.spec.replicas
    if live is None or here.seen.autoscaled or here.is_stopped or count == live.replicas:
        return None
    if count > live.replicas and (here.plan.problems or not here.deployed or here.stands_without_weights):
        return None
    metadata, spec, template = here.model.metadata, dict(_mapping(live.live.get("spec"))), _own_template(live)
    marks = {key: value for key, value in annotations_of(live.live).items() if key.startswith(f"{GROUP}/")}
    if template is None:
        marks.pop(TEMPLATE, None)
    spec |= {"replicas": count, "template": template or spec["template"]}
    labels, annotations = model_labels(metadata), dict(here.plan.settings.child_annotations) | marks
    name = _mapping(live.live["metadata"])["name"]
    head = {"name": name, "namespace": metadata.namespace, "labels": labels, "annotations": annotations}
    owners = [dict(owner_of(metadata))]
    return {"apiVersion": APPS_API, "kind": "Deployment", "metadata": head | {"ownerReferences": owners}, "spec": spec}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def compact(value: object) -> str:
    """One JSON text for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: object) -> str:
    """A short text, the same for equal values."""
    return hashlib.sha256(compact(value).encode()).hexdigest()[:16]


def _pinned(here: Situation) -> Mapping[str, object] | None:
    """The template that the live Deployment keeps; None where it is of another version, or not of our writing."""
    live = here.deployment
    return _own_template(live) if live is not None and here.deployed else None


def _own_template(live: DeploymentSeen) -> Mapping[str, object] | None:
    """An annotation that somebody edited is no longer ours. Without managedFields nobody can tell."""
    forged = has_managers(live.live) and not owns(live.live, "metadata", "annotations", TEMPLATE)
    return None if forged else live.template


def _marked(template: Mapping[str, Any], wanted: str) -> dict[str, Any]:
    """The template whose pods say which version they are of."""
    metadata = dict(template.get("metadata") or {})
    metadata["annotations"] = dict(metadata.get("annotations") or {}) | {WANTED: wanted}
    return dict(template) | {"metadata": metadata}


def _replicas(here: Situation, stop: bool) -> int | None:
    """The number to write, or None to leave it to an autoscaler.

    As long as we own the field its live value is written again: leaving out what one owns resets it to 1. Once the
    autoscaler has written it, it is the autoscaler's.
    """
    if stop or here.weights_are_gone:
        return 0
    live = here.deployment
    if not here.seen.autoscaled or live is None or here.is_stopped or here.stands_without_weights:
        return here.model.spec.replicas
    return live.replicas if owns(live.live, "spec", "replicas") else None


def _not_held(here: Situation, manifests: Iterator[Manifest]) -> Iterator[Pending]:
    for manifest in manifests:
        ref = ref_of(manifest)
        live = here.seen.live.get(ref)
        if live is None and ref.kind == "Deployment" and here.deployment is not None:
            live = here.deployment.live
        paths = differences(live, manifest) if live is not None else ()
        if paths and here.seen.admitted.get(ref) == digest(manifest):
            continue  # an admission webhook rewrites it: applied again, it would be what it is
        if live is None or paths:
            yield Pending(ref, manifest, paths, live is not None)
