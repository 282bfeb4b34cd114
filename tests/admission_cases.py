"""The cases of bad_values.yaml and the good ones, as whole objects: one table for the types, the flags and the API server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from vllm_operator.api import API_VERSION, KIND
from vllm_operator.api.old_names import OLD_FIELDS, OLD_VALUES, OldField
from vllm_operator.api.rules.environment import RESERVED_ENV

HERE = Path(__file__).parent
EXAMPLES = sorted((HERE.parent / "crds" / "examples").glob("*.yaml"))
_SAMPLES: dict[str, Any] = {
    "integer": 1,
    "number": 0.5,
    "string": "x",
    "boolean": True,
    "object": {"x": 1},
    "array": ["x"],
}


@dataclass(frozen=True)
class Bad:
    """A body, and what the refusal says: parts of the field's path and of the message."""

    name: str
    body: dict[str, Any]
    field: str
    message: str
    by: str


def body(spec: dict[str, Any], metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    """A VLLMModel with that spec laid over the smallest; None takes a field away."""
    laid = {"model": "demo/tiny"} | spec
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": "m"} | (metadata or {}),
        "spec": {name: value for name, value in laid.items() if value is not None},
    }


@cache
def bad_cases() -> list[Bad]:
    """The table's cases, then one for each old name, each old value and each variable that is not for users."""
    table = yaml.safe_load((HERE / "bad_values.yaml").read_text("utf-8"))
    return [
        Bad(
            name=case["name"],
            body=body(case.get("spec", {}), case.get("metadata")),
            field=case.get("field", ""),
            message=case["message"],
            by=case["by"],
        )
        for case in table
    ] + [*(_old(name, old) for name, old in OLD_FIELDS.items()), *_old_values(), *_variables()]


def _old(name: str, old: OldField) -> Bad:
    value = _SAMPLES[old.type]
    return Bad(f"the old name {name}", body({name: value}), f"spec.{name}", old.answer, by="old names")


def _old_values() -> Iterator[Bad]:
    for field, values in OLD_VALUES.items():
        for value, answer in values.items():
            spec = body({field: value})
            yield Bad(f"the old value {value} of {field}", spec, f"spec.{field}", f"{value}: {answer}", by="old values")


def _variables() -> Iterator[Bad]:
    for name in RESERVED_ENV:
        spec = body({"env": [{"name": name, "value": "x"}]})
        yield Bad(f"the variable {name}", spec, "spec.env[0]", f"env: {name}: ", by="rules")


GOOD: dict[str, dict[str, Any]] = {
    "the least": {},
    "a source with a scheme": {"model": "hf://org/name"},
    "a source with a revision": {"model": "hf://org/name@refs/pr/1"},
    "ModelScope": {"model": "modelscope://org/name@master"},
    "a bucket": {"model": "s3://my-bucket/models/m/", "credentialsSecretRef": {"name": "s"}},
    "a Google bucket": {"model": "gs://my-bucket/m"},
    "a whole claim": {"model": "pvc://claim"},
    "a folder of a claim": {"model": "pvc://claim/models/m"},
    "a hidden folder of a claim": {"model": "pvc://claim/.cache/hub/models--a--b/snapshots/0"},
    "a folder of a node": {"model": "file:///models/m", "cache": {"type": "Node"}},
    "the nodes' own disks": {"cache": {"type": "Node", "retain": True, "compileCache": True}},
    "an image": {"model": "oci://r.example:5000/a/b@sha256:" + "0" * 64},
    "an image, said twice": {"model": "oci://r.example/b@sha256:" + "0" * 64, "cache": {"type": "Image"}},
    "a tokenizer": {"tokenizer": "a/b", "tokenizerRevision": "v1"},
    "a tokenizer in a bucket": {"tokenizer": "s3://my-bucket/t", "credentialsSecretRef": {"name": "s"}},
    "a draft in a bucket": {
        "speculativeConfig": {"method": "eagle3", "model": "gs://my-bucket/d", "num_speculative_tokens": 2},
        "credentialsSecretRef": {"name": "s"},
    },
    "code with its revision": {"trustRemoteCode": True, "codeRevision": "main"},
    "all of the memory": {"gpuMemoryUtilization": 1},
    "an exact share": {"gpuMemoryUtilization": 0.05},
    "an exact KV cache": {"kvCacheMemory": "20Gi"},
    "an exact KV cache in bytes": {"kvCacheMemory": 21474836480},
    "one token": {"maxModelLen": 1},
    "one slice of a GPU": {"accelerator": "nvidia-h100-80gb-mig-3g.40gb", "tensorParallelSize": 1},
    "the highest seed of numpy": {"seed": 4294967295},
    "as many tokens as fit": {"maxModelLen": "auto", "enableChunkedPrefill": False, "maxNumBatchedTokens": 8},
    "steps of the whole context": {"enableChunkedPrefill": False, "maxModelLen": 8192, "maxNumBatchedTokens": 8192},
    "short steps in chunks": {"maxModelLen": 8192, "maxNumBatchedTokens": 2048},
    "n-grams": {"speculativeConfig": {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 4}},
    "a draft of one's own": {"speculativeConfig": {"method": "qwen3_next_mtp", "num_speculative_tokens": 2}},
    "Ray in an image that has it": {"distributedExecutorBackend": "ray", "image": "example.org/vllm-ray:v1"},
    "quantized in bfloat16": {"quantization": "awq", "dtype": "bfloat16"},
    "quantized in float32": {"quantization": "torchao", "dtype": "float32"},
    "MXFP4 made in float16": {"quantization": "mxfp4", "dtype": "half"},
    "deprecated on purpose": {"quantization": "fp_quant", "extraArgs": ["--allow-deprecated-quantization"]},
    "deprecated on purpose, with underscores": {
        "quantization": "fbgemm_fp8",
        "extraArgs": ["--allow_deprecated_quantization"],
    },
    "the smallest KV cache": {"kvCacheMemory": "1Mi"},
    "a compiler of torch": {"compilationConfig": {"backend": "inductor", "custom_ops": ["+rms_norm"]}},
    "structures with whitespace": {"structuredOutputsConfig": {"backend": "xgrammar", "disable_any_whitespace": True}},
    "a bucket with a tokenizer of the hub": {
        "model": "s3://b0b/m",
        "tokenizer": "a/b",
        "tokenSecretRef": {"name": "s"},
    },
    "a whole node": {"tensorParallelSize": 8, "pipelineParallelSize": 2, "dataParallelSize": 4},
    "LoRA for later": {"enableLoRA": True, "maxLoRAs": 2, "maxCPULoRAs": 2, "maxLoRARank": 512},
    "adapters": {"adapters": [{"name": "a", "source": "a/b", "revision": "v1"}, {"name": "b", "source": "pvc://c/d"}]},
    "live adapters": {
        "adapterLoading": "Live",
        "maxLoRAs": 2,
        "adapters": [{"name": "a", "source": "a/b"}],
        "adapterCache": {"size": "5Gi", "storageClassName": "fast", "accessModes": ["ReadWriteMany"]},
    },
    "no live adapter yet": {"adapterLoading": "Live", "maxLoRARank": 64},
    "embeddings": {"runner": "pooling", "convert": "embed"},
    "tools": {"enableAutoToolChoice": True, "toolCallParser": "hermes"},
    "no video": {"limitMMPerPrompt": {"image": 2, "video": 0}},
    "greedy": {"overrideGenerationConfig": {"temperature": 0}},
    "any object": {"hfOverrides": {"a": {"b": [1, "x", None, {"c": True}]}}, "compilationConfig": {"mode": 3}},
    "an allowed variable": {
        "env": [{"name": "OMP_NUM_THREADS", "value": "4"}, {"name": "NCCL_DEBUG", "value": "INFO"}]
    },
    "a variable's dollars": {"env": [{"name": "LANG", "value": "$HOME $$ (x)"}]},
    "no server": {"replicas": 0},
    "a share of pods": {"rollout": {"maxSurge": "25%", "maxUnavailable": 0}},
    "cores in thousandths": {"resources": {"requests": {"cpu": "500m", "memory": "4Gi"}, "limits": {"cpu": 2}}},
    "scratch space": {"resources": {"limits": {"ephemeral-storage": "10Gi"}}},
    "any toleration": {"pod": {"tolerations": [{"operator": "Exists"}]}},
    "a label with a domain": {"pod": {"labels": {"example.org/team": "a", "plain": ""}}},
    "other flags": {"extraArgs": ["--max-logprobs=5", "--stream_interval", "4", "-asc", "2", "--no-async-scheduling"]},
    "a flag with a negative value": {"extraArgs": ["--max-logprobs", "-1"]},
    "a flag of a later release": {"extraArgs": ["--a-flag-of-tomorrow=1"]},
    "a connector": {"extraArgs": ['--kv-transfer-config={"kv_connector":"NixlConnector","kv_role":"kv_both"}']},
}


@cache
def example_bodies() -> dict[str, dict[str, Any]]:
    """The examples' objects by file and place, in the default namespace."""
    found = {}
    for file in EXAMPLES:
        for place, document in enumerate(yaml.safe_load_all(file.read_text("utf-8"))):
            found[f"{file.stem}-{place}"] = document
    return found
