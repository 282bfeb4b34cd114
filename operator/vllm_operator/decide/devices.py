"""One accelerator of the spec, and several kinds of device that its nodes have: what may be said of them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vllm_operator.decide.types import DeviceSeen
from vllm_operator.fit import Verdict

GIB = 1 << 30
Judged = tuple[DeviceSeen, Verdict]


def among(judged: Sequence[Judged]) -> Verdict:
    """The verdict where pods may come to any of these devices, the largest of which comes first.

    A misfit on all of them is one, and told of the largest; a fit on all of them is told of the smallest. Fitting some is
    unknown: the scheduler chooses.
    """
    answers = {verdict.fits for _, verdict in judged}
    if answers == {True}:
        return judged[-1][1]
    if answers == {True, False}:
        return _chosen_by_the_scheduler(judged)
    return next((verdict for _, verdict in judged if verdict.fits is None), judged[0][1])


def alone_on(device: DeviceSeen, verdict: Verdict) -> Verdict:
    """A device that several pods get is not all the model's: what fits by itself may then not."""
    if device.shared_by < 2 or verdict.fits is not True:
        return verdict
    note = f"missing: what others take of the device, which up to {device.shared_by} pods share"
    return replace(verdict, fits=None, note="; ".join(text for text in (note, verdict.note) if text))


def _chosen_by_the_scheduler(judged: Sequence[Judged]) -> Verdict:
    good = ", ".join(dict.fromkeys(_named(device) for device, verdict in judged if verdict.fits))
    bad = ", ".join(dict.fromkeys(_named(device) for device, verdict in judged if verdict.fits is False))
    told = next(verdict for _, verdict in judged if verdict.fits is False)
    note = (
        f"missing: the node that the pod will come to; it fits on {good}, and not on {bad}: "
        "name an accelerator of one kind, or choose nodes by pod.nodeSelector"
    )
    return replace(told, fits=None, reason=None, message="", note=note, remedied=())


def _named(device: DeviceSeen) -> str:
    size = f" ({device.memory_bytes / GIB:.0f} GiB)" if device.memory_bytes else ""
    return f"{device.product or 'a device without a name'}{size}"
