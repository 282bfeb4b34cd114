"""What a server's pod asks for: devices, memory, processors, and the shared memory its processes talk through."""

from __future__ import annotations

from math import ceil
from typing import Any

from vllm_operator.api import Spec, quantity_bytes
from vllm_operator.plan.accelerator import Named, ranks
from vllm_operator.plan.types import Problem, ProblemReason
from vllm_operator.settings import Settings

GIB = 1 << 30
MIB = 1 << 20
DEVICES = "devices"  # the pod's name for what a ResourceClaimTemplate gives
# One process needs 400 MiB of address space in /dev/shm (measured; 160 MiB of queues and 240 MiB a worker), and
# NCCL adds segments for each pair: vLLM's own page says 2 GiB a GPU, 16 GiB for eight. More than 32 GiB is never used.
_SHM_ALONE = GIB
_SHM_PER_RANK = 2 * GIB
_SHM_MOST = 32 * GIB
_SMALLEST_BESIDE_SHM = GIB


def mebibytes(size: int) -> str:
    """Bytes as a quantity in whole Mi, rounded up."""
    return f"{ceil(size / MIB)}Mi"


def shared_memory_bytes(spec: Spec, settings: Settings) -> int:
    """The size of /dev/shm: the platform's, else 1 GiB for one process and 2 GiB for each of several."""
    if settings.defaults.shm_size:
        return quantity_bytes(settings.defaults.shm_size)
    count = ranks(spec)
    return _SHM_ALONE if count == 1 else min(_SHM_PER_RANK * count, _SHM_MOST)


def host_bytes(spec: Spec, settings: Settings, on_cpu: bool, weights_bytes: int | None) -> int:
    """Host memory that the server is going to hold: its processes, /dev/shm, what is offloaded, and on a CPU the weights."""
    needed = quantity_bytes(settings.defaults.memory_request) + shared_memory_bytes(spec, settings)
    needed += int((spec.cpu_offload_gb or 0) * ranks(spec) * GIB)
    needed += int(((spec.kv_offloading_size or 0) + (spec.mm_processor_cache_gb or 0)) * GIB)
    return needed + (weights_bytes or 0) if on_cpu else needed


def resources_of(spec: Spec, profiles: Named, settings: Settings, weights_bytes: int | None) -> dict[str, Any]:
    """The container's resources. Memory and cpu are requested in any case: a pod without is the first to be evicted."""
    profile = profiles[0][1] if profiles else None
    on_cpu = profile is not None and profile.vendor == "cpu"
    requests = {"cpu": settings.defaults.cpu_request}
    requests["memory"] = mebibytes(host_bytes(spec, settings, on_cpu, weights_bytes))
    # A limit without a request is the request, too: Kubernetes' own rule.
    requests = {key: value for key, value in requests.items() if key not in spec.resources.limits}
    requests |= {key: value for key, value in spec.resources.requests.items()}
    limits: dict[str, str] = {key: value for key, value in spec.resources.limits.items()}
    resources: dict[str, Any] = {"requests": requests}
    if spec.resource_claim_template:
        resources["claims"] = [{"name": DEVICES}]
    elif profile and profile.resource_name:
        limits[profile.resource_name] = str(ranks(spec) * profile.count)
    return resources | ({"limits": limits} if limits else {})


def resource_claims(spec: Spec) -> tuple[dict[str, Any], ...]:
    """The pod's side of a ResourceClaimTemplate."""
    template = spec.resource_claim_template
    return ({"name": DEVICES, "resourceClaimTemplateName": template.name},) if template else ()


def resource_problems(spec: Spec, profiles: Named, settings: Settings) -> list[Problem]:
    """A memory limit that shared memory and offloading alone would use up; requests above limits; devices twice."""
    found = []
    limit = spec.resources.limits.get("memory")
    offloaded = host_bytes(spec, settings, False, None) - quantity_bytes(settings.defaults.memory_request)
    needed = offloaded + _SMALLEST_BESIDE_SHM
    if limit is not None and quantity_bytes(limit) < needed:
        message = f"resources.limits.memory is {limit}; a server, its shared memory and what is offloaded need {mebibytes(needed)}."
        found.append(_invalid(message, f"Set resources.limits.memory to {mebibytes(needed)} or more."))
    for name, request in spec.resources.requests.items():
        most = spec.resources.limits.get(name)
        if most is not None and quantity_bytes(request) > quantity_bytes(most):
            found.append(
                _invalid(f"resources.requests.{name} {request} is above its limit {most}.", "Lower the request.")
            )
    if spec.resource_claim_template and any(profile.vendor == "cpu" for _, profile in profiles):
        remedy = "Leave resourceClaimTemplate out, or name the accelerator that it gives."
        found.append(_invalid("resourceClaimTemplate has no effect with the accelerator cpu.", remedy))
    return found


def weights_problems(spec: Spec, profiles: Named, settings: Settings, weights_bytes: int | None) -> list[Problem]:
    """On a CPU the weights lie in the pod's own memory: a limit that cannot hold them ends in a kill while they load."""
    limit = spec.resources.limits.get("memory")
    if limit is None or not weights_bytes or not any(profile.vendor == "cpu" for _, profile in profiles):
        return []
    needed = weights_bytes + shared_memory_bytes(spec, settings) + _SMALLEST_BESIDE_SHM
    if quantity_bytes(limit) >= needed:
        return []
    message = f"resources.limits.memory is {limit}; the weights and shared memory alone need {mebibytes(needed)}."
    return [_invalid(message, f"Set resources.limits.memory to {mebibytes(needed)} or more.")]


def _invalid(message: str, remedy: str) -> Problem:
    return Problem(ProblemReason.INVALID_SPEC, message, remedy)
