"""What the operator writes for weights on the nodes' own disks, beyond any model's namespace, and nothing else there.

Volumes that are a folder of the nodes, the short Jobs of its own namespace that make and remove those folders, and one label
on a node. It is only there where the platform's settings ask for it, as are the rights that it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vllm_operator.cluster.connection import APPLY, Connection, Request
from vllm_operator.cluster.errors import Conflict, Forbidden, Gone, OutOfBounds
from vllm_operator.cluster.kinds import JOBS, NODES, VOLUMES, Json, kind_of, path_of, ref_of
from vllm_operator.cluster.writer import FIELD_MANAGER, thawed
from vllm_operator.decide.types import Mark
from vllm_operator.plan.labels import NODE_LABELS
from vllm_operator.plan.names import digest


class PlatformWriter:
    """Writes beyond namespaces. `home` is the operator's own. Each raises ApiError or OutOfBounds (a bug)."""

    def __init__(self, connection: Connection, home: str) -> None:
        self._connection = connection
        self._home = home

    async def establish(self, manifest: Json) -> None:
        """Creates a volume, or a Job of the operator's namespace; fine when there is one of that name already."""
        kind, metadata = kind_of(ref_of(manifest)), manifest["metadata"]
        if kind == VOLUMES and "hostPath" not in manifest["spec"]:
            raise OutOfBounds(f"PersistentVolume {metadata['name']} is no folder of the nodes")
        if kind not in (VOLUMES, JOBS) or (kind == JOBS and metadata["namespace"] != self._home):
            raise OutOfBounds(f"{kind[1]} {metadata['name']} is not the platform's")
        path = path_of(kind, None if kind == VOLUMES else self._home)
        try:
            await self._connection.call(Request("POST", path, {"fieldManager": FIELD_MANAGER}, thawed(manifest)))
        except Conflict:
            return

    async def discard(self, name: str, uid: str = "") -> None:
        """Deletes a Job of the operator's namespace, with its pods. Fine when it is gone already."""
        await self._delete(path_of(JOBS, self._home, name), uid)

    async def remove_volume(self, name: str, uid: str) -> None:
        """Deletes the volume of that uid; the Jobs that it owns follow."""
        await self._delete(path_of(VOLUMES, None, name), uid)

    async def mark(self, mark: Mark) -> None:
        """Sets the label on the node, or takes it off where this very life of the claim set it. Fine when the node is gone.

        Each life has a field manager of its own: what it takes off is what it set, and never a later life's.
        """
        if not mark.label.startswith(NODE_LABELS):
            raise OutOfBounds(f"{mark.label} is no label of the operator's")
        labels = {mark.label: mark.life} if mark.is_set else {}
        metadata: Mapping[str, Any] = {"name": mark.node, "uid": mark.uid, "labels": labels}
        manager = f"{FIELD_MANAGER}-weights-{digest([mark.label, mark.life])}"
        query = {"fieldManager": manager, "force": "true"}
        body = {"apiVersion": "v1", "kind": "Node", "metadata": metadata}
        try:
            await self._connection.call(
                Request("PATCH", path_of(NODES, None, mark.node), query, body, content_type=APPLY)
            )
        except (Gone, Conflict):
            return  # with the node went its disk; a successor of its name is seen at the next look
        except Forbidden:
            # To apply to a node that is gone would be to create one, which nobody allowed.
            if await self._is_there(mark.node):
                raise

    async def _is_there(self, node: str) -> bool:
        try:
            await self._connection.call(Request("GET", path_of(NODES, None, node)))
        except Gone:
            return False
        return True

    async def _delete(self, path: str, uid: str) -> None:
        body: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            await self._connection.call(Request("DELETE", path, body=body))
        except (Gone, Conflict):
            return
