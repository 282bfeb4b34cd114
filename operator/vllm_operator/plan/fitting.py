"""What the fit is asked: the arguments that move memory, and the accelerator that they are to fit."""

from __future__ import annotations

from vllm_operator.api import Spec, quantity_bytes
from vllm_operator.fit import Accelerator, Arguments, accelerators
from vllm_operator.plan.types import Nodes, Plan
from vllm_operator.settings import Profile


def fit_arguments(spec: Spec) -> Arguments:
    """The part of the spec that moves memory. Unset stays unset: the fit knows vLLM's defaults for each accelerator."""
    return Arguments(
        tensor_parallel_size=spec.tensor_parallel_size or 1,
        pipeline_parallel_size=spec.pipeline_parallel_size or 1,
        data_parallel_size=spec.data_parallel_size or 1,
        enable_expert_parallel=bool(spec.enable_expert_parallel),
        max_model_len=spec.max_model_len,
        gpu_memory_utilization=spec.gpu_memory_utilization,
        kv_cache_dtype=spec.kv_cache_dtype,
        dtype=spec.dtype,
        quantization=spec.quantization,
        max_num_seqs=spec.max_num_seqs,
        max_num_batched_tokens=spec.max_num_batched_tokens,
        enforce_eager=bool(spec.enforce_eager),
        cpu_offload_gb=spec.cpu_offload_gb or 0.0,
        kv_cache_memory_bytes=quantity_bytes(spec.kv_cache_memory) if spec.kv_cache_memory else None,
        block_size=spec.block_size,
        runner=spec.runner,
        enable_lora=bool(spec.enable_lora or (spec.enable_lora is None and spec.adapters)),
        max_loras=spec.max_loras or 1,
        max_lora_rank=spec.max_lora_rank or 16,
        enable_prefix_caching=spec.enable_prefix_caching,
        estimates_cuda_graphs=True,  # the built-in images' version does, with either runner
    )


def fit_accelerator(plan: Plan, nodes: Nodes | None = None) -> Accelerator | None:
    """The device to fit: of several accelerators the one with the least memory, since a pod may land on each.

    Memory comes from the settings, else from the name, else from the nodes' labels, and for a CPU from the pod's memory
    limit; `memory_bytes` is None where nobody knows. None when the plan has no accelerator.
    """
    found = [_accelerator(plan.model.spec, name, profile, nodes) for name, profile in plan.profiles]
    known = [accelerator for accelerator in found if accelerator.memory_bytes is not None]
    if len(known) < len(found):
        return next(accelerator for accelerator in found if accelerator.memory_bytes is None)
    return min(known, key=lambda accelerator: accelerator.memory_bytes or 0, default=None)


def _accelerator(spec: Spec, name: str, profile: Profile, nodes: Nodes | None) -> Accelerator:
    known = accelerators().get(name)
    memory = quantity_bytes(profile.memory) if profile.memory else known.memory_bytes if known else None
    capability = profile.compute_capability or (known.compute_capability if known else None)
    if profile.vendor == "cpu":
        limit = spec.resources.limits.get("memory")
        memory = quantity_bytes(limit) if limit else memory
    elif nodes is not None:
        memory = memory if memory is not None else nodes.memory_bytes
        capability = capability or nodes.compute_capability
    return Accelerator(name, memory, capability, profile.vendor, known.peers if known else True)
