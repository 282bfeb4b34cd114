"""What tests of the decision state: an inspection's answer, a server that works, failures, and how a status reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from vllm_operator.api import Condition, Status
from vllm_operator.decide.types import Decision, ServerAnswer
from vllm_operator.diagnose import Failure, Reason, failure
from vllm_operator.settings import load

SETTINGS = load(None)
GIB = 1 << 30
START = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}


def an_answer(commit: str = "a" * 40, **changes: object) -> dict[str, object]:
    """What an inspection of half a billion parameters says."""
    size = 988_097_824
    return {
        "version": 1,
        "ok": True,
        "source": "hf://demo/tiny",
        "commit": commit,
        "bytes": size,
        "files": 8,
        "largestFileBytes": size,
        "format": "safetensors",
        "config": CONFIG,
        "weights": {"totalBytes": size, "parameters": {"BF16": 494_032_768}},
        "hasTokenizer": True,
        "hasChatTemplate": True,
        "customCode": False,
        "architectures": ["Qwen2ForCausalLM"],
    } | changes


def answers(**changes: Any) -> ServerAnswer:
    """A server that works."""
    return replace(ServerAnswer(True, ("tiny",), 4096, works=True), **changes)


@dataclass
class Truth:
    """What is so outside of our objects: the hub, the nodes, the servers' health."""

    commit: str = "a" * 40
    inspection: Failure | None = None  # how the Job ends
    download: Failure | None = None
    crash: Failure | None = None  # every server ends with it
    works: bool = True
    custom_code: bool = False


def permanent(reason: Reason = Reason.InvalidArgument) -> Failure:
    return failure(reason, "it cannot work", retry=False)


def passing(reason: Reason = Reason.EngineDied) -> Failure:
    return failure(reason, "it may work next time", retry=True)


def said(status: Status, kind: str) -> Condition:
    """The condition of that type, which has to be there."""
    found = status.condition(kind)
    assert found is not None, kind
    return found


def ready(status: Status) -> tuple[str, str]:
    """Status and reason of Ready."""
    condition = said(status, "Ready")
    return condition.status, condition.reason


def writes_nothing(decision: Decision) -> bool:
    lists = (decision.create, decision.own, decision.annotate, decision.apply, decision.delete)
    return not any((*lists, decision.release, decision.grow, decision.retain, decision.disown))
