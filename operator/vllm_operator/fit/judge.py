"""The verdict: does this model, with these arguments, fit that accelerator; and if not, what would.

`available = total × utilization - weights - activations - libraries - CUDA graphs`; what is left holds the KV cache.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import ceil, floor

from vllm_operator.fit.cache import CachePlan, plan_cache
from vllm_operator.fit.overhead import Overhead, batch_defaults, overhead
from vllm_operator.fit.quantization import checkpoint_method, resolve
from vllm_operator.fit.remedies import candidates, retry
from vllm_operator.fit.rules import dtype_problem, length_problem, parallel_problem, served_dtype
from vllm_operator.fit.shape import ModelShape, read_shape
from vllm_operator.fit.values import GIB, Accelerator, Arguments, Budget, Problem, Verdict, WeightsSummary
from vllm_operator.fit.weights import Weights, dtype_size, weights_per_gpu

DEFAULT_UTILIZATION = 0.92
"""vLLM's default of gpu_memory_utilization since 0.26."""

TENSOR_SIZES = (1, 2, 4, 8, 16, 32)
"""Tensor parallel sizes worth trying: what nodes come in."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One evaluation without remedies: the numbers, and the problem if there is one."""

    problem: Problem | None = None
    unsure: str = ""
    weights: Weights | None = None
    plan: CachePlan | None = None
    used: Overhead | None = None
    budget: Budget | None = None
    length: int | None = None
    longest: int | None = None

    @property
    def fits(self) -> bool | None:
        if self.problem is not None:
            return False
        return None if self.unsure else True


def judge(
    config: Mapping[str, object], weights: WeightsSummary | None, arguments: Arguments, accelerator: Accelerator
) -> Verdict:
    """Whether the model fits, with numbers per GPU and up to three remedies that were themselves judged to fit.

    Never raises for any config: what is not known makes `fits` None and is named in `note`. Pure and quick (it runs
    in a reconcile).
    """
    arguments = normal(arguments)
    shape = read_shape(config)

    def evaluate(changed: Arguments) -> Finding:
        return examine(shape, weights, normal(changed), accelerator)

    found = evaluate(arguments)
    remedies: tuple[tuple[str, Arguments], ...] = ()
    smallest = None
    if found.fits is not None:
        smallest = _smallest_tensor(evaluate, arguments, accelerator, found)
    if found.problem is not None and not shape.missing:
        options = candidates(found.problem, found.longest, smallest, arguments, accelerator, shape)
        remedies = retry(options, arguments, lambda changed: evaluate(changed).fits is True)
    return _verdict(shape, found, arguments, accelerator, smallest, remedies)


def normal(arguments: Arguments) -> Arguments:
    """The arguments with sizes of at least 1 and blank words as unset, so that no caller's slip divides by nothing."""
    words = {name: getattr(arguments, name) or None for name in ("kv_cache_dtype", "dtype", "quantization", "runner")}
    sizes = {
        name: max(1, getattr(arguments, name))
        for name in ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
    }
    batch = {name: getattr(arguments, name) or None for name in ("max_num_seqs", "max_num_batched_tokens", "block_size")}
    length = arguments.max_model_len
    return replace(arguments, **words, **sizes, **batch, max_model_len=None if not length else length)


def examine(
    shape: ModelShape, summary: WeightsSummary | None, arguments: Arguments, accelerator: Accelerator
) -> Finding:
    """One evaluation: rules first, then memory."""
    scheme = resolve(shape.quantization, arguments, accelerator)
    if isinstance(scheme, Problem):
        return Finding(problem=scheme)
    dtype_bytes = dtype_size(served_dtype(shape, arguments, accelerator))
    weights = weights_per_gpu(shape, summary, scheme, arguments, dtype_bytes)
    if shape.missing:
        return _unread(shape, weights, accelerator)
    broken = (
        dtype_problem(shape, arguments, accelerator, scheme)
        or length_problem(shape, arguments)
        or parallel_problem(shape, arguments, accelerator, scheme)
    )
    if broken is not None:
        return Finding(problem=broken, weights=weights)
    if weights.missing:
        return Finding(unsure=f"missing: {weights.missing}")
    if accelerator.memory_bytes is None:
        return Finding(unsure=f"missing: the memory of {accelerator.name}", weights=weights)
    return _memory(shape, arguments, accelerator, weights, dtype_bytes, accelerator.memory_bytes)


def _unread(shape: ModelShape, weights: Weights, accelerator: Accelerator) -> Finding:
    """A config that is not understood: unknown, unless the files alone are more than the GPU holds."""
    unsure = "missing: " + ", ".join(shape.missing[:4])
    memory = accelerator.memory_bytes
    if memory is None or weights.per_gpu < 1.02 * memory:
        return Finding(unsure=unsure, weights=weights if weights.per_gpu else None)
    message = f"the weights take {gib(weights.per_gpu)} GiB per GPU, {describe(accelerator)} has less"
    return Finding(problem=Problem("NoMemoryForKVCache", message), unsure=unsure, weights=weights)


def _memory(
    shape: ModelShape, arguments: Arguments, accelerator: Accelerator, weights: Weights, dtype_bytes: int, total: int
) -> Finding:
    tokens, _ = batch_defaults(arguments, accelerator)
    used = overhead(shape, arguments, accelerator, dtype_bytes)
    plan = plan_cache(shape, arguments, dtype_bytes, tokens)
    requested = ceil(total * utilization(arguments))
    taken = weights.per_gpu + used.activations + used.non_torch + used.cuda_graphs
    available = arguments.kv_cache_memory_bytes or requested - taken
    budget = Budget(total, requested, weights.per_gpu, used.activations, used.non_torch, used.cuda_graphs, available)
    base = Finding(weights=weights, plan=plan, used=used, budget=budget)
    if not plan.block_bytes:
        return _without_cache(shape, arguments, accelerator, base)
    longest = plan.longest(max(available, 0), shape.longest)
    asked = arguments.max_model_len
    length = shape.longest if asked is None else max(longest, 1) if asked < 0 else asked
    found = replace(base, length=length, longest=longest)
    problem = _shortage(arguments, accelerator, found)
    sure_longest = plan.longest(max(available - used.spread, 0), length)
    if problem is None and used.spread and sure_longest < length:
        unsure = f"it fits with less than {gib(used.spread)} GiB to spare, which is not measured on {accelerator.vendor}"
        return replace(found, unsure=unsure)
    return replace(found, problem=problem)


def _without_cache(shape: ModelShape, arguments: Arguments, accelerator: Accelerator, found: Finding) -> Finding:
    length = shape.longest if arguments.max_model_len in (None, -1) else arguments.max_model_len
    found = replace(found, length=length, longest=shape.longest)
    return replace(found, problem=_shortage(arguments, accelerator, found))


def _shortage(arguments: Arguments, accelerator: Accelerator, found: Finding) -> Problem | None:
    """The memory problem, if any: nothing left at all, too little for one request, or no room to warm up."""
    budget, plan, used = found.budget, found.plan, found.used
    assert budget is not None and plan is not None and used is not None and found.length is not None
    where = f"{describe(accelerator)} at {utilization(arguments):.2f}"
    slack = used.spread
    resident = budget.weights + used.activations + used.non_torch
    by_hand = arguments.kv_cache_memory_bytes
    if by_hand and resident + by_hand - slack > budget.total:
        message = f"kvCacheMemoryBytes leaves {gib(budget.total - by_hand)} GiB, {gib(resident)} are needed beside it"
        return Problem("NoMemoryForKVCache", message)
    if budget.available_kv + slack <= plan.block_bytes:
        message = f"weights, activations and CUDA graphs take {gib(resident + used.cuda_graphs)} GiB per GPU, {where} gives {gib(budget.requested)}"
        return Problem("NoMemoryForKVCache", message)
    free = budget.total - budget.requested
    # What the profile's peak freed can be used again, so only the part beyond it has to fit outside the budget.
    if not by_hand and free + slack < used.warm_up - used.activations // 2:
        message = (
            f"{describe(accelerator)} keeps {gib(free)} GiB outside the budget at gpuMemoryUtilization "
            f"{utilization(arguments):.2f}, the sampler's warm-up and the CUDA context need about {gib(used.warm_up)}"
        )
        return Problem("NoMemoryForKVCache", message, _calmer(budget, used))
    needed = plan.needed(found.length) if plan.block_bytes else 0
    if needed > budget.available_kv + slack or (found.longest == 0 and plan.block_bytes and not slack):
        message = (
            f"maxModelLen {found.length} needs {gib(needed)} GiB of KV cache per GPU, "
            f"{gib(budget.available_kv)} are left on {where}"
        )
        return Problem("KVCacheTooSmall", message)
    return None


def _calmer(budget: Budget, used: Overhead) -> tuple[Mapping[str, object], ...]:
    lower = floor(100 * (1 - used.warm_up / budget.total)) / 100
    return ({"max_num_seqs": 256}, {"gpu_memory_utilization": lower}, {"max_num_seqs": 64})


def utilization(arguments: Arguments) -> float:
    """gpu_memory_utilization in force."""
    asked = arguments.gpu_memory_utilization
    return DEFAULT_UTILIZATION if asked is None else min(max(asked, 0.0), 1.0)


def describe(accelerator: Accelerator) -> str:
    memory = accelerator.memory_bytes
    return f"a {memory / GIB:.0f} GiB {accelerator.name}" if memory else accelerator.name


def gib(size: float) -> str:
    return f"{size / GIB:.1f}"


def _smallest_tensor(
    evaluate: Callable[[Arguments], Finding], arguments: Arguments, accelerator: Accelerator, found: Finding
) -> int | None:
    """The smallest tensor parallel size at which the rest of the arguments fits; None when none does."""
    for size in TENSOR_SIZES if accelerator.peers else (1,):
        tried = found
        if size != arguments.tensor_parallel_size:
            tried = evaluate(replace(arguments, tensor_parallel_size=size))
        if tried.fits:
            return size
    return None


def _verdict(
    shape: ModelShape,
    found: Finding,
    arguments: Arguments,
    accelerator: Accelerator,
    smallest: int | None,
    remedies: tuple[tuple[str, Arguments], ...],
) -> Verdict:
    budget, plan = found.budget, found.plan
    message = found.problem.message if found.problem is not None else ""
    if remedies:
        message += ": use " + ", or ".join(text for text, _ in remedies)
    verdict = Verdict(
        accelerator=accelerator.name,
        fits=found.fits,
        note=_note(shape, found),
        reason=found.problem.reason if found.problem is not None else None,
        message=message,
        remedies=tuple(text for text, _ in remedies),
        remedied=tuple(changed for _, changed in remedies),
        weights_bytes=found.weights.per_gpu if found.weights is not None else None,
        smallest_tensor_parallel_size=smallest,
        max_model_len=found.length,
        budget=budget,
    )
    if budget is None or plan is None or found.length is None:
        return verdict
    verdict = replace(verdict, kv_bytes_per_token=plan.bytes_per_token, largest_max_model_len=found.longest)
    if not plan.block_bytes:
        return replace(verdict, kv_cache_tokens=0)
    at_once = plan.concurrency(max(budget.available_kv, 0), found.length)
    beside = budget.weights + budget.activations + budget.non_torch + budget.cuda_graphs
    needed = ceil(100 * (beside + plan.needed(found.length)) / budget.total) / 100
    return replace(
        verdict,
        kv_cache_tokens=int(at_once * found.length),
        max_concurrency=round(at_once, 2),
        utilization_needed=needed if needed <= 1 else None,
    )


def _note(shape: ModelShape, found: Finding) -> str:
    notes = [found.unsure] if found.unsure else []
    if found.weights is not None and found.weights.assumed:
        notes.append(found.weights.assumed)
    if checkpoint_method(shape.quantization) == "gptq" and not found.unsure:
        notes.append("vLLM reads which layers are quantized from the safetensors headers")
    return "; ".join([*notes, *shape.assumed])
