"""What vLLM's build for the CPU has to be told before it makes a model as a server on CUDA does; nothing is run on either.

Every replacement stands in for a device or a package that is not there. None of them has a say in a model's parameters,
and of the cache only these: the CPU's attention takes the blocks that CUDA's take, and sparse attention is FlashMLA's.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

CUDA_CLASSES = {
    "DeepseekV4ForCausalLM": "deepseek_v4.nvidia.model:DeepseekV4ForCausalLM",
    "DeepseekV32ForCausalLM": "deepseek_v32.nvidia.model:DeepseekV32ForCausalLM",
    "GlmMoeDsaForCausalLM": "deepseek_v32.nvidia.model:DeepseekV32ForCausalLM",
}
"""Architectures that vLLM makes otherwise on a CPU."""


def like_cuda() -> None:
    """All of it; models' classes are looked at without a process for each."""
    pictures()
    registry()
    attention()
    devices()
    numbers()
    newest()


def module(name: str) -> Any:
    return importlib.import_module(name)


def pictures() -> None:
    """Pictures are not looked at, so that what prepares them need not be installed."""
    module("transformers.utils").is_torchvision_available()
    for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.v2"):
        sys.modules.setdefault(name, Absent(name))


class Absent(ModuleType):
    """A package of which everything is named and nothing used."""

    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(name)

    def __call__(self, *_: Any, **__: Any) -> Any:
        return Absent("made")


def registry() -> None:
    known = module("vllm.model_executor.models.registry")
    known._LazyRegisteredModel.inspect_model_cls = lambda lazy: known._ModelInfo.from_model_cls(lazy.load_model_cls())
    for name, made in CUDA_CLASSES.items():
        place, _, own = made.partition(":")
        known.ModelRegistry.models[name] = known._LazyRegisteredModel(f"vllm.models.{place}", own)


def attention() -> None:
    multiple = module("vllm.v1.attention.backend").MultipleOf
    plain = module("vllm.v1.attention.backends.cpu_attn").CPUAttentionBackend
    latent = module("vllm.v1.attention.backends.mla.cpu_mla").CPUMLABackend
    for backend in (plain, latent):
        backend.get_supported_kernel_block_sizes = staticmethod(lambda *_: [multiple(16)])
    latent.supports_block_size = classmethod(lambda _, size: size is None or size % 16 == 0)
    cpu = module("vllm.platforms.cpu").CpuPlatform
    # DeepSeek V4.1 has other blocks on other GPUs than Hopper's.
    cpu.is_device_capability_family = classmethod(lambda _, family, device_id=0: family == 90)
    dense = cpu.get_attn_backend_cls.__func__

    def chosen(cls: Any, selected_backend: Any, attn_selector_config: Any, num_heads: Any = None) -> Any:
        if attn_selector_config.use_sparse:
            return "vllm.v1.attention.backends.mla.flashmla_sparse.FlashMLASparseBackend"
        return dense(cls, selected_backend, attn_selector_config, num_heads)

    cpu.get_attn_backend_cls = classmethod(chosen)
    module("vllm.v1.worker.workspace").init_workspace_manager(module("torch").device("meta"))


def devices() -> None:
    """Streams and their events, and what is compiled on a GPU only."""
    cuda = module("torch").cuda
    cuda.Stream = cuda.Event = type("Nothing", (), {"__init__": lambda *_, **__: None})
    triton = module("vllm.triton_utils").triton
    triton.set_allocator = lambda *_: None
    triton.next_power_of_2 = lambda number: 1 << (number - 1).bit_length()
    # This CPU's own choice of 32 bits for recurrent states.
    module("torch").cpu._is_avx512_bf16_supported = lambda: False
    # No kernel runs, so none has to be there for an activation.
    method = module("vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method")
    method.select_unquantized_moe_backend = lambda **_: (method.UnquantizedMoeBackend.TRITON, None)


def numbers() -> None:
    """Gemma 3n works a number out of a tensor while it is made; its value is nobody's shape."""
    tensor = module("torch").Tensor
    number = tensor.item
    tensor.item = lambda held: 0.0 if held.is_meta else number(held)


def newest() -> None:
    """Looks at the device that DeepSeek V4 and Qwen 4 take while they are made."""
    for family in ("deepseek_v4", "deepseek_v41"):
        module(f"vllm.models.{family}.nvidia.flashmla").compute_fp8_einsum_recipe = lambda *_: (None, False)
    module("vllm.models.qwen4_exp.nvidia.model")
    module("vllm.models.qwen4_exp.nvidia.qsa").is_flash_attn_varlen_func_available = lambda: True
    engram = module("vllm.models.deepseek_v41.common.engram")
    engram.is_uva_available = lambda: True
    engram.NgramHashState.__init__ = lambda made, *_: module("torch").nn.Module.__init__(made)
    engram.ParallelEngramEmbedding._allocate_weights = meta_engram
    module("torch").accelerator.current_device_index = lambda: 0
    module("torch").cuda.get_device_properties = lambda _: SimpleNamespace(multi_processor_count=132)
    ngrams = module("vllm.models.qwen4_exp.common.ngram_embedding")
    ngrams.is_uva_available = lambda: True
    ngrams.get_accelerator_view_from_cpu_tensor = lambda held: held
    for made in vars(ngrams).values():
        if isinstance(made, type) and "allocate_embedding_weight" in vars(made):
            made.allocate_embedding_weight = meta_table  # type: ignore[attr-defined]


def meta_engram(table: Any) -> tuple[Any, Any]:
    """The same of DeepSeek V4.1's, and its scales."""
    torch, rows = module("torch"), table.part_num_embeddings
    scales = torch.empty(rows, table.dim // table.block_size, dtype=torch.uint8, device="meta")
    return torch.empty(rows, table.dim, dtype=torch.float8_e4m3fn, device="meta"), scales


def meta_table(_: Any, rows: int, wide: int, dtype: Any) -> Any:
    """A table that would be pinned in the host's memory."""
    return module("torch").empty(rows, wide, dtype=dtype, device="meta")
