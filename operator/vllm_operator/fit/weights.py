"""Bytes of weights on one GPU: quantized, split by tensor and pipeline parallelism, with what loading adds.

Base: the safetensors total where it is known, else every matrix of the shape (equal to the byte on the families
measured). Added to it: the rotary table, the allocator's rounding and LoRA slots. Measured on an H200 with vLLM 0.26.
"""

from dataclasses import dataclass, replace
from math import ceil

from vllm_operator.fit.adapters import adapter_slots
from vllm_operator.fit.matrices import matrices
from vllm_operator.fit.matrix import Matrix
from vllm_operator.fit.overhead import uses_old_runner
from vllm_operator.fit.quantization import Scheme, left_out
from vllm_operator.fit.shape import ModelShape
from vllm_operator.fit.values import MIB, Arguments, WeightsSummary

LARGE = 20 * MIB
"""The allocator hands out tensors of this size and more in multiples of 2 MiB."""

STORED_BYTES = {"F64": 8, "F32": 4, "I64": 8, "I32": 4, "F16": 2, "BF16": 2, "I16": 2}
"""Bytes a parameter of a safetensors dtype; all others (8-bit and packed 4-bit) take 1."""

SAME = 0.05
"""How far files and count may be apart and still be the same weights: tied heads, buffers, an image encoder."""

DTYPE_BYTES = {"float32": 4, "float": 4, "float16": 2, "half": 2, "bfloat16": 2}


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes on the fullest GPU, and how sure that is: `missing` names what the number would need."""

    per_gpu: int
    missing: str = ""
    assumed: str = ""


def weights_per_gpu(
    shape: ModelShape, summary: WeightsSummary | None, scheme: Scheme, arguments: Arguments, dtype_bytes: int
) -> Weights:
    """Bytes of weights on the fullest GPU after loading.

    Parameters: `dtype_bytes` of the dtype the model runs in; a summary wins over the shape's own count.
    """
    table = () if shape.family is None else _made(shape, arguments)
    missing = ""
    stored = _loaded_bytes(shape, summary, scheme, dtype_bytes, table)
    if scheme.quantized and scheme.weight_bytes is None and (scheme.online or stored is None):
        missing = f"the bytes per weight of quantization {scheme.method}" + (
            "" if scheme.online else " (no safetensors)"
        )
    share = arguments.tensor_parallel_size * arguments.pipeline_parallel_size
    if not table or shape.missing:
        if stored is None:
            return Weights(0, missing or "the safetensors summary")
        return Weights(int(stored * 1.02 / share), missing, "weights split evenly")
    base = _fullest_stage(table, shape, arguments, scheme, dtype_bytes)
    if stored is not None:
        # Files and memory differ where loading re-packs, so the files are compared with what they should hold.
        filed = replace(scheme, weight_bytes=scheme.file_bytes or scheme.weight_bytes)
        whole = sum(m.total * _weight_bytes(m, filed, dtype_bytes) for m in table if not m.made)
        base = base * stored / whole
    extra = _rounding(table, shape, arguments, scheme, dtype_bytes) + shape.rope_bytes
    extra += _absorbed(shape, arguments) + adapter_slots(table, shape, arguments)
    extra += arguments.draft_weights_bytes + _shared_keys(shape, arguments, dtype_bytes)
    offloaded = int(max(arguments.cpu_offload_gb, 0) * 1024 * MIB) if _offloads(shape, arguments) else 0
    note = _assumed(shape, scheme) if summary is None else ""
    return Weights(max(0, int(base) + extra - offloaded), missing, note)


def _made(shape: ModelShape, arguments: Arguments) -> tuple[Matrix, ...]:
    """The matrices that vLLM makes: of a pooling model all but the output head (its ModelForPooling)."""
    return tuple(matrix for matrix in matrices(shape) if matrix.place != "head" or arguments.runner != "pooling")


def _shared_keys(shape: ModelShape, arguments: Arguments, dtype_bytes: int) -> int:
    """Layers that read an earlier one's keys and values (Gemma 3n, 4) have matrices for them all the same in vLLM 0.26."""
    if arguments.estimates_cuda_graphs:
        return 0
    unused = sum(heads.kv * (heads.dim + heads.value) for heads in shape.attention if heads.shared)
    return unused * shape.hidden * dtype_bytes // arguments.tensor_parallel_size


def _offloads(shape: ModelShape, arguments: Arguments) -> bool:
    """vLLM 0.26's newer runner leaves all weights on the GPU whatever cpu_offload_gb says (measured: not a byte less)."""
    return arguments.estimates_cuda_graphs or uses_old_runner(shape, arguments)


def _assumed(shape: ModelShape, scheme: Scheme) -> str:
    """What a count without the files rests on."""
    notes = []
    if shape.encoders and not shape.is_crossed:
        notes.append(f"the {'audio' if shape.encoders[0].hears else 'image'} encoder's weights are estimated")
    # MXFP4 leaves out all but the experts, which is known.
    if scheme.quantized and not scheme.online and not scheme.experts_only and left_out(shape.quantization):
        notes.append("what the checkpoint leaves unquantized is counted as quantized: the files would tell")
    return "; ".join(notes)


def dtype_size(name: str) -> int:
    return DTYPE_BYTES.get(name.removeprefix("torch."), 2)


def _weight_bytes(matrix: Matrix, scheme: Scheme, dtype_bytes: int) -> float:
    touched = matrix.linear and matrix.place == "layer" and (matrix.experts or not scheme.experts_only)
    each = scheme.bytes_of(experts=matrix.experts)
    return each if scheme.quantized and touched and each is not None else dtype_bytes


def _loaded_bytes(
    shape: ModelShape, summary: WeightsSummary | None, scheme: Scheme, dtype_bytes: int, table: tuple[Matrix, ...]
) -> float | None:
    """What the checkpoint's bytes become in memory: cast to the dtype served, quantized online, without drafts."""
    if summary is None or summary.total_bytes <= 0:
        return None
    if summary.by_dtype:
        stored = float(sum(n * _cast(name, scheme, dtype_bytes) for name, n in summary.by_dtype.items()))
    elif scheme.quantized and not scheme.online:
        stored = float(summary.total_bytes)
    else:
        stored = summary.total_bytes * dtype_bytes / (dtype_size(shape.dtype) if shape.dtype else 2)
    if not table:
        return stored
    plain = replace(scheme, weight_bytes=scheme.file_bytes or scheme.weight_bytes) if not scheme.online else Scheme()
    counted = sum(m.total * _weight_bytes(m, plain, dtype_bytes) for m in table if not m.made)
    if not summary.by_dtype and (scheme.online or not scheme.quantized):
        stored = _as_wide_as_counted(stored, counted)
    has_head = any(m.place == "head" and not m.made for m in table)
    stored = _without_unloaded(stored, counted, shape, dtype_bytes, has_head=has_head)
    if scheme.online and scheme.weight_bytes is not None:
        stored *= sum(m.total * _weight_bytes(m, scheme, dtype_bytes) for m in table if not m.made) / counted
    return stored


def _as_wide_as_counted(stored: float, counted: float) -> float:
    """A total without dtypes is of 16-bit or of 32-bit files, whatever the config says: the count tells which."""
    return next((guess for guess in (stored / 2, stored * 2) if abs(guess - counted) < SAME * counted), stored)


def _cast(name: str, scheme: Scheme, dtype_bytes: int) -> int:
    plain = name in ("F64", "F32", "F16", "BF16")
    keeps = scheme.quantized and not scheme.online
    return dtype_bytes if plain and not keeps else STORED_BYTES.get(name, 1)


def _without_unloaded(stored: float, counted: float, shape: ModelShape, dtype_bytes: int, *, has_head: bool) -> float:
    """Checkpoints may hold what vLLM does not load: a head that is tied or that pooling has no use for, and draft layers."""
    head = -(-shape.vocab // 64) * 64 * shape.hidden * dtype_bytes
    if not has_head and abs(stored - head - counted) < 0.01 * counted < abs(stored - counted):
        return stored - head
    if shape.draft_layers and 1.005 * counted < stored < counted * (1 + 4 * shape.draft_layers / shape.layers):
        return counted
    return stored


def _per_gpu(matrix: Matrix, shape: ModelShape, arguments: Arguments) -> float:
    """Elements of one matrix on one GPU. KV heads fewer than GPUs are repeated.

    Experts spread over all engines, whole ones or parts of each (vLLM's flatten_tp_across_dp_and_pcp).
    """
    ways = arguments.tensor_parallel_size
    if matrix.split == "none":
        return matrix.elements
    if matrix.split == "expert":
        return matrix.elements / (ways * arguments.data_parallel_size)
    repeated = matrix.kv_elements / min(ways, max(matrix.kv_heads or shape.kv_heads, 1))
    return (matrix.elements - matrix.kv_elements) / ways + repeated


def _padding(matrix: Matrix, shape: ModelShape, arguments: Arguments, scheme: Scheme) -> float:
    """What rounding to the kernel's steps makes of a matrix of experts, as a factor."""
    if not matrix.experts or shape.experts is None or scheme.steps == (1, 1):
        return 1.0
    ways = 1 if arguments.enable_expert_parallel else arguments.tensor_parallel_size * arguments.data_parallel_size
    factor = 1.0
    for size, step in zip((shape.experts.intermediate / ways, shape.hidden), scheme.steps, strict=True):
        factor *= ceil(size / step) * step / size
    return factor


def _copies(matrix: Matrix, shape: ModelShape, arguments: Arguments) -> float:
    """How many of its copies the fullest pipeline stage holds."""
    stages = arguments.pipeline_parallel_size
    if matrix.place != "layer" or stages == 1:
        return matrix.copies
    return matrix.copies * -(-shape.layers // stages) / shape.layers


def _fullest_stage(
    table: tuple[Matrix, ...], shape: ModelShape, arguments: Arguments, scheme: Scheme, dtype_bytes: int
) -> float:
    """Bytes of the fullest pipeline stage: its layers and, of the ends, the larger one."""
    sums = {"layer": 0.0, "embedding": 0.0, "head": 0.0, "vision": 0.0}
    for matrix in table:
        if matrix.place == "host":
            continue
        held = _per_gpu(matrix, shape, arguments) * _copies(matrix, shape, arguments)
        held *= _padding(matrix, shape, arguments, scheme)
        sums[matrix.place] += held * _weight_bytes(matrix, scheme, dtype_bytes)
    first = sums["embedding"] + sums["vision"]
    if arguments.pipeline_parallel_size == 1:
        return sums["layer"] + first + sums["head"]
    return sums["layer"] + max(first, sums["head"])


def _rounding(
    table: tuple[Matrix, ...], shape: ModelShape, arguments: Arguments, scheme: Scheme, dtype_bytes: int
) -> int:
    """What the allocator's 2 MiB steps cost (99 MiB on Qwen2.5-7B, nothing on Llama-3.1-8B: exact on both)."""
    lost = 0.0
    for matrix in table:
        size = _per_gpu(matrix, shape, arguments) * _weight_bytes(matrix, scheme, dtype_bytes)
        if size >= LARGE and matrix.place not in ("vision", "host"):
            lost += -size % (2 * MIB) * _copies(matrix, shape, arguments)
    return int(lost)


def _absorbed(shape: ModelShape, arguments: Arguments) -> int:
    """Latent attention keeps its up projection a second time, re-packed (measured: 68 to 80 MiB on DeepSeek-V2-Lite)."""
    if shape.latent is None:
        return 0
    wide = shape.latent.nope_dim + shape.latent.value_dim
    full = shape.heads * wide * shape.latent.kv_rank * 2 * shape.layers / arguments.tensor_parallel_size
    return int(0.7 * full / arguments.pipeline_parallel_size)
