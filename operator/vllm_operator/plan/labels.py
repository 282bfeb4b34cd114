"""Labels and annotations: the operator's own keys, and who may write which."""

from __future__ import annotations

from collections.abc import Mapping

from vllm_operator.api import API_VERSION, GROUP, KIND, Metadata
from vllm_operator.plan.names import short_name

MANAGER = "vllm-operator"
MODEL_LABEL = f"{GROUP}/model"
JOB_LABEL = f"{GROUP}/job"
CLAIM_LABEL = f"{GROUP}/claim"
ADAPTERS_LABEL = f"{GROUP}/adapters"  # on pods that mount the volume of live adapters
RETAIN_LABEL = f"{GROUP}/retain"  # on a claim that outlives its models: it has no owner to be found by
RETAINED_FOR = f"retain.{GROUP}/"  # what the labels begin with that say for which models (uid) it is retained
VOLUME_LABEL = f"{GROUP}/volume"  # on a volume on the nodes' own disks, and the Jobs that make and remove its folders
HOME_LABEL = f"{GROUP}/home"  # on such a volume: the namespace of its Jobs, so that one operator sweeps it and no other
NODE_ANNOTATION = f"{GROUP}/node"  # on those Jobs, and on pulls: the node that each is for
NODE_LABELS = f"weights.{GROUP}/"  # what the labels of filled nodes begin with
WANTED_ANNOTATION = f"{GROUP}/wanted"
COMMITS_ANNOTATION = f"{GROUP}/commits"  # all that WANTED_ANNOTATION was made with, joined by commas
TEMPLATE_ANNOTATION = f"{GROUP}/template"
REQUEST_ANNOTATION = f"{GROUP}/request"
MADE_WITH_ANNOTATION = f"{GROUP}/made-with"  # on a Job: a hash of the platform's settings that could make it fail
SOURCE_ANNOTATION = f"{GROUP}/source"
REFRESH_ANNOTATION = f"{GROUP}/refresh"
UPGRADE_ANNOTATION = f"{GROUP}/upgrade"
IGNORE_FIT_ANNOTATION = f"{GROUP}/ignore-fit"

# Keys with these beginnings say who owns a pod, or switch its confinement off: no tenant writes them.
_RESERVED = (
    f"{GROUP}/",
    "app.kubernetes.io/",
    "argocd.argoproj.io/",
    "container.apparmor.security.beta.kubernetes.io/",
    "container.seccomp.security.alpha.kubernetes.io/",
    "seccomp.security.alpha.kubernetes.io/",
)
# Keys by which a node's runtime or a cluster's injectors give a pod more than its spec has: devices, hooks, other images.
_GIVES_MORE = (
    *("cdi.k8s.io/", "io.containerd.", "io.katacontainers.", "io.kubernetes.cri-o.", "run.oci."),
    *("inject.istio.io/", "sidecar.istio.io/bootstrapOverride", "sidecar.istio.io/proxyImage"),
    *("config.linkerd.io/debug-image", "config.linkerd.io/init-image", "config.linkerd.io/proxy-image"),
    *("admission.datadoghq.com/", "vault.hashicorp.com/"),
)
_NRI = ".nri.io"  # plugins of the node's runtime: devices.nri.io, mounts.nri.io …


def is_reserved(key: str) -> bool:
    """Whether a label or annotation key is the operator's, or one by which a pod gets more than its spec says."""
    return key.startswith(_RESERVED + _GIVES_MORE) or key.partition("/")[0].endswith(_NRI)


def model_labels(metadata: Metadata) -> dict[str, str]:
    """Labels of a model's own objects. The object's labels are not copied: some belong to tools that track the object."""
    name = short_name(metadata.name)
    return {
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/managed-by": MANAGER,
        "app.kubernetes.io/name": "vllm",
        MODEL_LABEL: name,
    }


def model_selector(metadata: Metadata) -> dict[str, str]:
    """What selects a model's server pods. A Deployment's selector cannot be changed: one label that says it all."""
    return {MODEL_LABEL: short_name(metadata.name)}


def shared_labels(action: str | None = None) -> dict[str, str]:
    """Labels of objects that models share; a Job's pods carry its action."""
    labels = {"app.kubernetes.io/managed-by": MANAGER, "app.kubernetes.io/name": "vllm-weights"}
    return labels | {JOB_LABEL: action} if action else labels


def retain_labels(uid: str) -> dict[str, str]:
    """Labels of a claim that is to outlive the model of that uid, whoever else uses it."""
    # A model that is only rendered has no uid yet.
    return {RETAIN_LABEL: "true"} | ({f"{RETAINED_FOR}{uid}": "true"} if uid else {})


def retained_for(labels: Mapping[str, str]) -> frozenset[str]:
    """The uids of the models for which a claim with these labels is retained; empty where it is not."""
    found = frozenset(key.removeprefix(RETAINED_FOR) for key in labels if key.startswith(RETAINED_FOR))
    return found or (frozenset({""}) if RETAIN_LABEL in labels else frozenset())


def owner_of(metadata: Metadata) -> Mapping[str, object]:
    """The controller's ownerReference that a model's own objects carry."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": metadata.name,
        "uid": metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
