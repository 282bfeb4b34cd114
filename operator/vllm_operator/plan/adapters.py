"""Adapters that servers load while they run: a volume of their own, and for each adapter an inspection and a pull.

The pod template knows the volume and nothing of what lies in it, so that another list of adapters restarts no server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vllm_operator.api import VLLMModel, quantity_bytes
from vllm_operator.plan.answer import AnswerError, read_answer
from vllm_operator.plan.jobs import inspect_job, pull_job
from vllm_operator.plan.labels import ADAPTERS_LABEL, SOURCE_ANNOTATION, shared_labels
from vllm_operator.plan.mounts import Mounted
from vllm_operator.plan.names import digest, hashed_name
from vllm_operator.plan.parts import adapter_parts, identity
from vllm_operator.plan.source import everyday_name
from vllm_operator.plan.types import AdapterPlan, AdapterPullPlan, ClaimPlan, Plan, Problem, ProblemReason
from vllm_operator.settings import Settings

FOLDER = "/adapters"
VOLUME = "adapters"
SIZE = "10Gi"  # rank 64 on every matrix of an 8B model is 0.3 GiB: some thirty of the larger ones
_MODE, _SHARED_MODE = "ReadWriteOnce", "ReadWriteMany"


def plan_adapters(model: VLLMModel, settings: Settings) -> tuple[AdapterPlan, ...]:
    """The live adapters in the spec's order; none where servers start with their adapters. Raises ValueError as parts do."""
    if not model.spec.loads_live:
        return ()
    # One in a claim, an image or a folder is refused by the API server: nothing could bring it.
    parts = [part for part in adapter_parts(model.spec) if part.source.is_pulled]
    return tuple(AdapterPlan(part.role, part, inspect_job(model, settings, [part])) for part in parts)


def adapter_claim(model: VLLMModel, settings: Settings) -> ClaimPlan | None:
    """The volume of a model's live adapters. Its name says what was asked of it: another size is another volume."""
    spec, metadata = model.spec, model.metadata
    if not spec.loads_live:
        return None
    wish, size = spec.adapter_cache, spec.adapter_cache.size or SIZE
    modes = tuple(sorted(wish.access_modes)) or (
        (_SHARED_MODE,) if _SHARED_MODE in spec.cache.access_modes else (_MODE,)
    )
    storage_class = wish.storage_class_name or spec.cache.storage_class_name
    key = [metadata.name, quantity_bytes(size), modes, storage_class]
    return ClaimPlan(
        name=hashed_name("adapters", metadata.name, key),
        namespace=metadata.namespace,
        labels=shared_labels(),
        annotations={**settings.child_annotations, SOURCE_ANNOTATION: f"live adapters of {metadata.name}"},
        size=size,
        size_bytes=quantity_bytes(size),
        storage_class_name=storage_class or settings.defaults.storage_class_name,
        access_modes=modes,
        retain=False,
    )


def pods_together(claim: ClaimPlan | None) -> tuple[Mapping[str, str], ...]:
    """Labels of the pods that have to share a node, since only one node can mount the volume; none else."""
    return (adapter_labels(claim),) if claim is not None and _SHARED_MODE not in claim.access_modes else ()


def adapter_labels(claim: ClaimPlan | None) -> dict[str, str]:
    """The label of pods that mount the volume."""
    return {ADAPTERS_LABEL: digest(claim.name)} if claim is not None else {}


def adapter_mount(claim: ClaimPlan | None) -> Mounted | None:
    """The volume as servers mount it, from their start on and whatever lies in it."""
    if claim is None:
        return None
    volume: dict[str, Any] = {"name": VOLUME, "persistentVolumeClaim": {"claimName": claim.name}}
    return Mounted(FOLDER, (volume,), ({"name": VOLUME, "mountPath": FOLDER, "readOnly": True},))


def plan_adapter_pull(plan: Plan, adapter: AdapterPlan, answer: Mapping[str, object]) -> AdapterPullPlan:
    """The folder and the Job of an adapter for what its inspection found."""
    assert plan.adapter_claim is not None  # there is an adapter
    try:
        commit = read_answer(answer, 1).parts[0].commit
    except AnswerError as error:
        remedy = "Give the annotation vllm-operator.dev/refresh a new value: the source is then looked up again."
        problem = Problem(ProblemReason.INSPECTION_UNREADABLE, str(error), remedy)
        return AdapterPullPlan(adapter.name, "", "", None, problem)
    part, claim = adapter.part, plan.adapter_claim
    files = {key: value for key, value in identity(part.request).items() if key != "revision"}
    folder = hashed_name("", everyday_name(part.source), [files, commit])
    request = dict(part.request) | {"commit": commit, "destination": f"/weights/{folder}"}
    name = hashed_name("pull", everyday_name(part.source), [claim.name, folder])
    together = pods_together(claim)
    job = pull_job(plan.model, plan.settings, name, [part], [request], claim.name, plan.profiles, *together)
    labels = {**job.labels, **adapter_labels(claim)}
    return AdapterPullPlan(adapter.name, commit, f"{FOLDER}/{folder}", replace(job, labels=labels))
