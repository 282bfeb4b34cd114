"""What the cluster's admission makes of a model's manifests.

A mutating webhook or policy may rewrite what is applied: images go to a mirror, tolerations are added. That is no drift:
applying again would change nothing, for ever. What an apply came to is remembered, and after a start of the operator it is
asked for by a dry run, which writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vllm_operator.cluster import ApiError, Writer
from vllm_operator.cluster.kinds import Json, ref_of
from vllm_operator.decide.manifests import digest
from vllm_operator.decide.types import Manifest, Ref
from vllm_operator.live import differences

# Written by Kubernetes' own controllers; no admission answers with it.
_OTHERS = frozenset({"deployment.kubernetes.io/revision"})


class Admitted:
    """Remembers for one model which manifest came to what. Losing it costs a dry run, never correctness."""

    def __init__(self) -> None:
        self._known: dict[Ref, tuple[str, str]] = {}  # digests: of the manifest, of what it came to

    def holding(self, live: Mapping[Ref, Manifest]) -> dict[Ref, str]:
        """For each live object that still is what a manifest came to: that manifest's digest."""
        known = {ref: self._known[ref] for ref in live if ref in self._known}
        return {ref: manifest for ref, (manifest, made) in known.items() if made == _content(live[ref])}

    def learn(self, manifest: Json, made: Json) -> None:
        """An apply, or a dry run of one, was answered with that object."""
        if differences(made, manifest):
            self._known[ref_of(manifest)] = (digest(manifest), _content(made))
        else:
            self._known.pop(ref_of(manifest), None)

    async def explains(self, manifest: Json, live: Json, writer: Writer) -> bool:
        """Whether an apply would leave the live object as it is, although it is not the manifest. One request."""
        try:
            made = await writer.apply(manifest, str(live["metadata"]["uid"]), dry_run=True)
        except ApiError:
            return False  # the apply itself will say why
        if _content(made) != _content(live):
            return False
        self.learn(manifest, made)
        return True


def dropped_images(manifest: Json, made: Json) -> tuple[str, ...]:
    """Names of the volumes that are images in the manifest's pods, and that the answer to an apply lacks.

    An API server whose feature ImageVolume is off (the default before Kubernetes 1.35) takes such a volume and its mounts
    away without a word.
    """
    return tuple(name for name in images_mounted(manifest) if name not in images_mounted(made))


def images_mounted(manifest: Json) -> tuple[str, ...]:
    """Names of the volumes that are images in the pods of a Deployment; none for other kinds."""
    if manifest["kind"] != "Deployment":
        return ()
    volumes = manifest["spec"]["template"]["spec"].get("volumes") or ()
    return tuple(str(volume["name"]) for volume in volumes if volume.get("image"))


def _content(body: Mapping[str, Any]) -> str:
    metadata = body["metadata"]
    annotations = {key: value for key, value in (metadata.get("annotations") or {}).items() if key not in _OTHERS}
    rest = {key: value for key, value in body.items() if key not in {"metadata", "status"}}
    return digest([metadata.get("labels") or {}, annotations, rest])
