"""Variables of the two kinds of pods. Values of the user are made inert: the kubelet would expand `$(NAME)` in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vllm_operator.api import Scheme, Spec
from vllm_operator.plan.args import inert
from vllm_operator.plan.names import canonical
from vllm_operator.settings import Profile, Settings

Json = Mapping[str, Any]
HOME = "/home/vllm"
COMPILE_CACHE = "/compile-cache"
PROGRESS_PORT = 8079
CERTIFICATES = "/certificates/ca.crt"

# What a store's client reads; a Secret may lack any of them (a region, a session), so each is optional.
CREDENTIALS: Mapping[Scheme, tuple[str, ...]] = {
    Scheme.S3: (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_SKIP_SIGNATURE",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
    ),
    Scheme.GS: ("GOOGLE_SERVICE_ACCOUNT_KEY", "GOOGLE_BASE_URL", "GOOGLE_SKIP_SIGNATURE"),
    Scheme.MODELSCOPE: ("MODELSCOPE_API_TOKEN",),
    Scheme.HF: ("HF_TOKEN",),
}

TOKENS: Mapping[Scheme, str] = {Scheme.HF: "HF_TOKEN", Scheme.MODELSCOPE: "MODELSCOPE_API_TOKEN"}

# No server talks to a hub or reports its use; a redirect must not lead a media download into the cluster.
_ALWAYS = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
    "VLLM_NO_USAGE_STATS": "1",
    # Also a model of ModelScope lies in a folder; an image whose default it is would ask for the client, and the hub.
    "VLLM_USE_MODELSCOPE": "False",
}
# The root file system is read-only: everything that libraries write goes below these.
_FOLDERS = {
    "HOME": HOME,
    "USER": "vllm",
    "HF_HOME": f"{HOME}/.cache/huggingface",
    "NUMBA_CACHE_DIR": f"{HOME}/.cache/numba",
    "OUTLINES_CACHE_DIR": f"{HOME}/.cache/outlines",
    "TMPDIR": "/tmp",
    "VLLM_CONFIG_ROOT": f"{HOME}/.config/vllm",
    "XDG_CACHE_HOME": f"{HOME}/.cache",
}
# What is compiled at a start and kept for the next; Humming builds its launcher whenever vLLM is imported.
_COMPILED = {
    "FLASHINFER_WORKSPACE_BASE": "",
    "HUMMING_CACHE_DIR": "/humming",
    "TORCHINDUCTOR_CACHE_DIR": "/inductor",
    "TRITON_CACHE_DIR": "/triton",
    "VLLM_CACHE_ROOT": "/vllm",
}
# run:ai's streamer reads these for what the weights program reads under the other name: its lists come from boto3.
_STREAMERS_NAMES = {"AWS_DEFAULT_REGION": "AWS_REGION", "RUNAI_STREAMER_S3_UNSIGNED": "AWS_SKIP_SIGNATURE"}
# It would look for the host bucket.endpoint, which only Amazon has; the bucket is in the path for the inspection, too.
_STREAMERS = {"RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING": "0"}
_SECRETS = ("VLLM_API_KEY", "VLLM_ALLOW_RUNTIME_LORA_UPDATING", *CREDENTIALS[Scheme.S3])


def reserved_names() -> frozenset[str]:
    """Variables that the operator sets itself, or that carry secrets: no model may name them."""
    return frozenset({*_ALWAYS, *_FOLDERS, *_COMPILED, *_SECRETS, *_STREAMERS, *_STREAMERS_NAMES, "AWS_CA_BUNDLE"})


def plain(values: Mapping[str, str]) -> list[Json]:
    """A container's env from literal values, by name, made inert."""
    return [{"name": name, "value": inert(value)} for name, value in sorted(values.items())]


def from_secret(name: str, secret: str, key: str, optional: bool = False) -> Json:
    """One variable that the kubelet fills from a Secret; its value is in no object of ours."""
    reference: dict[str, Any] = {"name": secret, "key": key}
    if optional:
        reference["optional"] = True
    return {"name": name, "valueFrom": {"secretKeyRef": reference}}


def server_environment(
    spec: Spec, settings: Settings, profile: Profile | None, streamed: bool, startup_seconds: int
) -> tuple[Json, ...]:
    """The server's variables, by name: the operator's, over the accelerator's, under the user's allowed ones."""
    caches = COMPILE_CACHE if spec.cache.compile_cache else f"{HOME}/.cache"
    # Several engines in one server are waited for, 600 s unless told otherwise; one alone is waited for without end.
    values = {"VLLM_ENGINE_READY_TIMEOUT_S": str(startup_seconds)} if (spec.data_parallel_size or 1) > 1 else {}
    values |= profile.env if profile else {}
    values |= {variable.name: variable.value for variable in spec.env}
    values |= _ALWAYS | _FOLDERS | {name: caches + path for name, path in _COMPILED.items()}
    if spec.loads_live:
        values["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
    references: list[Json] = []
    if streamed:
        values |= store_addresses(settings, [Scheme.S3]) | _STREAMERS
        values |= {"AWS_CA_BUNDLE": CERTIFICATES} if settings.sources.trusted_certificates else {}
        references += credentials(spec, [Scheme.S3], beside=values)
        known = {str(reference["name"]): reference for reference in [*plain(values), *references]}
        references += [{**known[own], "name": name} for name, own in _STREAMERS_NAMES.items() if own in known]
    if spec.api_key_secret_ref:
        references.append(from_secret("VLLM_API_KEY", spec.api_key_secret_ref.name, spec.api_key_secret_ref.key))
    return tuple(sorted([*plain(values), *references], key=lambda variable: str(variable["name"])))


def job_environment(
    spec: Spec, settings: Settings, request: Json, schemes: Sequence[Scheme], hub: Scheme | None
) -> tuple[Json, ...]:
    """The variables of the weights program: its request, the addresses of hubs and stores, and secrets by reference.

    `hub` is the one that the token is for.
    """
    values = {
        "DO_NOT_TRACK": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HOME": "/tmp",
        "PROGRESS_PORT": str(PROGRESS_PORT),
        "WEIGHTS_REQUEST": canonical(request),
        **store_addresses(settings, schemes),
    }
    if settings.sources.trusted_certificates:
        values["SSL_CERT_FILE"] = CERTIFICATES
    references: list[Json] = []
    if spec.token_secret_ref and hub is not None and hub in schemes:
        references.append(from_secret(TOKENS[hub], spec.token_secret_ref.name, spec.token_secret_ref.key))
    taken = {**values, **{str(reference["name"]): "" for reference in references}}
    references += credentials(spec, schemes, beside=taken)
    return tuple(sorted([*plain(values), *references], key=lambda variable: str(variable["name"])))


def store_addresses(settings: Settings, schemes: Sequence[Scheme]) -> dict[str, str]:
    """Where the hubs and stores of these sources are, where the platform says so."""
    sources = settings.sources
    known: dict[Scheme, dict[str, str | None]] = {
        Scheme.HF: {"HF_ENDPOINT": settings.hub.endpoint},
        Scheme.MODELSCOPE: {"MODELSCOPE_ENDPOINT": sources.modelscope.endpoint},
        Scheme.S3: {"AWS_ENDPOINT_URL": sources.s3.endpoint, "AWS_REGION": sources.s3.region},
        Scheme.GS: {"GOOGLE_BASE_URL": sources.gs.endpoint},
    }
    return {name: value for scheme in schemes for name, value in known.get(scheme, {}).items() if value}


def credentials(spec: Spec, schemes: Sequence[Scheme], beside: Mapping[str, str]) -> list[Json]:
    """The keys of the credentials' Secret that a store's client knows, except those that are set already."""
    if not spec.credentials_secret_ref:
        return []
    names = [name for scheme in dict.fromkeys(schemes) for name in CREDENTIALS.get(scheme, ()) if name not in beside]
    return [from_secret(name, spec.credentials_secret_ref.name, name, optional=True) for name in names]
