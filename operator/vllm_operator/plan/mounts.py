"""How a place becomes a path in the server's pod: claims, images and folders of the node, all read-only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from vllm_operator.api import Scheme
from vllm_operator.api.source import Source
from vllm_operator.plan.environment import CERTIFICATES, COMPILE_CACHE
from vllm_operator.settings import Settings

COMPILE_CACHE_FOLDER = ".compile-cache"
_FOLDERS = {Scheme.PVC: "claim", Scheme.OCI: "image", Scheme.FILE: "node"}


@dataclass(frozen=True, slots=True)
class Mounted:
    """Volumes of a pod, where they are mounted, and the path that somebody wants to read."""

    path: str
    volumes: tuple[Mapping[str, Any], ...]
    mounts: tuple[Mapping[str, Any], ...]


def claim_mount(claim_name: str, at: str, compile_cache: bool) -> Mounted:
    """A claim that the operator fills. The compile cache is a folder of it that the server may write."""
    volume = {"name": "weights", "persistentVolumeClaim": {"claimName": claim_name}}
    mounts: list[dict[str, Any]] = [{"name": "weights", "mountPath": at, "readOnly": True}]
    if compile_cache:
        mounts.append({"name": "weights", "mountPath": COMPILE_CACHE, "subPath": COMPILE_CACHE_FOLDER})
    return Mounted(at, (volume,), tuple(mounts))


def folder_mount(at: str, size: str) -> Mounted:
    """A folder of the pod's own, filled by an init container; it goes with the pod."""
    return Mounted(
        at,
        ({"name": "weights", "emptyDir": {"sizeLimit": size}},),
        ({"name": "weights", "mountPath": at, "readOnly": True},),
    )


def certificates_mount(settings: Settings) -> Mounted | None:
    """The authorities that downloads trust, from the namespace's own ConfigMap; None where the platform names none."""
    trusted = settings.sources.trusted_certificates
    if trusted is None:
        return None
    file = PurePosixPath(CERTIFICATES)
    items = [{"key": trusted.key, "path": file.name}]
    volume = {"name": "certificates", "configMap": {"name": trusted.config_map, "items": items}}
    mount = {"name": "certificates", "mountPath": str(file.parent), "readOnly": True}
    return Mounted(CERTIFICATES, (volume,), (mount,))


def mounted(source: Source, role: str) -> Mounted:
    """What lies somewhere already. The user's path is a path behind the mount, never the mount's own (no subPath).

    A folder of the node is the exception: nothing else of the node may be seen.
    """
    root = f"/models/{_FOLDERS[source.scheme]}" if role == "model" else f"/mounted/{role}"
    mount = {"name": role, "mountPath": root, "readOnly": True}
    behind = f"{root}/{source.path}" if source.path else root
    match source.scheme:
        case Scheme.PVC:
            volume: dict[str, Any] = {"persistentVolumeClaim": {"claimName": source.name, "readOnly": True}}
        case Scheme.OCI:
            volume = {"image": {"reference": source.name, "pullPolicy": "IfNotPresent"}}
        case _:
            volume, behind = {"hostPath": {"path": f"/{source.path}", "type": "Directory"}}, root
    return Mounted(behind, ({"name": role, **volume},), (mount,))
