"""The weights on the nodes' own disks: one folder, one download, one label for each node that may run the model.

A node's copy is made by itself: one that fails, hangs or is away holds up no other, and the model goes on with the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from vllm_operator.decide.annotations import MADE_WITH
from vllm_operator.decide.finding import Finding, Outcome, because, outcome_of
from vllm_operator.decide.jobs import SOON, downloading, job_ref, not_yet, owned, retry_is_due
from vllm_operator.decide.progress import nodes_status, told
from vllm_operator.decide.reasons import StateReason
from vllm_operator.decide.situation import Situation
from vllm_operator.decide.types import JobSeen, JobState, Mark, NodeSeen, Ref
from vllm_operator.decide.weights import claim_ref, pull, ready, with_claims_owner
from vllm_operator.diagnose import FOLDER_IS_GONE, Failure, Reason, failure
from vllm_operator.plan import ClaimPlan, FolderJobPlan, JobPlan, NodesPlan
from vllm_operator.plan.jobs import pull_on
from vllm_operator.plan.nodes import PREPARE, Folder, folder_job, life_of, volume_of
from vllm_operator.render import render_part

NODES_AGAIN: Final = 60.0  # seconds: nodes are watched, but not by an operator that may not
FOLDER_AGAIN: Final = 2.0  # seconds: the folder's Job takes a second or two
_TOLD: Final = 3  # nodes that a message names


class At(Enum):
    """How far a node's copy is."""

    READY = "ready"
    AWAY = "away"  # takes no pods now
    QUEUED = "queued"  # its turn comes
    UNDERWAY = "underway"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Step:
    """A node's copy, and what is to be done for it."""

    node: NodeSeen
    at: At
    do: Finding
    failure: Failure | None = None


def bring(here: Situation) -> Finding:
    """The case of the pull, wherever the weights come to lie."""
    assert here.weights is not None  # the inspection's case is done
    nodes = here.weights.nodes
    return pull(here) if nodes is None else fill(here, nodes)


def fill(here: Situation, plan: NodesPlan) -> Finding:
    """Done as soon as one node has the weights whole."""
    assert here.weights is not None and here.weights.claim is not None and here.plan.settings.node_cache is not None
    claim, seen = here.weights.claim, here.seen.claim
    held = Finding(Outcome.DONE, goes_on=here.deployed)
    if seen is None or seen.deleting:
        return _without_claim(here, held, plan, claim)
    held = with_claims_owner(here, held, claim, seen)
    folder = here.seen.cache.volume
    if folder is None:
        volume = volume_of(here.plan.settings.node_cache, claim, seen.uid)
        return replace(downloading(held, "The volume on the nodes is made."), establish=(render_part(volume),))
    steps = tuple(_steps(here, plan, folder, life_of(seen.uid)))
    return _together(_said(here, held, steps, life_of(seen.uid)), steps)


def _without_claim(here: Situation, held: Finding, plan: NodesPlan, claim: ClaimPlan) -> Finding:
    """It is made; one that is on its way out is waited for, and downloads that would hold it up are ended."""
    if here.seen.claim is not None:
        cache = here.seen.cache
        pulls = [(node, pull_on(plan.pull, node.name, node.uid, cache.life)) for node in cache.nodes if cache.life]
        waiting = "The old volume is being deleted, and a new one is made when it is gone."
        found = not_yet(held, Outcome.UNDERWAY, StateReason.WAITING_FOR_VOLUME, waiting)
        return replace(found, delete=tuple(ref for node, job in pulls for ref in _ref(node, job)))
    begun = downloading(held, "The volume is made and the download starts.")
    return replace(begun, create=(render_part(claim),), own=() if claim.retain else (claim_ref(claim),))


def _steps(here: Situation, plan: NodesPlan, folder: Folder, life: str) -> Iterator[Step]:
    nodes = here.seen.cache.nodes
    room = plan.at_a_time - sum(_is_at_work(node, life) for node in nodes)
    for node in nodes:
        step = _step(here, plan, folder, life, node)
        if step.at is At.QUEUED and room > 0:
            room -= 1
            manifest = render_part(folder_job(here.plan.settings, folder, node.name, node.uid, PREPARE))
            step = replace(step, at=At.UNDERWAY, do=replace(step.do, establish=(manifest,)))
        yield step


def _is_at_work(node: NodeSeen, life: str) -> bool:
    """Counts against the nodes at a time; one that is away or hindered must not keep others waiting."""
    begun = node.prepare.state is not JobState.ABSENT
    ended = JobState.FAILED in (node.prepare.state, node.pull.state)
    hindered = node.prepare.failure is not None or node.pull.failure is not None
    return node.usable and node.mark != life and begun and not ended and not hindered


def _step(here: Situation, plan: NodesPlan, folder: Folder, life: str, node: NodeSeen) -> Step:
    job = pull_on(plan.pull, node.name, node.uid, life)
    stuck = tuple(
        Ref("v1", "Pod", pod.name)
        for pod in here.seen.pods
        if pod.node == node.name and not pod.terminating and _is_gone(pod.failure)
    )
    do = replace(owned(node.pull, job), delete=stuck)
    mark = Mark(node.name, node.uid, plan.label, life, is_set=True)
    if (stuck and node.mark == life) or _is_gone(node.pull.failure):
        # The disk was wiped, or the node is another by the same name.
        unmark = (replace(mark, is_set=False),) if node.mark else ()
        return Step(
            node, At.UNDERWAY, replace(_again(here, folder, node), unmark=unmark, delete=(*stuck, *_ref(node, job)))
        )
    if node.mark == life:
        return Step(node, At.READY, do)
    if not node.usable:
        return Step(node, At.AWAY, do)
    if node.prepare.state is not JobState.SUCCEEDED:
        return _folder_step(here, folder, node, job, do)
    return _pull_step(here, folder, node, job, do, mark)


def _folder_step(here: Situation, folder: Folder, node: NodeSeen, job: JobPlan, do: Finding) -> Step:
    if node.prepare.state is JobState.ABSENT or node.prepare.deleting:
        return Step(node, At.UNDERWAY if node.prepare.deleting else At.QUEUED, do)
    made = folder_job(here.plan.settings, folder, node.name, node.uid, PREPARE)
    asked = replace(job, annotations={**job.annotations, MADE_WITH: made.annotations[MADE_WITH]})
    step = _hindered(here, folder, node, asked, do, node.prepare)
    if step is None or step.failure is None:
        return step or Step(node, At.UNDERWAY, do)
    return replace(step, failure=_of_the_platform(made, step.failure))


def _of_the_platform(job: FolderJobPlan, found: Failure) -> Failure:
    """A failure of a Job that the model's user does not see: where it is, and who can help."""
    remedy = f"Let the platform look at Job {job.name} in namespace {job.namespace}. {found.remedy}"
    if found.reason is Reason.PodRejected:
        remedy = (
            f"Let the platform allow hostPath pods in namespace {job.namespace} (Pod Security `privileged`), or name "
            "another one in nodeCache.namespace."
        )
    message = f"Job {job.namespace}/{job.name}, which makes the folder for the weights: {found.message}"
    return replace(found, message=message, remedy=remedy)


def _pull_step(here: Situation, folder: Folder, node: NodeSeen, job: JobPlan, do: Finding, mark: Mark) -> Step:
    seen = node.pull
    if seen.deleting:
        return Step(node, At.UNDERWAY, do)
    if seen.state is JobState.SUCCEEDED:
        return Step(node, At.UNDERWAY, replace(do, mark=(mark,)))
    if seen.state is JobState.ABSENT:
        return Step(node, At.UNDERWAY, replace(do, create=(render_part(job),), own=(*do.own, job_ref(job))))
    return _hindered(here, folder, node, job, do, seen) or Step(node, At.UNDERWAY, do)


def _hindered(here: Situation, folder: Folder, node: NodeSeen, job: JobPlan, do: Finding, seen: JobSeen) -> Step | None:
    """A Job of the node that failed, or that something keeps from going on."""
    if seen.state is not JobState.FAILED and seen.failure is None:
        return None
    if retry_is_due(here, job, seen):
        # A download that failed keeps its folder: the folder's Job is what tells that something is on the disk.
        again = Finding(Outcome.DONE, delete=_ref(node, job)) if seen is node.pull else _again(here, folder, node)
        return Step(node, At.UNDERWAY, again)
    found = seen.failure or failure(Reason.DownloadFailed, "The Job failed and did not say why.")
    return Step(node, At.FAILED, do, found)


def _again(here: Situation, folder: Folder, node: NodeSeen) -> Finding:
    """Folder and download are made anew, from the folder on."""
    name = folder_job(here.plan.settings, folder, node.name, node.uid, PREPARE).name
    return Finding(Outcome.DONE, discard=() if node.prepare.state is JobState.ABSENT else (name,))


def _ref(node: NodeSeen, job: JobPlan) -> tuple[Ref, ...]:
    return () if node.pull.state is JobState.ABSENT or node.pull.deleting else (job_ref(job),)


def _is_gone(found: Failure | None) -> bool:
    return found is not None and FOLDER_IS_GONE in f"{found.message} {found.excerpt}"


def _together(said: Finding, steps: tuple[Step, ...]) -> Finding:
    """What is said of the whole, with what is done for each node."""
    return replace(
        said,
        create=tuple(item for step in steps for item in step.do.create),
        own=(*said.own, *(ref for step in steps for ref in step.do.own)),
        delete=tuple(ref for step in steps for ref in step.do.delete),
        unmark=tuple(mark for step in steps for mark in step.do.unmark),
        discard=tuple(name for step in steps for name in step.do.discard),
        establish=tuple(item for step in steps for item in step.do.establish),
        mark=tuple(mark for step in steps for mark in step.do.mark),
    )


def _said(here: Situation, held: Finding, steps: tuple[Step, ...], life: str) -> Finding:
    by = {at: [step for step in steps if step.at is at] for at in At}
    count, failed = f"{len(by[At.READY])} of {len(steps)} nodes", by[At.FAILED]
    again = FOLDER_AGAIN if any(step.node.prepare.state is JobState.RUNNING for step in by[At.UNDERWAY]) else SOON
    if by[At.READY]:
        message = f"The weights are on {count}, whole and verified. {_names_of(failed)}".strip()
        look = again if by[At.UNDERWAY] else None
        fact = ready(StateReason.DOWNLOADED, message)
        return replace(held, facts=(fact,), look_again_after=look, fills_more=look is not None)
    if by[At.UNDERWAY]:
        assert here.weights is not None
        progress = told(nodes_status(here.model.status.weights, here.weights, here.seen.cache, life))
        found = downloading(held, f"The weights are on {count}. {progress} {_names_of(failed)}".strip())
        return replace(found, look_again_after=again)
    if failed:
        worst = next((step.failure for step in failed if step.failure and step.failure.retry), failed[0].failure)
        assert worst is not None
        found = not_yet(held, outcome_of(worst), worst.reason, _names_of(failed))
        return replace(found, failure=worst)
    return replace(_nowhere(held, by[At.AWAY]), look_again_after=NODES_AGAIN)


def _nowhere(held: Finding, away: list[Step]) -> Finding:
    names = ", ".join(step.node.name for step in away[:_TOLD])
    message = (
        f"No node that may run the model takes pods now ({names}): the weights are brought when one does."
        if away
        else "No node may run the model: none has the accelerator's labels, devices and taints that are borne. "
        "Correct accelerator or pod.nodeSelector, or add such a node."
    )
    return not_yet(held, Outcome.UNDERWAY, Reason.Unschedulable, message)


def _names_of(failed: list[Step]) -> str:
    """Which nodes have no copy, and why."""
    named = [f"{step.node.name}: {because(step.failure)}" for step in failed[:_TOLD] if step.failure]
    more = f" And {len(failed) - _TOLD} more nodes." if len(failed) > _TOLD else ""
    return " ".join(named) + more
