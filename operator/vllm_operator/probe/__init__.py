"""Asking servers over HTTP: how a pod is reached, and what a vLLM server's answers mean."""

from vllm_operator.probe.adapters import AdapterLoader, Server
from vllm_operator.probe.reach import Direct, Reach, Reply, Target, Through
from vllm_operator.probe.server import Prober, Question

__all__ = ["AdapterLoader", "Direct", "Prober", "Question", "Reach", "Reply", "Server", "Target", "Through"]
