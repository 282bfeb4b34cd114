"""Carrying a decision out, write by write, so that an end between any two of them is healed by the next look.

The decision's fields come in their order but for the deletions, which come before the status: the status says that a
change was seen (observedGeneration), and a failed Job is only deleted while it does not. And a refused write is told in
the status.
"""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime

from vllm_operator.admitted import Admitted, dropped_images, images_mounted
from vllm_operator.api import ConditionType, Status, VLLMModel
from vllm_operator.cluster import ApiError, Cluster, Conflict, Forbidden, Owner, PlatformWriter, Refused, Writer
from vllm_operator.cluster.kinds import NODES, VOLUMES, Json, kind_of, path_of, ref_of
from vllm_operator.decide.deciding import refuse
from vllm_operator.decide.finding import Fact, Truth
from vllm_operator.decide.reasons import StateReason
from vllm_operator.decide.types import Decision, Mark, Ref
from vllm_operator.diagnose import Failure, Reason, failure, masked
from vllm_operator.diagnose.rules import find
from vllm_operator.events import Recorder
from vllm_operator.observe import Look
from vllm_operator.observe.reading import is_ours, metadata_of

_PLATFORMS = (path_of(VOLUMES), f"{path_of(NODES)}/")
_DETAILS = frozenset(ConditionType) - {ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED}


class CarryingOut:
    """One decision about one model, which was read at `version`.

    `status_version` is the version that our write of the status made, if any; `growth_refused` says why a volume did
    not get larger.
    """

    def __init__(
        self,
        cluster: Cluster,
        recorder: Recorder,
        model: VLLMModel,
        look: Look,
        version: str,
        admitted: Admitted,
        home: str,
    ) -> None:
        metadata = model.metadata
        self._cluster = cluster
        self._recorder = recorder
        self._model = model
        self._owner = Owner(metadata.namespace, metadata.name, metadata.uid)
        self._writer = Writer(cluster.connection, self._owner)
        self._platform = PlatformWriter(cluster.connection, home)
        self._versions = dict(look.versions)
        self._version = version
        self._admitted = admitted
        self.status_version = ""
        self.growth_refused = ""

    @property
    def told(self) -> Status:
        """What the model's status says now, as far as it was read or written here."""
        return self._model.status

    async def do(self, decision: Decision, *, refused_before: bool = False) -> None:
        """Raises ApiError; a write that the server does not allow is told in the status first.

        Where the last try was refused the status waits for this one's outcome, lest it says two things in turn.
        """
        # What was to be deleted is asked for only by a status that has not seen the change: that is what it stays.
        await self._or_told(self._clear(decision), self._model.status, decision)
        if not refused_before:
            await self._tell(decision.status)
        await self._or_told(self._write(decision), decision.status, decision)
        await self._tell(decision.status)
        for event in decision.events:
            await self._recorder.tell(self._owner, event)

    async def _or_told(self, writes: Awaitable[None], status: Status, decision: Decision) -> None:
        """The writes; where one is not allowed, that is told in the status, and raised."""
        try:
            await writes
        except (Forbidden, Refused) as error:
            assert decision.decided_at is not None
            await self._tell(told_refusal(self._model, status, error, decision.decided_at))
            raise

    async def _clear(self, decision: Decision) -> None:
        """What comes before the status: labels off nodes, and deletions."""
        await self._mark(decision.unmark)
        for ref in decision.delete:
            await self._writer.delete(ref, self._uid(ref))
        for name in decision.discard:
            await self._platform.discard(name)

    async def _tell(self, status: Status) -> None:
        """Writes the status, but only one that says something new."""
        if status != self._model.status:
            self._version = await self._writer.status(status.as_json(), self._version)
            self.status_version = self._version
            self._model = self._model.model_copy(update={"status": status})

    async def _write(self, decision: Decision) -> None:
        made = {ref_of(manifest) for manifest in decision.create if await self._create(manifest, decision.own)}
        for ref in decision.own:
            if ref in made:
                continue
            await self._writer.own(ref, await self._uid_of_shared(ref))
        for ref, size in decision.grow.items():
            await self._grow(ref, size)
        for ref, values in decision.annotate.items():
            await self._writer.annotate(ref, values, self._uid(ref))
        for manifest in decision.establish:
            await self._platform.establish(manifest)
        await self._mark(decision.mark)
        for manifest in decision.apply:
            self._admitted.learn(manifest, await self._apply(manifest))
        await self._let_go(decision)

    async def _grow(self, ref: Ref, size: str) -> None:
        """Most storage cannot be enlarged, and what is on it is as good as before: that is told, and hinders nothing."""
        try:
            await self._writer.grow(ref, size, self._uid(ref))
        except (Forbidden, Refused) as error:
            self.growth_refused = error.message

    async def _let_go(self, decision: Decision) -> None:
        """Of what this model uses no more, or does not own as it did."""
        for ref in decision.release:
            await self._writer.release(ref)
        for ref in decision.retain:
            await self._writer.retain(ref)
        for ref in decision.disown:
            await self._writer.disown(ref)

    async def _apply(self, manifest: Json) -> Json:
        """What the apply came to. Raises Refused where pods would start without the image that holds their weights."""
        uid = self._versions.get(ref_of(manifest), ("", ""))[0]
        if images_mounted(manifest):
            lost = dropped_images(manifest, await self._writer.apply(manifest, uid, dry_run=True))
            if lost:
                raise Refused(0, f"the API server drops the image volume{'s' * (len(lost) > 1)} {', '.join(lost)}")
        return await self._writer.apply(manifest, uid)

    async def _mark(self, marks: tuple[Mark, ...]) -> None:
        for mark in marks:
            await self._platform.mark(mark)
        if marks:
            self._cluster.nodes_changed()

    async def _create(self, manifest: Json, owned: tuple[Ref, ...]) -> bool:
        """Whether this made it, with this model as its first owner if it is to be one.

        A second write for the ownerReference would meet the scheduler's or the provisioner's.
        """
        ref = ref_of(manifest)
        made = await self._writer.create(manifest, owned=ref in owned)
        if made is not None:
            self._versions[ref] = (str(metadata_of(made)["uid"]), "")
        return made is not None

    def _uid(self, ref: Ref) -> str:
        if ref not in self._versions:
            raise Conflict(0, f"{ref.kind} {ref.name} was not seen")
        return self._versions[ref][0]

    async def _uid_of_shared(self, ref: Ref) -> str:
        """Of an object that was seen, made, or made by somebody else in this very moment."""
        if ref in self._versions:
            return self._versions[ref][0]
        live = await self._cluster.get(kind_of(ref), self._owner.namespace, ref.name)
        if live is None or not is_ours(live):
            raise Conflict(0, f"{ref.kind} {ref.name} came and went")
        return str(metadata_of(live)["uid"])


def _beyond_the_namespace(error: ApiError) -> Failure | None:
    """A refusal that is about the nodes' own disks: no change of the model helps."""
    if not any(path in error.message for path in _PLATFORMS):
        return None
    remedy = "Give the operator the rights that its chart gives with settings.nodeCache."
    return failure(Reason.PodRejected, f"The operator may not do what nodeCache takes: {error.message}", remedy=remedy)


def told_refusal(model: VLLMModel, status: Status, error: ApiError, now: datetime) -> Status:
    """The status with the API server's refusal (a quota, an admission policy, missing rights) as what hinders it."""
    found = (
        _beyond_the_namespace(error)
        or find(error.message, "create")
        or failure(Reason.PodRejected, f"The API server refuses an object of the model: {error.message}")
    )
    return _summed_up(model, status, ("False", found.reason, f"{found.message} {found.remedy}"), now)


def told_fault(model: VLLMModel, error: Exception, now: datetime) -> Status:
    """The model's status with a fault of the operator's own as what hinders it: whether it is Ready, nobody has seen."""
    what = masked(f"{type(error).__name__}: {error}")[:300].rstrip(". ")
    message = f"The operator failed at this model by a fault of its own, and tries again; its log has more. {what}."
    return _summed_up(model, model.status, ("Unknown", StateReason.OPERATOR_ERROR, message), now)


def _summed_up(model: VLLMModel, status: Status, ready: tuple[Truth, str, str], now: datetime) -> Status:
    """The status with that Ready (status, reason, message), still being worked at; its other conditions stay."""
    kept = tuple(
        Fact(ConditionType(c.type), c.status, c.reason, c.message) for c in status.conditions if c.type in _DETAILS
    )
    truth, reason, message = ready
    facts = (
        *kept,
        Fact(ConditionType.READY, truth, reason, message),
        Fact(ConditionType.RECONCILING, "True", reason, message),
    )
    told = refuse(model.status, status.observed_generation, facts, now)
    return status.model_copy(update={"conditions": told.conditions})
