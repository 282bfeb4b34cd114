"""What a model consists of: its own weights (with a tokenizer from elsewhere), a draft model, adapters; where each may lie."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vllm_operator.api import Scheme, Spec
from vllm_operator.api.source import Source, parse_source
from vllm_operator.plan.draft import draft_of
from vllm_operator.plan.source import HUBS
from vllm_operator.plan.types import Part, Problem, ProblemReason

MODEL, DRAFT = "model", "draft"
DEFAULT_PARALLELISM = 8
DEFAULT_STALL_SECONDS = 60
# Tries of one pod; the Job's own back-off starts as many pods again.
POD_TRIES = 5
DEFAULT_TRIES = 4


def parts_of(spec: Spec) -> tuple[Part, ...]:
    """What servers start with: the model, its draft model, and its adapters in the spec's order, unless those are loaded live.

    Raises ValueError for what is no source.
    """
    model = source_of(spec)
    request = _request(spec, model, spec.revision)
    parts = [Part(MODEL, model, spec.revision or model.revision, request, tokenizer=_pulled_tokenizer(spec))]
    draft = draft_of(spec)
    if draft is not None:
        request = _base_request(spec, *draft) | {"trustRemoteCode": bool(spec.trust_remote_code)}
        parts.append(Part(DRAFT, *draft, request))
    return tuple(parts) if spec.loads_live else (*parts, *adapter_parts(spec))


def adapter_parts(spec: Spec) -> tuple[Part, ...]:
    """The adapters in the spec's order. Raises ValueError for what is no source."""
    parts = []
    for adapter in spec.adapters:
        source = parse_source(adapter.source)
        revision = adapter.revision or source.revision
        request = _base_request(spec, source, adapter.revision)
        parts.append(Part(adapter.name, source, revision, request, is_adapter=True))
    return tuple(parts)


def source_of(spec: Spec) -> Source:
    """Where the model's bytes are. A claim of the user's may hold what a hub has, in folders named as there.

    Raises ValueError for what is no source.
    """
    source = parse_source(spec.model)
    if spec.cache.type == "ExistingClaim" and spec.cache.claim_name and source.scheme in HUBS:
        return Source(Scheme.PVC, spec.cache.claim_name, source.name, source.revision)
    return source


def _request(spec: Spec, source: Source, revision: str | None) -> Mapping[str, Any]:
    request = _base_request(spec, source, revision) | {
        "include": list(spec.download.include) or None,
        "exclude": list(spec.download.exclude) or None,
        "loadFormat": spec.load_format,
        "trustRemoteCode": bool(spec.trust_remote_code),
    }
    if tokenizer := _pulled_tokenizer(spec):
        asked = {"source": tokenizer.uri, "revision": spec.tokenizer_revision or tokenizer.revision}
        request["tokenizer"] = _without_none(asked)
    return _without_none(request)


def _pulled_tokenizer(spec: Spec) -> Source | None:
    tokenizer = parse_source(spec.tokenizer) if spec.tokenizer else None
    return tokenizer if tokenizer and tokenizer.is_pulled else None


def schemes_of(parts: Iterable[Part]) -> list[Scheme]:
    """Everybody whom these parts are asked of, their tokenizers among them, in the order of the spec."""
    sources = [source for part in parts for source in (part.source, part.tokenizer) if source]
    return list(dict.fromkeys(source.scheme for source in sources))


def token_hub(spec: Spec) -> Scheme | None:
    """The hub that tokenSecretRef is for: the model's, else the first that is asked at all. No other one gets it."""
    static = parts_of(spec)
    parts = (*static, *adapter_parts(spec)) if spec.loads_live else static
    return next((scheme for scheme in schemes_of(parts) if scheme in HUBS), None)


def _base_request(spec: Spec, source: Source, revision: str | None) -> dict[str, Any]:
    return _without_none(
        {
            "version": 1,
            "source": source.uri,
            "revision": revision or source.revision,
            "parallelism": spec.download.parallelism or DEFAULT_PARALLELISM,
            "stallSeconds": spec.download.stall_timeout_seconds or DEFAULT_STALL_SECONDS,
            "tries": POD_TRIES,
        }
    )


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def identity(request: Mapping[str, Any]) -> dict[str, Any]:
    """What a request is about, without how patiently it is carried out: equal for models that share a download."""
    how = {"parallelism", "stallSeconds", "tries"}
    return {key: value for key, value in request.items() if key not in how}


_TYPES = {
    Scheme.PVC: ("ExistingClaim", "PersistentVolumeClaim"),
    Scheme.OCI: ("Image", "PersistentVolumeClaim"),
    Scheme.FILE: ("Node", "PersistentVolumeClaim"),
}
_PULLED_TYPES = ("PersistentVolumeClaim", "None", "Node")


def place_problems(spec: Spec, parts: tuple[Part, ...]) -> list[Problem]:
    """What is wrong between the places that the spec names and the kind of cache it asks for."""
    source = parts[0].source
    allowed = _TYPES.get(source.scheme, _PULLED_TYPES)
    found: list[Problem] = []
    if spec.cache.type not in allowed:
        found.append(
            _invalid(
                f"cache.type {spec.cache.type} does not go with model {source.uri}.",
                f"Use cache.type {' or '.join(allowed)}, or leave cache.type out.",
            )
        )
    found += _claim_problems(spec, source)
    found += _unused_problems(spec, parts)
    found += _part_problems(spec, parts)
    return found


def _claim_problems(spec: Spec, source: Source) -> list[Problem]:
    cache = spec.cache
    found = []
    if source.scheme is Scheme.PVC and cache.claim_name not in (None, source.name):
        found.append(
            _invalid(
                f"cache.claimName {cache.claim_name} is not the claim of model {source.uri}.",
                "Leave cache.claimName out: the model names its claim.",
            )
        )
    if cache.access_modes == ("ReadOnlyMany",) and uses_claim(spec, source):
        found.append(
            _invalid(
                "cache.accessModes has no mode that a download can write with.", "Add ReadWriteOnce or ReadWriteMany."
            )
        )
    if "ReadWriteOncePod" in cache.access_modes and spec.replicas > 1:
        found.append(
            _invalid(
                f"cache.accessModes ReadWriteOncePod lets one pod mount the weights, and replicas is {spec.replicas}.",
                "Use ReadWriteOnce (one node) or ReadWriteMany.",
            )
        )
    return found


def _unused_problems(spec: Spec, parts: tuple[Part, ...]) -> list[Problem]:
    """Fields of the cache that would change nothing where the weights come to lie."""
    cache, pulled = spec.cache, any(part.source.is_pulled for part in parts) and spec.cache.type != "None"
    sized = pulled and not uses_nodes(spec, parts[0].source)
    useless = {
        "size": cache.size is not None and not sized,
        "storageClassName": cache.storage_class_name is not None and not sized,
        "retain": cache.retain is not None and not pulled,
        "claimName": cache.claim_name is not None and cache.type != "ExistingClaim",
        "compileCache": cache.compile_cache is True and not pulled,
        "accessModes": bool(cache.access_modes) and not sized,
    }
    found = [
        _invalid(
            f"cache.{field} has no effect with cache.type {cache.type} and model {parts[0].source.uri}.",
            f"Leave cache.{field} out.",
        )
        for field, is_useless in useless.items()
        if is_useless
    ]
    if streams(spec, parts[0].source) and (spec.download.include or spec.download.exclude):
        message = (
            "download.include and exclude have no effect where the server streams: it reads every safetensors file."
        )
        found.append(_invalid(message, "Leave them out, or use another loadFormat or cache.type."))
    return found


def _part_problems(spec: Spec, parts: tuple[Part, ...]) -> list[Problem]:
    model, others = parts[0].source, parts[1:]
    found = []
    tokenizer = parse_source(spec.tokenizer) if spec.tokenizer else None
    if tokenizer and tokenizer.is_pulled and (not model.is_pulled or streams(spec, model)):
        found.append(
            _invalid(
                f"tokenizer {tokenizer.uri} is downloaded together with a model, and {model.uri} is not downloaded.",
                "Put the tokenizer beside the weights, or name a claim, an image or a folder.",
            )
        )
    if spec.token_secret_ref and token_hub(spec) is None:
        remedy = "Leave it out; the keys of a bucket go into credentialsSecretRef."
        found.append(_invalid("tokenSecretRef has no effect: nothing is asked of a hub.", remedy))
    if spec.tokenizer_revision and not (tokenizer and tokenizer.is_pulled):
        found.append(
            _invalid("tokenizerRevision has no tokenizer that it belongs to.", "Set tokenizer, or leave it out.")
        )
    if (spec.revision or model.revision) and model.scheme not in HUBS:
        found.append(_invalid(f"A revision means nothing to {model.uri}.", "Leave it out; put it into the address."))
    if streams(spec, model) and any(other.source.is_pulled for other in others):
        what = "adapters" if any(other.is_adapter for other in others) else "speculativeConfig.model"
        remedy = "Use another loadFormat or cache.type."
        found.append(_invalid(f"{what} cannot be streamed from {model.uri} with the model.", remedy))
    return found


def uses_claim(spec: Spec, source: Source) -> bool:
    """Whether the model's own weights are downloaded to a claim."""
    return source.is_pulled and spec.cache.type == "PersistentVolumeClaim"


def uses_nodes(spec: Spec, source: Source) -> bool:
    """Whether the weights are downloaded to the nodes' own disks. A file:// source is a folder of the node as it is."""
    return source.is_pulled and spec.cache.type == "Node"


def streams(spec: Spec, source: Source) -> bool:
    """Whether the server reads the bucket itself: no cache, and a loader that can. Everything else is pulled first."""
    loader = spec.load_format in ("runai_streamer", "runai_streamer_sharded")
    return spec.cache.type == "None" and source.scheme is Scheme.S3 and loader


def _invalid(message: str, remedy: str) -> Problem:
    return Problem(ProblemReason.INVALID_SPEC, message, remedy)
