"""A phantom: brain-tumour subjects with real anatomy, made from nothing but an installed wheel.

The anatomy is the ICBM 152 template (Fonov et al. 2011, doi 10.1016/j.neuroimage.2010.07.033): T1, grey and white
matter maps that travel inside the nilearn wheel. Each subject warps it in its own way, re-draws the boundaries
between its tissues, grows a tumour with exact labels, and is imaged in four contrasts. Written as BraTS 2020 is:
skull-stripped NIfTI, 240x240x155 at 1 mm. These are not patients, and the header of every file says so.

Arrays are ``(z, y, x)`` inside this module, so that the ``(x, y, z)`` arrays it returns already lie in the order
of a NIfTI file. Lengths are mm. Everything random is drawn on grids of knots that do not depend on the voxels, so a
subject is the same head at every voxel size.
"""

from __future__ import annotations

import gzip
import os
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthkit.data.lineage import PHANTOM_PREFIX
from synthkit.data.phantom_anatomy import make_head, template_files
from synthkit.data.phantom_fields import HALF_MM
from synthkit.data.phantom_tumour import grow_tumour, make_images
from synthkit.errors import NotWritableError, UsageError
from synthkit.schemes import BRATS

#: Part of every file's description: subjects of another version are not taken for this one's.
VERSION = 1

_SHAPE = (240, 240, 155)
#: The smallest field of view that holds every head, (x, y, z).
_FIELD_MM = (160, 208, 150)
#: Where the anchor of the template, the middle of the head, lies in the BraTS grid (voxels from its centre).
_CENTRE = np.array([-9.0, 8.0, -2.0])


# ------------------------------------------------------------------------------------------------- subjects


def affine(shape: tuple[int, int, int] = _SHAPE, spacing_mm: float = 1.0) -> NDArray[np.float64]:
    """Voxel indices to mm as in BraTS files: the first two axes run from right to left and from front to back."""
    matrix = np.diag([-spacing_mm, -spacing_mm, spacing_mm, 1.0])
    matrix[1, 3] = (shape[1] - 1) * spacing_mm
    return matrix


def make_subject(
    index: int, seed: int, *, shape: tuple[int, int, int] = _SHAPE, spacing_mm: float = 1.0
) -> dict[str, NDArray[Any]]:
    """One subject: ``t1``, ``t1ce``, ``t2``, ``flair`` (int16, background 0) and ``seg`` (uint8; 0, 1, 2, 4).

    Parameters
    ----------
    index, seed : the subject depends on these two alone; both are at least 0.
    shape : voxels ``(x, y, z)``.
    spacing_mm : side of a voxel. A coarser grid shows the same head: ``shape=(120, 120, 78), spacing_mm=2``.

    Raises
    ------
    UsageError : nilearn is not installed, index or seed is out of range, or the grid does not hold a head.
    """
    if not (0 <= index < 2**31 and 0 <= seed < 2**63):
        raise UsageError(
            f"There is no phantom subject {index} of seed {seed}.",
            "Both are whole numbers from 0, below 2^31 and 2^63.",
            "Choose another.",
        )
    if any(n * spacing_mm < need for n, need in zip(shape, _FIELD_MM, strict=True)):
        raise UsageError(
            f"A head does not fit into {shape} voxels of {spacing_mm} mm.",
            f"It needs {_FIELD_MM} mm.",
            "Use more voxels, or larger ones.",
        )
    rng = np.random.default_rng([seed, index])
    count = np.array(shape[::-1])
    axes, slices = [], []
    for axis in range(3):
        positions = (np.arange(count[axis]) - (count[axis] - 1) / 2) * spacing_mm - _CENTRE[axis]
        inside = np.flatnonzero(np.abs(positions) <= HALF_MM[axis])
        axes.append(positions[inside].astype(np.float32))
        slices.append(slice(int(inside[0]), int(inside[-1]) + 1))
    head = make_head(rng, (axes[0], axes[1], axes[2]))
    labels, where = grow_tumour(rng, head)
    images = make_images(rng, head, labels, where, spacing_mm)
    seg = np.zeros(head.brain.shape, dtype=np.uint8)
    seg[where] = labels
    boxes: dict[str, NDArray[Any]] = {**images, "seg": seg}
    subject = {}
    for name, box in boxes.items():
        full = np.zeros(count, dtype=box.dtype)
        full[tuple(slices)] = box
        subject[name] = full.T
    return subject


# ------------------------------------------------------------------------------------------------- writing


def subject_name(index: int) -> str:
    """Name of a subject's folder, and the beginning of its files' names."""
    return f"{PHANTOM_PREFIX}{index:04d}"


def _description(index: int, seed: int) -> bytes:
    """What the header of each file of a subject says it is (NIfTI ``descrip``, at most 79 bytes)."""
    return f"synthkit phantom {VERSION}, seed {seed}, subject {index}: not a patient".encode()


def _is_written(folder: Path, index: int, seed: int) -> bool:
    """Whether this subject is there already.

    Raises
    ------
    UsageError : the folder holds something else.
    """
    if not folder.exists():
        return False
    try:
        for name in (*BRATS.contrast_names, "seg"):
            with gzip.open(folder / f"{folder.name}_{name}.nii.gz") as file:
                if file.read(348)[148:228].rstrip(b"\0") != _description(index, seed):
                    break
        else:
            return True
    except (OSError, EOFError):
        pass
    raise UsageError(
        f"{folder} is there already and is not subject {index} of seed {seed}.",
        "Subjects of two seeds or versions must not be mixed under the same names.",
        "Choose another output folder, or remove this one.",
    )


def _write_subject(out: Path, index: int, seed: int) -> Path:
    """Write one subject into a folder that appears when it is complete."""
    import nibabel

    folder = out / subject_name(index)
    unfinished = out / f".{folder.name}.part"
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        for name, volume in make_subject(index, seed).items():
            image: Any = nibabel.Nifti1Image(volume, affine())  # type: ignore[no-untyped-call]
            image.header["descrip"] = _description(index, seed)
            image.header.set_xyzt_units("mm")
            # Level 1 and no time stamp: quick, and the same bytes every time.
            packed = gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)
            (unfinished / f"{folder.name}_{name}.nii.gz").write_bytes(packed)
        unfinished.rename(folder)
    except OSError as error:
        raise NotWritableError(
            f"Subject {folder.name} could not be written to {out}.",
            str(error),
            "Free some space or choose another folder.",
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _leave_interrupts_to_the_parent() -> None:
    """A worker finishes the subject it is at; the parent then gives it no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def write_phantom(
    out: Path,
    n: int,
    seed: int,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write subjects 1 to ``n`` as ``out/Phantom_0001/Phantom_0001_t1.nii.gz`` and so on; returns their folders.

    Each subject appears at once and complete. Those that are there already are kept, so an interrupted call can be
    repeated, and a larger ``n`` adds to what is there.

    Parameters
    ----------
    workers : processes; as many as there are CPU cores, at most 8, by default (each needs about 0.6 GB).
    progress : called with the subjects done and ``n``, in this process.

    Raises
    ------
    UsageError : nilearn is not installed, or a folder of that name holds something else.
    NotWritableError : the disk is full or the folder cannot be written.
    """
    out = Path(out)
    folders = {index: out / subject_name(index) for index in range(1, n + 1)}
    missing = [index for index, folder in folders.items() if not _is_written(folder, index, seed)]
    done = n - len(missing)
    if missing:
        template_files()  # the user's mistake is told here, not by a worker
    if progress:
        progress(done, n)
    workers = min(workers or min(_cores(), 8), len(missing))
    if workers < 2:
        for index in missing:
            _write_subject(out, index, seed)
            done += 1
            if progress:
                progress(done, n)
        return list(folders.values())
    # A fresh interpreter a worker: forking a process whose libraries run threads may hang.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_leave_interrupts_to_the_parent)
    try:
        for future in as_completed([pool.submit(_write_subject, out, index, seed) for index in missing]):
            future.result()
            done += 1
            if progress:
                progress(done, n)
    finally:
        pool.shutdown(cancel_futures=True)
    return list(folders.values())


def _cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
