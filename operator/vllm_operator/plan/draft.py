"""The draft model of speculative decoding: a source like any other, or a word that vLLM knows by itself."""

from __future__ import annotations

import re
from typing import Any

from vllm_operator.api import Spec, parse_source
from vllm_operator.api.source import Source

# `model` of vLLM's SpeculativeConfig where there is no second model (vllm/config/speculative.py).
_NO_MODEL = frozenset({"ngram", "[ngram]", "ngram_gpu", "suffix", "extract_hidden_states"})
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]{0,127}")


def draft_of(spec: Spec) -> tuple[Source, str | None] | None:
    """Where the draft model is, and its revision; None where there is none, or it is the model's own heads (MTP).

    Raises ValueError, with the field, for what is no source. A path in the pod is the user's own affair.
    """
    settings = spec.speculative_config or {}
    text = settings.get("model")
    if not isinstance(text, str) or text.startswith("/") or text in _NO_MODEL:
        return None
    if settings.get("method") == "custom_class":
        return None
    try:
        source = parse_source(text)
    except ValueError as error:
        raise ValueError(f"speculativeConfig.model: {error}") from error
    revision = settings.get("revision")
    if revision is not None and not (isinstance(revision, str) and _REVISION.fullmatch(revision)):
        raise ValueError("speculativeConfig.revision is no branch, tag or commit")
    if source.uri == parse_source(spec.model).uri:
        return None
    return source, revision or source.revision


def with_draft(spec: Spec, model_path: str, draft_path: str | None) -> Spec:
    """The spec as the server's pod sees it: paths in place of sources, and no revision, which the path stands for."""
    settings: dict[str, Any] = dict(spec.speculative_config or {})
    text = settings.get("model")
    if not isinstance(text, str) or text.startswith("/") or text in _NO_MODEL:
        return spec
    if draft_path is None and settings.get("method") == "custom_class":
        return spec
    settings["model"] = draft_path or model_path
    settings.pop("revision", None)
    return spec.model_copy(update={"speculative_config": settings})
