"""What the nodes say of their accelerators, in the labels of NVIDIA's GPU feature discovery and AMD's node labeller."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from vllm_operator.cluster.kinds import Json
from vllm_operator.decide.types import NodesSeen
from vllm_operator.observe.reading import metadata_of
from vllm_operator.plan import Plan
from vllm_operator.settings import Profile

MIB = 1 << 20
_VRAM = re.compile(r"([0-9]{1,6})([GT])i?B?")


def nodes_seen(nodes: Iterable[Json], plan: Plan) -> NodesSeen:
    """The largest accelerator among the nodes where the model may run: a misfit there is a misfit everywhere."""
    wanted = plan.model.spec.pod.node_selector
    found = [
        _of_labels(labels)
        for labels in (metadata_of(node).get("labels") or {} for node in nodes)
        if _selected(labels, wanted) and any(_selected(labels, profile.node_selector) for _, profile in plan.profiles)
    ]
    return max(found, key=lambda seen: seen.memory_bytes or 0, default=NodesSeen())


def are_needed(profiles: Iterable[Profile]) -> bool:
    """Whether the profiles leave something open that a node could tell."""
    return any(profile.memory is None or profile.compute_capability is None for profile in profiles)


def _selected(labels: Mapping[str, str], selector: Mapping[str, str | list[str]]) -> bool:
    return all(labels.get(key) in (value if isinstance(value, list) else [value]) for key, value in selector.items())


def _of_labels(labels: Mapping[str, str]) -> NodesSeen:
    memory = labels.get("nvidia.com/gpu.memory", "")
    major, minor = (labels.get(f"nvidia.com/gpu.compute.{part}", "") for part in ("major", "minor"))
    vram = _VRAM.fullmatch(labels.get("amd.com/gpu.vram", ""))
    amd = int(vram[1]) * (1 << 30 if vram[2] == "G" else 1 << 40) if vram else None
    return NodesSeen(
        memory_bytes=int(memory) * MIB if _is_number(memory) else amd,
        compute_capability=f"{major}.{minor}" if _is_number(major) and _is_number(minor) else None,
        product=labels.get("nvidia.com/gpu.product") or labels.get("amd.com/gpu.product-name"),
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 12
