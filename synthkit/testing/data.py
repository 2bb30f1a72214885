"""Small data for the checks: slices with a head and a tumour, label volumes, subjects. Made anew from a fixed seed."""

from __future__ import annotations

import atexit
import functools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.data.dataset import Dataset
from synthkit.data.slices import SIZES, SliceProtocol
from synthkit.data.writer import DatasetWriter
from synthkit.schemes import BRATS
from synthkit.testing.memory import InMemoryVolumes

if TYPE_CHECKING:
    from synthkit.contract import UInt8Array

_TRAIN_SUBJECTS, _HOLDOUT_SUBJECTS, _SLICES = 6, 3, 4
# Grey level of tissue, necrotic core, oedema and enhancing tumour in each contrast.
_GREY = {0: (120, 110, 90, 80), 1: (60, 60, 200, 110), 2: (90, 95, 180, 210), 4: (110, 240, 150, 170)}


@functools.cache
def scratch() -> Path:
    """A folder of this process, removed when it ends."""
    folder = tempfile.TemporaryDirectory(prefix="synthkit-testing-", ignore_cleanup_errors=True)
    atexit.register(folder.cleanup)
    return Path(folder.name).resolve()


def slices(n: int, n_contrasts: int, size: int, seed: int) -> tuple[UInt8Array, UInt8Array]:
    """Images ``(n, contrast, y, x)`` and labels ``(n, y, x)``: an ellipse that holds a tumour of three rings."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size - 0.5
    images = np.zeros((n, n_contrasts, size, size), np.uint8)
    labels = np.zeros((n, size, size), np.uint8)
    for i in range(n):
        head = (x / rng.uniform(0.38, 0.46)) ** 2 + (y / rng.uniform(0.4, 0.48)) ** 2 < 1
        cy, cx = rng.uniform(-0.15, 0.15, 2)
        distance = np.hypot(y - cy, x - cx) / rng.uniform(0.15, 0.22)
        for value, radius in ((2, 1.0), (4, 0.7), (1, 0.4)):
            labels[i][distance < radius] = value
        texture = rng.normal(0, 6, (n_contrasts, size, size))
        for c in range(n_contrasts):
            plane = np.where(head, _GREY[0][c % 4], 0).astype(np.float64)
            for value in (1, 2, 4):
                plane[labels[i] == value] = _GREY[value][c % 4]
            images[i, c] = np.clip(plane + np.where(head, texture[c], 0), 0, 255).astype(np.uint8)
    return images, labels


@functools.cache
def real_dataset(n_contrasts: int, size: int) -> Dataset:
    """24 training slices of six subjects and 12 held-out slices of three, on disk."""
    n = (_TRAIN_SUBJECTS + _HOLDOUT_SUBJECTS) * _SLICES
    images, labels = slices(n, n_contrasts, size, seed=1)
    rows = []
    for i in range(n):
        subject, number = divmod(i, _SLICES)
        split = "train" if subject < _TRAIN_SUBJECTS else "holdout"
        row = {"id": f"s{subject}_{number:03d}", "split": split, "subject": f"s{subject}", "slice": number}
        rows.append(row)
    return _write(f"real-{n_contrasts}-{size}", images, labels, rows, "real")


@functools.cache
def synthetic_dataset(n_contrasts: int, size: int) -> Dataset:
    """16 synthetic slices, on disk."""
    images, labels = slices(16, n_contrasts, size, seed=2)
    rows = [{"id": f"seed{i:08d}", "split": "synthetic", "seed": i} for i in range(16)]
    return _write(f"synthetic-{n_contrasts}-{size}", images, labels, rows, "synthetic")


@functools.cache
def dataset_with_copies(n_contrasts: int, size: int, rows: tuple[int, ...], split: str = "train") -> Dataset:
    """The synthetic slices of :func:`synthetic_dataset` and, after them, copies of these rows of a real split."""
    images, labels = slices(16, n_contrasts, size, seed=2)
    copied = real_dataset(n_contrasts, size).select(split).read(rows)
    names = [f"seed{i:08d}" for i in range(16)] + [f"copy{i}" for i in rows]
    listed = [{"id": name, "split": "synthetic", "seed": i} for i, name in enumerate(names)]
    joined = np.concatenate([images, copied[0]]), np.concatenate([labels, copied[1]])
    name = f"copies-{split}-{n_contrasts}-{size}-{'-'.join(map(str, rows))}"
    return _write(name, *joined, listed, "synthetic")


def constant_dataset(n: int, n_contrasts: int, size: int, split: str) -> Dataset:
    """``n`` black slices without labels, on disk; ``n`` may be 0."""
    images = np.zeros((n, n_contrasts, size, size), np.uint8)
    kind = "synthetic" if split == "synthetic" else "real"
    origin = (lambda i: {"seed": i}) if kind == "synthetic" else (lambda i: {"subject": f"b{i}", "slice": 0})
    rows = [{"id": f"b{i}", "split": split, **origin(i)} for i in range(n)]
    return _write(f"constant-{split}-{n}-{n_contrasts}-{size}", images, images[:, 0], rows, kind)


def _write(name: str, images: UInt8Array, labels: UInt8Array, rows: Sequence[Mapping[str, Any]], kind: Any) -> Dataset:
    path = scratch() / name
    if not path.exists():
        contrasts = BRATS.contrast_names[: images.shape[1]]
        size = (images.shape[2], images.shape[3])
        # Jobs that segment cut whole volumes in the way that the training slices were cut.
        protocol = SliceProtocol(contrasts=contrasts, size=size[0]).to_dict() if size[0] in SIZES else {}
        with DatasetWriter(path, contrasts=contrasts, scheme=BRATS, size=size, kind=kind, protocol=protocol) as writer:
            if rows:
                writer.append(images, labels, rows)
    return Dataset(path)


def label_volumes(n: int = 4, shift: int = 0, seed: int = 3) -> InMemoryVolumes:
    """``n`` volumes of 16 x 16 x 6 voxels that hold a tumour of three rings, moved by ``shift`` voxels along x."""
    rng = np.random.default_rng(seed)
    grid = np.mgrid[:16, :16, :6].astype(np.float64)
    volumes = {}
    for i in range(n):
        centre = np.array([*rng.uniform(6, 9, 2), 3.0])
        distance = np.sqrt((((grid - centre[:, None, None, None]) * [[[[1]]], [[[1]]], [[[2]]]]) ** 2).sum(0))
        volume = np.zeros(distance.shape, np.uint8)
        for value, radius in ((2, 5.0), (4, 3.5), (1, 2.0)):
            volume[distance < radius] = value
        volumes[f"s{i}"] = np.roll(volume, shift, axis=0)
    return InMemoryVolumes(volumes, (1.0, 1.0, 2.0))


def empty_volumes(n: int) -> InMemoryVolumes:
    """``n`` volumes without any label."""
    return InMemoryVolumes({f"s{i}": np.zeros((16, 16, 6), np.uint8) for i in range(n)}, (1.0, 1.0, 2.0))
