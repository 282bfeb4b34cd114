"""How far a download has come, told in steps that are worth a write.

A status that moved with every byte would be written every few seconds. A new figure is told when another percent is there,
or when the speed has changed so much that the time left is another one.
"""

from __future__ import annotations

from math import ceil, floor, log10
from typing import Final

from vllm_operator.api import NodesStatus, WeightsStatus
from vllm_operator.decide.types import JobSeen, JobState, NodeCacheSeen, NodeSeen, Progress
from vllm_operator.plan import WeightsPlan

_MIB: Final = 1 << 20
_GIB: Final = 1 << 30


def weights_status(before: WeightsStatus | None, plan: WeightsPlan | None, seen: JobSeen) -> WeightsStatus | None:
    """`status.weights`; None where nothing is downloaded."""
    if plan is None or (plan.pull is None and plan.nodes is None):
        return None
    tries = seen.tries or None
    total = plan.bytes
    if seen.state is JobState.SUCCEEDED:
        return WeightsStatus(claim_name=plan.claim_name, percent=100, bytes_done=total, bytes_total=total, tries=tries)
    kept = before if before is not None and before.claim_name == plan.claim_name and before.percent != 100 else None
    if seen.state is not JobState.RUNNING:
        return WeightsStatus(claim_name=plan.claim_name, bytes_total=total, tries=tries)
    if seen.progress is None:
        # Asked once and not answered: what was known stays, but no speed is claimed that nobody has seen.
        old = kept or WeightsStatus(claim_name=plan.claim_name, bytes_total=total)
        return old.model_copy(update={"tries": tries})
    fresh = _measured(plan, seen.progress, tries, kept)
    return kept if kept is not None and _is_the_same_news(kept, fresh) else fresh


def nodes_status(before: WeightsStatus | None, plan: WeightsPlan, seen: NodeCacheSeen, life: str) -> WeightsStatus:
    """`status.weights` of weights on the nodes' own disks: bytes of all nodes that have them or are to get them now.

    A node whose turn comes counts from the start, so that the percent does not fall when it begins.
    """
    ready = [node for node in seen.nodes if node.mark == life]
    to_come = [node for node in seen.nodes if node.mark != life and node.usable and not _has_failed(node)]
    total = plan.bytes or 0
    found = [node.pull.progress for node in to_come if node.pull.progress is not None]
    done = total * len(ready) + sum(progress.bytes_done for progress in found)
    speed = sum(progress.bytes_per_second for progress in found)
    whole = Progress(done, total * (len(ready) + len(to_come)), speed) if found else None
    # Before the first node's turn nothing is under way.
    begun = any(node.pull.state is not JobState.ABSENT for node in to_come) or (bool(ready) and bool(to_come))
    state = JobState.RUNNING if begun else JobState.SUCCEEDED if ready else JobState.ABSENT
    tries = max((node.pull.tries for node in seen.nodes), default=0)
    told = weights_status(before, plan, JobSeen(state, progress=whole, tries=tries)) or WeightsStatus()
    return told.model_copy(update={"nodes": NodesStatus(ready=len(ready), desired=len(seen.nodes))})


def _has_failed(node: NodeSeen) -> bool:
    return JobState.FAILED in (node.prepare.state, node.pull.state)


def told(weights: WeightsStatus | None) -> str:
    """The progress as a sentence: "42 %, 1.2 of 15.0 GiB, 350 MiB/s, about 40 s left"."""
    if weights is None or weights.percent is None or not weights.bytes_total:
        return "The download has started."
    done, total = _amounts(weights.bytes_done or 0, weights.bytes_total)
    parts = [f"{weights.percent} %", f"{done} of {total}"]
    if weights.bytes_per_second:
        parts.append(f"{_short(weights.bytes_per_second / _MIB)} MiB/s")
    if weights.eta_seconds is not None:
        parts.append(f"about {_duration(weights.eta_seconds)} left")
    return ", ".join(parts)


def two_digits(value: float) -> int:
    """A number rounded to two significant digits: what a speed is good for."""
    if value <= 0:
        return 0
    return int(round(value, 1 - floor(log10(value)))) if value >= 1 else 1


def _measured(plan: WeightsPlan, progress: Progress, tries: int | None, before: WeightsStatus | None) -> WeightsStatus:
    """The figures of now. They never go back on one volume: a new pod lists again first, and a wrong file comes again."""
    # A pull of several parts knows of the next one when it comes to it; the inspection has looked at all of them.
    total = max(progress.bytes_total, progress.bytes_done, plan.bytes or 0)
    is_same = before is not None and before.bytes_total == total
    done = max(progress.bytes_done, (before.bytes_done or 0) if before is not None and is_same else 0)
    # 100 is said when the Job has ended and everything is verified, not before.
    percent = min(done * 100 // total, 99) if total else 0
    speed = two_digits(progress.bytes_per_second)
    eta = _rounded((total - done) / speed) if speed else None
    return WeightsStatus(
        claim_name=plan.claim_name,
        percent=percent,
        bytes_done=done,
        bytes_total=total,
        bytes_per_second=speed,
        eta_seconds=eta,
        tries=tries,
    )


def _is_the_same_news(before: WeightsStatus, fresh: WeightsStatus) -> bool:
    if (before.percent, before.bytes_total, before.tries) != (fresh.percent, fresh.bytes_total, fresh.tries):
        return False
    old, new = before.bytes_per_second, fresh.bytes_per_second
    if not old or not new:
        return old == new
    return max(old, new) < 2 * min(old, new)


def _rounded(seconds: float) -> int:
    """Seconds in steps of 5, from two minutes on of 30, from ten minutes on of 60; never 0 while bytes are missing."""
    step = 5 if seconds < 120 else 30 if seconds < 600 else 60
    return max(ceil(seconds / step) * step, step)


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 99.5 else str(two_digits(value))


def _amounts(done: int, total: int) -> tuple[str, str]:
    unit, name = (_GIB, "GiB") if total >= _GIB else (_MIB, "MiB")
    return f"{done / unit:.1f}", f"{total / unit:.1f} {name}"


def _duration(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    minutes = ceil(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
