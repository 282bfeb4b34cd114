"""How long a server may take to start and to stop, and how the kubelet asks it."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

from vllm_operator.api import Spec, quantity_bytes
from vllm_operator.settings import Settings
from vllm_operator.settings.types import Probe

PORT_NAME = "http"
_LEAST_STARTUP_SECONDS = 600
# Imports, profiling, compiling and CUDA graphs: 25 s to 75 s measured for models of 1 to 30 B, cold; slow disks and
# large models take several times that.
_BESIDE_READING_SECONDS = 300
# Between the end of the drain and the last process: seen 0.4 s to 5.6 s.
_AFTER_DRAIN_SECONDS = 20


def startup_seconds(spec: Spec, settings: Settings, weights_bytes: int | None) -> int:
    """The time to load and compile: the user's, the platform's, or from the bytes at the platform's reading speed."""
    given = spec.startup_timeout_seconds or settings.defaults.startup_timeout_seconds
    if given:
        return given
    reading = ceil((weights_bytes or 0) / quantity_bytes(settings.defaults.read_speed))
    return max(_LEAST_STARTUP_SECONDS, reading + _BESIDE_READING_SECONDS)


def shutdown_seconds(spec: Spec, settings: Settings) -> int:
    """The time that running requests get. Never 0: with vLLM's default of 0 a server with an open stream may never end."""
    return spec.shutdown_timeout_seconds or settings.defaults.shutdown_timeout_seconds


def grace_seconds(spec: Spec, settings: Settings) -> int:
    """What adds up before the kubelet may kill: leaving the Service, draining, ending."""
    return settings.defaults.pre_stop_seconds + shutdown_seconds(spec, settings) + _AFTER_DRAIN_SECONDS


def startup_probe(spec: Spec, settings: Settings, seconds: int) -> Mapping[str, Any]:
    """Asks until the startup budget is spent; the port opens only when the model is loaded."""
    probe = settings.probes.startup
    tries = max(ceil(seconds / probe.period_seconds), probe.failure_threshold)
    return _probe(spec, probe.period_seconds, probe.timeout_seconds, tries)


def readiness_probe(spec: Spec, settings: Settings) -> Mapping[str, Any]:
    """Takes a pod out of the Service."""
    return _from(spec, settings.probes.readiness)


def liveness_probe(spec: Spec, settings: Settings) -> Mapping[str, Any]:
    """Restarts a server whose engine is dead or whose loop is stuck."""
    return _from(spec, settings.probes.liveness)


def _from(spec: Spec, probe: Probe) -> Mapping[str, Any]:
    return _probe(spec, probe.period_seconds, probe.timeout_seconds, probe.failure_threshold)


def _probe(spec: Spec, period: int, timeout: int, tries: int) -> Mapping[str, Any]:
    scheme = "HTTPS" if spec.tls else "HTTP"
    return {
        "httpGet": {"path": "/health", "port": PORT_NAME, "scheme": scheme},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": tries,
    }
