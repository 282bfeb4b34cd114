"""What vLLM refuses whatever the memory: parallelism that does not divide, dtypes and lengths it will not take."""

from vllm_operator.fit.architectures import NO_FLOAT16
from vllm_operator.fit.quantization import Scheme, methods
from vllm_operator.fit.shape import ModelShape
from vllm_operator.fit.values import Accelerator, Arguments, Problem

PLAIN_DTYPES = ("float16", "bfloat16", "float32")


def served_dtype(shape: ModelShape, arguments: Arguments, accelerator: Accelerator) -> str:
    """The dtype the model runs in, by vLLM's rules for `auto`.

    The checkpoint's own, with float32 and what the GPU lacks replaced by the GPU's best (bfloat16 from 8.0 on).
    """
    asked = _plain(arguments.dtype or "auto")
    if asked in PLAIN_DTYPES:
        return asked
    usable = _usable(shape, accelerator)
    own = _plain(shape.dtype) or "float32"
    if own == "float32" or own not in usable:
        return "float16" if (shape.is_encoder or arguments.runner == "pooling") and "float16" in usable else usable[0]
    return own


def _plain(name: str) -> str:
    name = name.removeprefix("torch.").lower()
    return {"half": "float16", "float": "float32", "bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}.get(
        name, name
    )


def _usable(shape: ModelShape, accelerator: Accelerator) -> tuple[str, ...]:
    capability = accelerator.capability
    old = accelerator.vendor == "nvidia" and capability is not None and capability < 80
    names = ("float16", "float32") if old else ("bfloat16", "float16", "float32")
    return tuple(name for name in names if name != "float16" or shape.model_type not in NO_FLOAT16)


def dtype_problem(shape: ModelShape, arguments: Arguments, accelerator: Accelerator, scheme: Scheme) -> Problem | None:
    """bfloat16 asked of a GPU before 8.0, float16 of a model that is not stable in it, or float32 of 16-bit kernels."""
    served = served_dtype(shape, arguments, accelerator)
    if served not in _usable(shape, accelerator):
        where = f"on {accelerator.name} (compute capability {accelerator.compute_capability})"
        if served == "float16":
            where = f"for {shape.model_type} models"
        message = f"dtype {served} is not supported {where}"
        return Problem("DtypeUnsupportedByGPU", message, ({"dtype": _usable(shape, accelerator)[0]}, {"dtype": "auto"}))
    entry = methods().get(scheme.method)
    dtypes = entry.asks(scheme.online).dtypes if scheme.quantized and entry is not None else (served,)
    if served not in dtypes:
        message = f"quantization {scheme.method} runs in {' or '.join(dtypes)}, and the model would run in {served}"
        return Problem("DtypeUnsupportedByGPU", message, tuple({"dtype": name} for name in reversed(dtypes)))
    return None


def length_problem(shape: ModelShape, arguments: Arguments) -> Problem | None:
    """A length beyond what the model was made for; vLLM refuses it."""
    asked = arguments.max_model_len
    if asked is None or asked <= shape.longest:
        return None
    message = f"maxModelLen {asked} is more than the {shape.longest} that the model was made for"
    return Problem("MaxModelLenTooLong", message, ({"max_model_len": shape.longest},))


def parallel_problem(
    shape: ModelShape, arguments: Arguments, accelerator: Accelerator, scheme: Scheme
) -> Problem | None:
    """Parallel sizes that vLLM refuses for this model."""
    tensor, stages = arguments.tensor_parallel_size, arguments.pipeline_parallel_size
    broken = ""
    # On a CPU each rank wants NUMA nodes of its own, or VLLM_CPU_OMP_THREADS_BIND: nothing that is known beforehand.
    if tensor * stages > 1 and not accelerator.peers and accelerator.vendor != "cpu":
        broken = f"{accelerator.name} cannot share a model with another one"
        return Problem("TensorParallelInvalid", broken, ({"tensor_parallel_size": 1, "pipeline_parallel_size": 1},))
    if tensor > 1:
        broken = _indivisible(shape, arguments, scheme)
    if not broken and stages > shape.layers:
        broken = f"pipelineParallelSize {stages} is more than the {shape.layers} layers of the model"
    if not broken:
        return None
    if stages > shape.layers:
        return Problem("TensorParallelInvalid", broken, ({"pipeline_parallel_size": 1},))
    below = [size for size in (32, 16, 8, 4, 2, 1) if size < tensor]
    above = [size for size in (2, 4, 8, 16, 32) if tensor < size <= 2 * tensor]
    # Whole experts on each GPU need no width that divides.
    whole = [{"enable_expert_parallel": True}] if shape.experts is not None and "experts' inter" in broken else []
    return Problem(
        "TensorParallelInvalid", broken, (*whole, *({"tensor_parallel_size": size} for size in below + above))
    )


def _indivisible(shape: ModelShape, arguments: Arguments, scheme: Scheme) -> str:
    """The first dimension that tensor parallelism does not divide, as a sentence; "" when all divide."""
    ways = arguments.tensor_parallel_size
    for heads in dict.fromkeys(shape.attention):
        if heads.query % ways:
            return f"tensorParallelSize {ways} does not divide the {heads.query} attention heads"
        if shape.latent is None and heads.query and heads.kv % ways and ways % heads.kv:
            return f"tensorParallelSize {ways} and the {heads.kv} KV heads do not divide one another"
    for name, width in _widths(shape, arguments):
        if width % ways:
            return f"tensorParallelSize {ways} does not divide the {name} {width}"
        if scheme.group and "size" in name and (width // ways) % scheme.group:
            return (
                f"tensorParallelSize {ways} leaves {width // ways} of the {name} {width}, "
                f"no multiple of the quantization group {scheme.group}"
            )
    return ""


def _widths(shape: ModelShape, arguments: Arguments) -> list[tuple[str, int]]:
    """What tensor parallelism cuts beside the heads."""
    experts, recurrent = shape.experts, shape.recurrent
    widths = []
    if experts is None or (len(experts.layers) < shape.layers and recurrent is None):
        widths.append(("intermediate size", shape.intermediate))
    if experts is not None:
        widths.append(("shared experts' size", experts.shared_intermediate))
        if not arguments.enable_expert_parallel:
            widths.append(("experts' intermediate size", experts.intermediate))
    if recurrent is not None:
        widths.append(("recurrent layers' heads", recurrent.heads or recurrent.inner))
    return widths
