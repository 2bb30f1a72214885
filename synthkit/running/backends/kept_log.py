"""``log.txt``: what a method prints, its beginning and its end, however much it is."""

from __future__ import annotations

import os
import threading
from collections import deque
from pathlib import Path

from synthkit.files import create_exclusively

_HEAD_BYTES = 16 * 2**20
_TAIL_BYTES = 2**20


class KeptLog:
    """A new log. Takes what comes from another thread; what is between beginning and end is counted only.

    Attributes
    ----------
    n_bytes : written to it so far, kept or not.
    """

    def __init__(self, path: Path) -> None:
        self.n_bytes = 0
        self._file = create_exclusively(path)
        self._tail: deque[bytes] = deque()
        self._in_tail = self._left_out = 0
        self._lock = threading.Lock()

    def write(self, chunk: bytes) -> None:
        """Append to it; nothing happens once it is closed."""
        with self._lock:
            if self._file.closed:
                return
            kept = chunk[: max(0, _HEAD_BYTES - self.n_bytes)]
            self.n_bytes += len(chunk)
            if kept:
                self._file.write(kept)
                self._file.flush()
            if rest := chunk[len(kept) :][-_TAIL_BYTES:]:
                self._left_out += len(chunk) - len(kept) - len(rest)
                self._tail.append(rest)
                self._in_tail += len(rest)
            while self._in_tail - len(self._tail[0] if self._tail else b"") >= _TAIL_BYTES:
                self._left_out += len(self._tail[0])
                self._in_tail -= len(self._tail.popleft())

    def copy(self, descriptor: int) -> None:
        """Append what comes from an open pipe until nobody has its other end, and close it."""
        try:
            while chunk := os.read(descriptor, 2**16):
                self.write(chunk)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Write the end, where it was more than is kept."""
        with self._lock:
            if self._file.closed:
                return
            if self._left_out:
                self._file.write(f"\n... {self._left_out:,} bytes are left out here ...\n".encode())
            self._file.write(b"".join(self._tail))
            self._file.close()
