"""Kubernetes' side of a model: devices, pods, rollout, security, patience."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vllm_operator.api.base import Base, CountOrShare, Int, JsonObject, Quantity
from vllm_operator.api.server import ObjectName
from vllm_operator.api.weights import SecretKeyRef

ProfileName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=63)]
LabelKey = Annotated[
    str, Field(pattern=r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", max_length=317)
]
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?$", max_length=63)]
AnnotationValue = Annotated[str, Field(max_length=4096)]
ResourceName = Literal["cpu", "memory", "ephemeral-storage"]
ImageText = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@-]*(/[A-Za-z0-9._:@-]+)*$", max_length=512)]


class TLS(Base):
    """Serve HTTPS with a Secret's certificate (tls.crt, tls.key), read again when it is renewed."""

    secret_name: ObjectName


class ResourceClaimTemplate(Base):
    """A ResourceClaimTemplate in the model's namespace: devices by dynamic resource allocation."""

    name: ObjectName


class Resources(Base):
    """What a pod needs beside its devices, which follow from the accelerator and the parallel sizes."""

    requests: dict[ResourceName, Quantity] = Field(default_factory=dict, max_length=3)
    limits: dict[ResourceName, Quantity] = Field(default_factory=dict, max_length=3)


class Toleration(Base):
    """A taint that the pods bear."""

    key: LabelKey | None = None
    operator: Literal["Exists", "Equal"] | None = None
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: Int | None = Field(None, ge=0, le=2**31 - 1)


class ImagePullSecret(Base):
    """A Secret with a registry's credentials."""

    name: ObjectName


class Pod(Base):
    """Where the pods run and what they carry."""

    node_selector: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, max_length=32, description="Added to the accelerator's own."
    )
    tolerations: tuple[Toleration, ...] = Field((), max_length=32, description="Added to the accelerator's own.")
    affinity: JsonObject | None = Field(None, description="A pod's affinity, as Kubernetes has it.")
    priority_class_name: ObjectName | None = None
    runtime_class_name: ObjectName | None = Field(None, description="Unset: the accelerator's own.")
    labels: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, max_length=32, description="Labels of the pods, beside the operator's."
    )
    annotations: dict[LabelKey, AnnotationValue] = Field(
        default_factory=dict, max_length=32, description="Annotations of the pods."
    )
    image_pull_secrets: tuple[ImagePullSecret, ...] = Field(
        (),
        max_length=8,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )


class Rollout(Base):
    """How a changed server replaces the old one."""

    strategy: Literal["RollingUpdate", "Recreate"] | None = Field(
        None,
        description="Unset: RollingUpdate where the volume allows two pods, else Recreate; the old pod gives way when no device comes free in two minutes.",
    )
    max_surge: CountOrShare | None = Field(None, description="Pods beyond replicas, as a number or a share (25%).")
    max_unavailable: CountOrShare | None = Field(None, description="Pods that may be missing, as a number or a share.")


class Running(Base):
    """The part of `spec` about running the server."""

    replicas: Int = Field(1, ge=0, le=1000, description="Servers of this model; 0 stops it and keeps the weights.")
    image: ImageText | None = Field(
        None,
        description="Image of the server. Unset: the platform's for the accelerator. The platform may forbid others.",
    )
    api_key_secret_ref: SecretKeyRef | None = Field(
        None, description="Secret's key with the API key that clients must send."
    )
    tls: TLS | None = Field(None, description="Serve HTTPS with a certificate of yours.")
    accelerator: ProfileName | None = Field(
        None,
        description="Profile of the platform: nvidia, nvidia-l40s, amd-mi300x, cpu …. Unset: the platform's default.",
    )
    accelerators: tuple[ProfileName, ...] = Field(
        (),
        max_length=8,
        json_schema_extra={"x-kubernetes-list-type": "set"},
        description="Profiles in order of preference: the first whose devices exist is taken. Instead of accelerator.",
    )
    resource_claim_template: ResourceClaimTemplate | None = Field(
        None, description="Devices by dynamic resource allocation, instead of the accelerator's resource."
    )
    resources: Resources = Field(default_factory=Resources, description="cpu, memory and ephemeral-storage of a pod.")
    pod: Pod = Field(default_factory=Pod, description="Where the pods run and what they carry.")
    rollout: Rollout = Field(default_factory=Rollout, description="How a changed server replaces the old one.")
    startup_timeout_seconds: Int | None = Field(
        None, ge=10, le=86400, description="Time for loading and compiling. Unset: computed from the weights' bytes."
    )
    shutdown_timeout_seconds: Int | None = Field(
        None, ge=1, le=3600, description="Time for running requests to end when a pod is stopped."
    )
