"""The Jobs of the weights program: one that looks a source up, one that pulls it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vllm_operator.api import Scheme, VLLMModel
from vllm_operator.plan.accelerator import Named, on_node, place_pull
from vllm_operator.plan.environment import PROGRESS_PORT, job_environment, store_addresses
from vllm_operator.plan.labels import (
    CLAIM_LABEL,
    MADE_WITH_ANNOTATION,
    NODE_ANNOTATION,
    REFRESH_ANNOTATION,
    REQUEST_ANNOTATION,
    SOURCE_ANNOTATION,
    shared_labels,
)
from vllm_operator.plan.mounts import certificates_mount
from vllm_operator.plan.names import digest, hashed_name
from vllm_operator.plan.parts import DEFAULT_TRIES, MODEL, identity, schemes_of, token_hub
from vllm_operator.plan.source import Source, everyday_name
from vllm_operator.plan.types import JobPlan, Part, Placement
from vllm_operator.settings import Settings

ANYWHERE = Placement({}, {}, ())


def joined(requests: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """One request for the weights program: the only one as it is, several as a list."""
    return requests[0] if len(requests) == 1 else {"version": 1, "pulls": list(requests)}


def inspect_job(model: VLLMModel, settings: Settings, parts: Sequence[Part]) -> JobPlan:
    """The Job that looks these parts up. Its name says everything that could give another answer."""
    spec = model.spec
    requests = [part.request for part in parts]
    key = {
        "requests": [identity(request) for request in requests],
        "token": spec.token_secret_ref.as_json() if spec.token_secret_ref else None,
        "credentials": spec.credentials_secret_ref.as_json() if spec.credentials_secret_ref else None,
        "refresh": model.metadata.annotations.get(REFRESH_ANNOTATION),
    }
    name = hashed_name("inspect", everyday_name(parts[0].source), key)
    pinned = pinned_commit(model, parts[0].source) if parts[0].role == MODEL and not parts[0].is_adapter else None
    if pinned:
        requests[0] = {**requests[0], "commit": pinned}  # not in the name: the answer is the one that was lost
    return _job(model, settings, "inspect", name, parts, joined(requests), None, ANYWHERE)


def pinned_commit(model: VLLMModel, source: Source) -> str | None:
    """The commit at which the status has this very source and revision.

    None when there is none, or a refresh is asked for: then a moving branch is to be looked up again, and only then.
    """
    told, asked = model.status.source, model.metadata.annotations.get(REFRESH_ANNOTATION)
    if told is None or (told.uri, told.revision) != (source.uri, model.spec.revision or source.revision):
        return None
    return told.commit if asked in (None, model.status.refreshed) else None


def pull_job(
    model: VLLMModel,
    settings: Settings,
    name: str,
    parts: Sequence[Part],
    requests: Sequence[Mapping[str, Any]],
    claim_name: str | None,
    profiles: Named,
    *together: Mapping[str, str],
) -> JobPlan:
    """The Job that brings the parts to a claim (None: a pod does its work for itself).

    It runs where the server may run: a volume can be bound to a node or zone. `together` are labels of pods that it has
    to share a node with.
    """
    placement = place_pull(model.spec, profiles, *together)
    return _job(model, settings, "pull", name, parts, joined(requests), claim_name, placement)


def pull_on(pull: JobPlan, node: str, uid: str, life: str) -> JobPlan:
    """The same download, to the disk of the node of that name and uid: another node by its name, and another life of the claim, start anew. It asks for no device, and bears the taints that the server bears."""
    return replace(
        pull,
        name=hashed_name("pull", node, [pull.name, node, uid, life]),
        annotations={**pull.annotations, NODE_ANNOTATION: node},
        placement=on_node(pull.placement, node),
    )


def _job(
    model: VLLMModel,
    settings: Settings,
    action: str,
    name: str,
    parts: Sequence[Part],
    request: Mapping[str, Any],
    claim_name: str | None,
    placement: Placement,
) -> JobPlan:
    spec = model.spec
    schemes = schemes_of(parts)
    env = job_environment(spec, settings, request, schemes, token_hub(spec))
    tries = spec.download.tries or DEFAULT_TRIES
    certificates = certificates_mount(settings)
    labels = shared_labels(action) | ({CLAIM_LABEL: digest(claim_name)} if claim_name else {})
    return JobPlan(
        name=name,
        namespace=model.metadata.namespace,
        action=action,
        labels=labels,
        annotations={
            **settings.child_annotations,
            SOURCE_ANNOTATION: " ".join(part.source.uri for part in parts)[:1024],
            MADE_WITH_ANNOTATION: _made_with(settings, schemes),
            REQUEST_ANNOTATION: digest([env, tries, settings.images.weights, claim_name], 40),
        },
        image=settings.images.weights,
        image_pull_policy=settings.defaults.image_pull_policy,
        image_pull_secrets=tuple(secret.as_json() for secret in spec.pod.image_pull_secrets),
        env=env,
        claim_name=claim_name,
        backoff_limit=tries - 1,
        progress_port=PROGRESS_PORT,
        placement=placement,
        volumes=certificates.volumes if certificates else (),
        mounts=certificates.mounts if certificates else (),
    )


def _made_with(settings: Settings, schemes: Sequence[Scheme]) -> str:
    """The same for every model that shares the Job, so that no two of them take turns in making it anew."""
    addresses = store_addresses(settings, schemes)
    if trusted := settings.sources.trusted_certificates:
        addresses["SSL_CERT_FILE"] = f"{trusted.config_map}/{trusted.key}"
    return digest([settings.images.weights, settings.defaults.image_pull_policy, addresses])
