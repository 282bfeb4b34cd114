"""What to change when a model does not fit, in the words of the spec; every proposal is judged before it is made."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from vllm_operator.fit.quantization import methods
from vllm_operator.fit.shape import ModelShape
from vllm_operator.fit.values import Accelerator, Arguments, Problem

MOST = 3
WORTHWHILE = 256
"""No shorter maxModelLen is worth proposing."""

Change = Mapping[str, object]


def candidates(
    problem: Problem,
    longest: int | None,
    smallest_tensor: int | None,
    arguments: Arguments,
    accelerator: Accelerator,
    shape: ModelShape,
) -> Iterator[Change]:
    """Changes worth trying, best first: those the problem names, then shorter, wider, smaller cache, smaller weights."""
    yield from problem.changes
    if problem.reason not in ("KVCacheTooSmall", "NoMemoryForKVCache"):
        return
    shorter = rounded(longest or 0)
    if shorter >= WORTHWHILE:
        yield {"max_model_len": shorter}
    if smallest_tensor is not None and smallest_tensor != arguments.tensor_parallel_size:
        yield {"tensor_parallel_size": smallest_tensor}
    if has_fp8_cache(accelerator, shape) and arguments.kv_cache_dtype in (None, "auto"):
        yield {"kv_cache_dtype": "fp8"}
    smaller = _smaller_weights(arguments, accelerator, shape)
    if smaller:
        yield smaller
    yield from _less_overhead(arguments, longest)
    yield from _both(smallest_tensor, smaller, arguments, accelerator)


def _smaller_weights(arguments: Arguments, accelerator: Accelerator, shape: ModelShape) -> Change:
    """fp8 weights made at load time, where the checkpoint is not quantized and the GPU has the kernels."""
    capability, method = accelerator.capability, methods()["fp8"]
    if shape.quantization or arguments.quantization or accelerator.vendor not in ("nvidia", "amd"):
        return {}
    least = method.least if accelerator.vendor == "nvidia" else 94
    return {"quantization": "fp8"} if capability is not None and capability >= least else {}


def _less_overhead(arguments: Arguments, longest: int | None) -> Iterator[Change]:
    if (arguments.gpu_memory_utilization or 0.92) < 0.95:
        yield {"gpu_memory_utilization": 0.95}
    if (arguments.max_num_batched_tokens or 8192) > 2048:
        yield {"max_num_batched_tokens": 2048}
    if (arguments.max_num_seqs or 1024) > 64:
        yield {"max_num_seqs": 64}


def _both(
    smallest_tensor: int | None, smaller: Change, arguments: Arguments, accelerator: Accelerator
) -> Iterator[Change]:
    """Two changes at once, where no single one was enough."""
    if smallest_tensor is not None:
        return
    tensors = [size for size in (2, 4, 8, 16) if size > arguments.tensor_parallel_size] if accelerator.peers else []
    if smaller:
        for length in (32768, 8192, 4096):
            yield {**smaller, "max_model_len": length}
    for size in tensors:
        for length in (131072, 32768, 8192):
            yield {"tensor_parallel_size": size, "max_model_len": length}
        if smaller:
            yield {"tensor_parallel_size": size, **smaller}


def has_fp8_cache(accelerator: Accelerator, shape: ModelShape) -> bool:
    """Whether an 8-bit KV cache is safe to propose: native from 8.9 (latent attention: 9.0), MI300 and later on AMD."""
    capability = accelerator.capability or 0
    if accelerator.vendor == "amd":
        return capability >= 94 and shape.latent is None
    if accelerator.vendor != "nvidia" or shape.recurrent is not None:
        return False
    return capability >= (90 if shape.latent is not None else 89)


def retry(
    options: Iterator[Change], arguments: Arguments, fits: Callable[[Arguments], bool]
) -> tuple[tuple[str, Arguments], ...]:
    """The first three options that fit when applied, as (text, arguments)."""
    found: list[tuple[str, Arguments]] = []
    tried: set[Arguments] = {arguments}
    for option in options:
        if _longer(option, arguments):
            continue
        changed = replace(arguments, **option)  # type: ignore[arg-type]
        if changed in tried:
            continue
        tried.add(changed)
        if fits(changed):
            found.append((wording(option), changed))
        if len(found) == MOST:
            break
    return tuple(found)


def _longer(option: Change, arguments: Arguments) -> bool:
    length, asked = option.get("max_model_len"), arguments.max_model_len
    return isinstance(length, int) and asked is not None and 0 < asked <= length


def wording(option: Change) -> str:
    """A change in the spec's words: `maxModelLen ≤ 58000`, `tensorParallelSize 2 and quantization fp8`."""
    return " and ".join(_one(name, value) for name, value in option.items())


def _one(name: str, value: object) -> str:
    first, *rest = name.split("_")
    field = first + "".join(word.capitalize() for word in rest)
    if value is None:
        return f"no {field}"
    return f"{field} ≤ {value}" if name in ("max_model_len", "gpu_memory_utilization_most") else f"{field} {value}"


def rounded(length: int) -> int:
    """A length as people write it: down to thousands, hundreds or sixteens."""
    step = 1000 if length >= 10000 else 100 if length >= 2000 else 16
    return length // step * step
