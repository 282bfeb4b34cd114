"""How far a pull is: counted by the workers, told as JSON lines, in a file and over HTTP."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from vllm_weights.failure import WeightsError
from vllm_weights.tokens import without_secrets

WORTH_A_LINE_SECONDS = 5.0
RATE_WINDOW_SECONDS = 15.0
"""Over which the speed is averaged: long enough to be steady, short enough to show a change."""


@dataclass(slots=True)
class Progress:
    """The one count of a pull; safe for its threads. Bytes that an earlier try left count as done."""

    phase: str = "listing"
    bytes_total: int = 0
    bytes_done: int = 0
    bytes_fetched: int = 0
    files_total: int = 0
    files_done: int = 0
    _last_byte: float = field(default_factory=time.monotonic)
    _not_expecting: int = 0
    _paused_at: float = 0.0
    _samples: deque[tuple[float, int]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def expect(self, size: int, files: int) -> None:
        with self._lock:
            self.bytes_total += size
            self.files_total += files

    def resumed(self, count: int) -> None:
        """Bytes found on the disk; negative where they turned out to be wrong."""
        with self._lock:
            self.bytes_done += count

    def received(self, count: int) -> None:
        with self._lock:
            self.bytes_done += count
            self.bytes_fetched += count
            self._last_byte = time.monotonic()

    def file_done(self) -> None:
        with self._lock:
            self.files_done += 1

    @contextmanager
    def no_bytes_expected(self) -> Iterator[None]:
        """While somebody waits or checks on purpose, the clock of silence stands still."""
        with self._lock:
            if self._not_expecting == 0:
                self._paused_at = time.monotonic()
            self._not_expecting += 1
        try:
            yield
        finally:
            with self._lock:
                self._not_expecting -= 1
                if self._not_expecting == 0:
                    now = time.monotonic()
                    self._last_byte = min(now, self._last_byte + now - self._paused_at)

    def expect_bytes_from_now(self) -> None:
        """Starts the clock of silence."""
        with self._lock:
            self._last_byte = time.monotonic()

    def silent_seconds(self) -> float:
        """Since the last byte, pauses taken off; 0 during one."""
        with self._lock:
            return 0.0 if self._not_expecting else time.monotonic() - self._last_byte

    def report(self) -> dict[str, Any]:
        with self._lock:
            rate = self._rate()
            left = self.bytes_total - self.bytes_done
            return {
                "version": 1,
                "phase": self.phase,
                "bytesDone": self.bytes_done,
                "bytesTotal": self.bytes_total,
                "bytesPerSecond": round(rate),
                "etaSeconds": round(left / rate) if rate > 0 else None,
                "files": [self.files_done, self.files_total],
            }

    def _rate(self) -> float:
        now = time.monotonic()
        self._samples.append((now, self.bytes_fetched))
        while len(self._samples) > 2 and now - self._samples[0][0] > RATE_WINDOW_SECONDS:
            self._samples.popleft()
        since, before = self._samples[0]
        return (self.bytes_fetched - before) / (now - since) if now - since > 0.01 else 0.0


def say(event: str, **what: str | float) -> None:
    """One line on stdout, with nothing in it of what is secret in this process's environment."""
    print(without_secrets(json.dumps({"event": event, **what}), os.environ), flush=True)


def say_wait(error: WeightsError, seconds: float) -> None:
    """One line as a wait begins that somebody may wonder about."""
    if seconds >= WORTH_A_LINE_SECONDS:
        say("waiting", reason=str(error.reason), message=error.message, seconds=round(seconds))


def tell(progress: Progress, file: Path) -> None:
    """One line on stdout, and the same in the progress file."""
    line = json.dumps({"event": "progress", **progress.report()})
    print(line, flush=True)
    try:
        fresh = file.with_suffix(".new")
        fresh.write_text(line)
        fresh.replace(file)  # So that nobody reads half a line.
    except OSError as error:
        print(f"the progress file {file} cannot be written: {error}", file=sys.stderr)


@contextmanager
def served(progress: Progress, port: int) -> Iterator[int | None]:
    """Serves `GET /progress` on every interface; gives the port, None where it is taken (a pull goes on without)."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            found = self.path.partition("?")[0] == "/progress"
            body = json.dumps(progress.report() if found else {"error": "only /progress is here"}).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Silent: the lines on stdout are the pull's own."""

    try:
        server = ThreadingHTTPServer(("", port), Handler)
    except OSError as error:
        print(f"progress is not served on port {port}: {error}; set PROGRESS_PORT", file=sys.stderr)
        yield None
        return
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
