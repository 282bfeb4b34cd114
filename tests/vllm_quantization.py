"""Runs in vLLM's own Python: prints, as JSON, what its quantization methods ask of a GPU, which ones its platforms list,
and which of AMD's devices it knows."""

from __future__ import annotations

import ast
import importlib
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PLATFORMS = {"amd": "rocm", "intel": "xpu", "nvidia": "cuda", "cpu": "cpu"}


def asks(config: Any) -> dict[str, Any]:
    """The least capability and the dtypes of activations that a class of vLLM names."""
    dtypes = config.__new__(config).get_supported_act_dtypes()
    return {"least": config.get_min_capability(), "dtypes": [str(dtype).removeprefix("torch.") for dtype in dtypes]}


def said(platform: str, name: str) -> Any:
    """A constant of a platform, read from its source: another platform's module cannot be imported here. None without."""
    package = find_spec("vllm.platforms")
    assert package is not None and package.origin is not None
    source = Path(package.origin).with_name(f"{platform}.py").read_text("utf-8")
    for node in ast.walk(ast.parse(source)):
        named = node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(named, ast.Name) and named.id == name:
            assert isinstance(node, ast.AnnAssign) and node.value is not None
            return ast.literal_eval(node.value)
    return None


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # vLLM logs to stdout, too
    found = importlib.import_module("vllm.model_executor.layers.quantization")
    online = importlib.import_module("vllm.model_executor.layers.quantization.online.base").OnlineQuantizationConfig
    shorthands = importlib.import_module("vllm.config.quantization")._ONLINE_SHORTHANDS
    answer = {
        "methods": {name: asks(found.get_quantization_config(name)) for name in found.QUANTIZATION_METHODS},
        "online": asks(online),
        "shorthands": {name: {"linear": made.linear is not None} for name, made in shorthands.items()},
        "deprecated": list(found.DEPRECATED_QUANTIZATION_METHODS),
        "platforms": {vendor: said(module, "supported_quantization") or [] for vendor, module in PLATFORMS.items()},
        "devices": said("rocm", "_ROCM_DEVICE_ID_NAME_MAP"),
    }
    print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    sys.exit(main())
