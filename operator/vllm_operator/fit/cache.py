"""The KV cache: bytes per token, blocks a request takes, tokens that fit, the longest request that fits.

Source: vLLM's v1/kv_cache_interface.py and v1/core/kv_cache_utils.py; exact in all 34 measured runs given the memory
available. All layers draw blocks of one size from one pool. Layers of one kind form groups of equally many layers;
a block holds one group's layers for 16 tokens (more where a recurrent state needs a larger page).
"""

from collections import Counter
from dataclasses import dataclass
from math import lcm

from vllm_operator.fit.architectures import NEW_RUNNER_SPECULATION
from vllm_operator.fit.fields import Fields
from vllm_operator.fit.heads import Heads
from vllm_operator.fit.index import Index
from vllm_operator.fit.layers import LayerKind
from vllm_operator.fit.overhead import uses_old_runner
from vllm_operator.fit.packed import Page, pack
from vllm_operator.fit.pages import Group, Kind, Stack, block_tokens, deal
from vllm_operator.fit.shape import ModelShape
from vllm_operator.fit.values import Arguments

BLOCK = 16
EVERY_BLOCK = 0
"""In place of a number of states: one for each block of tokens."""

SPARSE_BLOCK = 128
"""Tokens in a block where attention chooses whole blocks (MiniMax M3)."""

INDEXED_BLOCK = 64
"""The same where single tokens are chosen (DeepSeek 3.2)."""

INDEX_BLOCK = 256
CACHE_BYTES = {"fp8": 1.0, "int8": 1.0, "int4": 0.5, "nvfp4": 0.5625, "float16": 2.0, "bfloat16": 2.0, "half": 2.0}


@dataclass(frozen=True, slots=True)
class CachePlan:
    """How one GPU's KV cache is cut up. `block_bytes` 0 means there is no cache (encoders).

    `encoded`: tokens of an encoder's output that vLLM sets aside for a request that reads one.
    """

    groups: tuple[Group, ...]
    block_tokens: int
    block_bytes: int
    bytes_per_token: int
    window: int
    in_flight: int
    states_per_request: int
    encoded: int

    def blocks(self, length: int) -> int:
        """Blocks that one request of this many tokens takes at most."""
        total = 0
        for group in self.groups:
            if group.kind == "recurrent":
                total += group.count * (self.states_per_request or -(-length // self.block_tokens))
            elif group.kind == "cross":
                total += group.count * -(-self.encoded // group.tokens)
            elif group.kind == "ring":
                total += group.count
            elif group.kind == "chunked":
                total += group.count * -(-min(self.window + self.in_flight, length) // group.tokens)
            elif group.kind == "sliding":
                kept = min((group.window or self.window) - 1 + self.in_flight, length)
                total += group.count * (-(-kept // group.tokens) + 1)
            else:
                total += group.count * -(-length // group.tokens)
        return total

    def longest(self, available: int, limit: int) -> int:
        """The longest request, at most `limit` tokens, that fits beside the one block vLLM holds back; 0 if none."""
        usable = available // self.block_bytes - 1
        if self.blocks(1) > usable:
            return 0
        low, high = 1, limit
        while low < high:
            middle = (low + high + 1) // 2
            if self.blocks(middle) <= usable:
                low = middle
            else:
                high = middle - 1
        return low

    def concurrency(self, available: int, length: int) -> float:
        """How many requests of that length fit at once."""
        return (available // self.block_bytes) / max(self.blocks(length), 1)

    def needed(self, length: int) -> int:
        """Bytes that one request of this length needs, with the block held back."""
        return (self.blocks(length) + 1) * self.block_bytes


def plan_cache(shape: ModelShape, arguments: Arguments, dtype_bytes: int, batched_tokens: int) -> CachePlan:
    """The plan for one GPU; groups as vLLM forms them over the whole model, then cut to the fullest pipeline stage."""
    stacks = stacks_of(shape, arguments, dtype_bytes)
    tokens = arguments.block_size or _usual_block(shape)
    if shape.is_encoder or not stacks:
        return CachePlan((), tokens, 0, 0, 0, 0, 0, 0)
    tokens = block_tokens(stacks, tokens, _step(shape, arguments, tokens))
    stages = arguments.pipeline_parallel_size
    pages = _pages(shape, stacks, tokens)
    if pages:
        groups, block = pack(pages, _stride(shape, tokens))
        size, stacks = shape.layers, _kept(pages)
    else:
        groups, size, block = deal(stacks, tokens)
    in_flight = _batches(shape, arguments) * batched_tokens
    kept = sum(stack.count * stack.size for stack in stacks if stack.kind != "recurrent" and not stack.window)
    return CachePlan(
        groups=groups,
        block_tokens=tokens,
        block_bytes=block * -(-size // stages) // size,
        bytes_per_token=-(-kept // stages),
        window=shape.window,
        in_flight=in_flight,
        states_per_request=_states(shape, arguments),
        encoded=batched_tokens,
    )


def _step(shape: ModelShape, arguments: Arguments, tokens: int) -> int:
    """What the tokens of a block are a multiple of; states that are kept one by one come after whole chunks."""
    if _states(shape, arguments) == EVERY_BLOCK and shape.recurrent is not None:
        return lcm(shape.recurrent.chunk, tokens)
    # For kernels of latents; vLLM 0.26 does without (measured on Kimi Linear).
    return max(tokens, 128) if shape.latent is not None and arguments.estimates_cuda_graphs else tokens


def _states(shape: ModelShape, arguments: Arguments) -> int:
    """Recurrent states that are kept for a request: one, and with prefix caching two, or one for each block.

    vLLM 0.26 keeps each block's of Mamba's layers; later releases, and those whose state is no Mamba's, keep two.
    """
    held = shape.recurrent
    if held is None or not arguments.enable_prefix_caching:
        return 1
    # Measured beside attention alone; without any, two are sure.
    every = held.kind.startswith("mamba") and any(kind in ("full", "sliding", "both") for kind in shape.kinds)
    return EVERY_BLOCK if every and not arguments.estimates_cuda_graphs else 2


def _usual_block(shape: ModelShape) -> int:
    """Tokens in a block unless told otherwise: as many as what chooses among them asks for."""
    if shape.index is not None and shape.index.pooled == 1:
        return SPARSE_BLOCK
    return INDEXED_BLOCK if shape.latent is not None and shape.latent.indexer_dim else BLOCK


def stacks_of(shape: ModelShape, arguments: Arguments, dtype_bytes: int) -> tuple[Stack, ...]:
    """The layers that keep something, by what they keep; a layer may have attention and a state."""
    found: Counter[tuple[Kind, int, int, int]] = Counter()
    beside = shape.index.key_bytes if shape.index is not None and shape.index.pooled == 1 else 0
    with_index = shape.index.layers if shape.index is not None and beside else frozenset()
    for i, (kind, heads) in enumerate(zip(shape.kinds, shape.attention, strict=True)):
        if kind in ("full", "sliding", "chunked", "both", "crossed") and not heads.shared:
            size = attention_bytes(shape, heads, arguments, dtype_bytes) + beside * (i in with_index)
            size -= shape.latent.indexer_dim * (i in shape.latent.unindexed) if shape.latent is not None else 0
            found[_kept_as(kind, arguments), size, 0, 0] += 1
            found["cross", size, 0, 0] += kind == "crossed"
            found["sliding", *_convolved(shape, heads, arguments, dtype_bytes)] += shape.convolutions is not None
        if kind in ("recurrent", "both") and shape.recurrent is not None:
            found["recurrent", shape.recurrent.state_bytes(arguments.tensor_parallel_size, dtype_bytes), 0, 0] += 1
    return tuple(
        Stack(kind, count, size, tokens, window)
        for (kind, size, tokens, window), count in found.items()
        if size and count
    )


def _convolved(shape: ModelShape, heads: Heads, arguments: Arguments, dtype_bytes: int) -> tuple[int, int, int]:
    """(bytes a token, tokens in a block, window) of what short convolutions remember; zeros without."""
    held = shape.convolutions
    if held is None:
        return 0, 0, 0
    size = held.token_bytes(heads, shape.hidden, arguments.tensor_parallel_size, dtype_bytes)
    return size, held.kernel, held.kernel


def _kept_as(kind: LayerKind, arguments: Arguments) -> Kind:
    """Whether a layer's tokens are let go of; those of chunks are all kept where a draft reads along (VllmConfig)."""
    if kind == "chunked" and arguments.speculative_method not in NEW_RUNNER_SPECULATION:
        return "chunked"
    return "sliding" if kind == "sliding" else "full"


def _pages(shape: ModelShape, stacks: tuple[Stack, ...], tokens: int) -> tuple[Page, ...]:
    """What is packed side by side in each block; empty for models whose layers' pages are alike."""
    if shape.compressed is not None:
        return shape.compressed.pages()
    if shape.index is None or shape.index.pooled == 1:
        return ()
    index, layers = shape.index, len(shape.index.layers)
    largest = max(stack.size * tokens for stack in stacks if stack.kind == "full")
    found = [
        Page(stack.kind, tokens, stack.size * tokens if stack.kind == "full" else largest, stack.count)
        for stack in stacks
    ]
    found.append(Page("full", tokens, tokens // index.pooled * index.key_bytes, layers))
    found.append(Page("ring", index.pooled, index.ring_bytes, layers))
    if shape.ngrams is not None:
        # What the n-grams' convolution remembers is whole on every GPU.
        found.append(Page("recurrent", tokens, largest, shape.ngrams.layers, apart=True))
    return tuple(found)


def _kept(pages: tuple[Page, ...]) -> tuple[Stack, ...]:
    """Bytes that a token takes, of those that are kept of all tokens."""
    return tuple(Stack("full", page.count, page.size // page.tokens) for page in pages if page.kind == "full")


def _stride(shape: ModelShape, tokens: int) -> int:
    """Bytes that blocks are a multiple of: whole rows of sparse latents, and pages of the index's own kernel.

    Source: block_stride_alignment of vLLM's FlashMLA (sparse) and of what indexes GLM 5 Next.
    """
    index: Index | None = shape.index
    if shape.latent is None or index is None or tokens <= INDEX_BLOCK:
        return 1
    row = 2 * (shape.latent.kv_rank + shape.latent.rope_dim)
    return lcm(row, INDEX_BLOCK // index.pooled * index.key_bytes)


def _batches(shape: ModelShape, arguments: Arguments) -> int:
    """Batches in flight: one a pipeline stage, and one more for asynchronous scheduling.

    The older runner schedules asynchronously on one stage only, pooling models never (VllmConfig.max_concurrent_batches).
    """
    stages = arguments.pipeline_parallel_size
    in_turn = arguments.runner == "pooling" or (stages > 1 and uses_old_runner(shape, arguments))
    return stages if in_turn else stages + 1


def cache_dtype(shape: ModelShape, arguments: Arguments) -> str:
    """The dtype of the cache: the one asked for, else what a quantized checkpoint was made for, else "auto".

    Source: vLLM's resolve_kv_cache_dtype_string (ModelOpt) and the attention layer (compressed-tensors).
    """
    if arguments.kv_cache_dtype not in (None, "auto"):
        return arguments.kv_cache_dtype or "auto"
    config = Fields(shape.quantization)
    method = config.text("quant_method").replace("_", "-")
    modelopt = method.startswith("modelopt") or config.part("producer").text("name") == "modelopt"
    if not modelopt and method != "compressed-tensors":
        return "auto"
    inner = config.part("quantization")
    scheme = Fields(inner.raw("kv_cache_scheme") or config.raw("kv_cache_scheme"))
    if not modelopt:
        return "fp8" if "num_bits" in scheme or "type" in scheme else "auto"
    named = inner.text("kv_cache_quant_algo") or config.text("kv_cache_quant_algo")
    bits = scheme.whole("num_bits") if scheme.text("type") == "float" else None
    return {8: "fp8", 4: "nvfp4"}.get(bits or 0) or {"fp8": "fp8", "nvfp4": "nvfp4"}.get(named.lower(), "auto")


def is_known_dtype(name: str, shape: ModelShape) -> bool:
    """Whether the bytes of a cache of this dtype are known (those of its rotated and packed forms are not)."""
    if name == "auto":
        return True
    if shape.compressed is not None:
        # It is kept in 8 bits whatever is asked for, or refused.
        return name.startswith("fp8")
    if shape.latent is not None and shape.index is not None:
        return False
    packed = name.endswith("_ds_mla")
    return (shape.latent is not None and name == "fp8_ds_mla") if packed else _size(name) is not None


def attention_bytes(shape: ModelShape, heads: Heads, arguments: Arguments, dtype_bytes: int) -> int:
    """Bytes that one token takes in one attention layer on one GPU.

    Grouped-query: KV heads × (width of a key + of a value) × bytes, with the heads split by tensor parallelism (repeated beyond their
    number). Latent: (kv_lora_rank + qk_rope_head_dim) × bytes on every GPU, 656 for its packed fp8 form.
    """
    name = cache_dtype(shape, arguments)
    each = _size(name) or dtype_bytes
    latent = shape.latent
    if shape.compressed is not None:
        return shape.compressed.width
    if latent is not None:
        # Sparse attention keeps its fp8 latents in the packed form only.
        if name == "fp8_ds_mla" or (latent.indexer_dim and name.startswith("fp8")):
            return 656 + latent.indexer_dim
        return int((latent.kv_rank + latent.rope_dim) * each) + latent.indexer_dim
    kept = max(1, heads.kv // arguments.tensor_parallel_size)
    scales = 8 * kept if "per_token_head" in name else 0
    return int(kept * (heads.dim + heads.value) * each) + scales


def _size(name: str) -> float | None:
    return next((size for start, size in CACHE_BYTES.items() if name.startswith(start)), None)
