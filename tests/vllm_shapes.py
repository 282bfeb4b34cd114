"""Runs in vLLM's own Python: builds models without memory (on torch's meta device) from their config.json, and prints, as
JSON, how many parameters they have and what vLLM makes of a given KV cache: tokens, requests at once, the longest request.

The layers' cache specifications and all that follows from them are vLLM's own functions. Of the CPU's build only what a
CUDA server has otherwise is replaced (see vllm_like_cuda.py), and two batches are in flight.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any


def quiet() -> Any:
    """Where the answers go; all else is vLLM's log."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.environ.update(HF_HUB_OFFLINE="1", VLLM_LOGGING_LEVEL="ERROR", CUDA_VISIBLE_DEVICES="", VLLM_KIMI_K3_GEMM_AR="0")
    return answers


def one_process() -> None:
    """A world of one, which layers ask for when they are made, with the groups that this model needs."""
    parallel = importlib.import_module("vllm.distributed")
    importlib.import_module("vllm.distributed.parallel_state").destroy_model_parallel()
    if not importlib.import_module("torch").distributed.is_initialized():
        parallel.init_distributed_environment(1, 0, "file://" + tempfile.mkdtemp() + "/store", 0, "gloo")
    parallel.initialize_model_parallel(1, 1)


class Open(dict[str, Any]):
    """A mapping whose entries are attributes, too, as the classes that come with checkpoints make of theirs."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


def opened(value: Any) -> Any:
    if isinstance(value, dict) and "model_type" in value:
        return nested(value)
    if isinstance(value, dict):
        return Open(each_opened(value))
    return [opened(each) for each in value] if isinstance(value, list) else value


def each_opened(told: dict[str, Any]) -> dict[str, Any]:
    return {name: opened(each) for name, each in told.items()}


def nested(value: dict[str, Any]) -> Any:
    """A part with a type of its own, as a configuration of that type."""
    mapping = importlib.import_module("transformers.models.auto.configuration_auto").CONFIG_MAPPING
    base = importlib.import_module("transformers").PretrainedConfig
    if value["model_type"] in mapping:
        return mapping[value["model_type"]](**value)
    made = base(**each_opened({name: each for name, each in value.items() if name != "model_type"}))
    made.model_type = value["model_type"]
    return made


def known(config: dict[str, Any]) -> None:
    """Model types whose class comes with the checkpoint: its fields are all that vLLM reads of them."""
    auto = importlib.import_module("transformers").AutoConfig
    base = importlib.import_module("transformers").PretrainedConfig
    mapping = importlib.import_module("transformers.models.auto.configuration_auto").CONFIG_MAPPING
    ours = importlib.import_module("vllm.transformers_utils.config")._CONFIG_REGISTRY
    name = config["model_type"]
    if name not in mapping and name not in ours:
        made = {"model_type": name, "__init__": lambda self, **told: base.__init__(self, **each_opened(told))}
        auto.register(name, type(f"{name.capitalize()}Config", (base,), made))


def alone(config: dict[str, Any], architecture: str, kind: str) -> dict[str, Any]:
    """The language model of a multimodal one, as its wrapper makes it: the nested part, as this architecture (and kind)."""
    if not architecture:
        return config
    parts = ("thinker_config", "text_config", "llm_config", "language_config")
    text = config
    while nested := next((text[part] for part in parts if part in text), None):
        text = nested
    return {"dtype": "bfloat16", **text, "architectures": [architecture], **({"model_type": kind} if kind else {})}


def engine(config: dict[str, Any], length: int) -> Any:
    """vLLM's configuration for a server of this model on one GPU."""
    folder = tempfile.mkdtemp()
    Path(folder, "config.json").write_text(json.dumps(config), "utf-8")
    arguments = importlib.import_module("vllm.engine.arg_utils").EngineArgs(
        model=folder, skip_tokenizer_init=True, load_format="dummy", enforce_eager=True, dtype="bfloat16",
        max_model_len=length, max_num_batched_tokens=8192, max_num_seqs=1024, enable_chunked_prefill=True,
        enable_prefix_caching=False,
    )  # fmt: skip
    made = arguments.create_engine_config()
    made.scheduler_config.async_scheduling = True
    # The CPU takes latent attention's prompts whole.
    made.scheduler_config.max_num_batched_tokens = 8192
    return made


def build(made: Any) -> Any:
    torch = importlib.import_module("torch")
    current = importlib.import_module("vllm.config").set_current_vllm_config
    initialize = importlib.import_module("vllm.model_executor.model_loader.utils").initialize_model
    torch.set_default_dtype(torch.bfloat16)
    with current(made):
        one_process()
    with current(made), torch.device("meta"):
        return initialize(vllm_config=made, model_config=made.model_config)


def parameters(model: Any) -> dict[str, int]:
    """All of them, and bytes of the rotary tables."""
    tables = {id(held): held for name, held in model.named_buffers() if name.endswith("cos_sin_cache")}
    rope = sum(held.numel() * held.element_size() for held in tables.values())
    return {"parameters": sum(held.numel() for held in model.parameters()), "rope": rope}


def aligned(made: Any) -> None:
    """Blocks as large as a recurrent layer's state asks, as every platform but the CPU works them out."""
    platform = importlib.import_module("vllm.platforms.interface").Platform
    with importlib.import_module("vllm.config").set_current_vllm_config(made):
        platform.update_block_size_for_backend.__func__(
            importlib.import_module("vllm.platforms").current_platform, made
        )


def layout(made: Any) -> str:
    """How CUDA's attention has layers and blocks lie in memory, in which the CPU's has no say."""
    backends = importlib.import_module("vllm.platforms.interface").Platform._find_non_ssm_backends(made)
    others = [backend for backend in backends if "CPU" not in backend.get_name()]
    chosen = importlib.import_module("vllm.v1.attention.backends.utils").get_supported_kv_cache_layouts(others)
    return str(chosen[0].name)


def cache(made: Any, memory: int) -> dict[str, Any]:
    """What vLLM makes of this many bytes; empty for a model that keeps nothing."""
    utils = importlib.import_module("vllm.v1.core.kv_cache_utils")
    aligned(made)
    specs = importlib.import_module("vllm.v1.worker.gpu.attn_utils").get_kv_cache_spec(made)
    if not specs:
        return {}
    made.cache_config.kv_cache_layout = layout(made)
    groups = utils.get_kv_cache_groups(made, specs)
    whole = utils.get_kv_cache_config_from_groups(made, groups, memory)
    tokens, at_once = utils.get_kv_cache_capacity(made, whole)
    longest = utils._estimate_max_model_len_from_groups(made, groups, memory)
    kinds = [f"{len(group.layer_names)} {group.kv_cache_spec.block_size}" for group in groups]
    return {"blocks": whole.num_blocks, "tokens": tokens, "concurrency": round(at_once, 4), "longest": longest,
            "groups": kinds, "kinds": sorted({type(spec).__name__ for spec in specs.values()})}  # fmt: skip


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    config = alone(asked["config"], asked.get("text", ""), asked.get("kind", ""))
    known(config)
    made = engine(config, asked["length"])
    model = build(made)
    return {"name": asked["name"], **parameters(model), **cache(made, asked["memory"])}


def main() -> None:
    answers = quiet()
    importlib.import_module("vllm_like_cuda").like_cuda()
    for asked in json.load(sys.stdin):
        try:
            told = answer(asked)
        except Exception as error:
            if os.environ.get("VERBOSE"):
                traceback.print_exc()
            told = {"name": asked["name"], "error": f"{type(error).__name__}: {error}"[:600]}
        print(json.dumps(told), file=answers, flush=True)


if __name__ == "__main__":
    sys.exit(main())
