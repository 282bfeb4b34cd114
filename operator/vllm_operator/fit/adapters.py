"""Memory set aside for LoRA adapters, whether or not one is ever loaded.

Source: create_lora_weights of vLLM's lora/layers. Each slot holds, for every matrix, rank × inputs and rank × outputs in
16 bits; tensor parallelism splits the side that the matrix itself is split on. Measured: 1.41 GiB for 4 slots of rank 64
on Llama-3.1-8B, where this gives 1.42.
"""

from vllm_operator.fit.matrix import Matrix
from vllm_operator.fit.shape import ModelShape
from vllm_operator.fit.values import Arguments

BYTES = 2


def adapter_slots(table: tuple[Matrix, ...], shape: ModelShape, arguments: Arguments) -> int:
    """Bytes of all adapter slots on the fullest GPU; 0 without adapters. The vocabulary's two ends have slots as well."""
    if not arguments.enable_lora:
        return 0
    columns = 2.0 * (shape.vocab + shape.hidden)
    for matrix in table:
        if matrix.linear and matrix.inputs:
            columns += _columns(matrix, shape, arguments) * matrix.copies / arguments.pipeline_parallel_size
    return int(1.03 * arguments.max_loras * arguments.max_lora_rank * BYTES * columns)


def _columns(matrix: Matrix, shape: ModelShape, arguments: Arguments) -> float:
    """Inputs and outputs of one matrix's adapters: three of them for query/key/value, two for gate/up, one an expert."""
    ways = 1 if matrix.split == "none" else arguments.tensor_parallel_size
    if not matrix.experts or shape.experts is None:
        return _one(matrix, matrix.outputs, _fused(matrix, shape), ways)
    experts, spread = shape.experts.count, 1.0
    if arguments.enable_expert_parallel:
        # Whole experts are dealt out to the GPUs, each with its whole adapters.
        spread, ways = 1.0 / (ways * arguments.data_parallel_size), 1
    fused = max(1, round(matrix.outputs / experts / shape.experts.intermediate)) if not matrix.across else 1
    return experts * spread * _one(matrix, matrix.outputs / experts, fused, ways)


def _one(matrix: Matrix, outputs: float, fused: int, ways: int) -> float:
    return matrix.inputs / ways + outputs if matrix.across else fused * matrix.inputs + outputs / ways


def _fused(matrix: Matrix, shape: ModelShape) -> int:
    if matrix.kv_elements:
        return 3
    return 1 if matrix.inputs != shape.hidden else max(1, round(matrix.outputs / max(shape.intermediate, 1)))
