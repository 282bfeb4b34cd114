"""The hash of what the user asked for: while it stays, so do the serving pods, whatever the operator's version."""

from __future__ import annotations

import hashlib
from typing import Any

from vllm_operator.api import VLLMModel
from vllm_operator.plan.labels import UPGRADE_ANNOTATION
from vllm_operator.plan.names import canonical

# What changes no pod: how many there are, how they are replaced, whether the claim is kept.
_NEVER: dict[str, Any] = {"replicas": True, "rollout": True, "cache": {"retain"}}
# How the weights are fetched and by whose leave: another pod's concern, unless each pod fetches for itself.
_FETCHING: dict[str, Any] = {
    "token_secret_ref": True,
    "credentials_secret_ref": True,
    "download": {"parallelism", "stall_timeout_seconds", "tries"},
}


def wanted(model: VLLMModel, commit: str | None) -> str:
    """64 hexadecimal digits over the spec (without what changes no pod), the commit and the upgrade annotation.

    Only what differs from the API's defaults counts, so that a field that a later version adds changes no hash.
    """
    spec = model.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=_beside_the_pod(model))
    asked = {
        "spec": {key: value for key, value in spec.items() if value != {}},
        "commit": commit,
        "upgrade": model.metadata.annotations.get(UPGRADE_ANNOTATION),
    }
    kept = {key: value for key, value in asked.items() if value is not None}
    return hashlib.sha256(canonical(kept).encode("utf-8", "surrogatepass")).hexdigest()


def _beside_the_pod(model: VLLMModel) -> dict[str, Any]:
    # Servers that load adapters while they run are not made anew for another list of them.
    adapters: dict[str, Any] = {"adapters": True} if model.spec.loads_live else {}
    return _NEVER | adapters | ({} if model.spec.cache.type == "None" else _FETCHING)
