"""Builders for tests: a spec or a model that states only what matters."""

from __future__ import annotations

from typing import Any

from vllm_operator.api import Metadata, Spec, VLLMModel


def a_spec(**fields: Any) -> Spec:
    """A spec with these fields (snake_case), everything else unset; the model is `demo/tiny` unless given."""
    return Spec.model_validate({"model": "demo/tiny"} | fields)


def a_model(
    name: str = "m",
    namespace: str = "demo",
    annotations: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
    **spec: Any,
) -> VLLMModel:
    """A stored VLLMModel of generation 1 with that spec; its uid follows from its name."""
    metadata = Metadata(
        name=name,
        namespace=namespace,
        uid=f"uid-{namespace}-{name}",
        generation=1,
        annotations=annotations or {},
        labels=labels or {},
    )
    return VLLMModel(metadata=metadata, spec=a_spec(**spec))
