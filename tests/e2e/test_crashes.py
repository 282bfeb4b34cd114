"""What the real vLLM logs when it fails at its start, from `kubectl apply` to the sentence in status."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e.world import GO_ON, Namespace, await_failure

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]
LORA = "vllm-operator/lora-rank-16"


@dataclass(frozen=True)
class Case:
    """One provoked failure: what is asked for, the reason, and words that the message or the remedy must hold."""

    name: str
    reason: str
    says: str
    spec: dict[str, Any] = field(default_factory=dict)


CRASHES = [
    Case("max-len-over-config", "MaxModelLenTooLong", "2048", {"maxModelLen": 100000}),
    Case(
        "kv-cache-too-small",
        "KVCacheTooSmall",
        "maxModelLen",
        {"maxModelLen": 2048, "kvCacheMemory": "1Mi", "env": []},
    ),
    Case("not-quantized", "QuantizationMismatch", "quantization", {"quantization": "awq"}),
    Case("unknown-value", "InvalidArgument", "extraArgs", {"extraArgs": ["--tool-strict-level=nonsense"]}),
    Case("heads", "TensorParallelInvalid", "tensorParallelSize", {"tensorParallelSize": 3}),
    Case(
        "unsupported-architecture", "UnsupportedArchitecture", "", {"model": "vllm-operator/unsupported-architecture"}
    ),
    Case("corrupt", "WeightsCorrupt", "", {"model": "vllm-operator/damaged-weights"}),
    Case("missing-shard", "WeightsMissing", "", {"model": "vllm-operator/missing-shard"}),
    Case(
        "lora-rank",
        "AdapterRankTooHigh",
        "maxLoRARank",
        {"adapters": [{"name": "a", "source": LORA}], "maxLoRARank": 8},
    ),
]


@pytest.mark.parametrize("case", CRASHES, ids=lambda case: case.name)
def test_a_crash_of_the_real_server_is_read_and_said(namespace: Namespace, case: Case) -> None:
    namespace.apply_real(annotations=GO_ON, **case.spec)

    failure = await_failure(namespace, case.reason, 240)

    assert case.says in failure["message"] + failure["remedy"]
    assert failure["remedy"]
    assert failure["pod"]
    ready = namespace.await_condition("Ready", "False", case.reason)
    assert failure["message"][:40] in ready["message"]
