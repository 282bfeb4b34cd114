"""Brings models to the volume: resumable, checked, switched in whole. What a pull says, it says by Progress."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllm_weights.contents import Contents, contents_of
from vllm_weights.disk import disk_errors_named, disk_full
from vllm_weights.failure import WeightsError
from vllm_weights.fetching import Fetching, Patience
from vllm_weights.folder import ModelFolder, manifest_of
from vllm_weights.incoming import SEGMENT_BYTES, Incoming
from vllm_weights.progress import Progress, say, tell
from vllm_weights.request import Request

TELL_SECONDS = 5.0
KEPT_FREE_BYTES = 1024 * 1024
"""Of the volume, for the folder's own state."""


@dataclass(slots=True)
class Pull:
    """One run of the program for all its requests."""

    environment: Mapping[str, str]
    progress: Progress
    progress_file: Path
    segment_bytes: int = SEGMENT_BYTES
    _told: float = 0.0

    def run(self, requests: tuple[Request, ...], as_list: bool) -> dict[str, Any]:
        """The answer for the termination message. Raises WeightsError."""
        started = time.monotonic()
        parts = [self._one(request) for request in requests]
        self.progress.phase = "done"
        self._tell()
        seconds = round(time.monotonic() - started, 1)
        if not as_list:
            return {**parts[0], "seconds": seconds}
        totals = {key: sum(part[key] for part in parts) for key in ("bytes", "bytesFetched", "files")}
        return {"version": 1, "ok": True, **totals, "seconds": seconds, "parts": parts}

    def _one(self, request: Request) -> dict[str, Any]:
        volume = Path(request.destination or "")
        with disk_errors_named(volume, only_in=volume.parent), ExitStack() as held:
            folder = ModelFolder(request.destination)
            refused = self._held(folder, held)
            complete = self._complete(request, folder)
            if complete is not None:
                return complete
            self.progress.phase = "listing"
            return self._bring(request, folder, self._listed(request, held), refused)

    def _held(self, folder: ModelFolder, held: ExitStack) -> WeightsError | None:
        """None, with the lock. Where nothing may be written and a model is there already, what says so: it may be what is asked for."""
        try:
            with disk_errors_named(folder.destination):
                held.enter_context(folder.locked(self._wait_for_lock))
        except WeightsError as refused:
            if refused.retry or folder.manifest() is None:
                raise
            return refused
        return None

    def _complete(self, request: Request, folder: ModelFolder) -> dict[str, Any] | None:
        """The answer where the very same was pulled before; asks nobody."""
        manifest = folder.manifest()
        pinned = request.commit and (request.tokenizer is None or request.tokenizer.commit)
        if manifest is None or not pinned or manifest.get("commit") != request.commit:
            return None
        if manifest.get("request") != _asked(request) or not folder.holds(manifest):
            return None
        return self._already(request, folder, manifest)

    def _already(self, request: Request, folder: ModelFolder, manifest: Mapping[str, Any]) -> dict[str, Any]:
        size, files = int(manifest["bytes"]), len(manifest["files"])
        self.progress.expect(size, files)
        self.progress.resumed(size)
        self.progress.files_done += files
        say("already complete", destination=str(folder.destination))
        return _answer(request, manifest, fetched=0)

    def _listed(self, request: Request, held: ExitStack) -> Contents:
        """The contents, with the same patience as for the bytes."""
        patience = _patience(request)
        tried = 0
        while True:
            try:
                return held.enter_context(contents_of(request, self.environment))
            except WeightsError as error:
                tried += 1
                if not error.retry or tried >= patience.tries:
                    raise error.for_good() from error
                pause = patience.pause_seconds(tried, error)
                say("trying again", reason=str(error.reason), message=error.message, seconds=round(pause, 1))
                self._wait(pause)

    def _bring(
        self, request: Request, folder: ModelFolder, contents: Contents, refused: WeightsError | None
    ) -> dict[str, Any]:
        items = contents.items
        manifest = manifest_of(request.source, contents.commit, _asked(request), items)
        if folder.holds(manifest):
            return self._already(request, folder, manifest)
        if refused is not None:
            raise refused
        fetched_before = self.progress.bytes_fetched
        self.progress.expect(sum(item.file.size for item in items), len(items))
        with disk_errors_named(folder.destination):
            present = folder.prepare(items)
            missing = [item for item in items if item.path not in present]
            files = [Incoming(item, folder.partial, folder.state, self.segment_bytes) for item in missing]
            done = sum(item.file.size for item in items if item.path in present)
            done += sum(file.open() for file in files)
        self.progress.resumed(done)
        self.progress.files_done += len(present)
        self._fetch(request, folder, files)
        with disk_errors_named(folder.destination):
            folder.finish(manifest)
        return _answer(request, manifest, fetched=self.progress.bytes_fetched - fetched_before)

    def _fetch(self, request: Request, folder: ModelFolder, files: list[Incoming]) -> None:
        self._check_room(folder, files)
        self.progress.phase = "pulling"
        self._tell()
        fetching = Fetching(files, folder.destination, self.progress, _patience(request), folder.note_verified)
        fetching.run(request.parallelism, self._tell_now_and_then)

    def _check_room(self, folder: ModelFolder, files: list[Incoming]) -> None:
        """Better at once than after an hour. What a volume calls free may lie (quotas): a write tells the truth."""
        missing = sum(file.missing_on_disk() for file in files)
        with disk_errors_named(folder.destination):
            disk = os.statvfs(folder.partial)
        free = disk.f_bavail * disk.f_frsize
        if files and disk.f_blocks and missing + KEPT_FREE_BYTES > free:
            raise disk_full(folder.destination, f"{missing} bytes are to come and {free} are free")

    def _wait(self, seconds: float) -> None:
        """Told like the rest: a long one is no program that hangs."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, TELL_SECONDS))
            self._tell_now_and_then()

    def _wait_for_lock(self) -> None:
        if self.progress.phase != "waiting":
            self.progress.phase = "waiting"
            say("waiting", message="another pull of the same destination is running")
        self._tell_now_and_then()

    def _tell_now_and_then(self) -> None:
        if time.monotonic() - self._told >= TELL_SECONDS:
            self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        tell(self.progress, self.progress_file)


def _patience(request: Request) -> Patience:
    return Patience(request.tries, request.stall_seconds, request.backoff_seconds)


def _asked(request: Request) -> dict[str, Any]:
    """Of a request, what decides about the files."""
    fields = {"source", "include", "exclude", "trust_remote_code", "load_format", "tokenizer"}
    answer: dict[str, Any] = json.loads(request.model_dump_json(include=fields, by_alias=True))
    return answer


def _answer(request: Request, manifest: Mapping[str, Any], fetched: int) -> dict[str, Any]:
    return {
        "version": 1,
        "ok": True,
        "source": request.source,
        "commit": manifest["commit"],
        "destination": request.destination,
        "bytes": manifest["bytes"],
        "bytesFetched": fetched,
        "files": len(manifest["files"]),
    }
