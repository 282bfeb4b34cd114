"""How weights come to the server: download, cache, credentials, adapters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vllm_operator.api.base import Base, Bool, Int, Quantity
from vllm_operator.api.engine import Revision, SourceText
from vllm_operator.api.server import DataKey, ObjectName, ServedName

Pattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.*?\[\]{},/!+-]+$", min_length=1, max_length=256)]
CacheType = Literal["PersistentVolumeClaim", "ExistingClaim", "Image", "None", "Node"]
AccessMode = Literal["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"]


class TokenSecretRef(Base):
    """A Secret's key with the hub's token."""

    name: ObjectName
    key: DataKey = "token"


class SecretKeyRef(Base):
    """One key of a Secret in the model's namespace."""

    name: ObjectName
    key: DataKey


class SecretRef(Base):
    """A Secret in the model's namespace."""

    name: ObjectName


class Download(Base):
    """What is downloaded, and how patiently."""

    include: tuple[Pattern, ...] = Field((), max_length=32, description="Only files that match one of these globs.")
    exclude: tuple[Pattern, ...] = Field((), max_length=32, description="No files that match one of these globs.")
    parallelism: Int | None = Field(None, ge=1, le=64, description="Files at a time.")
    stall_timeout_seconds: Int | None = Field(
        None, ge=5, le=3600, description="A download without one new byte for so long is begun again."
    )
    tries: Int | None = Field(None, ge=1, le=20, description="Starts of the download before it counts as failed.")


class Cache(Base):
    """Where the weights lie between the download and the server."""

    type: CacheType = Field(
        "PersistentVolumeClaim",
        description=(
            "PersistentVolumeClaim: a volume of the operator's, shared by models with the same weights. ExistingClaim: yours, "
            "with repositories in folders of their names (org/name); it is read and never written. "
            "Image: the source is an image. None: no volume; with loadFormat runai_streamer the server reads s3:// itself, "
            "else each pod downloads for itself. Node: the disk of every node that may run the model, where the platform has set "
            "one apart; with file:// the folder of the node that model names."
        ),
    )
    size: Quantity | None = Field(None, description="Size of the volume. Unset: what the weights need, and a margin.")
    storage_class_name: ObjectName | None = Field(None, description="Unset: the platform's or the cluster's default.")
    access_modes: tuple[AccessMode, ...] = Field(
        (), max_length=4, json_schema_extra={"x-kubernetes-list-type": "set"}, description="Unset: ReadWriteOnce."
    )
    claim_name: ObjectName | None = Field(None, description="Your claim, with type ExistingClaim.")
    retain: Bool | None = Field(None, description="Keep the volume when its last model is deleted.")
    compile_cache: Bool | None = Field(None, description="Keep what torch.compile made beside the weights.")


class Adapter(Base):
    """A LoRA adapter, served under its own name."""

    name: ServedName = Field(description="Name that clients ask for.")
    source: SourceText = Field(description="Where the adapter is, in the forms of model.")
    revision: Revision | None = Field(None, description="Branch, tag or commit of the adapter's repository.")


class AdapterCache(Base):
    """The volume that live adapters are downloaded to: one for each model."""

    size: Quantity | None = Field(None, description="Size of the volume. Unset: 10Gi.")
    storage_class_name: ObjectName | None = Field(
        None, description="Unset: that of the cache, the platform's or the cluster's default."
    )
    access_modes: tuple[Literal["ReadWriteOnce", "ReadWriteMany"], ...] = Field(
        (),
        max_length=2,
        json_schema_extra={"x-kubernetes-list-type": "set"},
        description="Unset: ReadWriteMany where the cache has it, else ReadWriteOnce.",
    )


class Weights(Base):
    """The part of `spec` about weights."""

    token_secret_ref: TokenSecretRef | None = Field(
        None,
        description=(
            "Secret with the token of the model's hub; where the model is in no hub, of the first one that is asked: for "
            "the tokenizer, the draft model, an adapter. Another hub is asked without a token."
        ),
    )
    credentials_secret_ref: SecretRef | None = Field(
        None,
        description=(
            "Secret with a store's credentials. Of its keys these become the download's variables, and those of a server "
            "that streams from S3. For s3://: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, "
            "AWS_ENDPOINT_URL, AWS_SKIP_SIGNATURE, AWS_VIRTUAL_HOSTED_STYLE_REQUEST. For gs://: GOOGLE_SERVICE_ACCOUNT_KEY, GOOGLE_BASE_URL, "
            "GOOGLE_SKIP_SIGNATURE. Each may be missing; other keys are not passed."
        ),
    )
    download: Download = Field(default_factory=Download, description="What is downloaded, and how patiently.")
    cache: Cache = Field(default_factory=Cache, description="Where the weights lie.")
    adapters: tuple[Adapter, ...] = Field(
        (),
        max_length=64,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        description="LoRA adapters that are served beside the model.",
    )
    adapter_loading: Literal["Static", "Live"] | None = Field(
        None,
        description=(
            "Static: servers start with the adapters, and another list restarts them. Live: running servers load and "
            "unload adapters; whoever reaches a server can do so, too. Unset: Static."
        ),
    )
    adapter_cache: AdapterCache = Field(
        default_factory=AdapterCache, description="The volume of live adapters, with adapterLoading Live."
    )

    @property
    def loads_live(self) -> bool:
        """Whether running servers load and unload the adapters."""
        return self.adapter_loading == "Live"
