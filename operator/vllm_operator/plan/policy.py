"""What the platform forbids, and what only the operator can see to be wrong: the problems of a model."""

from __future__ import annotations

from fnmatch import fnmatchcase

from vllm_operator.api import Scheme, VLLMModel
from vllm_operator.api.source import Source, parse_source
from vllm_operator.plan.environment import reserved_names
from vllm_operator.plan.flags import may_mean
from vllm_operator.plan.labels import is_reserved
from vllm_operator.plan.parts import uses_nodes
from vllm_operator.plan.source import everyday_name, is_allowed
from vllm_operator.plan.types import Part, Problem, ProblemReason
from vllm_operator.settings import Settings

MEDIA_FLAG = "--allowed-media-domains"
SYSTEM_CLASSES = "system-"  # PriorityClasses of Kubernetes' own: their pods take the place of everybody else's


def policy_problems(model: VLLMModel, parts: tuple[Part, ...], settings: Settings) -> list[Problem]:
    """Everything that the platform's policy has against a model, in the order of the spec."""
    return [
        *_source_problems(model, parts, settings),
        *_node_problems(model, parts, settings),
        *_code_problems(model, settings),
        *_adapter_problems(model, settings),
        *_name_problems(model),
        *_image_problems(model, settings),
        *_environment_problems(model, settings),
        *_media_problems(model, settings),
        *_metadata_problems(model),
        *_priority_problems(model),
    ]


def _source_problems(model: VLLMModel, parts: tuple[Part, ...], settings: Settings) -> list[Problem]:
    named: list[tuple[str, Source]] = [("model", parts[0].source)]
    if model.spec.tokenizer:
        named.append(("tokenizer", parse_source(model.spec.tokenizer)))
    named += [
        (f"adapters[{part.role}].source" if part.is_adapter else "speculativeConfig.model", part.source)
        for part in parts[1:]
    ]
    found = []
    for field, source in named:
        if not is_allowed(source, settings.policy.allowed_sources):
            allowed = ", ".join(settings.policy.allowed_sources)
            found.append(
                _problem("source", f"{field}: {source.uri} is not allowed here.", f"The platform allows {allowed}.")
            )
        if source.scheme is Scheme.FILE and not settings.policy.allow_node_paths:
            remedy = "Use a claim (pvc://claim/path), or let the platform set policy.allowNodePaths."
            found.append(
                _problem("source", f"{field}: {source.uri} is a folder of the node, which is not allowed here.", remedy)
            )
    return found


def _node_problems(model: VLLMModel, parts: tuple[Part, ...], settings: Settings) -> list[Problem]:
    if settings.node_cache is not None or not uses_nodes(model.spec, parts[0].source):
        return []
    remedy = "Use cache.type PersistentVolumeClaim, or let the platform set nodeCache.path."
    return [_problem("cache", "cache.type: the platform has set no folder of its nodes apart for weights.", remedy)]


def _code_problems(model: VLLMModel, settings: Settings) -> list[Problem]:
    if model.spec.trust_remote_code and not settings.policy.allow_trust_remote_code:
        remedy = (
            "Use a model that vLLM knows without its own code, or let the platform set policy.allowTrustRemoteCode."
        )
        return [_problem("code", "trustRemoteCode: the platform does not run code from model repositories.", remedy)]
    return []


def _name_problems(model: VLLMModel) -> list[Problem]:
    """Where servedModelName is given, the API server itself has looked."""
    served = everyday_name(parse_source(model.spec.model))
    if model.spec.served_model_name or served not in {adapter.name for adapter in model.spec.adapters}:
        return []
    message = f"adapters: {served} is the model's own name; clients could not tell the two apart."
    return [_problem("spec", message, "Name the adapter otherwise, or set servedModelName.")]


def _adapter_problems(model: VLLMModel, settings: Settings) -> list[Problem]:
    if not model.spec.loads_live or settings.policy.allow_live_adapters:
        return []
    message = "adapterLoading: the platform does not allow servers whose adapters can be changed while they run."
    return [_problem("live", message, "Use Static, or let the platform set policy.allowLiveAdapters.")]


def _image_problems(model: VLLMModel, settings: Settings) -> list[Problem]:
    allowed, image = settings.policy.allowed_images, model.spec.image
    if image is None or not allowed or image.startswith(tuple(allowed)):
        return []
    remedy = f"Use an image that begins with {' or '.join(allowed)}, or leave image out."
    return [_problem("image", f"image: {image} is not allowed here.", remedy)]


def _environment_problems(model: VLLMModel, settings: Settings) -> list[Problem]:
    reserved = reserved_names()
    found = []
    for variable in model.spec.env:
        if variable.name in reserved:
            remedy = f"Leave {variable.name} out: the operator sets it."
            found.append(_problem("env", f"env: {variable.name} belongs to the operator.", remedy))
        elif not any(fnmatchcase(variable.name, glob) for glob in settings.policy.allowed_env):
            remedy = "Leave it out, or let the platform add it to policy.allowedEnv."
            found.append(_problem("env", f"env: {variable.name} is not allowed here.", remedy))
    return found


def _metadata_problems(model: VLLMModel) -> list[Problem]:
    pod = model.spec.pod
    named = [("labels", key) for key in pod.labels] + [("annotations", key) for key in pod.annotations]
    return [
        _problem("spec", f"pod.{field}: {key} is not for models to set.", f"Leave {key} out.")
        for field, key in named
        if is_reserved(key)
    ]


def _priority_problems(model: VLLMModel) -> list[Problem]:
    name = model.spec.pod.priority_class_name or ""
    if not name.startswith(SYSTEM_CLASSES):
        return []
    remedy = "Name a class that the platform made for models, or leave it out."
    return [_problem("spec", f"pod.priorityClassName: {name} is for the cluster's own pods.", remedy)]


def _media_problems(model: VLLMModel, settings: Settings) -> list[Problem]:
    domains = settings.policy.allowed_media_domains
    if "*" in domains or not any(may_mean(arg, MEDIA_FLAG) for arg in model.spec.extra_args):
        return []
    remedy = "Leave it out, or let the platform set policy.allowedMediaDomains."
    message = f"extraArgs: {MEDIA_FLAG} is the platform's; it allows {', '.join(domains)}."
    return [_problem("spec", message, remedy)]


_REASONS = {
    "source": ProblemReason.SOURCE_NOT_ALLOWED,
    "live": ProblemReason.LIVE_ADAPTERS_NOT_ALLOWED,
    "cache": ProblemReason.CACHE_NOT_ALLOWED,
    "code": ProblemReason.TRUST_REMOTE_CODE_NOT_ALLOWED,
    "image": ProblemReason.IMAGE_NOT_ALLOWED,
    "env": ProblemReason.ENV_NOT_ALLOWED,
    "spec": ProblemReason.INVALID_SPEC,
}


def _problem(kind: str, message: str, remedy: str) -> Problem:
    return Problem(_REASONS[kind], message, remedy)
