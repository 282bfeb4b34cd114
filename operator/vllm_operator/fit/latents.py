"""What latent attention takes beside its cache and weights while a batch runs."""

from vllm_operator.fit.heads import Latent
from vllm_operator.fit.shape import ModelShape

LATENT_ROWS = 64 * 1024
"""Rows of the workspace in which latent attention unfolds a long prompt's context (vLLM's MLA chunked prefill)."""

LATENT_BLOCK = 64
"""Tokens in a block of latents that its kernels ask for on Hopper."""


def unfolded(shape: ModelShape, latent: Latent, batch: tuple[int, int], ways: int, block: int) -> int:
    """Bytes of the workspace of a long context, and of one batch's queries, keys and outputs (within 20 MiB of 4 runs).

    `batch`: its tokens and requests; `block`: tokens in a block of the KV cache.
    The workspace has room for a block of every request at once, and beside recurrent layers, whose states make blocks
    of thousands of tokens, that is all there is: 29.5 GiB of Kimi Linear for 1024 requests. Source: vLLM's
    determine_chunked_prefill_workspace_size.
    """
    tokens, seqs = batch
    rows = max(LATENT_ROWS, seqs * max(block, LATENT_BLOCK))
    heads = max(1, shape.heads // ways)
    context = 2 * rows * heads * (latent.nope_dim + latent.value_dim)
    each = heads * (latent.nope_dim + latent.rope_dim + latent.value_dim) + 2 * shape.hidden + latent.kv_rank
    return context + 2 * tokens * each
