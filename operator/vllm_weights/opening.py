"""From the name of a source to the client that speaks its protocol."""

from __future__ import annotations

from collections.abc import Mapping

from vllm_weights.grammar import Name
from vllm_weights.listing import Source


def open_source(name: Name, environment: Mapping[str, str], *, stall_seconds: float, parallelism: int) -> Source:
    """The source, not yet asked anything; libraries of a store are imported only when it is one of theirs."""
    # One silent connection is given up at half the time, so that a new one can end the silence before it is a stall.
    silence = stall_seconds / 2
    if name.kind == "hf":
        from vllm_weights.huggingface import HuggingFace

        return HuggingFace(name.repo, environment, silence_seconds=silence, parallelism=parallelism)
    if name.kind == "modelscope":
        from vllm_weights.modelscope import ModelScope

        return ModelScope(name.repo, environment, silence_seconds=silence, parallelism=parallelism)
    from vllm_weights.buckets import Bucket

    return Bucket(name, environment, silence_seconds=silence)
