"""No field of the spec is accepted and ignored: each one, when set, changes a manifest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from tests.builders import a_model
from tests.golden.canned import answer_to, settings
from vllm_operator.api import Base, Spec
from vllm_operator.plan import plan_model
from vllm_operator.plan.args import FLAGS
from vllm_operator.plan.manifests import manifests

GIVEN = settings(policy={"allowedEnv": ["*"], "allowNodePaths": True, "allowLiveAdapters": True})
TOLERATION = {"key": "a", "operator": "Equal", "value": "b", "effect": "NoExecute", "toleration_seconds": 5}
SECRET = {"name": "s", "key": "k"}
LORA: dict[str, Any] = {"adapters": ({"name": "sql", "source": "org/sql", "revision": "v1"},)}
LIVE: dict[str, Any] = LORA | {"adapter_loading": "Live"}
S3: dict[str, Any] = {"model": "s3://bucket/prefix"}
ROLLING: dict[str, Any] = {"rollout": {"strategy": "RollingUpdate", "max_surge": "1", "max_unavailable": "2"}}
MINE: dict[str, Any] = {"cache": {"type": "ExistingClaim", "claim_name": "mine"}}
HASHES = ("vllm-operator.dev/wanted", "vllm-operator.dev/request")  # over the spec: they change in any case
TEMPLATE: dict[str, Any] = {"chat_template": {"config_map_key_ref": {"name": "c", "key": "k"}}}

# A value for each field, by its path; a pair is (the spec around it, the value), where a value needs company.
SAMPLES: dict[str, Any] = {
    "model": "other/model",
    "revision": "v1",
    "tokenizer": "other/tokenizer",
    "tokenizer_revision": ({"tokenizer": "other/tokenizer"}, "v2"),
    "tokenizer_mode": "mistral",
    "code_revision": ({"trust_remote_code": True}, "v1"),
    "hf_overrides": {"a": 1},
    "trust_remote_code": True,
    "dtype": "float16",
    "quantization": "fp8",
    "kv_cache_dtype": "fp8",
    "seed": 1,
    "max_model_len": 1024,
    "gpu_memory_utilization": 0.5,
    "kv_cache_memory": "1Gi",
    "block_size": 32,
    "cpu_offload_gb": 1.0,
    "kv_offloading_size": 1.0,
    "kv_offloading_backend": ({"kv_offloading_size": 1.0}, "lmcache"),
    "tensor_parallel_size": 2,
    "pipeline_parallel_size": 2,
    "data_parallel_size": 2,
    "enable_expert_parallel": True,
    "distributed_executor_backend": "mp",
    "disable_custom_all_reduce": True,
    "max_num_seqs": 8,
    "max_num_batched_tokens": 512,
    "enable_chunked_prefill": False,
    "enable_prefix_caching": False,
    "scheduling_policy": "priority",
    "enforce_eager": True,
    "max_cudagraph_capture_size": 8,
    "optimization_level": 0,
    "compilation_config": {"mode": 0},
    "attention_backend": "FLASHINFER",
    "load_format": "fastsafetensors",
    "enable_lora": True,
    "max_loras": 2,
    "max_lora_rank": 32,
    "max_cpu_loras": 4,
    "speculative_config": {"method": "ngram", "num_speculative_tokens": 3},
    "enable_sleep_mode": True,
    "served_model_name": ("a", "b"),
    "runner": "pooling",
    "convert": "embed",
    "limit_mm_per_prompt": {"image": 1},
    "mm_processor_kwargs": {"a": 1},
    "mm_processor_cache_gb": 1.0,
    "structured_outputs_config": {"backend": "xgrammar"},
    "reasoning_parser": "qwen3",
    "tool_call_parser": "hermes",
    "enable_auto_tool_choice": True,
    "chat_template.inline": "{{ x }}",
    "chat_template.config_map_key_ref.name": (TEMPLATE, "other"),
    "chat_template.config_map_key_ref.key": (TEMPLATE, "other"),
    "chat_template_content_format": "openai",
    "generation_config": "vllm",
    "override_generation_config.temperature": 0.5,
    "override_generation_config.top_p": 0.5,
    "override_generation_config.top_k": 5,
    "override_generation_config.min_p": 0.5,
    "override_generation_config.repetition_penalty": 1.5,
    "override_generation_config.presence_penalty": 0.5,
    "override_generation_config.frequency_penalty": 0.5,
    "override_generation_config.max_new_tokens": 5,
    "log_level": "debug",
    "enable_log_requests": True,
    "extra_args": ("--max-logprobs=5",),
    "env.name": ({"env": ({"name": "A", "value": "x"},)}, "B"),
    "env.value": ({"env": ({"name": "A", "value": "x"},)}, "y"),
    "token_secret_ref.name": ({"token_secret_ref": SECRET}, "other"),
    "token_secret_ref.key": ({"token_secret_ref": SECRET}, "other"),
    "credentials_secret_ref.name": (S3, "keys"),
    "download.include": ("*.json",),
    "download.exclude": ("*.bin",),
    "download.parallelism": 3,
    "download.stall_timeout_seconds": 30,
    "download.tries": 2,
    "cache.type": (S3, "None"),
    "cache.size": "100Gi",
    "cache.storage_class_name": "fast",
    "cache.access_modes": ("ReadWriteMany",),
    "cache.claim_name": (MINE, "other"),
    "cache.retain": True,
    "cache.compile_cache": True,
    "adapters.name": (LORA, "other"),
    "adapters.source": (LORA, "org/other"),
    "adapters.revision": (LORA, "v2"),
    "adapter_loading": (LORA, "Live"),
    "adapter_cache.size": (LIVE, "5Gi"),
    "adapter_cache.storage_class_name": (LIVE, "fast"),
    "adapter_cache.access_modes": (LIVE, ("ReadWriteMany",)),
    "replicas": 3,
    "image": "mine:1",
    "api_key_secret_ref.name": ({"api_key_secret_ref": SECRET}, "other"),
    "api_key_secret_ref.key": ({"api_key_secret_ref": SECRET}, "other"),
    "tls.secret_name": "cert",
    "accelerator": "nvidia-l4",
    "accelerators": ("nvidia-l40s", "nvidia-l4"),
    "resource_claim_template.name": "claim",
    "resources.requests": {"cpu": "3"},
    "resources.limits": {"cpu": "3"},
    "pod.node_selector": {"a": "b"},
    "pod.tolerations.key": ({"pod": {"tolerations": (TOLERATION,)}}, "other"),
    "pod.tolerations.operator": ({"pod": {"tolerations": (TOLERATION,)}}, "Exists"),
    "pod.tolerations.value": ({"pod": {"tolerations": (TOLERATION,)}}, "other"),
    "pod.tolerations.effect": ({"pod": {"tolerations": (TOLERATION,)}}, "NoSchedule"),
    "pod.tolerations.toleration_seconds": ({"pod": {"tolerations": (TOLERATION,)}}, 6),
    "pod.affinity": {"podAntiAffinity": {}},
    "pod.priority_class_name": "high",
    "pod.runtime_class_name": "nvidia",
    "pod.labels": {"a": "b"},
    "pod.annotations": {"a": "b"},
    "pod.image_pull_secrets.name": ({"pod": {"image_pull_secrets": ({"name": "s"},)}}, "other"),
    "rollout.strategy": "RollingUpdate",
    "rollout.max_surge": (ROLLING, "3"),
    "rollout.max_unavailable": (ROLLING, "3"),
    "startup_timeout_seconds": 1234,
    "shutdown_timeout_seconds": 123,
}


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every field that holds a value of its own, by its path."""
    for name, field in model.model_fields.items():
        inner = [part for part in parts_of(field.annotation) if isinstance(part, type) and issubclass(part, Base)]
        if inner:
            yield from leaves(inner[0], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def parts_of(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from parts_of(part)


def with_value(spec: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The spec with a value at a path; a list is entered at its only item."""
    name, _, rest = path.partition(".")
    if not rest:
        return spec | {name: value}
    inner = spec.get(name, {})
    if isinstance(inner, tuple):
        return spec | {name: (with_value(inner[0], rest, value),)}
    return spec | {name: with_value(inner, rest, value)}


def rendered(spec: dict[str, Any]) -> list[Any]:
    """All manifests, without the hashes over the spec."""
    model = a_model(**spec)
    plan = plan_model(model, GIVEN)
    return [without_hash(manifest) for manifest in manifests(model, GIVEN, answer_to(plan))]


def without_hash(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_hash(item) for key, item in value.items() if key not in HASHES}
    return [without_hash(item) for item in value] if isinstance(value, list) else value


def command_line(spec: dict[str, Any]) -> list[str]:
    """The arguments of the server's container."""
    (deployment,) = (manifest for manifest in rendered(spec) if manifest["kind"] == "Deployment")
    args: list[str] = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    return args


def test_every_field_has_a_sample() -> None:
    assert set(leaves(Spec)) == set(SAMPLES)


@pytest.mark.parametrize("path", sorted(SAMPLES))
def test_setting_it_changes_a_manifest(path: str) -> None:
    sample = SAMPLES[path]
    around, value = sample if isinstance(sample, tuple) and isinstance(sample[0], dict) else ({}, sample)

    assert rendered(with_value(around, path, value)) != rendered(around)


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_an_argument_of_vllm_reaches_the_servers_command_line_as_its_own_flag(name: str) -> None:
    """Beside whatever else it changes: devices, memory, what is downloaded."""
    path = next(path for path in SAMPLES if path.split(".")[0] == name)
    around, value = SAMPLES[path] if isinstance(SAMPLES[path], tuple) else ({}, SAMPLES[path])

    added = set(command_line(with_value(around, path, value))) - set(command_line(around))

    flag = FLAGS[name].flag
    assert {word.partition("=")[0] for word in added} & {flag, f"--no-{flag.removeprefix('--')}"}
