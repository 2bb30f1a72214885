"""Whether the content of a file is on this machine: links to nothing, pointers, empty files, unfinished downloads."""

from __future__ import annotations

from pathlib import Path

#: What browsers and download managers add to the name of a file that is not complete yet.
UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".opdownload", ".filepart", ".aria2", ".tmp")

# A pointer is a line or three of text; no volume is as small.
_POINTER_BYTES = 1024
_POINTERS = (
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer, its content was not fetched (`git lfs pull`)"),
    (b"/annex/objects/", "a git-annex pointer, its content was not fetched (`git annex get`)"),
    (b"<!doctype html", "a web page and not a volume: the download failed"),
    (b"<html", "a web page and not a volume: the download failed"),
)


def not_fetched(path: Path) -> str | None:
    """Why the content of a file is not here, in words that follow "it is"; None if it is here, or cannot be read."""
    try:
        if path.is_symlink() and not path.exists():
            target = path.readlink().as_posix()
            if "annex/objects/" in target:
                return "a link into a git-annex whose content was not fetched (`datalad get` or `git annex get`)"
            return f"a link to nothing ({target})"
        size = path.stat().st_size
        if size >= _POINTER_BYTES:
            return None
        return pointer_in(path.read_bytes())
    except OSError:  # reading it says what is wrong
        return None


def pointer_in(stored: bytes) -> str | None:
    """The same for the bytes of a file."""
    if not stored:
        return "empty (0 bytes)"
    head = stored[:_POINTER_BYTES].lstrip().lower()
    return next((text for start, text in _POINTERS if head.startswith(start)), None)


def finished_name(path: Path) -> str | None:
    """The name that an unfinished download will have; None for any other file."""
    for suffix in UNFINISHED:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return None
