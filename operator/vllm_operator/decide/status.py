"""`.status` from what was found and seen. The same world gives the same status, so that a model at rest costs no write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from vllm_operator.api import AdapterStatus, ConditionType, SourceStatus, Status, WeightsStatus
from vllm_operator.decide.adapters import adapter_states, adapter_status
from vllm_operator.decide.annotations import REFRESH
from vllm_operator.decide.conditions import conditions
from vllm_operator.decide.failures import last_failure
from vllm_operator.decide.finding import Fact, Finding, Outcome
from vllm_operator.decide.progress import nodes_status, weights_status
from vllm_operator.decide.reasons import StateReason
from vllm_operator.decide.servers import Servers, survey
from vllm_operator.decide.situation import Situation
from vllm_operator.decide.types import JobState
from vllm_operator.plan import pinned_commit
from vllm_operator.plan.nodes import life_of


def status_of(here: Situation, findings: tuple[Finding, ...], now: datetime) -> Status:
    """The whole status. Nothing in it comes from the status before but history (`lastFailure`) and what is proven."""
    servers, before, live = survey(here), here.model.status, here.deployment
    generation = here.model.metadata.generation
    url = (here.server.url if here.server is not None else before.url) if servers.answering else None
    return Status(
        observed_generation=generation,
        conditions=conditions(before, _facts(here, findings, servers), generation, now),
        replicas=_pods_that_exist(here),
        ready_replicas=live.ready_replicas if live is not None else None,
        updated_replicas=live.updated_replicas if live is not None else None,
        selector=_selector(here),
        url=url,
        served_models=_served_models(servers),
        max_model_len=_max_model_len(servers),
        source=_source(here),
        weights=_weights(here),
        fit=next((finding.fit for finding in findings if finding.fit is not None), None),
        adapters=_adapters(here, servers),
        last_failure=last_failure(here, findings),
        refreshed=_refreshed(here),
    )


def _facts(here: Situation, findings: tuple[Finding, ...], servers: Servers) -> Iterator[Fact]:
    waiting = "Not looked at yet: something comes before it."
    yield Fact(ConditionType.WEIGHTS_READY, "Unknown", StateReason.PENDING, waiting)
    yield Fact(ConditionType.FITS, "Unknown", StateReason.PENDING, waiting)
    for finding in findings:
        yield from finding.facts
    yield _available(here, servers)
    unfinished = [finding for finding in findings if finding.outcome is not Outcome.DONE]
    yield _ready(here, unfinished, servers)
    yield from _progress(unfinished)


def _available(here: Situation, servers: Servers) -> Fact:
    count = len(servers.answering)
    if not count:
        return Fact(ConditionType.AVAILABLE, "False", StateReason.NO_SERVER, "No server answers.")
    old = count - len(servers.working)
    of_which = f", {old} of them of an older version" if old else ""
    verb = "server answers" if count == 1 else "servers answer"
    return Fact(ConditionType.AVAILABLE, "True", StateReason.SERVING, f"{count} {verb}{of_which}.")


def _ready(here: Situation, unfinished: list[Finding], servers: Servers) -> Fact:
    """Ready is what the servers show; what is unfinished takes it away, unless it is only about doing it again."""
    if servers.ready and all(finding.spares_ready for finding in unfinished):
        return Fact(
            ConditionType.READY, "True", StateReason.SERVING, f"{here.desired} of {here.desired} servers answer."
        )
    if not unfinished:
        # Every case is done and the survey says no: nothing can be claimed.
        return Fact(ConditionType.READY, "False", StateReason.NO_SERVER, "No server answers.")
    cause = _cause(unfinished)
    still = " An older version serves meanwhile." if servers.answering and not servers.working else ""
    return Fact(ConditionType.READY, "False", cause.reason, cause.message + still)


def _progress(unfinished: list[Finding]) -> Iterator[Fact]:
    """Reconciling or Stalled, never both, and neither when nothing is asked for (kstatus' conditions)."""
    if not unfinished:
        return
    cause = _cause(unfinished)
    if cause.outcome is Outcome.RESTING:
        return
    type_ = ConditionType.STALLED if cause.outcome is Outcome.STUCK else ConditionType.RECONCILING
    yield Fact(type_, "True", cause.reason, cause.message)


def _cause(unfinished: list[Finding]) -> Finding:
    """What to tell of several: what is stuck, since it needs somebody; else what comes first."""
    return next((finding for finding in unfinished if finding.outcome is Outcome.STUCK), unfinished[0])


def _weights(here: Situation) -> WeightsStatus | None:
    before, plan = here.model.status.weights, here.weights
    if plan is None or plan.nodes is None:
        return weights_status(before, plan, here.seen.pull)
    return nodes_status(before, plan, here.seen.cache, life_of(here.seen.claim.uid) if here.seen.claim else "")


def _pods_that_exist(here: Situation) -> int | None:
    if here.deployment is None:
        return None
    status = here.deployment.live.get("status")
    count = status.get("replicas") if isinstance(status, Mapping) else None
    return count if isinstance(count, int) else 0


def _selector(here: Situation) -> str | None:
    if here.deployment is None:
        return None
    spec = here.deployment.live.get("spec")
    selector = spec.get("selector") if isinstance(spec, Mapping) else None
    labels = selector.get("matchLabels") if isinstance(selector, Mapping) else None
    if not isinstance(labels, Mapping):
        return None
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or None


def _served_models(servers: Servers) -> tuple[str, ...]:
    """Names that the servers answer to, in the order in which they list them, those asked for first."""
    names: dict[str, None] = {}
    for pod in servers.answering:
        names |= dict.fromkeys(pod.answer.served_models if pod.answer is not None else ())
    return tuple(names)[:128]


def _max_model_len(servers: Servers) -> int | None:
    lengths = (pod.answer.max_model_len for pod in servers.answering if pod.answer is not None)
    return next((length for length in lengths if length is not None), None)


def _adapters(here: Situation, servers: Servers) -> tuple[AdapterStatus, ...]:
    if here.plan.adapter_claim is not None and here.deployment is not None:
        return tuple(adapter_status(state) for state in adapter_states(here))
    sources = {part.role: part.source.uri for part in here.plan.parts if part.is_adapter}
    commits = dict(here.weights.adapter_commits) if here.weights is not None else {}
    return tuple(
        AdapterStatus(
            name=adapter.name,
            source=sources.get(adapter.name),
            commit=commits.get(adapter.name),
            pods=tuple(pod.name for pod in servers.working if pod.answer and adapter.name in pod.answer.adapters)[
                :1000
            ],
        )
        for adapter in here.model.spec.adapters
    )


def _source(here: Situation) -> SourceStatus | None:
    """What the source was resolved to; while it is looked up again, the old answer where the Deployment proves it."""
    source = here.plan.source
    if here.weights is None and here.current is not None:
        return here.model.status.source
    if source is None:
        return None
    return SourceStatus(
        uri=source.uri,
        revision=here.model.spec.revision or source.revision,
        commit=here.weights.commit if here.weights is not None else pinned_commit(here.model, source),
        bytes=here.weights.bytes if here.weights is not None else None,
    )


def _refreshed(here: Situation) -> str | None:
    """The refresh annotation, once nothing is left that it was to clear."""
    acted = here.weights is not None and here.seen.pull.state is not JobState.FAILED and not here.is_stopped
    return here.annotations.get(REFRESH) if acted else here.model.status.refreshed
