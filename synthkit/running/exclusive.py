"""One command at a time in a run folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from synthkit.errors import NotWritableError

#: The file in a run folder that is locked while a command is at work there.
LOCK_NAME = ".lock"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the run folder ``path``, made if need be, for one command.

    :class:`NotWritableError` if another one has it: no mistake in the command, which may be given again later.

    Locks are per machine on some network file systems, and where there are none the block runs without.
    """
    if path.exists() and not path.is_dir():
        yield  # create_run refuses it
        return
    path.mkdir(parents=True, exist_ok=True)
    file = path / LOCK_NAME
    descriptor = -1
    try:
        while True:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise NotWritableError(
                    f"Another command is at work in {path}.",
                    "Two at once would mix their outputs.",
                    "Wait for it, or choose another folder.",
                ) from error
            except OSError:
                break
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), file.lstat()):
                    break
            os.close(descriptor)  # its owner removed it meanwhile; another command may hold a new one
            descriptor = -1
        try:
            yield
        finally:
            file.unlink(missing_ok=True)
    finally:
        if descriptor >= 0:
            os.close(descriptor)
