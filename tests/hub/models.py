"""Models for the hub: small, of the shape of real ones, and huge ones that take no room on the disk."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "vocab_size": 128256,
    "torch_dtype": "bfloat16",
}
DTYPE_BYTES = {"BF16": 2, "F16": 2, "F32": 4, "F8_E4M3": 1, "I32": 4, "U8": 1}


def header(tensors: Mapping[str, tuple[str, Sequence[int]]]) -> tuple[bytes, int]:
    """A safetensors header and the bytes of tensors that follow it."""
    described: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, (dtype, shape) in tensors.items():
        size = DTYPE_BYTES[dtype]
        for length in shape:
            size *= length
        described[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(described).encode()
    return struct.pack("<Q", len(text)) + text, at


def write_safetensors(
    path: Path, tensors: Mapping[str, tuple[str, Sequence[int]]], *, sparse: bool = False, seed: int = 0
) -> None:
    """A valid file; `sparse`: zeros that take no room, else random bytes that are the same for a seed."""
    start, size = header(tensors)
    with path.open("wb") as file:
        file.write(start)
        if sparse:
            file.truncate(len(start) + size)
        else:
            file.write(random.Random(seed).randbytes(size))


def write_model(
    folder: Path,
    *,
    shards: int = 1,
    shard_bytes: int = 200_000,
    config: Mapping[str, Any] | None = None,
    dtype: str = "BF16",
    sparse: bool = False,
) -> Path:
    """A Llama with its tokenizer; of several shards with an index. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(LLAMA if config is None else config))
    (folder / "generation_config.json").write_text("{}")
    (folder / "tokenizer.json").write_text('{"model": {}}')
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    (folder / "README.md").write_text("# A model")
    names = [f"model-{at + 1:05}-of-{shards:05}.safetensors" for at in range(shards)] if shards > 1 else []
    weight_map: dict[str, str] = {}
    for at, name in enumerate(names or ["model.safetensors"]):
        tensors = {f"layers.{at}.weight": (dtype, [shard_bytes // DTYPE_BYTES[dtype]])}
        write_safetensors(folder / name, tensors, sparse=sparse, seed=at)
        weight_map |= dict.fromkeys(tensors, name)
    if names:
        index = {"metadata": {"total_size": shards * shard_bytes}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
