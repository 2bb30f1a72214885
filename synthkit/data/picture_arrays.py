"""Samples in arrays: ``.npy`` and ``.npz``, one array of images or one a contrast, with labels or without."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.data.channel_options import Channels, unnamed
from synthkit.data.conventions import BRATS
from synthkit.data.picture_layouts import RawSample, Source
from synthkit.data.pictures import check_numbers
from synthkit.data.png_folders import SEG, channel_of
from synthkit.errors import DataError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

ARRAYS = (".npy", ".npz")
_IMAGES = "images"
_lock = threading.Lock()


def _load(path: Path) -> dict[str, NDArray[Any]]:
    with _lock:  # of an archive, all threads would unpack it
        return _load_once(path)


@lru_cache(maxsize=2)
def _load_once(path: Path) -> dict[str, NDArray[Any]]:
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
    """Arrays that belong together: ``files`` name of an array -> (file, name in it)."""

    stem: str
    files: dict[str, tuple[Path, str]]

    def array(self, name: str) -> NDArray[Any]:
        path, key = self.files[name]
        return _load(path)[key]


def find_arrays(root: Path, paths: list[Path], channels: Channels) -> Source:
    if channels.mosaic is not None:
        raise UsageError("Arrays are not mosaics.", fix="--mosaic is for pictures; leave it out.")
    loaded = [(path, list(_load(path))) for path in paths]
    named = [(path, key) for path, keys in loaded for key in keys]
    by_role = [key for _, key in named if channel_of(key) or key.lower() in (_IMAGES, "image")]
    if len(paths) > 1 and len(by_role) == len(named) == len(paths):  # t1.npy, t2.npy ..., or images.npy and labels.npy
        sets = [_ArraySet(root.name, {key: (path, key) for path, key in named})]
    else:
        sets = [_ArraySet(path.stem, {key: (path, key) for key in keys}) for path, keys in loaded]
    if len({item.stem for item in sets}) < len(sets):
        raise DataError(
            f"{root} has arrays of one name in several folders.",
            "Samples are named after their files.",
            "Rename them, or import one folder at a time.",
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
    role: dict[str, str] = {name: channel_of(name) or _IMAGES for name in item.files}
    if len(item.files) == 1:
        role = dict.fromkeys(item.files, _IMAGES)
    for name in item.files:
        check_numbers(f"{name} of {item.files[name][0]}", item.array(name))
    if len(set(role.values())) < len(role) or {*role.values()} - {SEG} > {_IMAGES}:
        raise DataError(
            f"The arrays of {item.files[next(iter(item.files))][0]} are not understood.",
            f"They are {', '.join(f'{name} {item.array(name).shape}' for name in item.files)}.",
            "Keep one array of images, and one of labels called labels; or one for each contrast, called t1, t1ce ...",
        )
    by_role = {value: name for name, value in role.items()}
    labels = item.array(by_role[SEG]) if SEG in by_role and not channels.without_labels else None
    if _IMAGES not in by_role:
        if channels.names is not None:
            raise UsageError("The arrays' names say which channel is which.", fix="Leave out --channels.")
        names = tuple(name for name in BRATS.contrast_names if name in by_role)
        return _stacked([item.array(by_role[name]) for name in names], labels, names, item)
    return _whole(root, item, item.array(by_role[_IMAGES]), labels, channels)


def _stacked(
    planes: list[NDArray[Any]], labels: NDArray[Any] | None, names: tuple[str, ...], item: _ArraySet
) -> _Samples:
    shapes = {array.shape for array in [*planes, *([] if labels is None else [labels])]}
    if len(shapes) > 1 or planes[0].ndim not in (2, 3):
        raise DataError(
            f"The arrays of {item.stem} do not fit.",
            f"Their shapes are {', '.join(map(str, sorted(shapes)))}, where all are (n, y, x).",
            "Save one array of that shape for each contrast and for the labels.",
        )
    n = planes[0].shape[0] if planes[0].ndim == 3 else None

    def read(i: int) -> RawSample:
        at: Any = slice(None) if n is None else i
        return RawSample([array[at] for array in planes], None if labels is None else labels[at], labels is not None)

    return read, n, names, labels is not None, []


def _whole(
    root: Path, item: _ArraySet, images: NDArray[Any], labels: NDArray[Any] | None, channels: Channels
) -> _Samples:
    if channels.names is None:
        raise unnamed(root, f"{item.stem} has the shape {images.shape}")
    if labels is not None and SEG in channels.names:
        raise UsageError(
            f"{root} has labels in an array of their own.",
            "--channels names them again.",
            "Leave them out of --channels.",
        )
    k = len(channels.names)
    one = images.ndim == 2 or (images.ndim == 3 and k > 1)  # (y, x), (c, y, x): one sample
    if images.ndim == (2 if one else 3) and k == 1:
        axis = None
    else:
        axis = _channel_axis(item, images.shape, k, channels.last, first=0 if one else 1)
    notes = [f"Arrays are read as {'(y, x, c)' if one else '(n, y, x, c)'}."] if axis == images.ndim - 1 else []
    n = None if one else images.shape[0]
    if labels is not None:
        labels = _fitting(item, labels, images, n, axis)

    def read(i: int) -> RawSample:
        block = images if n is None else images[i]
        planes = [block] if axis is None else [*np.moveaxis(block, axis - (n is not None), 0)]
        own = None if labels is None else labels[i] if n is not None else labels
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


def _fitting(
    item: _ArraySet, labels: NDArray[Any], images: NDArray[Any], n: int | None, axis: int | None
) -> NDArray[Any]:
    """Labels (n, y, x) for images; an axis of one channel is taken away."""
    expected = tuple(size for k, size in enumerate(images.shape) if k != axis)
    if labels.ndim == len(expected) + 1:
        at = 0 if n is None else 1
        for where in (at, labels.ndim - 1):
            if labels.shape[where] == 1 and labels.shape[:where] + labels.shape[where + 1 :] == expected:
                return np.squeeze(labels, where)
    if labels.shape != expected:
        raise DataError(
            f"Images and labels of {item.stem} do not fit.",
            f"Labels are {labels.shape}, where {expected} are expected.",
            "Save one label map an image.",
        )
    return labels
