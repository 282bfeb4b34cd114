"""What the nodes say of their accelerators, in the labels of NVIDIA's GPU feature discovery and AMD's node labeller."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from vllm_operator.cluster.kinds import Json
from vllm_operator.decide.types import DeviceSeen
from vllm_operator.observe.reading import metadata_of
from vllm_operator.plan import Plan
from vllm_operator.settings import Profile

MIB = 1 << 20
HIDDEN = 614 * MIB
"""What the driver keeps of a whole NVIDIA card: CUDA's total is less than the label's by 0.44 (T4) to 0.86 GiB (A100)."""

PRESENT = "nvidia.com/gpu.present"
AMDS = "amd.com/gpu.vram"
_VRAM = re.compile(r"([0-9]{1,6})([GT])i?B?")


def devices_seen(nodes: Iterable[Json], plan: Plan) -> dict[str, tuple[DeviceSeen, ...]]:
    """For each accelerator of the model the kinds of device on nodes where it may run, the largest first."""
    wanted = plan.model.spec.pod.node_selector
    found = [node for node in nodes if _selected(_labels(node), wanted)]
    kinds = {name: _kinds(found, profile) for name, profile in plan.profiles}
    return {name: devices for name, devices in kinds.items() if devices}


def are_needed(profiles: Iterable[Profile]) -> bool:
    """Whether the profiles leave something open that a node could tell."""
    return any(profile.memory is None or profile.compute_capability is None for profile in profiles)


def _kinds(nodes: Iterable[Json], profile: Profile) -> tuple[DeviceSeen, ...]:
    resource = profile.resource_name or ""
    kinds = {
        _of_labels(_labels(node), resource, profile.vendor)
        for node in nodes
        if _selected(_labels(node), profile.node_selector) and _has(_labels(node), resource, profile.vendor)
    }
    return tuple(sorted(kinds, key=lambda kind: (-(kind.memory_bytes or 0), str(kind))))


def _has(labels: Mapping[str, str], resource: str, vendor: str) -> bool:
    """Whether a node has such devices, as far as its labels tell: of a node's metadata alone nothing else is read."""
    if vendor == "amd":
        return AMDS in labels
    own = _own(resource)
    return f"{own}.memory" in labels or (own == "nvidia.com/gpu" and labels.get(PRESENT) == "true")


def _labels(node: Json) -> Mapping[str, str]:
    return metadata_of(node).get("labels") or {}


def _selected(labels: Mapping[str, str], selector: Mapping[str, str | list[str]]) -> bool:
    return all(labels.get(key) in (value if isinstance(value, list) else [value]) for key, value in selector.items())


def _own(resource: str) -> str:
    """What NVIDIA's labels of a device begin with: a slice's carry its resource's name."""
    return resource if "/mig-" in resource else "nvidia.com/gpu"


def _of_labels(labels: Mapping[str, str], resource: str, vendor: str) -> DeviceSeen:
    """A device by its labels. Under the "single" strategy the product of a node of slices ends in the slice's name."""
    if vendor == "amd":
        return DeviceSeen(memory_bytes=_amd(labels.get(AMDS, "")), product=labels.get("amd.com/gpu.product-name"))
    own = _own(resource)
    memory, shared = labels.get(f"{own}.memory", ""), labels.get(f"{own}.replicas", "")
    product = labels.get(f"{own}.product") or labels.get("nvidia.com/gpu.product")
    is_slice = "/mig-" in resource or "-MIG-" in (product or "")
    major, minor = (labels.get(f"nvidia.com/gpu.compute.{part}", "") for part in ("major", "minor"))
    return DeviceSeen(
        memory_bytes=_nvidia(memory, is_slice),
        compute_capability=f"{major}.{minor}" if _is_number(major) and _is_number(minor) else None,
        product=product,
        is_slice=is_slice,
        shared_by=int(shared) if _is_number(shared) and int(shared) > 1 else 1,
    )


def _nvidia(label: str, is_slice: bool) -> int | None:
    """Bytes that CUDA will show of a device whose label tells MiB; None where it is no number of a device."""
    size = int(label) * MIB - (0 if is_slice else HIDDEN) if _is_number(label) else 0
    return size if size > 0 else None


def _amd(label: str) -> int | None:
    vram = _VRAM.fullmatch(label)
    return int(vram[1]) * (1 << 30 if vram[2] == "G" else 1 << 40) if vram else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 12
