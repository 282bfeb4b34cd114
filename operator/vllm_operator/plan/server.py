"""The servers of a model, from its weights: Deployment, Service and chat template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vllm_operator.plan.accelerator import image_of, place
from vllm_operator.plan.adapters import adapter_labels, adapter_mount, pods_together
from vllm_operator.plan.args import inert, serve_args
from vllm_operator.plan.chat import Template, chat_template
from vllm_operator.plan.draft import with_draft
from vllm_operator.plan.environment import HOME, server_environment
from vllm_operator.plan.labels import (
    CLAIM_LABEL,
    COMMITS_ANNOTATION,
    WANTED_ANNOTATION,
    model_labels,
    model_selector,
    owner_of,
)
from vllm_operator.plan.names import digest, service_name, short_name
from vllm_operator.plan.policy import MEDIA_FLAG
from vllm_operator.plan.probes import (
    PORT_NAME,
    grace_seconds,
    liveness_probe,
    readiness_probe,
    shutdown_seconds,
    startup_probe,
    startup_seconds,
)
from vllm_operator.plan.resources import (
    mebibytes,
    resource_claims,
    resources_of,
    shared_memory_bytes,
    weights_problems,
)
from vllm_operator.plan.rollout import strategy_of
from vllm_operator.plan.source import everyday_name, parse_source
from vllm_operator.plan.types import DeploymentPlan, Plan, ServerPlan, ServicePlan, WeightsPlan
from vllm_operator.plan.wanted import wanted

PORTS = {"http": 80, "https": 443}  # what each scheme means when no port is said
TLS_FOLDER = "/etc/vllm-tls"
# A rollout that waits for devices is told by its pods; the deadline only marks one that nobody is going to end.
_PROGRESS_BEYOND_STARTUP = 600
_SLOWEST_PULL = 10_000_000  # bytes a second
# Nobody is told the size of an image before it is pulled: an hour brings 140 GB at 40 MB a second.
_IMAGE_PULL = 3600


def plan_server(plan: Plan, weights: WeightsPlan) -> ServerPlan:
    """Everything that serves the model from these weights; `problems` are those that the weights' size brings up."""
    spec = plan.model.spec
    template = chat_template(plan.model, plan.settings)
    asked = wanted(plan.model, commits_of(weights))
    return ServerPlan(
        problems=tuple(weights_problems(spec, plan.profiles, plan.settings, weights.bytes)),
        wanted=asked,
        deployment=_deployment(plan, weights, template, asked),
        service=_service(plan),
        chat_template=template.config_map if template else None,
        url=_url(plan),
        served_models=served_models(plan),
        startup_seconds=startup_seconds(spec, plan.settings, weights.bytes),
    )


def commits_of(weights: WeightsPlan) -> str | None:
    """The commits of everything that is pulled, in one text; None where nothing is."""
    return ",".join(weights.commits) or None


def served_models(plan: Plan) -> tuple[str, ...]:
    """The names that clients may ask for: the user's, else the repository's."""
    if plan.model.spec.served_model_name:
        return plan.model.spec.served_model_name
    return (everyday_name(parse_source(plan.model.spec.model)),) if plan.source else (plan.model.metadata.name,)


def _url(plan: Plan) -> str:
    scheme = "https" if plan.model.spec.tls else "http"
    host = f"{service_name(plan.model.metadata.name)}.{plan.model.metadata.namespace}.svc"
    domain = f".{plan.settings.cluster_domain}" if plan.settings.cluster_domain else ""
    return f"{scheme}://{host}{domain}/v1"


def _service(plan: Plan) -> ServicePlan:
    metadata = plan.model.metadata
    scheme = "https" if plan.model.spec.tls else "http"
    return ServicePlan(
        name=service_name(metadata.name),
        namespace=metadata.namespace,
        labels=model_labels(metadata),
        annotations=dict(plan.settings.child_annotations),
        owner=owner_of(metadata),
        selector=model_selector(metadata),
        port=PORTS[scheme],
        port_name=PORT_NAME,
        app_protocol=scheme,
    )


def _deployment(plan: Plan, weights: WeightsPlan, template: Template | None, asked: str) -> DeploymentPlan:
    spec, metadata, settings = plan.model.spec, plan.model.metadata, plan.settings
    profile = plan.profiles[0][1] if plan.profiles else None
    budget = startup_seconds(spec, settings, weights.bytes)
    together = {CLAIM_LABEL: digest(weights.claim_name)} if weights.claim_name else {}
    modes = _access_modes(plan, weights)
    bound = together if modes and "ReadWriteMany" not in modes and "ReadOnlyMany" not in modes else None
    neighbours = (*((bound,) if bound else ()), *pods_together(plan.adapter_claim))
    one_node = bool(neighbours) or (weights.claim_name is not None and not modes)
    return DeploymentPlan(
        name=short_name(metadata.name),
        namespace=metadata.namespace,
        labels=model_labels(metadata),
        annotations={**settings.child_annotations, WANTED_ANNOTATION: asked}
        | ({COMMITS_ANNOTATION: commits} if (commits := commits_of(weights)) else {}),
        owner=owner_of(metadata),
        replicas=spec.replicas,
        strategy=strategy_of(spec, one_node, "ReadWriteOncePod" in modes),
        progress_deadline_seconds=budget + _PROGRESS_BEYOND_STARTUP + _pulling_seconds(weights),
        selector=model_selector(metadata),
        pod_labels={**spec.pod.labels, **model_labels(metadata), **together, **adapter_labels(plan.adapter_claim)},
        pod_annotations={**spec.pod.annotations, WANTED_ANNOTATION: asked},
        placement=place(spec, plan.profiles, *neighbours, node_label=weights.nodes.label if weights.nodes else None),
        supplemental_groups=tuple(profile.supplemental_groups) if profile else (),
        image_pull_secrets=tuple(secret.as_json() for secret in spec.pod.image_pull_secrets),
        resource_claims=resource_claims(spec),
        grace_seconds=grace_seconds(spec, settings),
        pull=weights.pull_in_pod,
        image=image_of(spec, plan.profiles, settings) or "",
        image_pull_policy=settings.defaults.image_pull_policy,
        args=_args(plan, weights, template),
        env=server_environment(spec, settings, profile, weights.streamed, budget),
        resources=resources_of(spec, plan.profiles, settings, weights.bytes),
        startup_probe=startup_probe(spec, settings, budget),
        readiness_probe=readiness_probe(spec, settings),
        liveness_probe=liveness_probe(spec, settings),
        stop_sleep_seconds=settings.defaults.pre_stop_seconds,
        **_volumes_and_mounts(plan, weights, template),
    )


def _pulling_seconds(weights: WeightsPlan) -> int:
    """What a pod that pulls for itself may take for it, at the slowest speed worth waiting for."""
    if any("image" in volume for volume in weights.volumes):
        return _IMAGE_PULL
    return (weights.bytes or 0) // _SLOWEST_PULL if weights.pull_in_pod else 0


def _access_modes(plan: Plan, weights: WeightsPlan) -> tuple[str, ...]:
    """The access modes of the mounted claim; none where nobody told."""
    return weights.claim.access_modes if weights.claim else plan.model.spec.cache.access_modes


def _args(plan: Plan, weights: WeightsPlan, template: Template | None) -> tuple[str, ...]:
    spec, settings = plan.model.spec, plan.settings
    path, *flags = serve_args(
        with_draft(spec, weights.model_path, weights.draft_path),
        weights.model_path,
        served_model_names=served_models(plan),
        tokenizer_path=weights.tokenizer_path,
        lora_modules=weights.adapter_paths,
        chat_template_path=template.path if template else None,
        shutdown_timeout=shutdown_seconds(spec, settings),
        ssl_keyfile=f"{TLS_FOLDER}/tls.key" if spec.tls else None,
        ssl_certfile=f"{TLS_FOLDER}/tls.crt" if spec.tls else None,
    )
    # The platform's come first: where a flag is said twice, vLLM takes the last.
    own = [inert(arg) for _, profile in plan.profiles[:1] for arg in profile.args]
    if "*" not in settings.policy.allowed_media_domains:
        own += [MEDIA_FLAG, *(inert(domain) for domain in settings.policy.allowed_media_domains)]
    return (path, *own, *flags)


def _volumes_and_mounts(plan: Plan, weights: WeightsPlan, template: Template | None) -> dict[str, Any]:
    spec, settings = plan.model.spec, plan.settings
    size = settings.defaults.temporary_size
    shm = mebibytes(shared_memory_bytes(spec, settings))
    volumes: list[Mapping[str, Any]] = [
        {"name": "home", "emptyDir": {"sizeLimit": size}},
        {"name": "tmp", "emptyDir": {"sizeLimit": size}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": shm}},
    ]
    mounts: list[Mapping[str, Any]] = [
        {"name": "home", "mountPath": HOME},
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "shm", "mountPath": "/dev/shm"},
    ]
    if spec.tls:
        volumes.append({"name": "tls", "secret": {"secretName": spec.tls.secret_name, "defaultMode": 0o440}})
        mounts.append({"name": "tls", "mountPath": TLS_FOLDER, "readOnly": True})
    if template:
        volumes.append(template.volume)
        mounts.append(template.mount)
    if weights.pull_in_pod:
        volumes += weights.pull_in_pod.volumes
    if adapters := adapter_mount(plan.adapter_claim):
        volumes += adapters.volumes
        mounts += adapters.mounts
    return {"volumes": (*weights.volumes, *volumes), "mounts": (*weights.mounts, *mounts)}
