"""The verdict: does this model, with these arguments, fit that accelerator; and if not, what would."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from math import ceil

from vllm_operator.fit.allowances import is_unmeasured
from vllm_operator.fit.examine import Finding, examine
from vllm_operator.fit.quantization import checkpoint_method
from vllm_operator.fit.remedies import Situation, candidates, retry, rounded
from vllm_operator.fit.shape import ModelShape, read_shape
from vllm_operator.fit.values import Accelerator, Arguments, Problem, Verdict, WeightsSummary

TENSOR_SIZES = (1, 2, 4, 8, 16, 32)
"""Tensor parallel sizes worth trying: what nodes come in."""

SHORTAGES = ("KVCacheTooSmall", "NoMemoryForKVCache")
DEEPEST = 2
"""Arguments that may be wrong at once, each of them corrected before the next one is looked at."""
MOST_TRIED = 48
"""Changes that are judged at most: this runs in a reconcile."""
TRIED = 3
"""Corrections of one argument that are followed further."""

Evaluate = Callable[[Arguments], Finding]


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
        return examine(shape, weights, _as_served(normal(changed), shape), accelerator)

    found = evaluate(arguments)
    # Too long a length hides whether the rest would do: that is asked with the length the model was made for.
    base = arguments
    if found.problem is not None and found.problem.reason == "MaxModelLenTooLong":
        base = replace(arguments, max_model_len=shape.longest)
    smallest = None if found.fits is None else _smallest_tensor(evaluate, base, accelerator)
    remedies: tuple[tuple[str, Arguments], ...] = ()
    if found.problem is not None and not shape.missing:
        remedies = _remedies(evaluate, found.problem, arguments, accelerator, shape)
    return _verdict(shape, found, arguments, accelerator, smallest, remedies)


def _remedies(
    evaluate: Evaluate, problem: Problem, arguments: Arguments, accelerator: Accelerator, shape: ModelShape
) -> tuple[tuple[str, Arguments], ...]:
    """Changes that were judged to fit."""

    def judged(changed: Arguments) -> bool | None:
        found = evaluate(changed)
        return (None if found.tight else True) if found.fits else False

    ways = islice(_ways(evaluate, problem, arguments, accelerator, shape), MOST_TRIED)
    return retry(ways, arguments, judged)


def _ways(
    evaluate: Evaluate, problem: Problem, base: Arguments, accelerator: Accelerator, shape: ModelShape, deep: int = 0
) -> Iterator[Mapping[str, object]]:
    """Changes worth trying. What is wrong whatever the memory comes first, and is part of all that is tried after it."""
    if problem.reason in SHORTAGES:

        def longest(change: Mapping[str, object]) -> int:
            found = evaluate(replace(base, **{**change, "max_model_len": -1}))  # type: ignore[arg-type]
            sure = found.sure_longest if found.fits else 0
            if not any(encoder.films for encoder in shape.encoders):
                return sure
            # A shorter context is tried with a shorter film.
            changed = replace(base, **change)  # type: ignore[arg-type]
            length = rounded(evaluate(changed).longest or 0)
            return length if length > sure and evaluate(replace(changed, max_model_len=length)).fits else sure

        smallest = _smallest_tensor(evaluate, base, accelerator)
        yield from candidates(Situation(problem, base, accelerator, shape, smallest, longest))
        return
    yield from problem.changes
    for change in problem.changes[:TRIED] if deep < DEEPEST else ():
        changed = replace(base, **change)  # type: ignore[arg-type]
        still = evaluate(changed).problem
        if still is not None and still != problem:
            more = _ways(evaluate, still, changed, accelerator, shape, deep + 1)
            yield from ({**change, **further} for further in more)


def normal(given: Arguments) -> Arguments:
    """The arguments with sizes of at least 1 and blank words as unset, so that no caller's slip divides by nothing."""
    return replace(
        given,
        tensor_parallel_size=max(1, given.tensor_parallel_size),
        pipeline_parallel_size=max(1, given.pipeline_parallel_size),
        data_parallel_size=max(1, given.data_parallel_size),
        max_model_len=given.max_model_len or None,
        max_num_seqs=given.max_num_seqs or None,
        max_num_batched_tokens=given.max_num_batched_tokens or None,
        block_size=given.block_size or None,
        kv_cache_dtype=given.kv_cache_dtype or None,
        dtype=given.dtype or None,
        quantization=given.quantization or None,
        runner=given.runner or None,
    )


def _as_served(arguments: Arguments, shape: ModelShape) -> Arguments:
    """With the runner that vLLM chooses by the name of the architecture."""
    return replace(arguments, runner="pooling") if arguments.runner in (None, "auto") and shape.pools else arguments


def _smallest_tensor(evaluate: Evaluate, arguments: Arguments, accelerator: Accelerator) -> int | None:
    """The smallest tensor parallel size at which the rest of the arguments fits; None when none does."""
    sizes = TENSOR_SIZES if accelerator.peers else (1,)
    return next((size for size in sizes if evaluate(replace(arguments, tensor_parallel_size=size)).fits), None)


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
        note=_note(shape, found, accelerator),
        reason=found.problem.reason if found.problem is not None else None,
        message=message,
        remedies=tuple(text for text, _ in remedies),
        remedied=tuple(changed for _, changed in remedies),
        weights_bytes=found.weights.per_gpu if found.weights is not None else None,
        smallest_tensor_parallel_size=smallest,
        max_model_len=None if (arguments.max_model_len or 0) < 0 and not found.longest else found.length,
        budget=budget,
        kv_bytes_per_token=plan.bytes_per_token if plan is not None else None,
    )
    if budget is None or plan is None or found.length is None:
        return verdict
    verdict = replace(verdict, largest_max_model_len=found.longest)
    if not plan.block_bytes:
        return replace(verdict, kv_cache_tokens=0)
    at_once = plan.concurrency(max(budget.available_kv, 0), found.length) if found.longest else 0.0
    beside = budget.weights + budget.activations + budget.non_torch + budget.cuda_graphs
    needed = ceil(100 * (beside + plan.needed(found.length)) / budget.total) / 100
    return replace(
        verdict,
        kv_cache_tokens=int(at_once * found.length),
        max_concurrency=round(at_once, 2),
        utilization_needed=needed if needed <= 1 and not arguments.kv_cache_memory_bytes else None,
    )


def _note(shape: ModelShape, found: Finding, accelerator: Accelerator) -> str:
    notes = [text for text in (found.unsure, found.tight) if text]
    if found.weights is not None and found.weights.assumed:
        notes.append(found.weights.assumed)
    if checkpoint_method(shape.quantization) == "gptq" and not found.unsure:
        notes.append("vLLM reads which layers are quantized from the safetensors headers")
    if is_unmeasured(shape):
        notes.append("what a forward pass of this family takes was never measured")
    if accelerator.vendor == "nvidia" and (accelerator.capability or 75) < 75:
        notes.append("vLLM images built on CUDA 13 have no kernels below compute capability 7.5")
    return "; ".join([*notes, *shape.assumed])
