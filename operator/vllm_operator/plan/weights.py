"""Where the weights come to lie, and the Job that brings them there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from vllm_operator.api import Spec, parse_source, quantity_bytes
from vllm_operator.plan.answer import Answer, AnswerError, read_answer
from vllm_operator.plan.jobs import pull_job
from vllm_operator.plan.labels import CLAIM_LABEL, SOURCE_ANNOTATION, VOLUME_LABEL, retain_labels, shared_labels
from vllm_operator.plan.mounts import Mounted, certificates_mount, claim_mount, folder_mount, mounted
from vllm_operator.plan.names import digest, hashed_name
from vllm_operator.plan.nodes import NODE_CLASS, NODE_MODE, nodes_plan
from vllm_operator.plan.parts import identity, streams, uses_nodes
from vllm_operator.plan.source import everyday_name
from vllm_operator.plan.types import ClaimPlan, JobPlan, NodesPlan, Part, Plan, Problem, ProblemReason, WeightsPlan

MIB = 1 << 20
# File systems keep 5 % for themselves and need room for their own tables; the rest is for what is renamed at the end.
_MARGIN_PERCENT = 110
_BESIDE_WEIGHTS = 64 * MIB
_COMPILE_CACHE = 2048 * MIB  # some 100 MB a compiled model, and several images and sizes over time
_MODE = "ReadWriteOnce"


@dataclass(frozen=True, slots=True)
class _Pulled:
    """A part that is downloaded: what was found of it, and the folder on the claim that is its own."""

    index: int
    part: Part
    commit: str
    tokenizer_commit: str | None
    folder: str

    @property
    def request(self) -> dict[str, Any]:
        request: dict[str, Any] = dict(self.part.request) | {
            "commit": self.commit,
            "destination": f"/weights/{self.folder}",
        }
        if self.tokenizer_commit:
            request["tokenizer"] = {**request["tokenizer"], "commit": self.tokenizer_commit}
        return request


def plan_weights(plan: Plan, answer: Mapping[str, object] | None) -> WeightsPlan:
    """The claim and the pull for what the inspection found; `answer` is read only where `plan.inspect` is not None.

    An answer that is none (the Job's annotation can be edited) is a problem, not an exception.
    """
    if plan.source is None:
        return _nothing(plan.problems)
    pulled_parts = [(index, part) for index, part in enumerate(plan.parts) if part.source.is_pulled]
    try:
        found = read_answer(answer or {}, len(pulled_parts)) if pulled_parts else Answer((), None)
    except AnswerError as error:
        remedy = "Give the annotation vllm-operator.dev/refresh a new value: the source is then looked up again."
        return _nothing((Problem(ProblemReason.INSPECTION_UNREADABLE, str(error), remedy),))
    pulled = [
        _Pulled(index, part, one.commit, one.tokenizer_commit, _folder(part, one.commit, one.tokenizer_commit))
        for (index, part), one in zip(pulled_parts, found.parts, strict=True)
    ]
    if streams(plan.model.spec, plan.source):
        return _streamed(plan, found)
    return _kept(plan, pulled, found.bytes)


@dataclass(frozen=True, slots=True)
class _Home:
    """Where pulled parts come to lie: a claim, or a folder of each pod that is filled before the server starts."""

    mounted: Mounted | None = None
    claim_name: str | None = None
    claim: ClaimPlan | None = None
    pull: JobPlan | None = None
    pull_in_pod: JobPlan | None = None
    problems: tuple[Problem, ...] = ()
    nodes: NodesPlan | None = None


def _home(plan: Plan, pulled: Sequence[_Pulled], size: int) -> _Home:
    spec = plan.model.spec
    if not pulled:
        return _Home()
    key = _claim_key(plan, pulled)
    requests, parts = [item.request for item in pulled], [item.part for item in pulled]
    name = hashed_name("pull", everyday_name(parts[0].source), key)
    at = "/models" if plan.parts[0].source.is_pulled else "/adapters"
    if spec.cache.type == "None":
        job = pull_job(plan.model, plan.settings, name, parts, requests, None, plan.profiles)
        return _Home(folder_mount(at, f"{_room(size, False)}Mi"), pull_in_pod=job)
    claim_name, claim, problems = _claim(plan, pulled, key, size)
    job = pull_job(plan.model, plan.settings, name, parts, requests, claim_name, plan.profiles)
    shared = claim_mount(claim_name, at, bool(spec.cache.compile_cache))
    if _on_nodes(plan) and plan.settings.node_cache is not None:
        nodes = nodes_plan(plan, plan.settings.node_cache, claim_name, job)
        return _Home(shared, claim_name, claim, problems=problems, nodes=nodes)
    return _Home(shared, claim_name, claim, job, None, problems)


def _on_nodes(plan: Plan) -> bool:
    return plan.source is not None and uses_nodes(plan.model.spec, plan.source)


def _kept(plan: Plan, pulled: Sequence[_Pulled], size: int | None) -> WeightsPlan:
    home = _home(plan, pulled, size or 0)
    places, extra = _places(plan, {item.index: item.folder for item in pulled}, home.mounted)
    tokenizer, more = _tokenizer(plan, places[0])
    everything = [item for item in (home.mounted, *extra, *more) if item]
    return WeightsPlan(
        problems=home.problems,
        commit=pulled[0].commit if pulled and plan.parts[0].source.is_pulled else None,
        commits=_commits(pulled),
        bytes=size,
        claim=home.claim,
        claim_name=home.claim_name or _named_claim(plan),
        pull=home.pull,
        pull_in_pod=home.pull_in_pod,
        model_path=places[0],
        tokenizer_path=tokenizer,
        adapter_paths=_adapter_paths(plan, places),
        draft_path=_draft_path(plan, places),
        volumes=tuple(volume for item in everything for volume in item.volumes),
        mounts=tuple(mount for item in everything for mount in item.mounts),
        streamed=False,
        adapter_commits=tuple((item.part.role, item.commit) for item in pulled if item.part.is_adapter),
        nodes=home.nodes,
    )


def _room(size: int, compile_cache: bool) -> int:
    """Mebibytes that weights of `size` bytes need: a margin, and what lies beside them."""
    return ceil((ceil(size * _MARGIN_PERCENT / 100) + (_COMPILE_CACHE if compile_cache else _BESIDE_WEIGHTS)) / MIB)


def _commits(pulled: Sequence[_Pulled]) -> tuple[str, ...]:
    return tuple(commit for item in pulled for commit in (item.commit, item.tokenizer_commit) if commit)


def _places(plan: Plan, folders: Mapping[int, str], shared: Mounted | None) -> tuple[list[str], list[Mounted]]:
    """The path of each part in the pod, and the mounts beside the shared claim that it takes."""
    places: list[str] = []
    extra: list[Mounted] = []
    for index, part in enumerate(plan.parts):
        if index in folders and shared:
            places.append(f"{shared.path}/{folders[index]}")
        else:
            extra.append(mounted(part.source, f"adapter-{index}" if part.is_adapter else part.role))
            places.append(extra[-1].path)
    return places, extra


def _adapter_paths(plan: Plan, places: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return tuple((part.role, place) for part, place in zip(plan.parts, places, strict=True) if part.is_adapter)


def _draft_path(plan: Plan, places: Sequence[str]) -> str | None:
    others = zip(plan.parts[1:], places[1:], strict=True)
    return next((place for part, place in others if not part.is_adapter), None)


def _tokenizer(plan: Plan, model_path: str) -> tuple[str | None, list[Mounted]]:
    text = plan.model.spec.tokenizer
    if not text:
        return None, []
    source = parse_source(text)
    if source.is_pulled:
        return f"{model_path}/tokenizer", []
    item = mounted(source, "tokenizer")
    return item.path, [item]


def _named_claim(plan: Plan) -> str | None:
    source = plan.parts[0].source
    return source.name if source.scheme == "pvc" else None


def _folder(part: Part, commit: str, tokenizer_commit: str | None) -> str:
    """One folder for equal files: the commits count, not the names by which they were found."""
    files = {key: value for key, value in identity(part.request).items() if key not in ("revision", "tokenizer")}
    tokenizer = part.request.get("tokenizer")
    source = tokenizer.get("source") if isinstance(tokenizer, Mapping) else None
    return hashed_name("", everyday_name(part.source), [files, commit, source, tokenizer_commit])


def _claim_key(plan: Plan, pulled: Sequence[_Pulled]) -> dict[str, Any]:
    """Models with an equal key share a claim. Only what users wrote counts: new settings must not move weights in use."""
    cache = plan.model.spec.cache
    if _on_nodes(plan):
        return {"folders": [item.folder for item in pulled], "type": "Node"}
    return {
        "folders": [item.folder for item in pulled],
        "claim": cache.claim_name,
        "storageClass": cache.storage_class_name,
        "accessModes": sorted(cache.access_modes) or [_MODE],
        "size": None,  # no part of it: a volume grows to what the model asks that asks for most
    }


def _claim(
    plan: Plan, pulled: Sequence[_Pulled], key: Mapping[str, Any], size: int
) -> tuple[str, ClaimPlan | None, tuple[Problem, ...]]:
    spec, settings = plan.model.spec, plan.settings
    room, on_nodes = _room(size, bool(spec.cache.compile_cache)), _on_nodes(plan)
    name = hashed_name("weights", everyday_name(pulled[0].part.source), key)
    claim = ClaimPlan(
        name=name,
        namespace=plan.model.metadata.namespace,
        labels=shared_labels()
        | {CLAIM_LABEL: digest(name)}
        | (retain_labels(plan.model.metadata.uid) if spec.cache.retain else {})
        | ({VOLUME_LABEL: "nodes"} if on_nodes else {}),
        annotations={
            **settings.child_annotations,
            SOURCE_ANNOTATION: " ".join(item.part.source.uri for item in pulled)[:1024],
        },
        size=spec.cache.size or f"{room}Mi",
        size_bytes=quantity_bytes(spec.cache.size) if spec.cache.size else room * MIB,
        storage_class_name=NODE_CLASS
        if on_nodes
        else spec.cache.storage_class_name or settings.defaults.storage_class_name,
        access_modes=(NODE_MODE,) if on_nodes else tuple(sorted(spec.cache.access_modes)) or (_MODE,),
        retain=bool(spec.cache.retain),
    )
    return name, claim, _size_problems(spec, size, room)


def _size_problems(spec: Spec, size: int, room: int) -> tuple[Problem, ...]:
    beside = _COMPILE_CACHE if spec.cache.compile_cache else _BESIDE_WEIGHTS
    if spec.cache.size is None or quantity_bytes(spec.cache.size) >= size + beside:
        return ()
    message = f"cache.size is {spec.cache.size}; the weights are {ceil(size / MIB)}Mi and need {room}Mi in all."
    remedy = f"Set cache.size to {room}Mi or more, or leave it out."
    return (Problem(ProblemReason.CACHE_TOO_SMALL, message, remedy),)


def _streamed(plan: Plan, found: Answer) -> WeightsPlan:
    assert plan.source is not None
    uri = plan.source.uri
    extra = [
        mounted(part.source, f"adapter-{index}" if part.is_adapter else part.role)
        for index, part in enumerate(plan.parts)
        if index
    ]
    places = [uri, *(item.path for item in extra)]
    tokenizer, more = _tokenizer(plan, uri)
    certificates = certificates_mount(plan.settings)
    beside = (*extra, *more, *((certificates,) if certificates else ()))
    commits = tuple(part.commit for part in found.parts)
    return WeightsPlan(
        problems=(),
        commit=commits[0],
        commits=commits,
        bytes=found.bytes,
        claim=None,
        claim_name=None,
        pull=None,
        pull_in_pod=None,
        model_path=uri,
        tokenizer_path=tokenizer,
        adapter_paths=_adapter_paths(plan, places),
        draft_path=_draft_path(plan, places),
        volumes=tuple(volume for item in beside for volume in item.volumes),
        mounts=tuple(mount for item in beside for mount in item.mounts),
        streamed=True,
    )


def _nothing(problems: tuple[Problem, ...]) -> WeightsPlan:
    return WeightsPlan(problems, None, (), None, None, None, None, None, "", None, (), None, (), (), False)
