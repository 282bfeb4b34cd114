"""What the operator says of a model, in `.status`: conditions and the observations they rest on.

Every part is optional, so that a status of another version can be read.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from vllm_operator.api.base import Base

EPOCH = "1970-01-01T00:00:00Z"


class ConditionType(StrEnum):
    """The conditions of a model. AdaptersReady is only of live adapters; Reconciling and Stalled only while they are true."""

    WEIGHTS_READY = "WeightsReady"
    FITS = "Fits"
    AVAILABLE = "Available"
    ADAPTERS_READY = "AdaptersReady"
    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class Condition(Base):
    """One condition, as metav1.Condition has it; the time changes only when the status does."""

    type: str = Field(max_length=64)
    status: Literal["True", "False", "Unknown"] = "Unknown"
    reason: str = Field("Pending", max_length=128)
    message: str = Field("", max_length=4096)
    observed_generation: int = 0
    last_transition_time: str = Field(EPOCH, max_length=64, json_schema_extra={"format": "date-time"})


class SourceStatus(Base):
    """What the source was resolved to."""

    uri: str | None = None
    revision: str | None = None
    commit: str | None = Field(None, description="Commit, image digest or, for buckets, a digest of the listing.")
    bytes: int | None = Field(None, description="Bytes of the files that are used.")


class NodesStatus(Base):
    """On how many nodes' own disks the weights are."""

    ready: int = Field(0, description="Nodes that have the weights whole.")
    desired: int = Field(0, description="Nodes that may run the model.")


class WeightsStatus(Base):
    """How far the weights have come."""

    claim_name: str | None = None
    percent: int | None = Field(None, ge=0, le=100)
    bytes_done: int | None = None
    bytes_total: int | None = None
    bytes_per_second: int | None = None
    eta_seconds: int | None = None
    tries: int | None = None
    nodes: NodesStatus | None = Field(None, description="With cache.type Node; the rest then counts all nodes at work.")


class FitStatus(Base):
    """Whether the model fits the accelerator's memory, and what would."""

    fits: bool | None = Field(None, description="Unset while it is not known.")
    accelerator: str | None = None
    weights_bytes: int | None = Field(None, description="Bytes of weights on each device.")
    kv_bytes_per_token: int | None = Field(None, description="Bytes of KV cache for a token on each device.")
    kv_cache_tokens: int | None = Field(None, description="Tokens that the KV cache will hold.")
    largest_max_model_len: int | None = Field(None, description="Longest context, in tokens, that would fit.")
    smallest_tensor_parallel_size: int | None = Field(None, description="Fewest devices that would do.")
    remedies: tuple[str, ...] = Field((), max_length=16)
    note: str | None = None


class AdapterStatus(Base):
    """An adapter and the pods that serve it."""

    name: str
    source: str | None = None
    commit: str | None = Field(None, description="Commit of the files, or for buckets a digest of the listing.")
    reason: str | None = Field(None, description="Why it is not on every server, of adapters that are loaded live.")
    message: str | None = None
    pods: tuple[str, ...] = Field((), max_length=1000)


class LastFailure(Base):
    """The last failure that was seen, explained."""

    reason: str | None = None
    message: str | None = None
    remedy: str | None = Field(None, description="What to change.")
    pod: str | None = None
    exit_code: int | None = None
    excerpt: str | None = Field(None, description="The log's own words.")
    stopped: bool | None = Field(None, description="The server was stopped, because a restart would not help.")


class Status(Base):
    """All of `.status`."""

    observed_generation: int = Field(0, description="Generation of the spec that this status is about.")
    conditions: tuple[Condition, ...] = Field(
        (),
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    replicas: int | None = Field(None, description="Pods that exist.")
    ready_replicas: int | None = None
    updated_replicas: int | None = None
    selector: str | None = Field(None, description="Label selector of the pods, for autoscalers.")
    url: str | None = Field(None, description="Base URL of the OpenAI-compatible API inside the cluster.")
    served_models: tuple[str, ...] = Field((), max_length=128, description="Names that the server answers to.")
    max_model_len: int | None = Field(None, description="Context length, in tokens, that the server itself reports.")
    source: SourceStatus | None = None
    weights: WeightsStatus | None = None
    fit: FitStatus | None = None
    adapters: tuple[AdapterStatus, ...] = Field((), max_length=64)
    last_failure: LastFailure | None = None
    refreshed: str | None = Field(None, description="Value of the refresh annotation that was acted on last.")

    def condition(self, type: str) -> Condition | None:
        """The condition of that type, or None."""
        return next((condition for condition in self.conditions if condition.type == type), None)
