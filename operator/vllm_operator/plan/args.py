"""From a spec to the argument list of `vllm serve`: one line of a table for each field.

The only place that knows vLLM's flags. An unset field renders nothing, so vLLM's own default stays vLLM's.
Every value is joined to its flag by "=", so that no value can become a flag of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from vllm_operator.api import GenerationOverrides, Spec, quantity_bytes

PORT = 8000


def canonical_json(value: Any) -> str:
    """One text for equal values. A "$" is written as its escape: the kubelet expands $(NAME) in arguments."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.replace("$", "\\u0024")


def _switch(flag: str, value: bool) -> str:
    # "--no-enable-x", never "--disable-x": vLLM 0.32 and 0.33 both parse it, 0.32 knows no other.
    return flag if value else f"--no-{flag.removeprefix('--')}"


def _plain(flag: str, value: object) -> str:
    return f"{flag}={value}"


def _number(flag: str, value: float) -> str:
    return f"{flag}={int(value) if value == int(value) else value}"


def _json(flag: str, value: Any) -> str:
    return f"{flag}={canonical_json(value)}"


def _bytes(flag: str, value: str) -> str:
    return f"{flag}={quantity_bytes(value)}"


def _upper(flag: str, value: str) -> str:
    return f"{flag}={value.upper()}"


def _generation(flag: str, value: GenerationOverrides) -> str:
    return _json(flag, value.as_vllm())


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag of vLLM and how a field's value is written behind it."""

    flag: str
    write: Callable[[str, Any], str] = _plain

    @property
    def is_switch(self) -> bool:
        """Whether it takes no value and has a negation."""
        return self.write is _switch


def _flags(write: Callable[[str, Any], str], *names: str) -> dict[str, Flag]:
    return {name: Flag("--" + name.replace("_", "-"), write) for name in names}


# By attribute of Spec. Most flags are the attribute's name with dashes; the last lines are those that are not.
FLAGS: Mapping[str, Flag] = MappingProxyType(
    _flags(
        _plain,
        *("tokenizer_mode", "code_revision", "dtype", "quantization", "kv_cache_dtype", "seed", "max_model_len"),
        *("block_size", "kv_offloading_backend", "tensor_parallel_size", "pipeline_parallel_size"),
        *("data_parallel_size", "distributed_executor_backend", "max_num_seqs", "max_num_batched_tokens"),
        *("scheduling_policy", "max_cudagraph_capture_size", "optimization_level", "attention_backend"),
        *("load_format", "max_loras", "max_lora_rank", "max_cpu_loras", "runner", "convert", "reasoning_parser"),
        *("tool_call_parser", "chat_template_content_format", "generation_config"),
    )
    | _flags(
        _switch,
        *("trust_remote_code", "enable_expert_parallel", "disable_custom_all_reduce", "enable_chunked_prefill"),
        *("enable_prefix_caching", "enforce_eager", "enable_lora", "enable_sleep_mode", "enable_auto_tool_choice"),
        "enable_log_requests",
    )
    | _flags(_number, "gpu_memory_utilization", "cpu_offload_gb", "kv_offloading_size", "mm_processor_cache_gb")
    | _flags(
        _json,
        *("hf_overrides", "compilation_config", "speculative_config", "limit_mm_per_prompt", "mm_processor_kwargs"),
        "structured_outputs_config",
    )
    | _flags(_generation, "override_generation_config")
    | {"kv_cache_memory": Flag("--kv-cache-memory-bytes", _bytes), "log_level": Flag("--log-level", _upper)}
)


def serve_args(
    spec: Spec,
    model_path: str,
    *,
    served_model_names: Sequence[str],
    port: int = PORT,
    tokenizer_path: str | None = None,
    lora_modules: Sequence[tuple[str, str]] = (),
    chat_template_path: str | None = None,
    shutdown_timeout: int | None = None,
    ssl_keyfile: str | None = None,
    ssl_certfile: str | None = None,
) -> tuple[str, ...]:
    """What follows `vllm serve`: the model's path, the operator's flags, the spec's, then `extraArgs` as they are.

    Paths are those inside the container; `shutdown_timeout` is in seconds; `lora_modules` are (name, path).
    Equal specs give equal lists. The kubelet's $(NAME) is made inert in each argument.
    """
    flags = _own_flags(port, tokenizer_path, chat_template_path, shutdown_timeout, ssl_keyfile, ssl_certfile)
    flags += field_words(spec).values()
    if (lora_modules or spec.loads_live) and spec.enable_lora is None:
        flags.append("--enable-lora")
    # Sorted: another order would be another pod template, and restart every server.
    words = [model_path, *sorted(flags), "--served-model-name", *served_model_names]
    if lora_modules:
        words += ["--lora-modules", *(canonical_json({"name": name, "path": path}) for name, path in lora_modules)]
    return tuple(inert(word) for word in (*words, *spec.extra_args))


def field_words(spec: Spec) -> dict[str, str]:
    """The word for each field that is set and has a flag of its own, by attribute."""
    return {
        name: flag.write(flag.flag, value) for name, flag in FLAGS.items() if (value := _value(spec, name)) is not None
    }


def inert(text: str) -> str:
    """What arrives as the text itself: the kubelet expands `$(NAME)` in arguments and variables, and makes `$$` a `$`."""
    return text.replace("$", "$$")


def _value(spec: Spec, name: str) -> Any:
    """A field's value; None when there is nothing to say."""
    value = getattr(spec, name)
    if isinstance(value, GenerationOverrides) and not value.as_vllm():
        return None
    return None if value == {} else value


def _own_flags(
    port: int,
    tokenizer_path: str | None,
    chat_template_path: str | None,
    shutdown_timeout: int | None,
    ssl_keyfile: str | None,
    ssl_certfile: str | None,
) -> list[str]:
    values: dict[str, object] = {
        "--port": port,
        "--tokenizer": tokenizer_path,
        "--chat-template": chat_template_path,
        "--shutdown-timeout": shutdown_timeout,
        "--ssl-keyfile": ssl_keyfile,
        "--ssl-certfile": ssl_certfile,
    }
    flags = [f"{flag}={value}" for flag, value in values.items() if value is not None]
    # Certificates are renewed in place; vLLM reads them again only when told to.
    return [*flags, "--enable-ssl-refresh"] if ssl_certfile is not None else flags
