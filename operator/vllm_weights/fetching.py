"""The workers of a pull: they fetch segments, try again with growing pauses, and check each file when it is whole."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vllm_weights.contents import Item
from vllm_weights.disk import disk_errors_named
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.incoming import Incoming
from vllm_weights.listing import Redirecting
from vllm_weights.progress import Progress, say_wait

LONGEST_PAUSE_SECONDS = 60.0
MOST_FETCHES_OF_A_FILE = 3
"""A file that is wrong three times is wrong at the source."""
LOOK_SECONDS = 0.1
JOIN_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a pull goes on: `tries` in a row without a new byte, `stall_seconds` of silence ends it at once."""

    tries: int
    stall_seconds: float
    backoff_seconds: float

    def pause_seconds(self, tried: int, error: WeightsError) -> float:
        """Before the next try: what the other side asks for, or doubling from `backoff_seconds`, with jitter."""
        if error.retry_after is not None:
            return error.retry_after
        doubled = self.backoff_seconds * 2 ** (tried - 1)
        return float(min(LONGEST_PAUSE_SECONDS, doubled) * random.uniform(0.75, 1.25))


class Fetching:
    """Brings the files, several at once; one after the other where there are as many as workers."""

    def __init__(
        self,
        files: list[Incoming],
        folder: Path,
        progress: Progress,
        patience: Patience,
        verified: Callable[[Item], None],
    ) -> None:
        self._files = files
        self._folder = folder
        self._progress = progress
        self._patience = patience
        self._verified = verified
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._failure: BaseException | None = None
        self._running = 0

    def run(self, workers: int, tick: Callable[[], None]) -> None:
        """Returns when every file is there and right. Raises the first failure; `tick` is called about ten times a second.

        A thread that hangs in a silent connection is left behind: the process ends soon after.
        """
        for file in self._files:
            if file.is_complete:
                self._check(file)
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]
        self._running = len(threads)
        self._progress.expect_bytes_from_now()
        for thread in threads:
            thread.start()
        while not self._ended.wait(LOOK_SECONDS):
            tick()
            self._look_for_stall()
        self._close(threads)
        if self._failure is not None:
            raise self._failure

    def _close(self, threads: list[threading.Thread]) -> None:
        deadline = time.monotonic() + JOIN_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if not any(thread.is_alive() for thread in threads):  # A descriptor in use by one must not get a new meaning.
            for file in self._files:
                with suppress(OSError):  # What is still open is kept by no pull: the failure that ended it is known.
                    file.close()

    def _look_for_stall(self) -> None:
        silent = self._progress.silent_seconds()
        if silent >= self._patience.stall_seconds:
            self._fail(
                WeightsError(
                    Reason.DOWNLOAD_STALLED,
                    f"No byte arrived for {silent:.0f} s{self._from_where()}.",
                    "The next try goes on where this one stopped; if it stalls again, check the network on the way "
                    "to that host, ask who runs it, or raise spec.download.stallTimeoutSeconds.",
                )
            )

    def _from_where(self) -> str:
        """The hosts that are silent, of sources that tell."""
        sources = [file.item.source for file in self._files if file.owners]
        silent = {source.asked_last() for source in sources if isinstance(source, Redirecting)}
        return f" from {' and '.join(sorted(silent))}" if silent else ""

    def _work(self) -> None:
        file: Incoming | None = None
        try:
            while not self._ended.is_set() and (file := self._next(file)) is not None:
                segment = file.claim()
                if segment is not None:
                    self._fetch(file, segment)
                    if file.give_back():
                        self._check(file)
        except BaseException as error:  # Whatever it is, the pull ends by it, in the main thread.
            self._fail(error)
        with self._lock:
            self._running -= 1
            if self._running == 0:
                self._ended.set()

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._failure = self._failure or error
        self._ended.set()

    def _next(self, last: Incoming | None) -> Incoming | None:
        """The file to go on with: the last one; else the one with the fewest workers, in the order of the list.

        Files are thus fetched in one stream each, and only the last ones in several.
        """
        with self._lock:
            if last is not None:
                if last.has_unclaimed():
                    return last
                last.owners -= 1
            open_files = [file for file in self._files if file.has_unclaimed()]
            chosen = min(open_files, key=lambda file: file.owners, default=None)
            if chosen is not None:
                chosen.owners += 1
            return chosen

    def _fetch(self, file: Incoming, segment: int) -> None:
        tried = 0
        while not self._ended.is_set():
            before, end = file.left_of(segment)
            if before >= end:
                return
            try:
                self._stream(file, segment, before, end)
                if file.left_of(segment)[0] < end and not self._ended.is_set():
                    raise _ended_early(file.item)
            except WeightsError as error:
                tried = 1 if file.left_of(segment)[0] > before else tried + 1
                if not error.retry or error.reason is Reason.DOWNLOAD_FAILED or tried >= self._patience.tries:
                    raise _stuck(error.for_good(), file.item, file.left_of(segment)[0]) from error
                pause = self._patience.pause_seconds(tried, error)
                say_wait(error, pause)
                with self._progress.no_bytes_expected():
                    self._ended.wait(pause)

    def _stream(self, file: Incoming, segment: int, start: int, end: int) -> None:
        item = file.item
        with item.source.stream(item.commit, item.file, start, end) as stream:
            for piece in stream:
                with disk_errors_named(self._folder, self._missing):
                    file.write(segment, piece)
                self._progress.received(len(piece))
                if self._ended.is_set():
                    return

    def _missing(self) -> int:
        return sum(file.missing_on_disk() for file in self._files)

    def _check(self, file: Incoming) -> None:
        with self._progress.no_bytes_expected(), disk_errors_named(self._folder, self._missing):
            if file.is_right():
                file.keep()
                self._verified(file.item)
                self._progress.file_done()
                return
            file.mismatches += 1
            if file.mismatches >= MOST_FETCHES_OF_A_FILE:
                raise _wrong(file)
            self._progress.resumed(-file.size)
            file.start_over()


def _stuck(error: WeightsError, item: Item, at: int) -> WeightsError:
    """The error that ends it, with the file, and where it stopped: at the same byte for as many tries as there were."""
    if error.reason is not Reason.HUB_UNREACHABLE or not at:
        return error
    remedy = (
        f"{error.remedy} Where the other files come and this one ends at the same byte again and again, it is damaged at the source, or "
        "cut by what is between: have it uploaded again, or look there."
    )
    message = f"{error.message.rstrip('.')} ({item.path}, at byte {at} of {item.file.size})."
    return WeightsError(error.reason, message, remedy, retry_after=error.retry_after, is_final=error.is_final)


def _ended_early(item: Item) -> WeightsError:
    return WeightsError(
        Reason.HUB_UNREACHABLE,
        f"The source ends {item.file.path} before its last byte.",
        "The next try goes on where this one stopped. Where it stays so, the copy of a mirror, or of a proxy on the way, is cut off: "
        "have it cleared there.",
    )


def _wrong(file: Incoming) -> WeightsError:
    digest = file.item.file.digest
    return WeightsError(
        Reason.WEIGHTS_CORRUPT,
        f"{file.item.file.path} came {file.mismatches} times with another {digest.kind} than {digest.value[:16]}….",
        file.item.source.wrong_bytes,
    )
