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
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

#: Where in its own folder a thing is kept that is being replaced; hidden, so that it counts in no digest.
EARLIER = ".earlier"
#: What that is called while it is removed, so that what is left of an interrupted removal is not taken for anything.
GONE = ".gone"

_SPARSE_BYTES = 2**36
#: What to do with a folder that holds links in the place of files.
LINKED = "It has to hold its files itself. If the links are your own, copy it with what they lead to: cp -rL FROM TO."


def create_exclusively(path: Path) -> BinaryIO:
    """A new file for writing; :class:`FileExistsError` if anything, be it a dangling link, has this name."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666), "wb")


def open_untrusted(path: Path) -> BinaryIO:
    """A file that a method may have put there, for reading; :class:`OSError` unless it is a regular file, or a link."""
    return os.fdopen(open_descriptor(path, os.O_NOFOLLOW), "rb")


def open_descriptor(path: Path | str, flags: int = 0, folder: int | None = None) -> int:
    """Descriptor of a regular file, for reading; :class:`OSError` for what may never answer or never end.

    ``folder`` is the descriptor of an open one that a name belongs to.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | flags, dir_fd=folder)
    status = os.fstat(descriptor)
    flaw = "it is not a regular file" if not stat.S_ISREG(status.st_mode) else "it is a hole" if is_hole(status) else ""
    if flaw:
        os.close(descriptor)
        raise OSError(errno.EINVAL, flaw, str(path))
    return descriptor


def is_hole(status: os.stat_result) -> bool:
    """Whether a file is larger than any of ours and next to nothing of it is on the disk: reading it would not end."""
    return status.st_size > max(_SPARSE_BYTES, 100 * 512 * status.st_blocks)


def open_inside(folder: Path, *names: str) -> int:
    """Descriptor of a regular file below a folder, for reading; :class:`OSError` where a link is on the way.

    The folder itself may be reached by links: where it lies is the user's business, what is in it is not.
    """
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in names[:-1]:
            there = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = there
        return open_descriptor(names[-1], os.O_NOFOLLOW, here)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise OSError(error.errno, "it is a link, or below one", str(folder.joinpath(*names))) from error
        raise
    finally:
        os.close(here)


def open_table(path: Path) -> TextIO:
    """A CSV file in the outputs of a run, to read; :class:`OSError` if it, or the folder that it is in, is a link."""
    return os.fdopen(open_inside(path.parents[1], path.parent.name, path.name), newline="", encoding="utf-8")


def read_inside(folder: Path, *names: str, max_bytes: int) -> bytes:
    """All of such a file; :class:`OSError` if it is larger than ``max_bytes``."""
    return _read_all(os.fdopen(open_inside(folder, *names), "rb"), max_bytes, folder.joinpath(*names))


def has_links(folder: Path) -> Path | None:
    """The first link below a folder, or the folder itself if it is one; None if there is none."""
    if folder.is_symlink():
        return folder
    for here, folders, files in os.walk(folder):
        for name in sorted([*folders, *files]):
            if (path := Path(here) / name).is_symlink():
                return path
    return None


def read_untrusted(path: Path, max_bytes: int) -> bytes:
    """All of such a file; :class:`OSError` if it is larger than ``max_bytes``."""
    return _read_all(open_untrusted(path), max_bytes, path)


def _read_all(opened: BinaryIO, max_bytes: int, path: Path) -> bytes:
    with opened as file:
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


@dataclass(frozen=True)
class Replacement:
    """What ``--overwrite`` replaces in a folder: it is kept until there is something to put in its place.

    It is moved aside, within the folder (which may be the root of a disk), its mark last, and back, its mark first: so
    whatever interrupts a move, what is aside without a mark belongs to what is in place.

    Attributes
    ----------
    mark : the file that makes the content of the folder a whole: a description, a job.
    has_made : whether what was begun in the folder has made anything yet.
    stays : names of files that are not moved.
    """

    folder: Path
    mark: str
    has_made: Callable[[Path], bool]
    stays: Collection[str] = ()

    def set_aside(self) -> None:
        """Keep what the folder, which has the mark, holds; where something is kept already, remove what was begun."""
        self.recover()
        if self.is_kept():
            self._remove_what_was_begun()
            return
        (self.folder / EARLIER).mkdir()
        for item in sorted(self._items(), key=lambda item: item.name == self.mark):
            item.rename(self.folder / EARLIER / item.name)

    def settle(self, succeeded: bool) -> bool:
        """Forget what is kept, or put it back where the new one failed before it made anything; whether it did that."""
        if not self.is_kept():
            return False
        if succeeded or self.has_made(self.folder):
            self._forget()
            return False
        self._put_back()
        return True

    def recover(self) -> None:
        """Finish what a command that was killed has left half done."""
        discard(self.folder / GONE)
        if not self.is_kept():
            return
        if not (self.folder / EARLIER / self.mark).exists() or not (self.folder / self.mark).exists():
            self._put_back()
        elif self.has_made(self.folder):
            self._forget()

    def is_kept(self) -> bool:
        """Whether something is kept."""
        aside = self.folder / EARLIER
        if aside.is_symlink():  # laid as a trap: what follows would be done wherever it leads
            discard(aside)
        return aside.is_dir()

    def _items(self) -> Iterator[Path]:
        return (item for item in self.folder.iterdir() if item.name not in (EARLIER, *self.stays))

    def _remove_what_was_begun(self) -> None:
        for item in sorted(self._items(), key=lambda item: item.name == self.mark):
            discard(item)

    def _put_back(self) -> None:
        aside = self.folder / EARLIER
        if (aside / self.mark).exists():
            self._remove_what_was_begun()
        for item in sorted(aside.iterdir(), key=lambda item: item.name != self.mark):
            item.rename(self.folder / item.name)
        aside.rmdir()

    def _forget(self) -> None:
        (self.folder / EARLIER).rename(self.folder / GONE)
        discard(self.folder / GONE)
