"""Samples in arrays: ``.npy`` and ``.npz``, one array of images or one a contrast, with labels or without."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.data.channel_names import SEG
from synthkit.data.channel_options import Channels, unnamed
from synthkit.data.picture_layouts import RawSample, Source, call_folders
from synthkit.data.pictures import check_numbers
from synthkit.errors import DataError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

ARRAYS = (".npy", ".npz")
_IMAGES = "images"

# As many as there may be contrasts, each in a file of its own.
_MOST_OPEN = 8


class _Files:
    """Opens files of arrays, and keeps the last few open: samples of one file come one after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # of an archive, all threads would unpack it
        self._open: dict[Path, dict[str, NDArray[Any]]] = {}

    def load(self, path: Path) -> dict[str, NDArray[Any]]:
        with self._lock:
            if path not in self._open:
                if len(self._open) == _MOST_OPEN:
                    del self._open[next(iter(self._open))]
                self._open[path] = _read_arrays(path)
            return self._open[path]


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of a file by name; never a pickle."""
    try:
        if path.suffix.lower() == ".npy":
            return {path.stem: np.load(path, mmap_mode="r", allow_pickle=False)}
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # a damaged archive fails in many ways
        raise DataError(
            f"{path} cannot be read.",
            f"{error}.",
            "The file is damaged, or holds Python objects; save plain arrays of numbers.",
        ) from error


@dataclass(frozen=True)
class _ArraySet:
    """Arrays that belong together: ``names`` of an array -> (file, name in it)."""

    stem: str
    names: dict[str, tuple[Path, str]]
    files: _Files

    def array(self, name: str) -> NDArray[Any]:
        path, key = self.names[name]
        return self.files.load(path)[key]


def find_arrays(root: Path, paths: list[Path], channels: Channels) -> Source:
    """The samples in files of arrays; errors as :func:`synthkit.data.picture_channels.find_unnamed`."""
    if channels.mosaic is not None:
        raise UsageError("Arrays are not mosaics.", fix="--mosaic is for pictures; leave it out.")
    files = _Files()
    loaded = [(path, list(files.load(path))) for path in paths]
    named = [(path, key) for path, keys in loaded for key in keys]
    by_role = [key for _, key in named if channels.known.channel_of(key) or key.lower() in (_IMAGES, "image")]
    if len(paths) > 1 and len(set(by_role)) == len(named) == len(
        paths
    ):  # t1.npy, t2.npy ..., or images.npy and labels.npy
        sets = [_ArraySet(root.name, {key: (path, key) for path, key in named}, files)]
    else:
        sets = [_ArraySet(path.stem, {key: (path, key) for key in keys}, files) for path, keys in loaded]
    if len({item.stem for item in sets}) < len(sets):
        raise DataError(
            f"{root} has arrays of one name in several folders.",
            "Samples are named after their files.",
            call_folders(root),
        )
    ids: list[str] = []
    where: list[tuple[Callable[[int], RawSample], int]] = []
    notes: list[str] = []
    kinds = set()
    for item in sets:
        read, n, contrasts, has_labels, said = _samples_of(root, item, channels)
        kinds.add((contrasts, has_labels))
        ids += [item.stem] if n is None else [f"{item.stem}_{i:06d}" for i in range(n)]
        where += [(read, i) for i in range(n or 1)]
        notes += [note for note in said if note not in notes]
    if len(kinds) > 1:
        raise DataError(f"The arrays of {root} hold different channels.", fix="Import those that are alike.")
    ((contrasts, has_labels),) = kinds
    return Source("arrays", contrasts, has_labels, ids, lambda i: where[i][0](where[i][1]), notes)


_Samples = tuple[Callable[[int], RawSample], int | None, tuple[str, ...], bool, list[str]]


def _samples_of(root: Path, item: _ArraySet, channels: Channels) -> _Samples:
    """How a set is read, how many samples it has (None: it is one), contrasts, whether it has labels, and notes."""
    role: dict[str, str] = {name: channels.known.channel_of(name) or _IMAGES for name in item.names}
    if len(item.names) == 1:
        role = dict.fromkeys(item.names, _IMAGES)
    for name in item.names:
        check_numbers(f"{name} of {item.names[name][0]}", item.array(name))
    if len(set(role.values())) < len(role) or {*role.values()} - {SEG} > {_IMAGES}:
        raise DataError(
            f"The arrays of {item.names[next(iter(item.names))][0]} are not understood.",
            f"They are {', '.join(f'{name} {item.array(name).shape}' for name in item.names)}.",
            "Keep one array of images, and one of labels called labels; or one for each contrast, called t1, t1ce ...",
        )
    by_role = {value: name for name, value in role.items()}
    labels = None if channels.without_labels else by_role.get(SEG)
    if _IMAGES in by_role:
        return _whole(root, item, by_role[_IMAGES], labels, channels)
    if channels.names is not None:
        raise UsageError("The arrays' names say which channel is which.", fix="Leave out --channels.")
    contrasts = tuple(name for name in channels.known.order if name in by_role)
    return _stacked(item, [by_role[name] for name in contrasts], labels, contrasts)


# What follows reads arrays by name when a sample is asked for: not all files can be open, or in memory, at once.


def _stacked(item: _ArraySet, names: list[str], labels: str | None, contrasts: tuple[str, ...]) -> _Samples:
    shapes = {item.array(name).shape for name in [*names, *([] if labels is None else [labels])]}
    shape = item.array(names[0]).shape
    if len(shapes) > 1 or len(shape) not in (2, 3):
        raise DataError(
            f"The arrays of {item.stem} do not fit.",
            f"Their shapes are {', '.join(map(str, sorted(shapes)))}, where all are (n, y, x).",
            "Save one array of that shape for each contrast and for the labels.",
        )
    n = shape[0] if len(shape) == 3 else None

    def read(i: int) -> RawSample:
        at: Any = slice(None) if n is None else i
        own = None if labels is None else item.array(labels)[at]
        return RawSample([item.array(name)[at] for name in names], own, labels_are_values=True)

    return read, n, contrasts, labels is not None, []


def _whole(root: Path, item: _ArraySet, name: str, labels: str | None, channels: Channels) -> _Samples:
    shape = item.array(name).shape
    if channels.names is None:
        raise unnamed(root, f"{item.stem} has the shape {shape}")
    if labels is not None and SEG in channels.names:
        raise UsageError(
            f"{root} has labels in an array of their own.",
            "--channels names them again.",
            "Leave them out of --channels.",
        )
    k = len(channels.names)
    one = len(shape) == 2 or (len(shape) == 3 and k > 1)  # (y, x), (c, y, x): one sample
    axis = None
    if k > 1 or len(shape) != (2 if one else 3):
        axis = _channel_axis(item, shape, k, channels.last, first=0 if one else 1)
    notes = [f"Arrays are read as {'(y, x, c)' if one else '(n, y, x, c)'}."] if axis == len(shape) - 1 else []
    n = None if one else shape[0]
    expected = tuple(size for at, size in enumerate(shape) if at != axis)
    squeezed = None if labels is None else _extra_axis(item, item.array(labels).shape, expected, n)

    def read(i: int) -> RawSample:
        at: Any = slice(None) if n is None else i
        block = item.array(name)[at]
        planes = [block] if axis is None else [*np.moveaxis(block, axis - (n is not None), 0)]
        own = None
        if labels is not None:
            own = item.array(labels)[at]
            own = own if squeezed is None else np.squeeze(own, squeezed - (n is not None))
        return channels.sample(planes, are_values=True, labels=own)

    return read, n, channels.contrasts, channels.has_labels or labels is not None, notes


def _channel_axis(item: _ArraySet, shape: tuple[int, ...], k: int, last: bool | None, *, first: int) -> int:
    end = len(shape) - 1
    if end - first == 2:
        fits = {False: shape[first] == k, True: shape[end] == k}
        if last is not None and fits[last]:
            return end if last else first
        if last is None and fits[False] != fits[True]:
            return end if fits[True] else first
        if last is None and fits[True]:
            raise UsageError(
                f"{item.stem} has the shape {shape}, and {k} channels may be the first or the last axis.",
                "Which one cannot be told.",
                "Give --channels-first for (c, y, x), --channels-last for (y, x, c).",
            )
    raise DataError(
        f"{item.stem} has the shape {shape}, and --channels names {k}.",
        "Arrays are (n, c, y, x) or (n, y, x, c), or (c, y, x) for one sample.",
        "Name all channels, - for one to leave out, and check --channels-last.",
    )


def _extra_axis(item: _ArraySet, shape: tuple[int, ...], expected: tuple[int, ...], n: int | None) -> int | None:
    """The axis of one channel that labels have beyond the expected shape; None if there is none."""
    if shape == expected:
        return None
    if len(shape) == len(expected) + 1:
        for at in (0 if n is None else 1, len(shape) - 1):
            if shape[at] == 1 and shape[:at] + shape[at + 1 :] == expected:
                return at
    raise DataError(
        f"Images and labels of {item.stem} do not fit.",
        f"Labels are {shape}, where {expected} are expected.",
        "Save one label map an image.",
    )
