"""The types of the API: `vllm-operator.dev/v1alpha1`, kind VLLMModel. Everything a field is, it is here once."""

from vllm_operator.api.base import Base, camel
from vllm_operator.api.kubernetes import (
    TLS,
    ImagePullSecret,
    Pod,
    ResourceClaimTemplate,
    Resources,
    Rollout,
    Toleration,
)
from vllm_operator.api.model import (
    API_VERSION,
    GROUP,
    KIND,
    PLURAL,
    VERSION,
    Metadata,
    Spec,
    VLLMModel,
    parse_strict,
)
from vllm_operator.api.quantity import quantity_bytes, quantity_value
from vllm_operator.api.server import ChatTemplate, ConfigMapKeyRef, EnvVar, GenerationOverrides
from vllm_operator.api.source import Scheme, Source, parse_source
from vllm_operator.api.status import (
    EPOCH,
    AdapterStatus,
    Condition,
    ConditionType,
    FitStatus,
    LastFailure,
    SourceStatus,
    Status,
    WeightsStatus,
)
from vllm_operator.api.weights import Adapter, Cache, Download, SecretKeyRef, SecretRef, TokenSecretRef

__all__ = [
    "API_VERSION",
    "EPOCH",
    "GROUP",
    "KIND",
    "PLURAL",
    "TLS",
    "VERSION",
    "Adapter",
    "AdapterStatus",
    "Base",
    "Cache",
    "ChatTemplate",
    "Condition",
    "ConditionType",
    "ConfigMapKeyRef",
    "Download",
    "EnvVar",
    "FitStatus",
    "GenerationOverrides",
    "ImagePullSecret",
    "LastFailure",
    "Metadata",
    "Pod",
    "ResourceClaimTemplate",
    "Resources",
    "Rollout",
    "Scheme",
    "SecretKeyRef",
    "SecretRef",
    "Source",
    "SourceStatus",
    "Spec",
    "Status",
    "TokenSecretRef",
    "Toleration",
    "VLLMModel",
    "WeightsStatus",
    "camel",
    "parse_source",
    "parse_strict",
    "quantity_bytes",
    "quantity_value",
]
