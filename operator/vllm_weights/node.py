"""`prepare` and `clear`: a folder for weights on a node's own disk, made and removed by the platform's own Jobs.

They run as root with one capability each, below a folder that the platform has set apart. `FOLDER` is
`<namespace>/<name>` below it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vllm_weights.failure import Reason, WeightsError

ROOT = Path("/node")
GROUP = 65532
"""Of the weights program and of the servers: both may write, nobody else of the node may read."""
_FOLDER = re.compile(r"[a-z0-9][a-z0-9.-]*/[a-z0-9][a-z0-9.-]*")


def prepare(environment: Mapping[str, str], root: Path = ROOT) -> dict[str, Any]:
    """Makes the folder, for the group of the weights. Fine when it is there. Raises WeightsError."""
    folder = _folder(environment, root)
    try:
        folder.parent.mkdir(mode=0o711, exist_ok=True)
        folder.mkdir(mode=0o770, exist_ok=True)
        # What is made inside belongs to the group, too, whoever makes it. The mode comes first: it is the owner's to set.
        if folder.stat().st_mode & 0o7777 != 0o2770:
            folder.chmod(0o2770)
        if folder.stat().st_gid != GROUP:
            os.chown(folder, -1, GROUP)
    except OSError as error:
        remedy = "Let the platform see to the folder of nodeCache.path on this node: there, writable, not full."
        raise WeightsError(Reason.DOWNLOAD_FAILED, f"The folder cannot be made: {error.strerror}.", remedy) from error
    return {"version": 1, "ok": True}


def clear(environment: Mapping[str, str], root: Path = ROOT) -> dict[str, Any]:
    """Removes the folder with everything in it, and its namespace's when that is empty. Fine when it is gone. Raises WeightsError."""
    folder = _folder(environment, root)
    if not shutil.rmtree.avoids_symlink_attacks:  # whoever may write inside must not choose what is removed
        raise RuntimeError("this platform cannot remove a folder safely")
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        what = f"The folder cannot be removed: {error.strerror or error} ({error.filename or folder})."
        remedy = "Let the platform see to the folder of nodeCache.path on this node: its disk, what is mounted there, its attributes."
        raise WeightsError(Reason.DOWNLOAD_FAILED, what, remedy) from error
    with suppress(OSError):  # other weights of the namespace are there, or it is gone
        folder.parent.rmdir()
    return {"version": 1, "ok": True}


def _folder(environment: Mapping[str, str], root: Path) -> Path:
    text = environment.get("FOLDER", "")
    if not _FOLDER.fullmatch(text):
        raise WeightsError(Reason.INVALID_ARGUMENT, f"FOLDER {text!r} is not namespace/name.", "Set FOLDER.")
    return root / text
