"""What stands against a model: the platform's policy, and what only the operator can see. Each with a remedy."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import a_model
from tests.golden.canned import problems, settings
from vllm_operator.api import VLLMModel
from vllm_operator.plan import plan_model

IMAGE = "oci://registry.example.com/tiny@sha256:" + "0" * 64


def test_a_plain_model_has_no_problems() -> None:
    assert problems() == []


@pytest.mark.parametrize(
    ("policy", "spec", "reason", "words"),
    [
        ({"allowedImages": ["ours/"]}, {"image": "theirs/x:1"}, "ImageNotAllowed", "image: theirs/x:1"),
        ({"allowTrustRemoteCode": False}, {"trust_remote_code": True}, "TrustRemoteCodeNotAllowed", "trustRemoteCode"),
        ({"allowedSources": ["hf://Qwen/*"]}, {"model": "demo/tiny"}, "SourceNotAllowed", "model: hf://demo/tiny"),
        ({"allowedSources": ["demo/*"]}, {"tokenizer": "x/y"}, "SourceNotAllowed", "tokenizer: hf://x/y"),
        (
            {"allowedSources": ["demo/*"]},
            {"adapters": ({"name": "a", "source": "s3://bucket/a"},)},
            "SourceNotAllowed",
            "adapters[a].source: s3://bucket/a",
        ),
        ({}, {"model": "file:///srv/models"}, "SourceNotAllowed", "policy.allowNodePaths"),
        ({}, {"env": ({"name": "LD_PRELOAD", "value": "x"},)}, "EnvNotAllowed", "policy.allowedEnv"),
        (
            {"allowedEnv": ["*"]},
            {"env": ({"name": "HF_HUB_OFFLINE", "value": "0"},)},
            "EnvNotAllowed",
            "operator sets it",
        ),
        (
            {"allowedEnv": ["*"]},
            {"env": ({"name": "VLLM_API_KEY", "value": "0"},)},
            "EnvNotAllowed",
            "operator sets it",
        ),
    ],
)
def test_what_the_platform_forbids_is_told(policy: Any, spec: Any, reason: str, words: str) -> None:
    [(found, message)] = problems(settings(policy=policy), **spec)

    assert found == reason
    assert words in message


@pytest.mark.parametrize(
    ("policy", "spec"),
    [
        ({"allowedImages": ["ours/"]}, {"image": "ours/x:1"}),
        ({"allowedImages": ["ours/"]}, {}),
        ({"allowedSources": ["hf://demo/*"]}, {}),
        ({"allowedSources": ["demo/t*"]}, {}),
        ({"allowNodePaths": True}, {"model": "file:///srv/models"}),
        ({}, {"env": ({"name": "NCCL_DEBUG", "value": "INFO"},)}),
        ({}, {"trust_remote_code": True}),
        ({}, {"pod": {"annotations": {"sidecar.istio.io/inject": "false", "prometheus.io/scrape": "true"}}}),
        ({}, {"pod": {"annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}}}),
        ({}, {"pod": {"priority_class_name": "models"}}),
    ],
)
def test_what_the_platform_allows_is_not_told(policy: Any, spec: Any) -> None:
    assert problems(settings(policy=policy), **spec) == []


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        ({"accelerator": "abacus"}, "AcceleratorUnknown", 'no accelerator "abacus"'),
        ({"accelerators": ("nvidia-l4", "amd-mi300x")}, "InvalidSpec", "differ in resource"),
        ({"accelerator": "intel-gaudi3"}, "ImageUnknown", "images.server.gaudi"),
        ({"cache": {"type": "Image"}}, "InvalidSpec", "cache.type Image does not go with model hf://demo/tiny"),
        ({"cache": {"type": "Node"}}, "CacheNotAllowed", "nodeCache.path"),
        ({"model": "pvc://a/b", "cache": {"type": "Node"}}, "InvalidSpec", "cache.type Node"),
        ({"model": IMAGE, "cache": {"type": "None"}}, "InvalidSpec", "cache.type None"),
        ({"cache": {"type": "ExistingClaim"}}, "InvalidSpec", "cache.type ExistingClaim does not go with model"),
        ({"cache": {"type": "None", "size": "1Gi"}}, "InvalidSpec", "cache.size has no effect"),
        ({"cache": {"type": "None", "retain": True}}, "InvalidSpec", "cache.retain has no effect"),
        ({"cache": {"type": "None", "storage_class_name": "a"}}, "InvalidSpec", "cache.storageClassName has no effect"),
        ({"cache": {"claim_name": "mine"}}, "InvalidSpec", "cache.claimName has no effect"),
        ({"model": "pvc://a/b", "cache": {"compile_cache": True}}, "InvalidSpec", "cache.compileCache has no effect"),
        ({"model": "pvc://a/b", "revision": "v1"}, "InvalidSpec", "revision means nothing"),
        ({"cache": {"access_modes": ("ReadOnlyMany",)}}, "InvalidSpec", "no mode that a download can write with"),
        ({"cache": {"access_modes": ("ReadWriteOncePod",)}, "replicas": 2}, "InvalidSpec", "replicas is 2"),
        ({"tokenizer_revision": "v1"}, "InvalidSpec", "tokenizerRevision"),
        ({"model": "pvc://a/b", "tokenizer": "org/t"}, "InvalidSpec", "tokenizer hf://org/t is downloaded together"),
        (
            {
                "model": "s3://bucket/m",
                "cache": {"type": "None"},
                "load_format": "runai_streamer",
                "adapters": ({"name": "a", "source": "org/a"},),
            },
            "InvalidSpec",
            "adapters cannot be streamed",
        ),
        (
            {
                "model": "s3://bucket/a",
                "cache": {"type": "None"},
                "load_format": "runai_streamer",
                "download": {"exclude": ("*.md",)},
            },
            "InvalidSpec",
            "download.include and exclude have no effect",
        ),
        ({"resources": {"limits": {"memory": "1Gi"}}}, "InvalidSpec", "resources.limits.memory is 1Gi"),
        ({"resources": {"requests": {"cpu": "4"}, "limits": {"cpu": "2"}}}, "InvalidSpec", "above its limit 2"),
        (
            {"cpu_offload_gb": 100.0, "resources": {"limits": {"memory": "64Gi"}}},
            "InvalidSpec",
            f"{(100 + 1 + 1) * 1024}Mi",
        ),
        ({"accelerator": "cpu", "resource_claim_template": {"name": "x"}}, "InvalidSpec", "resourceClaimTemplate"),
        ({"rollout": {"strategy": "Recreate", "max_surge": "1"}}, "InvalidSpec", "no effect with Recreate"),
        ({"rollout": {"max_surge": "0", "max_unavailable": "0%"}}, "InvalidSpec", "both 0"),
        (
            {"pod": {"labels": {"vllm-operator.dev/model": "other"}}},
            "InvalidSpec",
            "pod.labels: vllm-operator.dev/model",
        ),
        (
            {"pod": {"annotations": {"container.apparmor.security.beta.kubernetes.io/vllm": "unconfined"}}},
            "InvalidSpec",
            "pod.annotations",
        ),
        *(
            ({"pod": {"annotations": {key: "x"}}}, "InvalidSpec", f"pod.annotations: {key} is not for models to set")
            for key in (
                "cdi.k8s.io/all",
                "devices.nri.io/container.vllm",
                "io.kubernetes.cri-o.Devices",
                "sidecar.istio.io/proxyImage",
                "config.linkerd.io/proxy-image",
                "vault.hashicorp.com/agent-image",
            )
        ),
        ({"pod": {"priority_class_name": "system-node-critical"}}, "InvalidSpec", "is for the cluster's own pods"),
        (
            {"cache": {"access_modes": ("ReadWriteOncePod",)}, "rollout": {"max_surge": "1"}},
            "InvalidSpec",
            "ReadWriteOncePod allows one pod",
        ),
        (
            {"chat_template": {"inline": "{% for m in messages %}\n{{ m.content }"}},
            "InvalidSpec",
            "chatTemplate.inline: line 2",
        ),
        ({"chat_template": {"inline": "{% if x %}"}}, "InvalidSpec", "Correct the Jinja template"),
        ({"chat_template": {"inline": "{{ " + "(" * 5000}}, "InvalidSpec", "nested too deeply"),
        ({"speculative_config": {"model": "draft"}}, "InvalidSpec", "speculativeConfig.model: 'draft' is no source"),
        ({"extra_args": ("--allowed_media-domains=*",)}, "InvalidSpec", "policy.allowedMediaDomains"),
        ({"extra_args": ("--allowed-media-d=x",)}, "InvalidSpec", "policy.allowedMediaDomains"),
        ({"extra_args": ("--served_model-name=x",)}, "InvalidSpec", "is the field servedModelName"),
        ({"extra_args": ("--a-flag-of-tomorrow",)}, "InvalidSpec", "is no flag of vLLM 0.33"),
        (
            {"accelerator": "cpu", "kv_cache_dtype": "octave_k3v3"},
            "InvalidSpec",
            "vLLM 0.32, the image's release, has no",
        ),
        (
            {"image": "vllm/vllm-openai:v0.32.0", "kv_cache_dtype": "octave_k3v4"},
            "InvalidSpec",
            'kvCacheDtype: vLLM 0.32, the image\'s release, has no "octave_k3v4"',
        ),
        (
            {"tool_call_parser": "herms"},
            "InvalidSpec",
            'toolCallParser: vLLM 0.33, the image\'s release, has no "herms"',
        ),
        ({"reasoning_parser": "qwen-3"}, "InvalidSpec", "qwen3"),
        ({"tokenizer_mode": "fast"}, "InvalidSpec", "Did you mean"),
        ({"attention_backend": "FLASH_ATN"}, "InvalidSpec", "FLASH_ATTN"),
        (
            {"speculative_config": {"method": "ngramm", "num_speculative_tokens": 3}},
            "InvalidSpec",
            "speculativeConfig.method",
        ),
        (
            {"speculative_config": {"method": "ngram", "num_speculative_tokens": 3, "promptLookupMax": 3}},
            "InvalidSpec",
            "prompt_lookup_max",
        ),
        ({"structured_outputs_config": {"backnd": "xgrammar"}}, "InvalidSpec", "backend"),
        ({"compilation_config": {"levl": 3}}, "InvalidSpec", 'no key "levl"'),
    ],
)
def test_what_would_not_work_or_do_nothing_is_told(spec: Any, reason: str, words: str) -> None:
    found = problems(**spec)

    assert [reason for reason, _ in found] == [reason]
    assert words in found[0][1]


@pytest.mark.parametrize(
    "spec",
    [
        {"tool_call_parser": "hermes", "reasoning_parser": "none", "tokenizer_mode": "auto"},
        {
            "attention_backend": "flashinfer",
            "compilation_config": {"mode": 3, "pass_config": {"fuse_norm_quant": True}},
        },
        {"tool_call_parser": "ours", "image": "example.org/vllm-with-plugins:v0.33.0"},
        {
            "chat_template": {
                "inline": "{% for m in messages %}{% if m.x %}{% break %}{% endif %}"
                "{% generation %}{{ raise_exception('x') }}{% endgeneration %}{% endfor %}"
            }
        },
        {"speculative_config": {"method": "from-tomorrow", "key": 1}, "image": "example.org/ours:1"},
    ],
)
def test_a_name_that_the_release_has_or_that_a_plugin_may_bring_is_not_told(spec: Any) -> None:
    assert problems(**spec) == []


@pytest.mark.parametrize(
    "spec",
    [
        {"kv_cache_dtype": "octave_k3v3"},
        {"image": "vllm/vllm-openai:latest", "kv_cache_dtype": "octave_k3v3"},
        {"image": "vllm/vllm-openai:v0.32.0", "kv_cache_dtype": "fp8"},
        {"image": "example.org/ours:1", "extra_args": ("--a-flag-of-tomorrow",)},
    ],
)
def test_what_the_images_release_knows_or_nobody_knows_passes(spec: Any) -> None:
    assert problems(**spec) == []


def test_every_problem_names_a_remedy() -> None:
    given = settings(policy={"allowedImages": ["ours/"], "allowTrustRemoteCode": False, "allowedSources": ["x"]})
    model = a_model(image="a", trust_remote_code=True, accelerator="abacus", env=({"name": "PATH", "value": ""},))

    plan = plan_model(model, given)

    assert len(plan.problems) == 5
    assert all(problem.message.endswith(".") and problem.remedy.endswith(".") for problem in plan.problems)


def test_a_model_with_problems_still_has_its_question() -> None:
    assert plan_model(a_model(accelerator="abacus"), settings()).inspect is not None


def test_an_address_that_this_version_does_not_know_is_a_problem_and_no_exception() -> None:
    model: VLLMModel = a_model().model_copy(update={"spec": a_model().spec.model_copy(update={"model": "ftp://x"})})

    plan = plan_model(model, settings())

    assert [str(problem.reason) for problem in plan.problems] == ["InvalidSpec"]
    assert plan.inspect is None and plan.source is None
