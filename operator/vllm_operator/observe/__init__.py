"""From the cluster as it lives to `Seen`: what there is of a model, read live, and what its servers answer."""

from vllm_operator.observe.observer import Look, Observer

__all__ = ["Look", "Observer"]
