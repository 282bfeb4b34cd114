"""Which variables of the environment are not for users, whatever the platform allows."""

from __future__ import annotations

from collections.abc import Mapping

from vllm_operator.api.rules.rule import Rule

# Variables that other fields, the operator or the image set, with the field to use; "" means it is not for users.
RESERVED_ENV: Mapping[str, str] = {
    "HF_TOKEN": "tokenSecretRef",
    "HUGGING_FACE_HUB_TOKEN": "tokenSecretRef",
    "VLLM_API_KEY": "apiKeySecretRef",
    "VLLM_ATTENTION_BACKEND": "attentionBackend",
    "VLLM_LOGGING_LEVEL": "logLevel",
    "VLLM_USE_MODELSCOPE": "model (modelscope://org/name)",
    "VLLM_USE_V1": "",
    "VLLM_PORT": "",
    "VLLM_HOST_IP": "",
    "VLLM_CACHE_ROOT": "cache.compileCache",
    "VLLM_CONFIG_ROOT": "",
    "VLLM_LOGGING_CONFIG_PATH": "logLevel",
    "VLLM_MODEL_REDIRECT_PATH": "model",
    "VLLM_NO_USAGE_STATS": "",
    "VLLM_KEEP_ALIVE_ON_ENGINE_DEATH": "",
    "VLLM_SERVER_DEV_MODE": "",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "adapters",
    "VLLM_ALLOW_INSECURE_SERIALIZATION": "",
    "VLLM_PLUGINS": "",
    "VLLM_TARGET_DEVICE": "accelerator",
    "CUDA_VISIBLE_DEVICES": "accelerator",
    "NVIDIA_VISIBLE_DEVICES": "accelerator",
    "PATH": "",
    "HOME": "",
    "TMPDIR": "",
    "BASH_ENV": "",
}
RESERVED_ENV_PREFIXES = ("LD_", "PYTHON", "HF_", "KUBERNETES_", "GIT_", "SSL_", "TRANSFORMERS_", "XDG_", "REQUESTS_")

ENV = (
    *(
        Rule(
            f"self.name != '{name}'",
            f"env: {name}: " + (f"use {field}" if field else "the operator keeps it to itself"),
        )
        for name, field in RESERVED_ENV.items()
    ),
    Rule(
        "![" + ", ".join(f"'{prefix}'" for prefix in RESERVED_ENV_PREFIXES) + "].exists(p, self.name.startsWith(p))"
        " || self.name in ['HF_TOKEN']",
        "env: names that begin with " + ", ".join(RESERVED_ENV_PREFIXES) + " are not for users",
    ),
    Rule(
        "!has(self.value) || !self.value.contains('$(')",
        'env: "$(" would be expanded by Kubernetes; write the value itself',
    ),
)
