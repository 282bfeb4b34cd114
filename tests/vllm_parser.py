"""Runs in vLLM's own Python: reads argument lists as JSON lines, answers what the parser of `vllm serve` made of them.

One long-lived process, because importing vLLM takes seconds and parsing takes milliseconds.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, get_args

sys.path.insert(0, str(Path(__file__).parent.parent / "operator" / "vllm_operator" / "plan" / "flags"))


def plain(value: Any) -> Any:
    """Whatever the parser made, as JSON: config objects as maps, enums as their values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name, None)) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(one) for one in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)


def choices() -> dict[str, list[Any]]:
    """The closed sets of vLLM behind fields that are enumerated here; its parser leaves most of them open."""
    places = {
        "quantization": ("vllm.model_executor.layers.quantization", "QuantizationMethods"),
        "kv_cache_dtype": ("vllm.config.cache", "CacheDType"),
        "load_format": ("vllm.model_executor.model_loader", "LoadFormats"),
        "dtype": ("vllm.config.model", "ModelDType"),
        "max_lora_rank": ("vllm.config.lora", "MaxLoRARanks"),
    }
    return {
        name: list(get_args(getattr(importlib.import_module(module), kind))) for name, (module, kind) in places.items()
    }


def main() -> None:
    """Answers until the input ends. The first line of the answer is the release and its flags."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # vLLM logs to stdout, too
    generate = importlib.import_module("generate")  # the one beside the flags' files
    vllm = importlib.import_module("vllm")
    parser = generate.parser_of_serve()
    first = {
        "release": ".".join(vllm.__version__.split(".")[:2]),
        "flags": generate.flags(),
        "choices": choices(),
        "names": generate.names(),
        "keys": generate.keys(),
    }
    print(json.dumps(first), file=answers, flush=True)
    for line in sys.stdin:
        complaint = io.StringIO()
        try:
            with redirect_stderr(complaint), redirect_stdout(complaint):
                parsed = parser.parse_args(json.loads(line))
            answer = {"parsed": plain(vars(parsed))}
        except SystemExit:
            answer = {"error": complaint.getvalue()[-600:]}
        except Exception as error:  # the parser's own checks raise what they like; each is an answer
            answer = {"error": repr(error)[:600]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
