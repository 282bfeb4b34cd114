"""Asking servers over HTTP: how a pod is reached, and what a vLLM server's answers mean."""

from vllm_operator.probe.reach import Direct, Reach, Reply, Target, Through
from vllm_operator.probe.server import Prober, Question

__all__ = ["Direct", "Prober", "Question", "Reach", "Reply", "Target", "Through"]
