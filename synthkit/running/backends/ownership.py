"""Whose a run folder is: root's containers run as an ordinary user, who has it while they do."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: User and group that a container runs as where the caller is root. Owns nothing and has no name on usual systems.
ORDINARY = 65532


def is_root() -> bool:
    """Whether the caller is root, whose uid no run gets."""
    return hasattr(os, "getuid") and os.getuid() == 0


@contextmanager
def lent(folder: Path, user: str) -> Iterator[None]:
    """Give a folder and all in it to ``user``, ``"uid:gid"``, and take it back; only where root lends it."""
    if not is_root() or user != f"{ORDINARY}:{ORDINARY}":
        yield
        return
    _give(folder, ORDINARY)
    try:
        yield
    finally:
        _give(folder, 0)


def _give(folder: Path, owner: int) -> None:
    """By descriptors, so that no link is followed; what links lead to stays whose it is."""
    for _, folders, files, descriptor in os.fwalk(folder, follow_symlinks=False):
        os.chown(descriptor, owner, owner)
        for name in (*folders, *files):
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode) or status.st_nlink == 1:  # another name of a file may lie anywhere
                os.chown(name, owner, owner, dir_fd=descriptor, follow_symlinks=False)
