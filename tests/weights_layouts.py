"""Layouts of published repositories, and what of each vLLM needs: listings as their hubs show them, shortened in numbers only.

`take` is everything that is to be pulled, `leave` the rest. Kinds, not copies: sizes and contents are made up.
"""

from __future__ import annotations

from dataclasses import dataclass

from vllm_weights.selection import Wish

AS_IT_IS = Wish()
HF = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
PAPER = (".gitattributes", "README.md", "LICENSE", "NOTICE.txt")
INDEX = "model.safetensors.index.json"
OF_TRAINING = ("training_args.bin", "optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state.pth", "trainer_state.json")


def shards(stem: str, count: int, suffix: str = ".safetensors") -> tuple[str, ...]:
    """`stem-00001-of-0000N.safetensors` …"""
    return tuple(f"{stem}-{at + 1:05}-of-{count:05}{suffix}" for at in range(count))


@dataclass(frozen=True, slots=True)
class Layout:
    """One repository. `weights` are those of the files to take that vLLM's loader opens at the top of the folder."""

    name: str
    take: tuple[str, ...]
    leave: tuple[str, ...] = ()
    wish: Wish = AS_IT_IS

    @property
    def indexed(self) -> frozenset[str] | None:
        """What `model.safetensors.index.json` names."""
        names = frozenset(path for path in self.take if path.startswith("model-0"))
        return names if INDEX in self.take else None


LAYOUTS = (
    Layout("llama", (*HF, "special_tokens_map.json", *shards("model", 4), INDEX),
           (*PAPER, "USE_POLICY.md", "original/consolidated.00.pth", "original/params.json", "original/tokenizer.model")),
    Layout("llama-2 with both formats", (*HF, "tokenizer.model", "special_tokens_map.json", *shards("model", 2), INDEX),
           (*shards("pytorch_model", 2, ".bin"), "pytorch_model.bin.index.json", *PAPER)),
    Layout("mistral with both layouts", (*HF, "params.json", "tokenizer.model", "tokenizer.model.v3", *shards("model", 3), INDEX),
           ("consolidated.safetensors", *PAPER)),
    Layout("mistral without a tokenizer for transformers",
           ("config.json", "generation_config.json", "params.json", "tekken.json", "SYSTEM_PROMPT.txt", "consolidated.safetensors"),
           (*shards("model", 10), INDEX, *PAPER)),
    Layout("mistral's own layout alone", ("params.json", "tekken.json", *shards("consolidated", 2), "consolidated.safetensors.index.json"),
           PAPER),
    Layout("mistral's own layout, asked for", (*HF, "params.json", "tekken.json", "consolidated.safetensors"),
           (*shards("model", 2), INDEX), Wish(load_format="mistral")),
    Layout("gpt-oss", (*HF, "special_tokens_map.json", "chat_template.jinja", *shards("model", 3), INDEX),
           ("metal/model.bin", "original/config.json", "original/dtypes.json", "original/model.safetensors", "USAGE_POLICY", *PAPER)),
    Layout("whisper in two precisions",
           (*HF, "added_tokens.json", "vocab.json", "merges.txt", "normalizer.json", "preprocessor_config.json",
            "special_tokens_map.json", "model.safetensors"),
           (*shards("model.fp32", 2), "model.safetensors.index.fp32.json", "pytorch_model.bin",
            *shards("pytorch_model.fp32", 2, ".bin"), "pytorch_model.bin.index.fp32.json", "flax_model.msgpack", *PAPER)),
    Layout("a vision model", (*HF, "vocab.json", "merges.txt", "preprocessor_config.json", "video_preprocessor_config.json",
           "chat_template.json", *shards("model", 5), INDEX), PAPER),
    Layout("a vision model with one processor file", (*HF, "processor_config.json", "chat_template.jinja", "tokenizer.model",
           "added_tokens.json", *shards("model", 2), INDEX), ("images/demo.png", "assets/clip.mp4", *PAPER)),
    Layout("deepseek, not trusted", (*HF, *shards("model", 163), INDEX),
           ("configuration_deepseek.py", "modeling_deepseek.py", "inference/model.py", "inference/configs/config_671B.json",
            "figures/benchmark.png", "README_WEIGHTS.md", *PAPER)),
    Layout("phi, trusted", (*HF, "configuration_phi3.py", "modeling_phi3.py", "sample_finetune.py", "added_tokens.json",
           *shards("model", 2), INDEX), ("data_summary_card.md", *PAPER), Wish(trust_remote_code=True)),
    Layout("kimi, trusted", ("config.json", "generation_config.json", "tokenizer_config.json", "tiktoken.model",
           "tokenization_kimi.py", "configuration_deepseek.py", "chat_template.jinja", *shards("model", 61), INDEX),
           ("figures/kimi-logo.png", "docs/deploy_guidance.md", *PAPER), Wish(trust_remote_code=True)),
    Layout("qwen of the first generation, trusted", ("config.json", "generation_config.json", "tokenizer_config.json",
           "qwen.tiktoken", "tokenization_qwen.py", "modeling_qwen.py", *shards("model", 8), INDEX),
           ("assets/logo.jpg", *PAPER), Wish(trust_remote_code=True)),
    Layout("gemma with a gguf beside it", (*HF, "tokenizer.model", "special_tokens_map.json", *shards("model", 2), INDEX),
           ("gemma-2b.gguf", *PAPER)),
    Layout("bert in every framework", ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "model.safetensors"),
           ("pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "rust_model.ot", "model.onnx", "onnx/model.onnx",
            "onnx/model_quantized.onnx", "openvino/openvino_model.bin", "openvino/openvino_model.xml", "coreml/fill-mask/model.mlmodel", *PAPER)),
    Layout("sentence-transformers", ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json",
           "modules.json", "config_sentence_transformers.json", "sentence_bert_config.json", "data_config.json",
           "1_Pooling/config.json", "model.safetensors"),
           ("train_script.py", "pytorch_model.bin", "onnx/model.onnx", "openvino/openvino_model.bin", *PAPER)),
    Layout("sentence-transformers with dense layers in one format each",
           ("config.json", "tokenizer.json", "spiece.model", "modules.json", "1_Pooling/config.json", "2_Dense/config.json",
            "2_Dense/pytorch_model.bin", "3_Dense/config.json", "3_Dense/model.safetensors", "model.safetensors"),
           ("3_Dense/pytorch_model.bin", "2_Dense/rust_model.ot", "pytorch_model.bin", *PAPER)),
    Layout("bge-m3", ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
           "sentencepiece.bpe.model", "modules.json", "config_sentence_transformers.json", "sentence_bert_config.json",
           "1_Pooling/config.json", "colbert_linear.pt", "sparse_linear.pt", "pytorch_model.bin"),
           ("onnx/model.onnx", "onnx/model.onnx_data", "onnx/config.json", "imgs/bm25.jpg", "long.jpg", *PAPER)),
    Layout("jina's adapters by task", ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt",
           "modules.json", "1_Pooling/config.json", "model.safetensors", "adapters/retrieval/adapter_config.json",
           "adapters/retrieval/adapter_model.safetensors"), ("adapters/retrieval/README.md", "onnx/model.onnx", *PAPER)),
    Layout("an audio model with its tower apart", ("config.json", "generation_config.json", "tokenizer_config.json",
           "tiktoken.model", "whisper-large-v3/config.json", "whisper-large-v3/preprocessor_config.json",
           "whisper-large-v3/model.safetensors", *shards("model", 36), INDEX),
           ("audio_detokenizer/model.pt", "vocoder/model.pt", "modeling_moonshot_kimia.py", *PAPER)),
    Layout("an adapter", ("adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json"),
           ("adapter_model.bin", *OF_TRAINING, "checkpoint-500/adapter_model.safetensors", *PAPER)),
    Layout("gptq", (*HF, "quantize_config.json", "model.safetensors"), PAPER),
    Layout("modelopt", (*HF, "hf_quant_config.json", *shards("model", 2), INDEX), PAPER),
    Layout("bin alone, with a sentencepiece tokenizer", ("config.json", "tokenizer.model", "tokenizer_config.json",
           "special_tokens_map.json", *shards("pytorch_model", 2, ".bin"), "pytorch_model.bin.index.json"), (*OF_TRAINING, *PAPER)),
    Layout("a byte-pair tokenizer in two files", ("config.json", "vocab.json", "merges.txt", "pytorch_model.bin"),
           ("pytorch_model.fp16.bin", "tf_model.h5", "rust_model.ot", "64.tflite", *PAPER)),
    Layout("medusa's heads", ("config.json", "medusa_lm_head.pt"), PAPER),
    Layout("eagle's head", ("config.json", "pytorch_model.bin"), PAPER),
    Layout("a draft with a mask of its own", ("config.json", "mask_embedding.pt", "model.safetensors"), PAPER),
    Layout("several chat templates", (*HF, "chat_template.jinja", "additional_chat_templates/tool_use.jinja",
           "additional_chat_templates/rag.jinja", *shards("model", 2), INDEX), PAPER),
    Layout("a spare prediction layer beside the index", (*HF, *shards("model", 2), INDEX), ("mtp.safetensors", "model.safetensors", *PAPER)),
    Layout("one gguf and its projector", ("config.json", "model-Q4_K_M.gguf"), ("mmproj-model-f16.gguf", "imatrix.dat", *PAPER)),
    Layout("one of many gguf", ("config.json", "m-Q4_K_M.gguf"), ("m-Q2_K.gguf", "m-Q8_0.gguf", "m-F16/m-F16-00001-of-00002.gguf", *PAPER),
           Wish(include=("*Q4_K_M.gguf", "*.json"))),
)  # fmt: skip

NOT_FOR_VLLM = {
    "llama's original alone": ("params.json", "tokenizer.model", "consolidated.00.pth", "consolidated.01.pth"),
    "pth alone": ("config.json", "tokenizer.json", "model.pth"),
    "many gguf": ("config.json", "m-Q2_K.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf"),
    "gguf in folders": ("m-Q8_0/m-Q8_0-00001-of-00002.gguf", "m-Q8_0/m-Q8_0-00002-of-00002.gguf"),
    "onnx": ("config.json", "tokenizer.json", "onnx/model.onnx", "onnx/model.onnx_data"),
    "openvino": ("config.json", "openvino_model.bin", "openvino_model.xml", "openvino_tokenizer.bin"),
    "whisper.cpp": ("ggml-large-v3.bin", "ggml-large-v3-q5_0.bin"),
    "tensorflow": ("config.json", "vocab.txt", "tf_model.h5"),
    "diffusers": (
        "model_index.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ),
    "a tokenizer": ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    "the rest of a training": (*OF_TRAINING, "config.json"),
}
"""What no release of vLLM loads: named by the inspection, and nothing of it is pulled."""
