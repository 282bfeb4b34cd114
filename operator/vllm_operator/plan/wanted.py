"""The hash of what the user asked for: while it stays, so do the serving pods, whatever the operator's version."""

from __future__ import annotations

from vllm_operator.api import VLLMModel


def wanted(model: VLLMModel, commit: str | None) -> str:
    """64 hexadecimal digits over the spec (without what changes no pod), the commit and the upgrade annotation."""
    raise NotImplementedError
