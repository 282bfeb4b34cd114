"""What to change when a model does not fit, in the words of the spec; every proposal is judged before it is made."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from vllm_operator.fit.cache import cache_dtype
from vllm_operator.fit.quantization import methods
from vllm_operator.fit.shape import ModelShape
from vllm_operator.fit.values import GIB, Accelerator, Arguments, Problem

MOST = 3
WORTHWHILE = 256
"""No shorter maxModelLen is worth proposing."""

A_NODE = 8
"""GPUs in the usual largest node; beyond it pipeline stages cross the network better than tensor parallelism does."""

FEW_REQUESTS = 128

IRREGULAR = {"kv_cache_memory_bytes": "kvCacheMemory", "max_loras": "maxLoRAs"}
"""Fields of the spec whose name does not follow from the argument's."""

Change = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Situation:
    """What does not fit, and how to ask what would. `longest` gives the longest length with a change, 0 for none."""

    problem: Problem
    arguments: Arguments
    accelerator: Accelerator
    shape: ModelShape
    smallest_tensor: int | None
    longest: Callable[[Change], int]


def candidates(situation: Situation) -> Iterator[Change]:
    """Changes worth trying, best first: those the problem names, then shorter, wider, smaller cache, smaller weights.

    Only after all single ones come two at once.
    """
    yield from situation.problem.changes
    if situation.problem.reason not in ("KVCacheTooSmall", "NoMemoryForKVCache"):
        return
    singles = list(_singles(situation))
    asked = situation.arguments.gpu_memory_utilization
    if asked is not None and asked < 0.9 and situation.arguments.kv_cache_memory_bytes is None:
        # Memory that is there and was not asked for is lost to nobody but a neighbour on the same GPU.
        yield {"gpu_memory_utilization": 0.9}
    yield from _shortened(situation, {})
    yield from singles
    yield from _less_overhead(situation)
    for change in singles:
        yield from _shortened(situation, change)
    yield from _wider(situation)


def _singles(situation: Situation) -> Iterator[Change]:
    arguments, smallest = situation.arguments, situation.smallest_tensor
    if any(encoder.films for encoder in situation.shape.encoders) and arguments.limits.get("video") != 0:
        # The longest film may take as much as the model: who sends pictures alone need not pay for it.
        yield {"limits": {**arguments.limits, "video": 0}}
    if situation.shape.latent and situation.shape.recurrent and (arguments.max_num_seqs or 1024) > FEW_REQUESTS:
        # The workspace of latents, which has a large block for each request, may take as much as the model.
        yield {"max_num_seqs": FEW_REQUESTS}
    if smallest is not None and smallest != arguments.tensor_parallel_size:
        yield {"tensor_parallel_size": smallest}
    if (smallest is None or smallest > A_NODE) and situation.accelerator.peers:
        yield {"tensor_parallel_size": A_NODE, "pipeline_parallel_size": 2 * arguments.pipeline_parallel_size}
    if cache_dtype(situation.shape, arguments) == "auto" and has_fp8_cache(situation.accelerator, situation.shape):
        yield {"kv_cache_dtype": "fp8"}
    if can_quantize(situation):
        yield {"quantization": "fp8"}


def _shortened(situation: Situation, change: Change) -> Iterator[Change]:
    """The change with the longest length that then fits, in round numbers; nothing where it fits without."""
    longest, asked = situation.longest(change), situation.arguments.max_model_len or situation.shape.usual
    length = rounded(longest)
    if length >= WORTHWHILE and longest < asked:
        yield {**change, "max_model_len": length}


def can_quantize(situation: Situation) -> bool:
    """Whether fp8 weights can be made at load time: a 16-bit checkpoint and a GPU with the kernels."""
    capability, vendor = situation.accelerator.capability, situation.accelerator.vendor
    if situation.shape.quantization or situation.arguments.quantization or vendor not in ("nvidia", "amd"):
        return False
    least = methods()["fp8"].least if vendor == "nvidia" else 94
    return capability is not None and capability >= least


def _less_overhead(situation: Situation) -> Iterator[Change]:
    arguments = situation.arguments
    if arguments.kv_cache_memory_bytes is None and (arguments.gpu_memory_utilization or 0.92) < 0.95:
        yield {"gpu_memory_utilization": 0.95}
    # vLLM refuses fewer tokens a batch than requests, and an encoder's prompt in pieces.
    if (arguments.max_num_batched_tokens or 8192) > 2048 >= (
        arguments.max_num_seqs or 0
    ) and not situation.shape.is_encoder:
        yield {"max_num_batched_tokens": 2048}
    if (arguments.max_num_seqs or 1024) > 64:
        yield {"max_num_seqs": 64}
    if arguments.enable_lora and arguments.max_loras > 1:
        yield {"max_loras": arguments.max_loras // 2}
        yield {"max_loras": 1}


def _wider(situation: Situation) -> Iterator[Change]:
    """More GPUs and another change, where neither alone is enough."""
    if situation.smallest_tensor is not None or not situation.accelerator.peers:
        return
    for size in (2, 4, 8, 16):
        if size <= situation.arguments.tensor_parallel_size:
            continue
        yield from _shortened(situation, {"tensor_parallel_size": size})
        if can_quantize(situation):
            yield {"tensor_parallel_size": size, "quantization": "fp8"}


def has_fp8_cache(accelerator: Accelerator, shape: ModelShape) -> bool:
    """Whether an 8-bit KV cache is safe to propose: native from 8.9 (latent attention: 9.0), MI300 and later on AMD."""
    capability = accelerator.capability or 0
    if shape.recurrent is not None:
        return False
    if accelerator.vendor == "amd":
        return capability >= 94 and shape.latent is None
    return accelerator.vendor == "nvidia" and capability >= (90 if shape.latent is not None else 89)


def retry(
    options: Iterable[Change], arguments: Arguments, judged: Callable[[Arguments], bool | None]
) -> tuple[tuple[str, Arguments], ...]:
    """The first three options that fit when applied, as (text, arguments), no two of them about the same fields.

    `judged` answers True for a comfortable fit, None for one by a hair (proposed after the comfortable ones), else False.
    """
    good: dict[frozenset[str], tuple[str, Arguments]] = {}
    scant: dict[frozenset[str], tuple[str, Arguments]] = {}
    for option in options:
        changed = replace(arguments, **option)  # type: ignore[arg-type]
        fields = frozenset(option)
        if changed == arguments or fields in good or _longer(option, arguments):
            continue
        answer = judged(changed)
        if answer is not False:
            (good if answer else scant).setdefault(fields, (wording(option), changed))
        if len(good) == MOST:
            break
    return tuple({**scant, **good}[fields] for fields in dict.fromkeys([*good, *scant]))[:MOST]


def _longer(option: Change, arguments: Arguments) -> bool:
    length, asked = option.get("max_model_len"), arguments.max_model_len
    return isinstance(length, int) and asked is not None and 0 < asked <= length


def wording(option: Change) -> str:
    """A change in the spec's words: `maxModelLen ≤ 58000`, `tensorParallelSize 2 and quantization fp8`."""
    return " and ".join(_one(name, value) for name, value in option.items())


def _one(name: str, value: object) -> str:
    first, *rest = name.split("_")
    if name == "limits" and isinstance(value, Mapping):
        return f"limitMMPerPrompt.video {value['video']}"
    field = IRREGULAR.get(name) or first + "".join(word.capitalize() for word in rest)
    if value is None:
        return f"no {field}"
    if name == "kv_cache_memory_bytes" and isinstance(value, int):
        return f"{field} {value // GIB}Gi"
    shown = str(value).lower() if isinstance(value, bool) else value
    return f"{field} {'≤ ' if name == 'max_model_len' else ''}{shown}"


def rounded(length: int) -> int:
    """A length as people write it: down to thousands, hundreds or sixteens."""
    step = 1000 if length >= 10000 else 100 if length >= 2000 else 16
    return length // step * step
