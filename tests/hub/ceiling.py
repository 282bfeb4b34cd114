"""What hub and disk can give at all: `line URL REPO` receives a model and drops it, `disk FOLDER BYTES` writes as much,
`both URL REPO FOLDER` writes what it receives.

The least that any program can do: a socket and a buffer a file, a descriptor and a buffer, or all of them, and no checksum.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlsplit

T = TypeVar("T")
AT_ONCE = 8
BUFFER_BYTES = 1 << 20


def line(url: str, repo: str) -> int:
    """Receives every file of the repository; returns the bytes."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return sum(pool.map(lambda path: _get(url, path, _drop), _paths(url, repo)))


def both(url: str, repo: str, folder: str) -> int:
    """Receives every file of the repository to the disk and syncs it; returns the bytes."""

    def keep(numbered: tuple[int, str]) -> int:
        at, path = numbered
        return _get(url, path, lambda answer: _keep(answer, Path(folder) / str(at)))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return sum(pool.map(keep, enumerate(_paths(url, repo))))


def disk(folder: str, size: int, files: int = 4) -> int:
    """Writes `size` bytes in several files and syncs them; returns the bytes."""
    with ThreadPoolExecutor(files) as pool:
        return sum(pool.map(lambda at: _write(Path(folder) / str(at), size // files), range(files)))


def _get(url: str, path: str, take: Callable[[http.client.HTTPResponse], T]) -> T:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request("GET", path)
        return take(connection.getresponse())
    finally:
        connection.close()


def _paths(url: str, repo: str) -> list[str]:
    info = json.loads(_get(url, f"/api/models/{repo}", lambda answer: answer.read()))
    return [f"/_cdn/{repo}/{info['sha']}/{quote(sibling['rfilename'])}" for sibling in info["siblings"]]


def _keep(answer: http.client.HTTPResponse, path: Path) -> int:
    buffer, total = memoryview(bytearray(BUFFER_BYTES)), 0
    with path.open("wb", buffering=0) as file:
        while count := answer.readinto(buffer):
            file.write(buffer[:count])
            total += count
        os.fdatasync(file.fileno())
    return total


def _drop(answer: http.client.HTTPResponse) -> int:
    buffer, total = bytearray(BUFFER_BYTES), 0
    while count := answer.readinto(buffer):
        total += count
    return total


def _write(path: Path, size: int) -> int:
    buffer, left = bytes(BUFFER_BYTES), size
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        while left > 0:
            left -= os.write(descriptor, buffer[: min(left, BUFFER_BYTES)])
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    return size


if __name__ == "__main__":
    command, *words = sys.argv[1:]
    measured = {
        "line": lambda: line(*words),
        "both": lambda: both(*words),
        "disk": lambda: disk(words[0], int(words[1])),
    }
    print(measured[command]())
