"""One look at a model on an accelerator: what vLLM refuses, then where the memory goes and what is left.

`available = total × utilization - weights - activations - libraries - CUDA graphs`; what is left holds the KV cache.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import ceil, floor

from vllm_operator.fit.cache import CachePlan, cache_dtype, is_known_dtype, plan_cache
from vllm_operator.fit.overhead import Overhead, batch_defaults, overhead
from vllm_operator.fit.quantization import resolve
from vllm_operator.fit.rules import dtype_problem, length_problem, parallel_problem, served_dtype
from vllm_operator.fit.shape import ModelShape
from vllm_operator.fit.trial import level_buffers, unbuilt
from vllm_operator.fit.values import GIB, Accelerator, Arguments, Budget, Problem, WeightsSummary
from vllm_operator.fit.weights import Weights, dtype_size, weights_per_gpu

DEFAULT_UTILIZATION = 0.92
"""vLLM's default of gpu_memory_utilization since 0.26."""


Change = Mapping[str, object]

LEAST_HELD = GIB // 5
"""Of the card's memory that is surely taken when vLLM first looks: CUDA's context (0.51 GiB measured on an H200)."""

WARM_UP_DOUBT = GIB
"""How far the sampler's warm-up may come short before it is surely a failure (1.5 GiB short ran out of memory)."""


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
    sure_longest: int = 0
    tight: str = ""

    @property
    def fits(self) -> bool | None:
        if self.problem is not None:
            return False
        return None if self.unsure else True


def examine(
    shape: ModelShape, summary: WeightsSummary | None, arguments: Arguments, accelerator: Accelerator
) -> Finding:
    """One evaluation: rules first, then memory."""
    scheme = resolve(shape.quantization, arguments, accelerator)
    if isinstance(scheme, Problem):
        return Finding(problem=scheme)
    dtype_bytes = dtype_size(served_dtype(shape, arguments, accelerator))
    weights = weights_per_gpu(shape, summary, scheme, arguments, dtype_bytes)
    weights = _with_buffers(weights, shape, arguments, accelerator, dtype_bytes)
    if shape.missing:
        return _unread(shape, weights, accelerator)
    broken = dtype_problem(shape, arguments, accelerator, scheme) or length_problem(shape, arguments)
    indivisible = parallel_problem(shape, arguments, accelerator, scheme)
    if indivisible is not None:
        return Finding(problem=broken or indivisible)
    if weights.missing:
        return Finding(problem=broken, unsure=f"missing: {weights.missing}")
    if not is_known_dtype(cache_dtype(shape, arguments), shape):
        return Finding(
            problem=broken, unsure=f"missing: the bytes of kvCacheDtype {arguments.kv_cache_dtype}", weights=weights
        )
    if shape.compressed is not None and shape.compressed.sources and (accelerator.capability or 0) // 10 != 9:
        unsure = f"missing: the KV cache of {shape.model_type} on other GPUs than Hopper"
        return Finding(problem=broken, unsure=unsure, weights=weights)
    if accelerator.memory_bytes is None:
        plan = plan_cache(shape, arguments, dtype_bytes, batch_defaults(arguments, accelerator, shape)[0])
        unsure = f"missing: the memory of {accelerator.name}"
        return Finding(problem=broken, unsure=unsure, weights=weights, plan=plan)
    found = _memory(shape, arguments, accelerator, weights, dtype_bytes, accelerator.memory_bytes)
    return found if broken is None else replace(found, problem=broken)


def _with_buffers(
    weights: Weights, shape: ModelShape, arguments: Arguments, accelerator: Accelerator, dtype_bytes: int
) -> Weights:
    """With what is made together with the model, and without the towers that are not."""
    if not weights.per_gpu:
        return weights
    buffers = level_buffers(shape, batch_defaults(arguments, accelerator, shape)[0], dtype_bytes)
    spared = unbuilt(shape, arguments) * dtype_bytes
    return replace(weights, per_gpu=max(0, weights.per_gpu + buffers - spared))


def _unread(shape: ModelShape, weights: Weights, accelerator: Accelerator) -> Finding:
    """A config that is not understood: unknown, unless the files alone are more than the GPU holds."""
    unsure = "missing: " + ", ".join(shape.missing[:4])
    memory = accelerator.memory_bytes
    if memory is None or weights.per_gpu < 1.02 * memory:
        return Finding(unsure=unsure, weights=weights if weights.per_gpu else None)
    message = f"the weights take {gib(weights.per_gpu)} GiB per GPU, {describe(accelerator)} has less"
    return Finding(problem=Problem("NoMemoryForKVCache", message), unsure=unsure, weights=weights)


def _room(
    shape: ModelShape, arguments: Arguments, accelerator: Accelerator, weights: Weights, dtype_bytes: int, total: int
) -> tuple[Overhead, CachePlan, Budget]:
    """What is taken, what a cache is made of, and what is left for it."""
    plan = plan_cache(shape, arguments, dtype_bytes, batch_defaults(arguments, accelerator, shape)[0])
    used = overhead(shape, arguments, accelerator, dtype_bytes, plan.block_tokens)
    requested = ceil(total * utilization(arguments))
    taken = weights.per_gpu + used.activations + used.non_torch + used.cuda_graphs
    available = _own_share(arguments.kv_cache_memory_bytes or requested - taken, plan, arguments)
    budget = Budget(total, requested, weights.per_gpu, used.activations, used.non_torch, used.cuda_graphs, available)
    return used, plan, budget


def _memory(
    shape: ModelShape, arguments: Arguments, accelerator: Accelerator, weights: Weights, dtype_bytes: int, total: int
) -> Finding:
    def room(length: int | None) -> tuple[Overhead, CachePlan, Budget]:
        return _room(shape, replace(arguments, max_model_len=length), accelerator, weights, dtype_bytes, total)

    used, plan, budget = room(arguments.max_model_len)
    available = budget.available_kv
    base = Finding(weights=weights, plan=plan, used=used, budget=budget)
    if not plan.block_bytes:
        return _without_cache(shape, arguments, accelerator, base)
    longest = plan.longest(max(available, 0), shape.longest)
    asked = arguments.max_model_len
    there = batch_defaults(replace(arguments, max_model_len=max(longest, 1)), accelerator, shape)
    grows = there != batch_defaults(arguments, accelerator, shape) or shape.compressed is not None
    # The longer a prompt may be, the longer is the film that some encoders are tried with.
    grows |= any(encoder.films for encoder in shape.encoders)
    if (asked is None or asked > 0) and grows:
        longest = _longest_with_its_batch(room, shape.longest)
    length = shape.usual if asked is None else max(min(longest, shape.usual), 1) if asked < 0 else asked
    found = replace(base, length=length, longest=longest, tight=_tight(budget, used, arguments))
    problem = _shortage(arguments, accelerator, found)
    doubt = used.spread + used.uncounted
    if arguments.kv_cache_memory_bytes:
        # The cache has the size that it was given; in doubt is only whether the rest finds room beside it.
        resident = budget.weights + used.activations + used.non_torch
        doubt = doubt if resident + arguments.kv_cache_memory_bytes + doubt > budget.total else 0
    # With the length left to the engine, any length will do.
    enough = 1 if asked is not None and asked < 0 else min(length, shape.longest)
    sure = plan.longest(max(available - doubt, 0), shape.longest)
    found = replace(found, sure_longest=sure)
    if problem is None and sure < enough:
        return replace(found, unsure=_doubt(doubt, used, accelerator))
    return _refused(found, problem)


def _longest_with_its_batch(room: Callable[[int], tuple[Overhead, CachePlan, Budget]], most: int) -> int:
    """The longest request that fits, where few short requests make a smaller batch than that one would."""

    def is_too_long(length: int) -> bool:
        _, plan, budget = room(length)
        return plan.blocks(length) > budget.available_kv // plan.block_bytes - 1

    return bisect_left(range(1, most + 1), True, key=is_too_long)  # as many as come before the first that is too long


def _doubt(doubt: int, used: Overhead, accelerator: Accelerator) -> str:
    if not doubt:
        return "kvCacheMemory is all taken by one request of maxModelLen, and vLLM keeps one block for itself"
    why = (
        "an encoder, the compiler or what was never measured may take"
        if used.uncounted or accelerator.vendor == "nvidia"
        else f"is not measured on {accelerator.vendor}"
    )
    return f"it fits with less than {gib(doubt)} GiB to spare, which {why}"


def _refused(found: Finding, problem: Problem | None) -> Finding:
    """With the problem, if any; where the server cannot start at all, no length fits."""
    nothing = problem is not None and problem.reason == "NoMemoryForKVCache"
    return replace(found, problem=problem, longest=0 if nothing else found.longest)


def _own_share(available: int, plan: CachePlan, arguments: Arguments) -> int:
    """Bytes of the cache that are left for the model itself: a draft model's layers keep every token, too."""
    draft, own = arguments.draft_kv_bytes_per_token, plan.bytes_per_token
    return available * own // (own + draft) if draft and own else available


def _without_cache(shape: ModelShape, arguments: Arguments, accelerator: Accelerator, found: Finding) -> Finding:
    length = shape.usual if arguments.max_model_len in (None, -1) else arguments.max_model_len
    found = replace(found, length=length, longest=shape.longest)
    return _refused(found, _shortage(arguments, accelerator, found))


def _shortage(arguments: Arguments, accelerator: Accelerator, found: Finding) -> Problem | None:
    """The memory problem, if any: nothing left at all, too little for one request, or no room to warm up."""
    budget, plan, used = found.budget, found.plan, found.used
    assert budget is not None and plan is not None and used is not None and found.length is not None
    where = f"{describe(accelerator)} at {utilization(arguments):.2f}"
    slack = used.spread
    resident = budget.weights + used.activations + used.non_torch
    by_hand = arguments.kv_cache_memory_bytes
    if by_hand and resident + by_hand - slack > budget.total:
        return _too_much_by_hand(budget, resident, by_hand, slack, accelerator)
    if accelerator.vendor == "nvidia" and not by_hand and budget.total - budget.requested < LEAST_HELD:
        return _all_asked_for(budget, used, arguments, accelerator)
    # Some length may fit where the longest film that an encoder is tried with leaves no memory.
    if budget.available_kv + slack <= plan.block_bytes and not found.longest:
        message = f"weights, activations and CUDA graphs take {gib(resident + used.cuda_graphs)} GiB per GPU, {where} gives {gib(budget.requested)}"
        return Problem("NoMemoryForKVCache", message)
    free = budget.total - budget.requested
    if used.warm_up_is_sure and not by_hand and free + slack + WARM_UP_DOUBT < used.warm_up:
        message = (
            f"{describe(accelerator)} keeps {gib(free)} GiB outside the budget at gpuMemoryUtilization "
            f"{utilization(arguments):.2f}, the sampler's warm-up and the CUDA context need about {gib(used.warm_up)}"
        )
        return Problem("NoMemoryForKVCache", message, _calmer(budget, used))
    return _too_long(plan, found.length, arguments, budget, where, slack, found.longest == 0)


def _too_long(
    plan: CachePlan, length: int, arguments: Arguments, budget: Budget, where: str, slack: int, no_length: bool
) -> Problem | None:
    """The cache does not hold one request; a cache whose size was given holds surely what its blocks hold."""
    if not plan.block_bytes:
        return None
    needed, given = plan.needed(length), arguments.kv_cache_memory_bytes
    wanted = f"maxModelLen {length} needs {gib(needed)} GiB of KV cache per GPU"
    if given:
        if needed - plan.block_bytes <= budget.available_kv:
            return None
        enough: Change = {"kv_cache_memory_bytes": ceil(needed * given / max(budget.available_kv, 1) / GIB) * GIB}
        return Problem("KVCacheTooSmall", f"{wanted}, kvCacheMemory gives {gib(given)}", (enough,))
    if needed <= budget.available_kv + slack and (slack or not no_length):
        return None
    return Problem("KVCacheTooSmall", f"{wanted}, {gib(max(budget.available_kv, 0))} are left on {where}")


def _too_much_by_hand(budget: Budget, resident: int, by_hand: int, slack: int, accelerator: Accelerator) -> Problem:
    """A cache whose size was given, and for which there is no room beside the rest."""
    message = (
        f"kvCacheMemory takes {gib(by_hand)} GiB and the rest {gib(resident)}, "
        f"{describe(accelerator)} has {gib(budget.total)}"
    )
    room = (budget.total - resident - slack) // GIB * GIB
    lower: tuple[Change, ...] = ({"kv_cache_memory_bytes": room},) if room > 0 else ()
    return Problem("NoMemoryForKVCache", message, (*lower, {"kv_cache_memory_bytes": None}))


def _all_asked_for(budget: Budget, used: Overhead, arguments: Arguments, accelerator: Accelerator) -> Problem:
    """vLLM refuses a budget that is not free when it starts, and CUDA's context is there by then."""
    message = (
        f"gpuMemoryUtilization {utilization(arguments):.2f} asks for {gib(budget.requested)} of the "
        f"{gib(budget.total)} GiB of {accelerator.name}, and CUDA itself has taken some 0.5 before vLLM looks"
    )
    lower = floor(100 * (1 - max(GIB, used.warm_up) / budget.total)) / 100
    return Problem("NoMemoryForKVCache", message, ({"gpu_memory_utilization": max(lower, 0.5)},))


def _tight(budget: Budget, used: Overhead, arguments: Arguments) -> str:
    """A sentence where the sampler's warm-up may or may not find room outside the budget."""
    free = budget.total - budget.requested
    if arguments.kv_cache_memory_bytes or free >= used.warm_up:
        return ""
    return (
        f"the sampler's warm-up may need up to {gib(used.warm_up)} GiB outside the budget, {gib(free)} are kept: "
        "a lower maxNumSeqs is safer"
    )


def _calmer(budget: Budget, used: Overhead) -> tuple[Change, ...]:
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
