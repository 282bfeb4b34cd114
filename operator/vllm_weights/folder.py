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
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vllm_weights.contents import Item
from vllm_weights.errnos import Kind, kind_of
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.incoming import state_name
from vllm_weights.listing import OWN_FOLDER

MANIFEST = f"{OWN_FOLDER}/manifest.json"
LOOK_AT_LOCK_SECONDS = 0.2


class ModelFolder:
    """Destination and partial folder of one model; the caller holds the lock while changing them. Raises the volume's OSError."""

    def __init__(self, destination: str | None) -> None:
        path = Path(destination or "")
        if not destination or not path.is_absolute() or path == Path(path.anchor) or _is_mount(path):
            raise WeightsError(
                Reason.INVALID_ARGUMENT,
                f"destination {destination!r} is no folder that can be made and renamed.",
                "Set destination to a folder inside the volume, such as /weights/<name>.",
            )
        self.destination = path
        self.partial = path.with_name(f"{path.name}.partial")
        self._old = path.with_name(f"{path.name}.old")
        self.state = self.partial / OWN_FOLDER / "incoming"
        self._verified = self.partial / OWN_FOLDER / "verified"

    @contextmanager
    def locked(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Holds the lock for this destination; `waiting` is called while another pull has it. Freed with the process."""
        self.destination.parent.mkdir(parents=True, exist_ok=True)
        path = self.destination.with_name(f".{self.destination.name}.lock")
        if _is_in_the_way(path):  # Opening a link would empty what it points at, opening a pipe would never end.
            _remove(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            while not _try_lock(descriptor):
                waiting()
                time.sleep(LOOK_AT_LOCK_SECONDS)
            yield
        finally:
            with contextlib.suppress(
                OSError
            ):  # Nothing was written: whatever the volume says now, it is not about the lock.
                os.close(descriptor)

    def manifest(self) -> dict[str, Any] | None:
        """The manifest of the complete model, None where there is none that can be read."""
        try:
            found = json.loads(_text_of(self.destination / MANIFEST))
        except (OSError, ValueError, RecursionError):
            return None
        return found if _is_manifest(found) else None

    def holds(self, manifest: Mapping[str, Any]) -> bool:
        """Whether the destination is complete with exactly these files, each of its size."""
        found = self.manifest()
        same = found is not None and all(found.get(key) == manifest[key] for key in ("source", "commit", "files"))
        return same and all(_size_of(self.destination / file["path"]) == file["size"] for file in manifest["files"])

    def prepare(self, items: tuple[Item, ...]) -> set[str]:
        """Makes the partial folder fit for the items; what of them is there already and right is returned (paths)."""
        if self._old.exists():  # Before anything is fetched: where it cannot be removed, nothing could be switched.
            shutil.rmtree(self._old)
        wanted = {item.path: _entry(item) for item in items}
        counters = (f"{OWN_FOLDER}/incoming/{state_name(item)}" for item in items)
        self._clear_ways((*wanted, f"{OWN_FOLDER}/verified", MANIFEST, *counters))
        self.state.mkdir(parents=True, exist_ok=True)
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
        _sync(path)
        for folder, _, _ in os.walk(self.partial, topdown=False, onerror=_unless_gone):
            _sync_folder(Path(folder))
        if self.destination.exists():
            self.destination.rename(self._old)
        self.partial.rename(self.destination)
        _sync_folder(self.destination.parent)
        self._remove_old()
        shutil.rmtree(self.destination / OWN_FOLDER / "incoming", ignore_errors=True)
        (self.destination / OWN_FOLDER / "verified").unlink(missing_ok=True)

    def _remove_old(self) -> None:
        """The new folder is in its place: what cannot be removed of the old one is told, and in the way of the next pull."""
        try:
            shutil.rmtree(self._old)
        except FileNotFoundError:
            return
        except OSError as error:
            print(f"{self._old} cannot be removed and takes room: {error}", file=sys.stderr, flush=True)

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

    def _clear_ways(self, paths: Iterable[str]) -> None:
        """Takes away what stands where a file or its folder is to be made: whoever mounts the volume may put a link there.

        Nothing is written through a link, nor into a file that has another name, too, before it is known to be right.
        """
        known = self._ledger() if not self.partial.is_symlink() else {}
        for path in ("", *paths):
            target = self.partial / path
            inside = [parent for parent in target.parents if parent.is_relative_to(self.partial)]
            for folder in (*reversed(inside), *((target,) if not path else ())):
                if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
                    folder.unlink()
            is_right = path in known and self._is_whole(known[path])
            if path and not is_right and _is_in_the_way(target):
                _remove(target)

    def _remove_others(self, wanted: set[str]) -> None:
        for folder, folders, names in os.walk(self.partial, onerror=_unless_gone):
            links = [name for name in folders if Path(folder, name).is_symlink()]
            for name in (*names, *links):
                path = Path(folder, name)
                relative = path.relative_to(self.partial).as_posix()
                if relative not in wanted and not relative.startswith(f"{OWN_FOLDER}/"):
                    path.unlink()

    def _ledger(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for line in _text_of(self._verified).splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):  # Cut, or worse, by a lost node.
                entry = json.loads(line)
                found[entry["path"]] = entry
        return found

    def _is_whole(self, entry: Mapping[str, Any]) -> bool:
        return _size_of(self.partial / entry["path"]) == entry.get("size")


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


def _is_manifest(found: object) -> bool:
    if not isinstance(found, dict) or not isinstance(found.get("files"), list):
        return False
    entries = all(
        isinstance(entry, dict) and isinstance(entry.get("path"), str) and isinstance(entry.get("size"), int)
        for entry in found["files"]
    )
    return entries and isinstance(found.get("bytes"), int)


def _is_mount(path: Path) -> bool:
    """False for what is not there. Raises OSError where the volume does not tell."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return os.path.ismount(path)


def _text_of(path: Path) -> str:
    """A file's text; empty for what is no file of its own: a pipe would never end."""
    return path.read_text(errors="replace") if _size_of(path) >= 0 else ""


def _size_of(path: Path) -> int:
    """-1 for what is no file of its own: a link is none."""
    try:
        found = path.lstat()
    except OSError:
        return -1
    return found.st_size if stat.S_ISREG(found.st_mode) else -1


def _is_in_the_way(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return not stat.S_ISREG(found.st_mode) or found.st_nlink > 1


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        if kind_of(error) is Kind.LOST and error.errno != errno.ENOLCK:
            raise
        # Some network file systems have no locks; one Job per volume is then all that protects it.
        print(f"this volume cannot lock ({error.strerror}): no second pull may use it now", file=sys.stderr)
    return True


def _unless_gone(error: OSError) -> None:
    """For os.walk, which else says nothing of a folder that cannot be read."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _sync_folder(path: Path) -> None:
    try:
        _sync(path)
    except OSError as error:
        if kind_of(error) is not Kind.CANNOT and error.errno != errno.EBADF:
            raise  # Of the others some network file systems have no sync of a folder: what it says is on their server.


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
