"""The model's servers: the Deployment, its pods, why they fail, and what they answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from vllm_operator.cluster.kinds import Json
from vllm_operator.decide.types import DeploymentSeen, PodSeen, ServerAnswer
from vllm_operator.diagnose import Failure, look_at_deployment
from vllm_operator.observe.explain import Explainer
from vllm_operator.observe.reading import (
    annotation,
    condition_is_true,
    container_state,
    count,
    is_deleting,
    metadata_of,
    parsed,
    seconds_as,
)
from vllm_operator.plan.labels import TEMPLATE_ANNOTATION, WANTED_ANNOTATION
from vllm_operator.probe import Prober, Question, Target

CONTAINER = "vllm"
BRINGER = "weights"
PORT_NAME = "http"
PORT = 8000
GIVE_WAY_SECONDS = 120.0  # without a device: a node that an autoscaler adds takes longer, one that comes free does not
API_KEY = "VLLM_API_KEY"


@dataclass(frozen=True, slots=True)
class Asked:
    """A server that was asked, and how to ask it again."""

    target: Target
    uid: str
    restarts: int
    question: Question
    answer: ServerAnswer


@dataclass(frozen=True, slots=True)
class Waiting:
    """A pod that is not up, its siblings, and what was said of it."""

    pod: Json
    others: tuple[Json, ...]
    failure: Failure | None
    hangs: bool


@dataclass(frozen=True, slots=True)
class Servers:
    """The pods as they are seen, and what is needed to see whether they are still so."""

    pods: tuple[PodSeen, ...]
    asked: tuple[Asked, ...]
    waiting: tuple[Waiting, ...]


def deployment_seen(live: Json, now: datetime) -> DeploymentSeen:
    """The Deployment as it lives."""
    return DeploymentSeen(
        live=live,
        wanted=annotation(live, WANTED_ANNOTATION),
        template=parsed(annotation(live, TEMPLATE_ANNOTATION)),
        replicas=count(live, "spec", "replicas"),
        ready_replicas=count(live, "status", "readyReplicas"),
        updated_replicas=count(live, "status", "updatedReplicas"),
        generation=count(live, "metadata", "generation"),
        observed_generation=count(live, "status", "observedGeneration"),
        failure=look_at_deployment(live),
        waits_long=seconds_as(live, "ReplicaFailure", "True", now) > GIVE_WAY_SECONDS,
    )


def server_pods(pods: Sequence[Json]) -> list[Json]:
    """The pods that a ReplicaSet made; those that have ended (evicted ones stay for days) only where no other is."""
    made = [
        pod for pod in pods if any(o.get("kind") == "ReplicaSet" for o in metadata_of(pod).get("ownerReferences") or [])
    ]
    living = [pod for pod in made if (pod.get("status") or {}).get("phase") not in {"Succeeded", "Failed"}]
    return living or made


async def look_at_servers(
    pods: Sequence[Json], names: tuple[str, ...], runner: str | None, explainer: Explainer, prober: Prober
) -> Servers:
    """All pods, looked at side by side."""
    looks = [_look_at(pod, pods, names, runner, explainer, prober) for pod in pods]
    found = await asyncio.gather(*looks)
    return Servers(
        tuple(seen for seen, _, _ in found),
        tuple(asked for _, asked, _ in found if asked is not None),
        tuple(waiting for _, _, waiting in found if waiting is not None),
    )


async def _look_at(
    pod: Json,
    siblings: Sequence[Json],
    names: tuple[str, ...],
    runner: str | None,
    explainer: Explainer,
    prober: Prober,
) -> tuple[PodSeen, Asked | None, Waiting | None]:
    seen = _pod_seen(pod, explainer.now())
    asked = await _ask(pod, seen, names, runner, prober)
    others = tuple(other for other in siblings if other is not pod)
    failure = await explainer.explain(pod, others)
    waiting = None if seen.ready or seen.terminating else Waiting(pod, others, failure, explainer.hangs(pod))
    if asked is not None and failure is None:
        failure = asked.answer.refusal
    hangs = not seen.started and explainer.hangs(pod)
    return replace(seen, answer=asked.answer if asked else None, failure=failure, hangs=hangs), asked, waiting


def _pod_seen(pod: Json, now: datetime) -> PodSeen:
    status = container_state(pod, CONTAINER)
    return PodSeen(
        name=str(metadata_of(pod).get("name")),
        wanted=annotation(pod, WANTED_ANNOTATION),
        ready=condition_is_true(pod, "Ready"),
        terminating=is_deleting(pod),
        restarts=count(status, "restartCount") + count(_bringer(pod), "restartCount"),
        node=str((pod.get("spec") or {}).get("nodeName") or ""),
        started=status.get("started") is True and "running" in (status.get("state") or {}),
        waits_long=seconds_as(pod, "PodScheduled", "False", now) > GIVE_WAY_SECONDS,
    )


def _bringer(pod: Json) -> Json:
    """The status of the container that brings the weights before the server starts, where a pod has one."""
    found: list[Json] = (pod.get("status") or {}).get("initContainerStatuses") or []
    return next((status for status in found if status.get("name") == BRINGER), {})


async def _ask(pod: Json, seen: PodSeen, names: tuple[str, ...], runner: str | None, prober: Prober) -> Asked | None:
    """The port opens only after the model is loaded: a server that has not started is not asked."""
    if not seen.started or seen.terminating:
        return None
    target, question = target_of(pod), _question(pod, names, runner)
    uid = str(metadata_of(pod).get("uid"))
    answer = await prober.ask(target, uid, seen.restarts, question)
    return Asked(target, uid, seen.restarts, question, answer)


def target_of(pod: Json) -> Target:
    """The pod's server port, and whether it speaks TLS. The pod itself says so: it may be of an older spec."""
    container = _container(pod)
    ports = (port for port in container.get("ports") or [] if port.get("name") == PORT_NAME)
    port = next((port.get("containerPort") for port in ports), None)
    scheme = ((container.get("readinessProbe") or {}).get("httpGet") or {}).get("scheme")
    metadata = metadata_of(pod)
    address = str((pod.get("status") or {}).get("podIP") or "")
    return Target(str(metadata["namespace"]), str(metadata["name"]), address, port or PORT, scheme == "HTTPS")


def _question(pod: Json, names: tuple[str, ...], runner: str | None) -> Question:
    variables = {variable.get("name") for variable in _container(pod).get("env") or []}
    return Question(names=names, runner=runner, key_required=API_KEY in variables)


def _container(pod: Json) -> Json:
    containers = (pod.get("spec") or {}).get("containers") or []
    return next((container for container in containers if container.get("name") == CONTAINER), {})


async def is_unchanged(
    asked: Sequence[Asked], waiting: Sequence[Waiting], explainer: Explainer, prober: Prober
) -> bool:
    """Asks the same servers the same things again, and why others are not up: True when all is as before."""
    answers, reasons = await asyncio.gather(
        asyncio.gather(*(prober.ask(a.target, a.uid, a.restarts, a.question) for a in asked)),
        asyncio.gather(*(explainer.explain(w.pod, w.others) for w in waiting)),
    )
    return all(answer == before.answer for answer, before in zip(answers, asked, strict=True)) and all(
        failure == before.failure and explainer.hangs(before.pod) == before.hangs
        for failure, before in zip(reasons, waiting, strict=True)
    )
