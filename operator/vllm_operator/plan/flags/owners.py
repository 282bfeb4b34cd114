"""Whose flag is it: which flags of vLLM are not for `extraArgs`, and what to say of each.

Three tables: flags that a field of the spec owns, flags that the operator sets or that make no sense in its pods,
and flags that would let a tenant run code, read files or reach out from the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vllm_operator.api import camel
from vllm_operator.api.old_names import OLD_ARGUMENTS, old_flag
from vllm_operator.plan.args import FLAGS

# Flags of fields that are not rendered by the table of plan/args.py, by flag.
_OTHER_FIELDS = {
    "--model": "model",
    "--revision": "revision",
    "--tokenizer": "tokenizer",
    "--tokenizer-revision": "tokenizerRevision",
    "--served-model-name": "servedModelName",
    "--download-dir": "cache",
    "--ignore-patterns": "download.exclude",
    "--hf-token": "tokenSecretRef",
    "--api-key": "apiKeySecretRef",
    "--ssl-keyfile": "tls",
    "--ssl-certfile": "tls",
    "--enable-ssl-refresh": "tls",
    "--lora-modules": "adapters",
    "--default-mm-loras": "adapters",
    "--chat-template": "chatTemplate",
    "--shutdown-timeout": "shutdownTimeoutSeconds",
    "--device-memory-utilization": "gpuMemoryUtilization",
    "--kv-cache-memory": "kvCacheMemory",
    "--spec-method": "speculativeConfig",
    "--spec-model": "speculativeConfig",
    "--spec-tokens": "speculativeConfig",
    "--logging-config": "logLevel",
    "--uvicorn-log-level": "logLevel",
    "--nnodes": "replicas",
}

FIELD_OF_FLAG: Mapping[str, str] = MappingProxyType(
    {flag.flag: camel(name) for name, flag in FLAGS.items()} | _OTHER_FIELDS
)
SWITCHES = frozenset(flag.flag for flag in FLAGS.values() if flag.is_switch) | {"--enable-ssl-refresh"}

_ADDRESS = "the operator says where the server listens"
_ONE_NODE = "each server runs on one node"
_CODE = "it would run code that the image does not vouch for"
_FILES = "it would let requests read the server's files"
_REQUESTS = "it would let requests bring what only the platform may"
_OUT = "it would let the server call other hosts"

OPERATOR_FLAGS: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(("--host", "--port", "--uds", "--root-path"), _ADDRESS)
    | dict.fromkeys(("--grpc", "--grpc-port", "--data-parallel-supervisor-port"), _ADDRESS)
    | dict.fromkeys(("--headless", "--node-rank", "--master-addr", "--master-port"), _ONE_NODE)
    | dict.fromkeys(("--data-parallel-rank", "--data-parallel-start-rank", "--data-parallel-size-local"), _ONE_NODE)
    | dict.fromkeys(("--data-parallel-address", "--data-parallel-rpc-port", "--data-parallel-hybrid-lb"), _ONE_NODE)
    | dict.fromkeys(("--data-parallel-external-lb", "--data-parallel-multi-port-external-lb"), _ONE_NODE)
    | {
        "--config": "the spec is the configuration; write its values as fields and extraArgs",
        "--device-ids": "Kubernetes gives the devices; use accelerator and tensorParallelSize",
        "--disable-log-stats": "status and autoscaling read the metrics that it takes away",
        "--hf-config-path": "config.json comes with the weights; use hfOverrides",
        "--ssl-ca-certs": "client certificates would shut the probes out",
        "--ssl-cert-reqs": "client certificates would shut the probes out",
        "--tokens-only": "it takes away the routes that readiness asks",
        "--skip-tokenizer-init": "readiness asks the model in words",
        "--help": "it ends the server",
    }
)
DANGEROUS_FLAGS: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(("--middleware", "--worker-cls", "--worker-extension-cls", "--scheduler-cls"), _CODE)
    | dict.fromkeys(("--logits-processors", "--model-class-overrides", "--io-processor-plugin"), _CODE)
    | dict.fromkeys(("--reasoning-parser-plugin", "--tool-parser-plugin", "--log-config-file"), _CODE)
    | dict.fromkeys(("--allowed-local-media-path", "--mm-encoder-fp8-scale-save-path"), _FILES)
    | dict.fromkeys(("--enable-prompt-embeds", "--enable-mm-embeds"), f"{_REQUESTS}: tensors")
    | dict.fromkeys(
        ("--trust-request-chat-template", "--trust-request-mm-kwargs"), f"{_REQUESTS}: templates, arguments"
    )
    | dict.fromkeys(("--tool-server", "--otlp-traces-endpoint"), _OUT)
)
# Connectors and executors are named inside JSON values; escapes would hide the names from a look at the text.
FORBIDDEN_TEXT: Mapping[str, str] = MappingProxyType(
    {
        "module_path": _CODE,
        "custom_class": _CODE,
        "manager_cls": _CODE,
        "\\u": "write the character itself, not its escape",
    }
)
OLD_SWITCHES = frozenset(old_flag(name) for name, field in OLD_ARGUMENTS.items() if field.type == "boolean")
OLD_FLAGS: Mapping[str, str] = MappingProxyType({old_flag(name): field.answer for name, field in OLD_ARGUMENTS.items()})


def negations(flag: str) -> tuple[str, ...]:
    """How vLLM spells the opposite of a switch: `--no-x` in 0.32; `--disable-x` for `--enable-x` in 0.33."""
    name = flag.removeprefix("--")
    if name.startswith("enable-"):
        return f"--no-{name}", f"--disable-{name.removeprefix('enable-')}"
    if name.startswith("disable-"):
        return f"--no-{name}", f"--enable-{name.removeprefix('disable-')}"
    return f"--no-{name}", f"--disable-{name}"
