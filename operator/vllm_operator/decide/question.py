"""What the fit is asked: the engine arguments of a spec, and what is known of the memory that they are to fit into."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Final

from vllm_operator.api import Spec, quantity_bytes
from vllm_operator.decide.types import DeviceSeen
from vllm_operator.fit import Accelerator, Arguments, Verdict, WeightsSummary, accelerators, judge
from vllm_operator.plan.accelerator import image_of
from vllm_operator.plan.flags import may_mean, tagged_release
from vllm_operator.settings import Profile, Settings

GIB: Final = 1 << 30
_CPU_CACHE: Final = "VLLM_CPU_KVCACHE_SPACE"  # whole GiB; stronger than --kv-cache-memory-bytes
_RUNNER: Final = "VLLM_USE_V2_MODEL_RUNNER"  # vLLM reads it as a whole number, and 0 as its older runner
_AS_LONG_AS_FITS: Final = -1
_DEPRECATED: Final = "--allow-deprecated-quantization"
_SPACE: Final = re.compile(r"[0-9]{1,7}")
_GIBIBYTES: Final = re.compile(r"kvCacheMemory ([0-9]+)Gi")
_PROCESSES: Final = 2  # GiB: the server's three processes took 1.5 GiB beside weights and cache
# The first release known to take an estimate of its CUDA graphs off the budget with every model runner; 0.26 does not.
_ESTIMATES_SINCE: Final = (0, 32)


@dataclass(frozen=True, slots=True)
class Question:
    """One accelerator and the arguments. `is_bound` False: the memory is what the pod asks for, and it may get more.

    `cache_by_variable`: the environment sets the size of the KV cache, not `kvCacheMemory`. `is_stock`: the image is
    one of vLLM's own, which holds no plugins.
    """

    arguments: Arguments
    accelerator: Accelerator
    is_bound: bool = True
    cache_by_variable: bool = False
    is_stock: bool = True


def question_of(
    spec: Spec, settings: Settings, name: str, profile: Profile, device: DeviceSeen | None = None
) -> Question:
    """What is asked of one accelerator of the spec."""
    image = image_of(spec, ((name, profile),), settings) or ""
    arguments = replace(arguments_of(spec, image), old_runner=_asks_for_old_runner(spec, profile))
    if profile.vendor != "cpu" or profile.memory:
        return Question(arguments, accelerator_of(name, profile, device or DeviceSeen()), is_stock=_is_stock(image))
    by_variable = _cache_on_cpu(spec, profile)
    arguments = replace(arguments, kv_cache_memory_bytes=by_variable or arguments.kv_cache_memory_bytes)
    limit, request = spec.resources.limits.get("memory"), spec.resources.requests.get("memory")
    memory = limit or request
    pod = Accelerator(name, quantity_bytes(memory) if memory else None, vendor="cpu", peers=False)
    return Question(arguments, pod, is_bound=limit is not None, cache_by_variable=by_variable is not None)


def with_draft(question: Question, bytes_on_disk: int, config: Mapping[str, object]) -> Question:
    """The question with a draft model beside the model: its files' bytes, and its config.json as far as it is known.

    It is split as the model is (vLLM's draft_tensor_parallel_size has no other default).
    """
    own = replace(
        question.arguments, quantization=None, enable_lora=False, max_model_len=None, kv_cache_memory_bytes=None
    )
    alone = judge(config, None, own, question.accelerator)
    share = ceil(bytes_on_disk / (own.tensor_parallel_size or 1))
    arguments = replace(
        question.arguments, draft_weights_bytes=share, draft_kv_bytes_per_token=alone.kv_bytes_per_token or 0
    )
    return replace(question, arguments=arguments)


def without_draft(verdict: Verdict) -> Verdict:
    """The verdict on a model whose draft model is not known: what fits without it may not fit with it."""
    note = "missing: the memory of speculativeConfig.model, whose config.json is not at hand"
    if verdict.fits is False:
        return verdict
    return replace(verdict, fits=None, note="; ".join(text for text in (note, verdict.note) if text))


def answer_to(question: Question, config: Mapping[str, object], weights: WeightsSummary | None) -> Verdict:
    """The verdict. On a CPU, where the formulas are not measured, memory is too small only for what surely lies in it."""
    verdict = judge(config, weights, question.arguments, question.accelerator)
    if verdict.reason == "QuantizationUnknown" and not question.is_stock:
        doubt = f"missing: what the image holds; {verdict.message.partition(': use ')[0]}"
        return replace(verdict, fits=None, reason=None, message="", note=doubt, remedied=())
    if verdict.fits is None and question.accelerator.memory_bytes is None:
        verdict = replace(verdict, note=_how_to_tell(verdict.note, question.accelerator))
    if question.accelerator.vendor != "cpu":
        return verdict
    verdict = _in_words_of_a_pod(verdict, question)
    if _is_sure(verdict, question):
        return verdict
    beyond = _beyond_the_limit(verdict, question)
    if beyond is not None or verdict.fits is not False:
        return beyond or verdict
    note = f"on a CPU this is an estimate: {verdict.message}"
    return replace(verdict, fits=None, reason=None, message="", note=note, remedies=(), remedied=())


def _is_stock(image: str) -> bool:
    """Whether the image is one of vLLM's own, perhaps from a mirror; no image named is the platform's stock one."""
    return not image or image.rpartition("/")[2].startswith("vllm-")


def _how_to_tell(note: str, accelerator: Accelerator) -> str:
    """The note, with where the device's memory could be told where that is what is missing."""
    missing = f"missing: the memory of {accelerator.name}"
    if accelerator.vendor == "cpu":
        told = "missing: the memory of the pod, which resources.limits.memory would tell"
    else:
        told = f"{missing}, which an accelerator of a known kind, the platform's settings or labels of the nodes would tell"
    return note.replace(missing, told)


def _in_words_of_a_pod(verdict: Verdict, question: Question) -> Verdict:
    """A pod on a CPU has one cache, whose size the environment may set."""

    def told(text: str) -> str:
        text = text.replace(" per GPU", "")
        if not question.cache_by_variable:
            return text
        return _GIBIBYTES.sub(rf"{_CPU_CACHE} \1", text).replace("kvCacheMemory", _CPU_CACHE)

    remedies = tuple(told(remedy) for remedy in verdict.remedies)
    return replace(verdict, message=told(verdict.message), note=told(verdict.note), remedies=remedies)


def overridden(config: Mapping[str, object], overrides: Mapping[str, object]) -> dict[str, object]:
    """config.json with `hfOverrides` in it, as vLLM merges them: groups one by one, everything else whole."""
    merged = dict(config)
    for key, value in overrides.items():
        below = merged.get(key)
        merged[key] = overridden(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _is_sure(verdict: Verdict, question: Question) -> bool:
    """A misfit that is none of memory, or whose KV cache is set aside and does not hold one request."""
    if verdict.fits is not False:
        return False
    return verdict.reason not in ("NoMemoryForKVCache", "KVCacheTooSmall") or _cache_is_too_small(verdict, question)


def _cache_is_too_small(verdict: Verdict, question: Question) -> bool:
    """The KV cache that is set aside does not hold one request of the whole length."""
    given = question.arguments.kv_cache_memory_bytes
    return given is not None and (verdict.kv_bytes_per_token or 0) * (verdict.max_model_len or 0) > given


def _beyond_the_limit(verdict: Verdict, question: Question) -> Verdict | None:
    """A misfit where weights and KV cache alone are more than the pod's limit; else None."""
    memory, given = question.accelerator.memory_bytes, question.arguments.kv_cache_memory_bytes
    cache = given or (verdict.kv_bytes_per_token or 0) * (verdict.max_model_len or 0)
    needed = (verdict.weights_bytes or 0) + cache
    if not question.is_bound or memory is None or needed <= memory:
        return None
    message = (
        f"weights and KV cache alone take {needed / GIB:.1f} GiB, resources.limits.memory is {memory / GIB:.1f} GiB"
    )
    remedies: tuple[str, ...] = (f"raise resources.limits.memory above {ceil(needed / GIB) + _PROCESSES}Gi",)
    remedies += (f"lower {_CPU_CACHE} or kvCacheMemory" if given else "lower maxModelLen",)
    return replace(verdict, fits=False, reason="NoMemoryForKVCache", message=message, note="", remedies=remedies)


def accelerator_of(name: str, profile: Profile, device: DeviceSeen) -> Accelerator:
    """What is known of the device: the profile's word first, then the table by name, then the nodes' labels."""
    known = accelerators().get(name) or Accelerator(name, None)
    memory = quantity_bytes(profile.memory) if profile.memory else known.memory_bytes
    return Accelerator(
        name=name,
        memory_bytes=device.memory_bytes if memory is None else memory,
        compute_capability=profile.compute_capability or known.compute_capability or device.compute_capability,
        vendor=profile.vendor,
        peers=known.peers and not device.is_slice and "/mig-" not in (profile.resource_name or ""),
    )


def arguments_of(spec: Spec, image: str) -> Arguments:
    """The engine arguments that move memory, as the spec has them, for the image's release of vLLM."""
    release = tagged_release(image)
    return Arguments(
        tensor_parallel_size=spec.tensor_parallel_size or 1,
        pipeline_parallel_size=spec.pipeline_parallel_size or 1,
        data_parallel_size=spec.data_parallel_size or 1,
        enable_expert_parallel=bool(spec.enable_expert_parallel),
        max_model_len=_AS_LONG_AS_FITS if spec.max_model_len == "auto" else spec.max_model_len,
        gpu_memory_utilization=spec.gpu_memory_utilization,
        kv_cache_dtype=spec.kv_cache_dtype,
        dtype=spec.dtype,
        quantization=spec.quantization,
        allow_deprecated_quantization=any(may_mean(arg, _DEPRECATED) for arg in spec.extra_args),
        max_num_seqs=spec.max_num_seqs,
        max_num_batched_tokens=spec.max_num_batched_tokens,
        enforce_eager=bool(spec.enforce_eager),
        cpu_offload_gb=spec.cpu_offload_gb or 0.0,
        kv_cache_memory_bytes=quantity_bytes(spec.kv_cache_memory) if spec.kv_cache_memory else None,
        block_size=spec.block_size,
        runner=spec.runner,
        enable_lora=bool(spec.enable_lora or spec.adapters or spec.loads_live),
        max_loras=spec.max_loras or 1,
        max_lora_rank=spec.max_lora_rank or 16,
        enable_prefix_caching=spec.enable_prefix_caching,
        estimates_cuda_graphs=release is None or release >= _ESTIMATES_SINCE,
        limits=spec.limit_mm_per_prompt or {},
        max_pixels=_max_pixels(spec.mm_processor_kwargs or {}),
        speculative_method=speculates_by(spec.speculative_config or {}),
    )


def speculates_by(settings: Mapping[str, object]) -> str:
    """vLLM's name of the method that a speculativeConfig asks for, "" for none.

    Where it names none, vLLM goes by the draft model: its own words, Eagle by its name, else a draft of its own kind.
    """
    method, model = settings.get("method"), settings.get("model")
    if isinstance(method, str) and method:
        return method
    if not isinstance(model, str) or not model:
        return ""
    word = model.lower().strip("[]")
    return word if word in ("ngram", "suffix") else "eagle" if "eagle" in word else "draft_model"


def _max_pixels(settings: Mapping[str, object]) -> int | None:
    """The pixels that mmProcessorKwargs lets a picture have, under either of the names that Qwen's processors read."""
    size = settings.get("size")
    told = settings.get("max_pixels") or (size.get("longest_edge") if isinstance(size, Mapping) else None)
    return told if isinstance(told, int) and told > 0 else None


def _asks_for_old_runner(spec: Spec, profile: Profile) -> bool | None:
    """Whether the environment chooses vLLM's older model runner; None where it leaves the choice to the release."""
    text = _variables(spec, profile).get(_RUNNER, "").strip()
    return int(text) == 0 if _SPACE.fullmatch(text) else None


def _variables(spec: Spec, profile: Profile) -> dict[str, str]:
    return dict(profile.env) | {variable.name: variable.value for variable in spec.env}


def _cache_on_cpu(spec: Spec, profile: Profile) -> int | None:
    """The KV cache that the environment sets aside, in bytes; None where it says none, or no size."""
    text = _variables(spec, profile).get(_CPU_CACHE, "")
    return int(text) * GIB or None if _SPACE.fullmatch(text) else None
