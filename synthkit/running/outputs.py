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
    """Remove what is neither a folder nor an ordinary file, give what stays the rights of new files; what was removed.

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
    umask = os.umask(0o077)
    os.umask(umask)
    return sorted(_settled(descriptor, "", umask))


def _settled(folder: int, place: str, umask: int) -> Iterator[str]:
    """The same below an open folder, which is closed at the end."""
    try:
        with suppress(OSError):  # a folder that hands its group on goes on doing so
            os.fchmod(folder, os.fstat(folder).st_mode & stat.S_ISGID | 0o777 & ~umask)
        with os.scandir(folder) as entries:
            listed = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
        for name, status in listed:
            if stat.S_ISDIR(status.st_mode):
                with suppress(PermissionError):  # what the host cannot open does not lead it anywhere
                    yield from _settled(_opened(name, folder, os.O_DIRECTORY), f"{place}{name}/", umask)
                continue
            flaw = next((words for is_kind, words in _KINDS if is_kind(status.st_mode)), None)
            if flaw is None and is_hole(status):
                flaw = f"a hole of {status.st_size:,} bytes"
            # The other name may lie anywhere: what is done to the file is done there too.
            other_name = status.st_nlink > 1
            if flaw is None and other_name and status.st_mode & (stat.S_ISUID | stat.S_ISGID):
                flaw = "a second name of a program that runs as somebody else"
            if flaw is not None:
                os.unlink(name, dir_fd=folder)
                yield f"{place}{name}: {flaw}"
            elif stat.S_IMODE(status.st_mode) != 0o666 & ~umask and not other_name:
                with suppress(OSError):
                    _set_rights(name, folder, 0o666 & ~umask)
    finally:
        os.close(folder)


def _opened(name: str, folder: int, flags: int) -> int:
    return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | flags, dir_fd=folder)


def _set_rights(name: str, folder: int, mode: int) -> None:
    descriptor = _opened(name, folder, 0)
    try:
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)
