"""One file on its way to the disk: cut into segments that are fetched at once, each with a counter that survives us.

Beside the data lies a small file of counters, one number a segment, written after the bytes it counts. Both survive
a killed process; after a lost node they may disagree, and then the checksum says so and the file is fetched again.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
from contextlib import suppress
from pathlib import Path

from vllm_weights.checksum import RunningChecksum
from vllm_weights.contents import Item
from vllm_weights.listing import DigestKind

SEGMENT_BYTES = 256 * 1024 * 1024
"""Large, because a request to the hub is counted against its rate limit: a 140 GB model needs 560."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
WRITE_BACK_BYTES = 32 * 1024 * 1024
HASH_AHEAD_BYTES = 64 * 1024 * 1024
"""Read for the checksum between two writes, at most, so that a resumed file does not keep its connection waiting."""


class Incoming:
    """A file being fetched into `folder`; its segments are claimed by workers, one each at a time."""

    def __init__(self, item: Item, folder: Path, state_folder: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.item = item
        self.size = item.file.size
        self.path = folder / item.path
        self.segment_bytes = segment_bytes
        self.owners = 0
        self.mismatches = 0
        self._state = state_folder / state_name(item)
        self._lock = threading.Lock()
        self._count = max(1, -(-self.size // segment_bytes))
        self._done = [0] * self._count
        self._unclaimed: list[int] = []
        self._claims = 0
        self._open = False

    def open(self) -> int:
        """Opens data and counters; the bytes that an earlier try left are returned."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._data = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._counters = os.open(self._state, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._open = True
        written = os.pread(self._counters, 8 * self._count, 0)
        if len(written) == 8 * self._count:
            on_disk = os.fstat(self._data).st_size
            for at, counted in enumerate(struct.unpack(f"<{self._count}Q", written)):
                present = max(0, on_disk - at * self.segment_bytes)
                self._done[at] = min(counted, self._length(at), present)
        else:
            os.ftruncate(self._data, 0)
            os.pwrite(self._counters, bytes(8 * self._count), 0)
        self._start_over_checking()
        return sum(self._done)

    def close(self) -> None:
        """Raises what the volume says of the last bytes, once: some storage finds its quota used up only now."""
        if self._open:
            self._open = False
            try:
                os.close(self._data)
            finally:
                os.close(self._counters)

    def claim(self) -> int | None:
        """The next segment that nobody fetches, for the caller alone until `give_back`; None where all are taken."""
        with self._lock:
            if not self._unclaimed:
                return None
            self._claims += 1
            return self._unclaimed.pop()

    def give_back(self) -> bool:
        """Ends a claim. True to one caller, the last to leave a file of which every byte is there.

        Only it may check the file, close it or forget its bytes: who has not given back may have counted its last byte,
        and is still to write the counter and to go on with the checksum.
        """
        with self._lock:
            self._claims -= 1
            return self._claims == 0 and not self._unclaimed and self.is_complete

    def has_unclaimed(self) -> bool:
        return bool(self._unclaimed)

    def left_of(self, segment: int) -> tuple[int, int]:
        """Start and end of what is missing of a segment."""
        start = segment * self.segment_bytes
        return start + self._done[segment], start + self._length(segment)

    def write(self, segment: int, piece: bytes | memoryview) -> None:
        """Puts the piece at the segment's end, then counts it, then goes on with the checksum."""
        at, count = self.left_of(segment)[0], len(piece)
        written = os.pwrite(self._data, piece, at)
        while written < count:  # A disk that gets full takes a part, and refuses the next.
            written += os.pwrite(self._data, memoryview(piece)[written:], at + written)
        self._done[segment] += count
        self._write_back(segment, at, count)
        os.pwrite(self._counters, struct.pack("<Q", self._done[segment]), 8 * segment)
        self._checksum.take(at, piece)
        self._checksum.advance(self._prefix(), HASH_AHEAD_BYTES)

    def _write_back(self, segment: int, at: int, count: int) -> None:
        """Has the kernel begin to write to the disk now and then, so that the sync at the end finds little to do."""
        if (at + count) // WRITE_BACK_BYTES != at // WRITE_BACK_BYTES:
            # On dirty pages the advice only starts the writing; they stay in the cache, where the checksum reads them.
            start = max(segment * self.segment_bytes, at + count - 2 * WRITE_BACK_BYTES)
            with suppress(OSError):  # Advice: not every file system takes it.
                os.posix_fadvise(self._data, start, at + count - start, os.POSIX_FADV_DONTNEED)

    def missing_on_disk(self) -> int:
        """Bytes the disk has yet to find room for."""
        return self.size - sum(self._done)

    @property
    def is_complete(self) -> bool:
        return sum(self._done) == self.size

    def is_right(self) -> bool:
        """Whether the complete file has the source's checksum."""
        return self._checksum.matches(self.size) or self.item.source.checksum_is_none(self.item.file)

    def keep(self) -> None:
        """Puts the file on the disk for good and closes it."""
        os.ftruncate(self._data, self.size)
        os.fdatasync(self._data)
        self.close()

    def start_over(self) -> None:
        """Forgets all bytes; nobody may be at them."""
        with self._lock:
            self._done = [0] * self._count
            os.pwrite(self._counters, bytes(8 * self._count), 0)
            self._start_over_checking()

    def _start_over_checking(self) -> None:
        self._checksum = RunningChecksum(self._data, self.size, self.item.file.digest)
        missing = (at for at in range(self._count) if self._done[at] < self._length(at))
        self._unclaimed = sorted(missing, reverse=True)

    def _length(self, segment: int) -> int:
        return min(self.segment_bytes, self.size - segment * self.segment_bytes)

    def _prefix(self) -> int:
        total = 0
        for at, done in enumerate(self._done):
            total += done
            if done < self._length(at):
                break
        return total


def state_name(item: Item) -> str:
    """Another content gets other counters, even under the same name.

    So does, for a file without a checksum, another start of the node: nothing would tell what a crash has lost.
    """
    digest = item.file.digest
    text = f"{item.path}\0{item.file.size}\0{digest.kind}\0{digest.value}\0{item.file.version}"
    if digest.kind is DigestKind.NONE and BOOT_ID.exists():
        text += BOOT_ID.read_text()
    return hashlib.sha256(text.encode()).hexdigest()[:32]
