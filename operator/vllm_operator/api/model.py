"""The VLLMModel itself, and the two ways to read one: leniently from the cluster, strictly from a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from vllm_operator.api.base import Base
from vllm_operator.api.engine import EngineArguments
from vllm_operator.api.kubernetes import Running
from vllm_operator.api.server import ServerArguments
from vllm_operator.api.status import Status
from vllm_operator.api.weights import Weights

GROUP = "vllm-operator.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "VLLMModel"
PLURAL = "vllmmodels"


class Managed(Base):
    """When somebody last wrote to the object, and to which part of it ("": to what users write)."""

    time: str | None = None
    subresource: str | None = None


class Metadata(Base):
    """What the operator reads of an object's metadata."""

    name: str = ""
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    annotations: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    managed_fields: tuple[Managed, ...] = ()

    @property
    def changed_at(self) -> str:
        """When its spec, labels or annotations were last written, in Kubernetes' own format, which sorts; "" if unknown."""
        times = (entry.time or "" for entry in self.managed_fields if not entry.subresource)
        return max((self.creation_timestamp, *times))


class Spec(Running, Weights, ServerArguments, EngineArguments):
    """What a user asks for: vLLM's arguments flat, Kubernetes' concerns nested."""


class VLLMModel(Base):
    """A model that is served by vLLM."""

    api_version: Literal["vllm-operator.dev/v1alpha1"] = "vllm-operator.dev/v1alpha1"
    kind: Literal["VLLMModel"] = "VLLMModel"
    metadata: Metadata = Field(default_factory=Metadata)
    spec: Spec
    status: Status = Field(default_factory=Status)


def parse_strict(body: Mapping[str, Any]) -> VLLMModel:
    """The model of a file. Raises pydantic.ValidationError for a field that does not exist, as the API server would."""
    return VLLMModel.model_validate(body, extra="forbid", by_alias=True, by_name=False)
