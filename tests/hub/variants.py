"""Repositories that are wrong in one way each, made from a good tiny chat model: what tests of failures pull.

`python -m tests.hub.variants ROOT` writes them beside ROOT/vllm-operator/tiny-chat. Only the standard library: it runs where the
models are made and in the hub's image alike.
"""

from __future__ import annotations

import json
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

GOOD = "tiny-chat"


def _edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}, indent=2))


def gated(folder: Path) -> None:
    """Needs a token that the hub knows."""
    (folder / ".gated").touch()


def custom_code(folder: Path) -> None:
    """Brings Python of its own, which runs only where trustRemoteCode is set."""
    _edit_config(folder, auto_map={"AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}, model_type="own")
    (folder / "modeling_own.py").write_text("class OwnForCausalLM: ...\n")


def unsupported_architecture(folder: Path) -> None:
    """Names a model class that vLLM does not have."""
    _edit_config(folder, architectures=["NoSuchForCausalLM"])


def damaged_weights(folder: Path) -> None:
    """A tensor's shape is not that of its bytes: only who opens the file finds out."""
    path = folder / "model.safetensors"
    whole, header = path.read_bytes(), _header(path)
    (length,) = struct.unpack("<Q", whole[:8])
    next(tensor for name, tensor in header.items() if name != "__metadata__")["shape"][0] += 1
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + length :])


def missing_shard(folder: Path) -> None:
    """The index names two shards, one is there."""
    path = folder / "model.safetensors"
    names = [name for name in _header(path) if name != "__metadata__"]
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    path.rename(folder / first)
    index = {
        "metadata": {"total_size": 1},
        "weight_map": {name: (second if n == 0 else first) for n, name in enumerate(names)},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def no_tokenizer(folder: Path) -> None:
    """Only weights and config: vLLM starts, looks healthy, and refuses every request."""
    for path in folder.iterdir():
        if path.name not in {"config.json", "model.safetensors"}:
            path.unlink()


def wide_kv_cache(folder: Path) -> None:
    """A config whose KV cache no single GPU holds at its full length: 80 layers, 64 heads of 128, a million tokens."""
    wide = {
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 64,
        "hidden_size": 8192,
        "head_dim": 128,
    }
    _edit_config(folder, **wide, max_position_embeddings=1_048_576, layer_types=["full_attention"] * 80)


def lora_rank_16(folder: Path) -> None:
    """An adapter of rank 16 for the good model's query projections."""
    config = json.loads((folder / "config.json").read_text())
    size, layers = config["hidden_size"], config["num_hidden_layers"]
    for path in folder.iterdir():
        path.unlink()
    shapes: dict[str, tuple[int, int]] = {}
    for layer in range(layers):
        stem = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        shapes |= {f"{stem}.lora_A.weight": (16, size), f"{stem}.lora_B.weight": (size, 16)}
    _write_safetensors(folder / "adapter_model.safetensors", shapes)
    adapter = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 16,
        "lora_alpha": 16,
        "target_modules": ["q_proj"],
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(
        json.dumps({**adapter, "base_model_name_or_path": "vllm-operator/tiny-chat"})
    )


VARIANTS: dict[str, Callable[[Path], None]] = {
    "gated": gated,
    "custom-code": custom_code,
    "unsupported-architecture": unsupported_architecture,
    "damaged-weights": damaged_weights,
    "missing-shard": missing_shard,
    "no-tokenizer": no_tokenizer,
    "wide-kv-cache": wide_kv_cache,
    "lora-rank-16": lora_rank_16,
}


def make(root: Path) -> None:
    """Writes every variant that is not there yet beside the good model. Raises FileNotFoundError without the good model."""
    good = root / "vllm-operator" / GOOD
    for name, spoil in VARIANTS.items():
        folder = root / "vllm-operator" / name
        if not folder.exists():
            shutil.copytree(good, folder)
            spoil(folder)


def _header(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return dict(json.loads(file.read(length)))


def _write_safetensors(path: Path, shapes: dict[str, tuple[int, int]]) -> None:
    """A safetensors file of bfloat16 zeros: eight bytes of header length, the header, the data."""
    header, offset = {}, 0
    for name, (rows, columns) in shapes.items():
        end = offset + rows * columns * 2
        header[name] = {"dtype": "BF16", "shape": [rows, columns], "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(offset))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
