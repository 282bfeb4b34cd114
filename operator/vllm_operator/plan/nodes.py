"""Weights on the nodes' own disks: the volume, the label of filled nodes, and the Jobs that make and remove folders.

Pods mount a claim, as ever: a namespace may forbid hostPath (Pod Security does) and still use this. Behind the claim is a
volume without a place, a folder by the same name on every node, which only the operator can make. A claim that is made
anew has another uid, so another volume and other folders: what is still being removed is never in the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from vllm_operator.plan.accelerator import place, ranks
from vllm_operator.plan.labels import (
    HOME_LABEL,
    JOB_LABEL,
    MADE_WITH_ANNOTATION,
    MANAGER,
    NODE_ANNOTATION,
    NODE_LABELS,
    SOURCE_ANNOTATION,
    VOLUME_LABEL,
)
from vllm_operator.plan.names import digest, hashed_name
from vllm_operator.plan.types import ClaimPlan, FolderJobPlan, JobPlan, NodesPlan, Plan, VolumePlan
from vllm_operator.settings import NodeCache, Settings

# No StorageClass has this name: nothing provisions such a claim, and no other volume is bound to it.
NODE_CLASS = "vllm-operator-nodes"
NODE_MODE = "ReadWriteMany"
HOME = "vllm-operator"  # where nobody says in which namespace the operator runs
PREPARE, CLEAR = "prepare", "clear"
# Making a folder for another user takes CHOWN; removing what a server's user wrote into it takes DAC_OVERRIDE.
_CAPABILITIES = {PREPARE: "CHOWN", CLEAR: "DAC_OVERRIDE"}


@dataclass(frozen=True, slots=True)
class Folder:
    """A live volume on the nodes' own disks: its name and uid, and the folder's path on each node."""

    volume: str
    uid: str
    path: str


def nodes_plan(plan: Plan, cache: NodeCache, claim_name: str, pull: JobPlan) -> NodesPlan:
    """What is to be filled, for a claim of that name."""
    spec, namespace = plan.model.spec, plan.model.metadata.namespace
    profile = plan.profiles[0][1] if plan.profiles else None
    resource = profile.resource_name if profile and not spec.resource_claim_template else None
    return NodesPlan(
        label=NODE_LABELS + digest([namespace, claim_name], 20),
        placement=place(spec, plan.profiles),
        devices={resource: ranks(spec) * profile.count} if profile and resource else {},
        at_a_time=cache.nodes_at_a_time,
        pull=pull,
    )


def life_of(claim_uid: str) -> str:
    """The value of the label on nodes that are filled for the claim of that uid."""
    return digest(claim_uid)


def volume_of(cache: NodeCache, claim: ClaimPlan, claim_uid: str) -> VolumePlan:
    """The volume of the claim that has that uid, bound to it and to no other."""
    key = [claim.namespace, claim.name, claim_uid]
    return VolumePlan(
        name=hashed_name("weights", claim.namespace, key, 63),
        labels={
            "app.kubernetes.io/managed-by": MANAGER,
            "app.kubernetes.io/name": "vllm-weights",
            VOLUME_LABEL: life_of(claim_uid),
            HOME_LABEL: cache.namespace or HOME,
        },
        annotations={SOURCE_ANNOTATION: claim.annotations.get(SOURCE_ANNOTATION, "")},
        claim_namespace=claim.namespace,
        claim_name=claim.name,
        claim_uid=claim_uid,
        path=f"{cache.path}/{claim.namespace}/{claim.name}-{life_of(claim_uid)}",
        size=claim.size,
        storage_class_name=NODE_CLASS,
        access_modes=claim.access_modes,
    )


def folder_job(settings: Settings, folder: Folder, node: str, node_uid: str, action: str) -> FolderJobPlan:
    """The Job that makes (`prepare`) or removes (`clear`) the volume's folder on a node.

    The path is the volume's own: a platform that changes its setting moves nothing that is there.
    """
    path, cache = PurePosixPath(folder.path), settings.node_cache
    return FolderJobPlan(
        name=hashed_name(action, node, [folder.uid, node, node_uid]),
        namespace=home_of(settings),
        action=action,
        labels={
            "app.kubernetes.io/managed-by": MANAGER,
            "app.kubernetes.io/name": "vllm-weights",
            JOB_LABEL: action,
            VOLUME_LABEL: digest(folder.uid),
        },
        annotations={
            **settings.child_annotations,
            NODE_ANNOTATION: node,
            MADE_WITH_ANNOTATION: folders_made_with(settings),
        },
        owner={"apiVersion": "v1", "kind": "PersistentVolume", "name": folder.volume, "uid": folder.uid},
        image=settings.images.weights,
        image_pull_policy=settings.defaults.image_pull_policy,
        image_pull_secrets=tuple({"name": name} for name in (cache.image_pull_secrets if cache else ())),
        node=node,
        root=str(path.parents[1]),
        folder="/".join(path.parts[-2:]),
        capability=_CAPABILITIES[action],
    )


def folders_made_with(settings: Settings) -> str:
    """A hash of what could keep such a Job from running: one that it kept is made anew when the platform changes it."""
    cache = settings.node_cache
    return digest(
        [settings.images.weights, settings.defaults.image_pull_policy, cache.image_pull_secrets if cache else []]
    )


def home_of(settings: Settings) -> str:
    """The namespace of the Jobs that make and remove folders: the operator's own."""
    return (settings.node_cache.namespace if settings.node_cache else None) or HOME
