"""Which devices a model may run on: its profiles, what a pod asks for, and where the pods may be placed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from itertools import product
from typing import Any

from vllm_operator.api import Spec
from vllm_operator.plan.types import Placement, Problem, ProblemReason
from vllm_operator.settings import Profile, Settings

Named = tuple[tuple[str, Profile], ...]
HOSTNAME = "kubernetes.io/hostname"


def profiles_of(spec: Spec, settings: Settings) -> tuple[Named, tuple[Problem, ...]]:
    """The accelerators of a model in its order of preference, by name, and what is wrong with that choice."""
    wished = spec.accelerators or (spec.accelerator or settings.default_accelerator,)
    field = "accelerators" if spec.accelerators else "accelerator"
    problems = [
        Problem(
            ProblemReason.ACCELERATOR_UNKNOWN,
            f'{field}: the platform has no accelerator "{name}".',
            f"Use {' or '.join(_nearest(name, settings))}, or let the platform add it to its settings.",
        )
        for name in wished
        if name not in settings.accelerators
    ]
    found = tuple((name, settings.accelerators[name]) for name in wished if name in settings.accelerators)
    if len({_what_the_pod_is(profile) for _, profile in found}) > 1:
        problems.append(
            Problem(
                ProblemReason.INVALID_SPEC,
                f"accelerators: {', '.join(wished)} differ in resource, image, runtime class, variables or arguments, "
                "so that no one pod can run on each of them.",
                "List accelerators of one vendor and resource, or make a VLLMModel for each.",
            )
        )
    return found, tuple(problems)


def _nearest(name: str, settings: Settings) -> list[str]:
    """The three names that are likest: there are some fifty."""
    return get_close_matches(name, sorted(settings.accelerators), n=3, cutoff=0.0)


def _what_the_pod_is(profile: Profile) -> tuple[object, ...]:
    variables = tuple(sorted(profile.env.items()))
    groups = tuple(profile.supplemental_groups)
    kind = (profile.vendor, profile.resource_name, profile.image, profile.runtime_class_name, profile.count)
    return (*kind, variables, groups, tuple(profile.args))


def image_of(spec: Spec, profiles: Named, settings: Settings) -> str | None:
    """The server's image: the model's, the accelerator's, or the platform's for the accelerator's vendor; None: nobody's."""
    if spec.image:
        return spec.image
    return next((p.image or settings.images.server.get(p.vendor) for _, p in profiles), None)


def image_problems(spec: Spec, profiles: Named, settings: Settings) -> list[Problem]:
    """An accelerator whose vendor has no image in the settings."""
    if not profiles or image_of(spec, profiles, settings):
        return []
    name, profile = profiles[0]
    message = f"accelerator {name}: the platform names no image of vLLM for {profile.vendor}."
    remedy = f"Set image, or let the platform set images.server.{profile.vendor}."
    return [Problem(ProblemReason.IMAGE_UNKNOWN, message, remedy)]


def ranks(spec: Spec) -> int:
    """Processes that each hold a part of the model in one pod: tensor × pipeline × data parallel."""
    sizes = (spec.tensor_parallel_size, spec.pipeline_parallel_size, spec.data_parallel_size)
    return (sizes[0] or 1) * (sizes[1] or 1) * (sizes[2] or 1)


def place_pull(spec: Spec, profiles: Named, *together: Mapping[str, str]) -> Placement:
    """Where a download runs: where the server may run, and there where it probably can. A volume may be bound to that place."""
    placement = place(spec, profiles, *together)
    hints = [
        {"key": key, "operator": "In", "values": [value]}
        for _, profile in profiles
        for key, value in sorted(profile.node_hints.items())
    ]
    if not hints:
        return placement
    nodes: dict[str, Any] = dict(placement.affinity.get("nodeAffinity") or {})  # type: ignore[call-overload]
    preferred = list(nodes.get("preferredDuringSchedulingIgnoredDuringExecution") or [])
    preferred += [{"weight": 100, "preference": {"matchExpressions": [hint]}} for hint in hints]
    nodes["preferredDuringSchedulingIgnoredDuringExecution"] = preferred
    return replace(placement, affinity={**placement.affinity, "nodeAffinity": nodes})


def place(spec: Spec, profiles: Named, *together: Mapping[str, str], node_label: str | None = None) -> Placement:
    """Where pods may run. `together`: pods with such labels must share a node (a volume that one node can mount).

    `node_label`: only nodes that carry it, with whatever value.
    """
    selector: dict[str, str] = dict(spec.pod.node_selector)
    terms = [_expressions(profile) for _, profile in profiles]
    if len(profiles) == 1:
        selector |= {key: value for key, value in profiles[0][1].node_selector.items() if isinstance(value, str)}
        terms = [[term for term in terms[0] if len(term["values"]) > 1]]
    affinity = _with_nodes(dict(spec.pod.affinity or {}), terms)
    for labels in together:
        affinity = _with_neighbours(affinity, labels)
    if node_label:
        affinity = _with_nodes(affinity, [[{"key": node_label, "operator": "Exists"}]])
    tolerations = [toleration.as_json() for toleration in spec.pod.tolerations]
    tolerations += [toleration.as_json() for _, profile in profiles for toleration in profile.tolerations]
    return Placement(
        node_selector=selector,
        affinity=affinity,
        tolerations=tuple(_once(tolerations)),
        runtime_class_name=spec.pod.runtime_class_name or next((p.runtime_class_name for _, p in profiles), None),
        priority_class_name=spec.pod.priority_class_name,
    )


def _expressions(profile: Profile) -> list[dict[str, Any]]:
    return [
        {"key": key, "operator": "In", "values": [value] if isinstance(value, str) else list(value)}
        for key, value in sorted(profile.node_selector.items())
    ]


def _with_nodes(affinity: dict[str, Any], terms: Sequence[list[dict[str, Any]]]) -> dict[str, Any]:
    """The user's affinity and a node of one of the profiles, the first ones preferred."""
    wanted = [term for term in terms if term]
    if not wanted:
        return affinity
    nodes: dict[str, Any] = dict(affinity.get("nodeAffinity") or {})
    if len(wanted) == len(terms):  # a profile without labels is content with any node
        theirs = (nodes.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or [{}]
        # Terms are alternatives: each of the user's has to hold together with one of ours.
        nodes["requiredDuringSchedulingIgnoredDuringExecution"] = {
            "nodeSelectorTerms": [
                {**term, "matchExpressions": [*(term.get("matchExpressions") or ()), *ours]}
                for term, ours in product(theirs, wanted)
            ]
        }
    if len(terms) > 1:
        preferred = list(nodes.get("preferredDuringSchedulingIgnoredDuringExecution") or [])
        preferred += [
            {"weight": 100 - 10 * index, "preference": {"matchExpressions": term}}
            for index, term in enumerate(terms)
            if term
        ]
        nodes["preferredDuringSchedulingIgnoredDuringExecution"] = preferred
    return affinity | {"nodeAffinity": nodes}


def on_node(placement: Placement, node: str) -> Placement:
    """One node by its name; taints are borne as before, and whatever chose the node is not asked again."""
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    required = {"nodeSelectorTerms": [{"matchFields": [field]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    return replace(placement, node_selector={}, affinity=affinity)


def _with_neighbours(affinity: dict[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    pods: dict[str, Any] = dict(affinity.get("podAffinity") or {})
    required = list(pods.get("requiredDuringSchedulingIgnoredDuringExecution") or [])
    required.append({"labelSelector": {"matchLabels": dict(labels)}, "topologyKey": HOSTNAME})
    pods["requiredDuringSchedulingIgnoredDuringExecution"] = required
    return affinity | {"podAffinity": pods}


def _once(items: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    for item in items:
        if item not in kept:
            kept.append(item)
    return kept
