"""Files that are written whole, and files that somebody else may have laid out as a trap.

A method writes into its run folder, and the host reads and writes there with its user's rights: a link, a pipe or a
name taken beforehand must not lead the host to another file, nor hold it.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from pathlib import Path
from typing import BinaryIO


def create_exclusively(path: Path) -> BinaryIO:
    """A new file for writing; :class:`FileExistsError` if anything, be it a dangling link, has this name."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666), "wb")


def open_untrusted(path: Path) -> BinaryIO:
    """A file that a method may have put there, for reading; :class:`OSError` unless it is a regular file, or a link."""
    return os.fdopen(open_descriptor(path, os.O_NOFOLLOW), "rb")


def open_descriptor(path: Path, flags: int = 0) -> int:
    """Descriptor of a regular file, for reading; :class:`OSError` for a pipe or a device, which may never answer."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return descriptor


def read_untrusted(path: Path, max_bytes: int) -> bytes:
    """All of such a file; :class:`OSError` if it is larger than ``max_bytes``."""
    with open_untrusted(path) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {max_bytes:,} bytes", str(path))
    return data


def discard(path: Path) -> None:
    """Remove whatever has this name, if anything has; a link itself and not what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is either the old one or the whole new one, whatever interrupts the write."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with create_exclusively(temporary) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_spreadsheet(path: Path) -> str:
    """The text of a table as spreadsheets save it: UTF-8, with or without a byte-order mark, or UTF-16 with one.

    Raises :class:`OSError`, or :class:`UnicodeDecodeError` for other bytes.
    """
    data = path.read_bytes()
    return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
