"""One command at a time in a run folder, and none beside what an earlier one has left running there.

A command holds a lock as long as it lives. A run holds another, of its own, with every process that it has forked:
where its command or its container engine was killed, it may live on, and would write beside the next attempt.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from synthkit.errors import NotWritableError

#: The file in a run folder that is locked while a command is at work there.
LOCK_NAME = ".lock"
#: The one that a run holds.
ALIVE_NAME = ".alive"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the run folder ``path``, made if need be, for one command.

    :class:`NotWritableError` if another one has it, or if processes of an earlier run live on there: no mistake in the
    command, which may be given again later.

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
            _refuse_beside_the_living(path)
            yield
        finally:
            _remove_if_free(path / ALIVE_NAME)
            file.unlink(missing_ok=True)
    finally:
        if descriptor >= 0:
            os.close(descriptor)


@contextmanager
def alive(path: Path) -> Iterator[None]:
    """Hold the lock of a run in its folder while the block runs, and as long as a process lives that it has forked."""
    descriptor = -1
    with suppress(OSError):  # a file system without locks
        descriptor = os.open(path / ALIVE_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    try:
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)
        _remove_if_free(path / ALIVE_NAME)


def _refuse_beside_the_living(path: Path) -> None:
    file = path / ALIVE_NAME
    if _remove_if_free(file):
        return
    holders = _holders(file)
    raise NotWritableError(
        f"Processes of an earlier run are still at work in {path}.",
        "Its command, or the container engine, was killed and they were not: they would write beside a new run.",
        f"End them: kill -9 {' '.join(map(str, holders))}."
        if holders
        else f"They are another user's: `sudo fuser -k {file}` ends them. Or choose another folder.",
    )


def _remove_if_free(file: Path) -> bool:
    """Whether nobody holds it; it is gone then, where this user may remove it."""
    if _is_held(file):
        return False
    with suppress(OSError):
        file.unlink(missing_ok=True)
    return True


def _is_held(file: Path) -> bool:
    descriptor = _opened(file)
    if descriptor < 0:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _opened(file: Path) -> int:
    """A descriptor; -1 where there is no such file. Network file systems lock only what may be written."""
    for mode in (os.O_RDWR, os.O_RDONLY):  # it may be another user's
        with suppress(OSError):
            return os.open(file, mode | os.O_NOFOLLOW | os.O_NONBLOCK)
    return -1


def _holders(file: Path) -> list[int]:
    """Processes that have a file open, as far as this user may see them (on Linux)."""
    found, status = set(), file.lstat()
    for opened in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if os.path.samestat(opened.stat(), status):
                found.add(int(opened.parts[2]))
    return sorted(found)
