"""What the servers themselves show: which answer, of which version, and whether that is all that was asked for."""

from __future__ import annotations

from dataclasses import dataclass

from vllm_operator.decide.situation import Situation, works
from vllm_operator.decide.types import PodSeen


@dataclass(frozen=True, slots=True)
class Servers:
    """The pods, sorted. Ready is about the version that is asked for; available about any."""

    working: tuple[PodSeen, ...]  # of the version asked for, and they answer
    dull: tuple[PodSeen, ...]  # of the version asked for, ready by their probe, and they do not answer
    older: tuple[PodSeen, ...]  # of another version, and ready by their probe
    answering: tuple[PodSeen, ...]  # of any version, those asked for first
    ready: bool


def survey(here: Situation) -> Servers:
    """The pods as they are, and the one rule of Ready."""
    working = tuple(pod for pod in here.pods_of_now if works(pod))
    dull = tuple(pod for pod in here.pods_of_now if pod.ready and not works(pod))
    older = tuple(pod for pod in here.pods_of_before if pod.ready)
    answering = (*working, *(pod for pod in here.pods_of_before if works(pod)))
    return Servers(working, dull, older, answering, _all_serve(here, working) and not dull and not older)


def _all_serve(here: Situation, working: tuple[PodSeen, ...]) -> bool:
    """Kubernetes' word about the Deployment is about its present generation, and the servers say the same."""
    live, desired = here.deployment, here.desired
    if live is None or not here.deployed or desired == 0:
        return False
    current = live.observed_generation >= live.generation
    enough = live.ready_replicas >= desired and live.updated_replicas >= desired and live.replicas == desired
    return current and enough and len(working) >= desired
