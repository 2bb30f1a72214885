"""Preparing volumes: synthkit against the two usual recipes, side by side.

Peers
    array   nibabel ``get_fdata`` of the five files, scale, rule, pad, and one array by ``np.savez_compressed``
    raw     the same, and one uncompressed array (``np.save``)
    png     the same, and five 8-bit PNG a slice, as in the study
    fast    synthkit's reader and slicer, one thread, nothing stored
Subject of the claim
    prepare synthkit's ``prepare``: all checks in a first pass, then reading again, slicing and the compressed store

    python benchmarks/prepare.py SUBJECTS [--trials 3]
    python benchmarks/prepare.py SUBJECTS --alone 64      only ``prepare``, at this size, in one thread

Trials are interleaved and the ratios are medians of the ratios within a trial, of elapsed time (the peers use one
thread, ``prepare`` one a core) and of processor time (what a busy machine leaves comparable). Every recipe has to
keep the same slices with the same pixels (the peers round as synthkit does), which is asserted. Last come the parts
of ``prepare`` one by one, processor time a subject: files are read and slices cut twice, the rest is done once.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from synthkit.data.contact_sheet import ContactSheet
from synthkit.data.dataset import Dataset
from synthkit.data.geometry import AS_STORED
from synthkit.data.label_looks import looks_of
from synthkit.data.prepare import prepare
from synthkit.data.signatures import signature
from synthkit.data.slices import SliceProtocol, arranged, kept_slices, slice_volume
from synthkit.data.subjects import Subject, find_subjects, load_subject
from synthkit.data.twins import contrasts_to_compare, find_twins
from synthkit.data.writer import DatasetWriter
from synthkit.schemes import BRATS

# The recipes know of no orientation.
STUDY = SliceProtocol(orientation=AS_STORED)


def slices_of_recipe(subject: Subject) -> np.ndarray:
    """uint8 (n, 5, 256, 256) in plain nibabel and numpy."""
    scaled = []
    for name in BRATS.contrast_names:
        volume = nib.load(subject.contrasts[name]).get_fdata()
        scaled.append(volume / volume.max() * 255)
    assert subject.seg is not None
    scaled.append(nib.load(subject.seg).get_fdata())
    volumes = np.pad(np.stack(scaled), ((0, 0), (8, 8), (8, 8), (0, 0)))
    kept = (volumes[0] > 50).sum(axis=(0, 1)) / 256**2 > 0.15
    rounded = np.floor(np.clip(volumes[..., kept], 0, 255) + 0.5).astype(np.uint8)
    return np.ascontiguousarray(rounded.transpose(3, 0, 2, 1))


def recipe_array(subjects: list[Subject], out: Path) -> None:
    for subject in subjects:
        np.savez_compressed(out / f"{subject.id}.npz", slices_of_recipe(subject))


def recipe_raw(subjects: list[Subject], out: Path) -> None:
    for subject in subjects:
        np.save(out / f"{subject.id}.npy", slices_of_recipe(subject))


def recipe_png(subjects: list[Subject], out: Path) -> None:
    for subject in subjects:
        for z, channels in enumerate(slices_of_recipe(subject)):
            for name, channel in zip((*BRATS.contrast_names, "seg"), channels, strict=True):
                Image.fromarray(channel).save(out / f"{subject.id}_{z}_{name}.png")


def ours_without_store(subjects: list[Subject], out: Path) -> None:
    for subject in subjects:
        slice_volume(load_subject(subject), STUDY)


def ours(subjects: list[Subject], out: Path) -> None:
    prepare(subjects[0].folder.parent, out / "dataset", protocol=STUDY)


def seconds(function: Callable[[list[Subject], Path], None], subjects: list[Subject]) -> tuple[float, float]:
    """Elapsed and processor seconds a subject, into an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        start, start_cpu = time.perf_counter(), time.process_time()
        function(subjects, Path(folder))
        elapsed, cpu = time.perf_counter() - start, time.process_time() - start_cpu
        return elapsed / len(subjects), cpu / len(subjects)


def check_equal(subjects: list[Subject]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ours(subjects, Path(folder))
        data = Dataset(Path(folder) / "dataset")
        images, labels = data.read(range(len(data)))
        expected = np.concatenate([slices_of_recipe(subject) for subject in subjects])
        assert np.array_equal(images, expected[:, :4]) and np.array_equal(labels, expected[:, 4])
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        kib = size / len(data) / 1024
        print(f"{len(subjects)} subjects, {len(data)} slices kept, equal in every recipe; {kib:.0f} KiB each")


def parts(subjects: list[Subject], trials: int) -> dict[str, float]:
    """Part of ``prepare`` -> processor milliseconds a subject, the least of the trials."""
    protocol = SliceProtocol()
    volumes = [arranged(load_subject(subject), protocol) for subject in subjects]
    compared = contrasts_to_compare(protocol.contrasts, protocol.brain_contrast)
    cut = [slice_volume(volume, protocol) for volume in volumes]
    signatures = {v.id: signature([v.images[name] for name in compared]) for v in volumes}

    def store() -> None:
        with tempfile.TemporaryDirectory() as folder:
            writer = DatasetWriter(
                Path(folder) / "dataset", contrasts=protocol.contrasts, scheme=BRATS, size=(protocol.size,) * 2
            )
            with writer:
                for volume, slices in zip(volumes, cut, strict=True):
                    ids = [f"{volume.id}_{z:03d}" for z in slices.slice_indices]
                    rows = [{"id": id_, "split": "train", "subject": volume.id, "patient": volume.id} for id_ in ids]
                    writer.append(slices.images, slices.labels, rows)

    def sheet() -> None:
        with tempfile.TemporaryDirectory() as folder:
            drawn = ContactSheet(protocol.contrasts, BRATS, "LPS")
            for volume, slices in zip(volumes, cut, strict=True):
                drawn.add(volume.id, "train", slices.slice_indices, slices.images, slices.labels)
            drawn.write(Path(folder), [volume.id for volume in volumes])

    work: dict[str, Callable[[], object]] = {
        "read": lambda: [load_subject(subject) for subject in subjects],
        "slice rule": lambda: [kept_slices(volume, protocol) for volume in volumes],
        "cut": lambda: [slice_volume(volume, protocol) for volume in volumes],
        "labels' looks": lambda: [looks_of(volume.images, volume.labels) for volume in volumes],
        "signature": lambda: [signature([v.images[name] for name in compared]) for v in volumes],
        "twins": lambda: find_twins(signatures),
        "store": store,
        "contact sheet": sheet,
    }
    found = {}
    for name, function in work.items():
        took = []
        for _ in range(trials):
            start = time.process_time()
            function()
            took.append((time.process_time() - start) / len(subjects) * 1e3)
        found[name] = min(took)
    return found


def alone(subjects: Path, size: int, trials: int) -> float:
    """Processor milliseconds a subject of ``prepare``, the least of the trials; brains may be small."""
    protocol, took = SliceProtocol(size=size, brain_fraction=0.02), []
    for _ in range(trials + 1):
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            summary = prepare(subjects, Path(folder) / "dataset", protocol=protocol, workers=1)
            took.append((time.process_time() - start) / len(summary.subjects) * 1e3)
    return min(took[1:])  # the first one imports


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("subjects", type=Path)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--whole-brains-only", action="store_true", help="leave out slabs of less than 100 slices")
    parser.add_argument("--alone", type=int, metavar="SIZE", help="only prepare, at this size, in one thread")
    arguments = parser.parse_args()
    if arguments.alone:
        print(f"{alone(arguments.subjects, arguments.alone, arguments.trials):.1f} ms of processor time a subject")
        return
    with tempfile.TemporaryDirectory() as folder:
        # All recipes work on the same list; slabs are small and flatter nobody in particular.
        for subject in find_subjects(arguments.subjects):
            if not arguments.whole_brains_only or nib.load(subject.contrasts["t1"]).shape[2] >= 100:
                shutil.copytree(subject.folder, Path(folder) / subject.id)
        subjects = find_subjects(folder)
        check_equal(subjects)
        recipes = {
            "array": recipe_array,
            "raw": recipe_raw,
            "png": recipe_png,
            "fast": ours_without_store,
            "prepare": ours,
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in recipes}
        for _ in range(arguments.trials):
            for name, recipe in recipes.items():
                times[name].append(seconds(recipe, subjects))
        by_part = parts(subjects, arguments.trials)
    for kind, which in (("elapsed", 0), ("processor", 1)):
        for name, measured in times.items():
            ratios = [theirs[which] / own[which] for theirs, own in zip(measured, times["prepare"], strict=True)]
            middle, spread = statistics.median(t[which] for t in measured), f"{min(ratios):.1f}-{max(ratios):.1f}"
            print(f"{kind:9s} {name:8s} {middle:6.3f} s a subject   {statistics.median(ratios):5.1f}x ({spread})")
    for part, milliseconds in by_part.items():
        print(f"part      {part:13s} {milliseconds:6.1f} ms a subject")


if __name__ == "__main__":
    main()
