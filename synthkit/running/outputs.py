"""What a run left in its outputs, made safe before anybody opens it: nothing leads elsewhere, waits or has rights.

A method writes there with its user's rights, and the host reads with its own. A link would show the host's files as
results, a pipe would hold whoever opens it, a sparse file of terabytes whoever takes its digest.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from synthkit.files import is_hole

_KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def settle_outputs(folder: Path) -> list[str]:
    """Remove what is neither a folder nor an ordinary file, take the rights of others' ids away; what was removed.

    Works by descriptors from ``folder`` down and follows no link, so that nothing outside is touched whatever lies
    there. Each answer is a relative name and what it was: ``"dataset/images/c/0/0: a link"``.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return []
    except OSError:
        folder.unlink(missing_ok=True)
        folder.mkdir()
        return [f"{folder.name}: no folder"]
    return sorted(_settled(descriptor, ""))


def _settled(folder: int, place: str) -> Iterator[str]:
    """The same below an open folder, which is closed at the end."""
    try:
        with os.scandir(folder) as entries:
            listed = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
        for name, status in listed:
            if stat.S_ISDIR(status.st_mode):
                with suppress(PermissionError):  # what the host cannot open does not lead it anywhere
                    yield from _settled(_opened(name, folder, os.O_DIRECTORY), f"{place}{name}/")
                continue
            flaw = next((words for is_kind, words in _KINDS if is_kind(status.st_mode)), None)
            if flaw is None and is_hole(status):
                flaw = f"a hole of {status.st_size:,} bytes"
            if flaw is not None:
                os.unlink(name, dir_fd=folder)
                yield f"{place}{name}: {flaw}"
            elif status.st_mode & (stat.S_ISUID | stat.S_ISGID):
                with suppress(OSError):
                    _take_rights(name, folder, status.st_mode & 0o777)
    finally:
        os.close(folder)


def _opened(name: str, folder: int, flags: int) -> int:
    return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | flags, dir_fd=folder)


def _take_rights(name: str, folder: int, mode: int) -> None:
    descriptor = _opened(name, folder, 0)
    try:
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)
