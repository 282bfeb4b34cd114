"""Writes a chat model of one megabyte that a real vLLM loads and serves on a CPU. No library is needed, and no randomness is left.

It is a Qwen2 whose output layer looks for the last token's embedding: each token has one that follows it, so the model says one
sentence, word by word, whatever it is asked. An answer is thus readable, and the same on every machine.
"""

from __future__ import annotations

import json
import random
import struct
from array import array
from itertools import chain
from pathlib import Path
from typing import TypeAlias

SENTENCE = (
    *(
        "Hello",
        "!",
        " I",
        " am",
        " a",
        " tiny",
        " model",
        " whose",
        " weights",
        " were",
        " written",
        " by",
        " hand",
        ",",
    ),
    *(" so", " this", " sentence", " is", " all", " that", " vLLM", " can", " make", " me", " say", "."),
)
END_OF_TEXT, TURN, END_OF_TURN = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# 128 numbers with a sign each tell some 400 tokens apart with ease; 32 is the smallest head that vLLM's CPU attention takes.
HIDDEN, HEADS, LAYERS, INTERMEDIATE, POSITIONS = 128, 4, 2, 256, 2048
# A token's own follower scores 128 x 0.25 = 32, any other about 0 +- 3: sure, even at temperature 1.
SHARPNESS = 0.25


def write(folder: Path, positions: int = POSITIONS) -> None:
    """Writes the model's files into the folder, which is made. `positions` is its longest context in tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, merges = _vocabulary()
    for name, content in {
        "config.json": _config(vocabulary, positions),
        "generation_config.json": {"eos_token_id": vocabulary[END_OF_TURN], "pad_token_id": vocabulary[END_OF_TEXT]},
        "tokenizer.json": _tokenizer(vocabulary, merges),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": END_OF_TURN,
            "pad_token": END_OF_TEXT,
            "model_max_length": positions,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    }.items():
        (folder / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    _write_safetensors(folder / "model.safetensors", _weights(vocabulary))


def _config(vocabulary: dict[str, int], positions: int) -> dict[str, object]:
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "dtype": "bfloat16",
        "vocab_size": len(vocabulary),
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "max_position_embeddings": positions,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "use_cache": True,
        "bos_token_id": vocabulary[END_OF_TEXT],
        "eos_token_id": vocabulary[END_OF_TURN],
        "pad_token_id": vocabulary[END_OF_TEXT],
    }


def _letters() -> list[str]:
    """The 256 characters by which byte-level tokenizers write bytes: printable ones as they are, the others from 256 up."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def _spelled(text: str) -> str:
    letters = _letters()
    return "".join(letters[byte] for byte in text.encode())


def _vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Token ids by spelling, and the merges that lead from single bytes to the sentence's words."""
    tokens = [END_OF_TEXT, TURN, END_OF_TURN, *_letters()]
    known, merges = set(tokens), []
    for word in SENTENCE:
        spelled = _spelled(word)
        for length in range(2, len(spelled) + 1):
            merged = spelled[:length]
            if merged not in known:
                merges.append((merged[:-1], merged[-1]))
                tokens.append(merged)
                known.add(merged)
    return {token: number for number, token in enumerate(tokens)}, merges


def _tokenizer(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> dict[str, object]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    special = [{"id": vocabulary[token], "content": token, **flags} for token in (END_OF_TEXT, TURN, END_OF_TURN)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": [list(pair) for pair in merges],
        },
    }


Tensor: TypeAlias = "tuple[tuple[int, ...], array[float]]"
Weights: TypeAlias = dict[str, Tensor]


def _weights(vocabulary: dict[str, int]) -> Weights:
    """Tensors by name. Attention and the feed-forward part whisper; the embeddings and the output layer decide."""
    dice = random.Random(0)

    def noise(rows: int, columns: int, scale: float = 0.02) -> Tensor:
        return (rows, columns), array("f", (dice.uniform(-scale, scale) for _ in range(rows * columns)))

    def constant(value: float, size: int) -> Tensor:
        return (size,), array("f", [value]) * size

    embeddings = [[dice.choice((-1.0, 1.0)) for _ in range(HIDDEN)] for _ in vocabulary]
    weights: Weights = {
        "model.embed_tokens.weight": ((len(vocabulary), HIDDEN), array("f", chain.from_iterable(embeddings))),
        "lm_head.weight": ((len(vocabulary), HIDDEN), _followers(vocabulary, embeddings)),
        "model.norm.weight": constant(1.0, HIDDEN),
    }
    for layer in range(LAYERS):
        top = f"model.layers.{layer}."
        for name in ("q", "k", "v"):
            weights[f"{top}self_attn.{name}_proj.weight"] = noise(HIDDEN, HIDDEN)
            weights[f"{top}self_attn.{name}_proj.bias"] = constant(0.0, HIDDEN)
        weights[f"{top}self_attn.o_proj.weight"] = noise(HIDDEN, HIDDEN)
        weights[f"{top}mlp.gate_proj.weight"] = noise(INTERMEDIATE, HIDDEN)
        weights[f"{top}mlp.up_proj.weight"] = noise(INTERMEDIATE, HIDDEN)
        weights[f"{top}mlp.down_proj.weight"] = noise(HIDDEN, INTERMEDIATE)
        weights[f"{top}input_layernorm.weight"] = constant(1.0, HIDDEN)
        weights[f"{top}post_attention_layernorm.weight"] = constant(1.0, HIDDEN)
    return weights


def _followers(vocabulary: dict[str, int], embeddings: list[list[float]]) -> array[float]:
    """The output layer: each token's row is the embedding of the one that it follows. A turn begins after a line's end."""
    said = [_spelled("\n"), *(_spelled(word) for word in SENTENCE), END_OF_TURN]
    before = dict(zip(said[1:], said[:-1], strict=True))
    rows = array("f")
    for token in vocabulary:
        follows = before.get(token)
        row = [0.0] * HIDDEN if follows is None else embeddings[vocabulary[follows]]
        rows.extend(SHARPNESS * value for value in row)
    return rows


def _write_safetensors(file: Path, weights: Weights) -> None:
    """The format: eight bytes with the header's length, the header as JSON, then the tensors one after another, as bfloat16."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    body = bytearray()
    for name, (shape, values) in weights.items():
        single = values.tobytes()
        half = bytearray(len(single) // 2)
        # bfloat16 is the upper half of a float32; the machine is little-endian, so these are its last two bytes.
        half[0::2], half[1::2] = single[2::4], single[3::4]
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [len(body), len(body) + len(half)]}
        body += half
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(struct.pack("<Q", len(text)) + text + body)
