"""The folder of a model on the volume: `<destination>.partial` while it is pulled, then renamed to `<destination>`.

Inside, `.vllm-operator/manifest.json` says what is complete. While a pull runs, `.vllm-operator/verified` lists the
files whose checksum was right, a JSON line each, and `.vllm-operator/incoming/` has the counters of the others.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vllm_weights.contents import Item
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.listing import OWN_FOLDER

MANIFEST = f"{OWN_FOLDER}/manifest.json"
LOOK_AT_LOCK_SECONDS = 0.2


class ModelFolder:
    """Destination and partial folder of one model; the caller holds the lock while changing them."""

    def __init__(self, destination: str | None) -> None:
        path = Path(destination or "")
        if not destination or not path.is_absolute() or path == Path(path.anchor) or path.is_mount():
            raise WeightsError(
                Reason.INVALID_ARGUMENT,
                f"destination {destination!r} is no folder that can be made and renamed.",
                "Set destination to a folder inside the volume, such as /weights/<name>.",
            )
        self.destination = path
        self.partial = path.with_name(f"{path.name}.partial")
        self.state = self.partial / OWN_FOLDER / "incoming"
        self._verified = self.partial / OWN_FOLDER / "verified"

    @contextmanager
    def locked(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Holds the lock for this destination; `waiting` is called while another pull has it. Freed with the process."""
        self.destination.parent.mkdir(parents=True, exist_ok=True)
        path = self.destination.with_name(f".{self.destination.name}.lock")
        with path.open("w") as file:
            while not _try_lock(file.fileno()):
                waiting()
                time.sleep(LOOK_AT_LOCK_SECONDS)
            yield

    def manifest(self) -> dict[str, Any] | None:
        """The manifest of the complete model, None where there is none that can be read."""
        try:
            found = json.loads((self.destination / MANIFEST).read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) and isinstance(found.get("files"), list) else None

    def holds(self, manifest: Mapping[str, Any]) -> bool:
        """Whether the destination is complete with exactly these files, each of its size."""
        found = self.manifest()
        same = found is not None and all(found.get(key) == manifest[key] for key in ("source", "commit", "files"))
        return same and all(_size_of(self.destination / file["path"]) == file["size"] for file in manifest["files"])

    def prepare(self, items: tuple[Item, ...]) -> set[str]:
        """Makes the partial folder fit for the items; what of them is there already and right is returned (paths)."""
        self.state.mkdir(parents=True, exist_ok=True)
        wanted = {item.path: _entry(item) for item in items}
        self._adopt(wanted)
        self._remove_others(set(wanted))
        return {path for path, entry in self._ledger().items() if wanted.get(path) == entry and self._is_whole(entry)}

    def note_verified(self, item: Item) -> None:
        with self._verified.open("a") as file:  # One write of one line: whole or absent after a kill.
            file.write(json.dumps(_entry(item)) + "\n")

    def finish(self, manifest: Mapping[str, Any]) -> None:
        """Writes the manifest and puts the partial folder in the destination's place, by one rename."""
        path = self.partial / MANIFEST
        path.write_text(json.dumps(manifest, indent=1))
        for synced in (path, path.parent, self.partial):
            _sync(synced)
        old = self.destination.with_name(f"{self.destination.name}.old")
        if self.destination.exists():
            shutil.rmtree(old, ignore_errors=True)
            self.destination.rename(old)
        self.partial.rename(self.destination)
        _sync(self.destination.parent)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(self.destination / OWN_FOLDER / "incoming", ignore_errors=True)
        (self.destination / OWN_FOLDER / "verified").unlink(missing_ok=True)

    def _adopt(self, wanted: Mapping[str, Mapping[str, Any]]) -> None:
        """Links files of the destination that are wanted unchanged, so that they need not be fetched again."""
        manifest = self.manifest()
        known = self._ledger()
        for entry in manifest["files"] if manifest else []:
            source, target = self.destination / entry["path"], self.partial / entry["path"]
            unchanged = _size_of(source) == entry["size"] and wanted.get(entry["path"]) == entry
            if unchanged and known.get(entry["path"]) != entry:
                target.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(OSError):  # No hard links here: it is fetched.
                    target.unlink(missing_ok=True)
                    os.link(source, target)
                    with self._verified.open("a") as file:
                        file.write(json.dumps(entry) + "\n")

    def _remove_others(self, wanted: set[str]) -> None:
        for folder, _, names in os.walk(self.partial):
            for name in names:
                path = Path(folder, name)
                relative = path.relative_to(self.partial).as_posix()
                if relative not in wanted and not relative.startswith(f"{OWN_FOLDER}/"):
                    path.unlink()

    def _ledger(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(FileNotFoundError):
            for line in self._verified.read_text().splitlines():
                with contextlib.suppress(ValueError):  # Cut by a lost node.
                    entry = json.loads(line)
                    found[entry["path"]] = entry
        return found

    def _is_whole(self, entry: Mapping[str, Any]) -> bool:
        return _size_of(self.partial / entry["path"]) == int(entry["size"])


def manifest_of(source: str, commit: str, request: Mapping[str, Any], items: tuple[Item, ...]) -> dict[str, Any]:
    """What is written beside the files: `request` tells a later pull whether the same choice was asked for."""
    return {
        "version": 1,
        "source": source,
        "commit": commit,
        "request": dict(request),
        "bytes": sum(item.file.size for item in items),
        "files": [_entry(item) for item in items],
    }


def _entry(item: Item) -> dict[str, Any]:
    digest = item.file.digest
    return {"path": item.path, "size": item.file.size, "checksum": f"{digest.kind}:{digest.value}".rstrip(":")}


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        # Some network file systems have no locks; one Job per volume is then all that protects it.
        print(f"this volume cannot lock ({error.strerror}): no second pull may use it now", file=sys.stderr)
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
