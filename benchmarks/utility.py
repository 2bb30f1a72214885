"""Synthetic over real Dice where the answer is known: on a phantom, with copies and with noise as controls.

    python benchmarks/utility.py FOLDER [--seeds 3] [--jobs 2] [--samples 12000] [--arms synthetic both ...]
                                 [--size 64] [--patients 4] [--generator diffusion]

U-Nets of one budget are trained on five kinds of images: *real* (24 phantom subjects), *synthetic* (drawn by a
generator that was trained on those), *both*, *copies* (the real slices, given out as synthetic) and *noise* (white
noise with the labels of real slices, shuffled), each with several seeds. All segment phantom subjects that nothing was
trained on. Copies should have a ratio of 1 to real within its interval, noise one near 0, synthetic one between them,
and both together no less than real alone. With ``--patients`` the real arm, and the real part of *both*, *copies* and
*noise*, has so few of the 24, while the generator stays the same: what a site with few patients gains from samples of a
larger one.

At 64 x 64 pixels the generator is the faithful one of the demo, at 32 x 32 it is trained first, by its preset `cpu`.
Before the arms comes the Dice of the references themselves, at that size and enlarged again: the most that a segmenter
of so coarse slices can reach. Everything is done by the commands that a user types; run again with the same FOLDER, it
goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from synthkit_overlap.comparison import dice

from synthkit.cli.demo import FAITHFUL, N_HOLDOUT, N_SUBJECTS, SIZE
from synthkit.data.dataset import Dataset
from synthkit.data.native_grid import to_native
from synthkit.data.slices import SliceProtocol, slices_for_segmentation
from synthkit.data.subjects import find_subjects, load_subject
from synthkit.data.writer import DatasetWriter
from synthkit.schemes import BRATS

N_TRAIN, N_REFERENCE = N_SUBJECTS - N_HOLDOUT, 24
ARMS = ("synthetic", "both", "copies", "noise")
N_SYNTHETIC = 2000
UNETS = {
    32: ("-p", "filters=16", "-p", "depth=4", "-p", "batch_size=16", "-p", "learning_rate=0.02"),
    64: ("-p", "filters=8", "-p", "depth=4", "-p", "batch_size=4", "-p", "learning_rate=0.02"),
}


def synthkit(*arguments: str | Path) -> None:
    """Run a command, in one thread; its output is shown if it fails."""
    environment = {**os.environ, "SYNTHKIT_BACKEND": "local", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "synthkit", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"$ synthkit {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}")


def linked(folder: Path, subjects: Path, numbers: range) -> Path:
    """A folder of some of the subjects."""
    folder.mkdir(exist_ok=True)
    for number in numbers:
        name = f"Phantom_{number:04d}"
        if not (folder / name).exists():
            (folder / name).symlink_to((subjects / name).resolve())
    return folder


def prepared(path: Path, subjects: Path, size: int, patients: int) -> Path:
    """A dataset of the subjects of the demo, of which ``patients`` are to train on."""
    if not path.exists():
        few = () if patients == N_TRAIN else ("--training-patients", str(patients))
        synthkit("prepare", subjects, "-o", path, "--size", str(size), "--holdout", str(N_HOLDOUT), *few)
    return path


def altered(path: Path, real: Path, noise: bool) -> Path:
    """The training slices of a dataset given out as synthetic; with ``noise``, white noise with shuffled labels."""
    data = Dataset(real).training_part()
    order = np.arange(len(data))
    rng = np.random.default_rng(0)
    with DatasetWriter(
        path,
        contrasts=data.contrasts,
        scheme=BRATS,
        size=data.size,
        kind="synthetic",
        resume=path.exists(),
    ) as writer:
        for first in range(writer.n_samples, len(data), 256):
            rows = order[first : first + 256]
            images, labels = data.read(rows)
            if noise:
                images, labels = rng.integers(0, 256, images.shape, np.uint8), labels[rng.permutation(len(rows))]
            writer.append(images, labels, [{"id": f"s{row:06d}", "split": "synthetic"} for row in rows])
    return path


def ceiling(reference: Path, size: int) -> dict[str, float]:
    """Mean Dice of each region, of the references reduced to ``size`` pixels and enlarged again, over subjects."""
    protocol = SliceProtocol(size=size)
    found: dict[str, list[float]] = {region: [] for region in BRATS.region_values}
    for subject in find_subjects(reference):
        volumes = load_subject(subject)
        slices = slices_for_segmentation(volumes, protocol)
        assert volumes.labels is not None and slices.labels is not None
        coarse = to_native(slices.labels, slices.slice_indices, volumes, protocol)
        for region, values in BRATS.region_values.items():
            masks = (np.isin(labels, values) for labels in (volumes.labels, coarse))
            if (value := dice(*masks)) is not None:
                found[region].append(value)
    return {region: float(np.mean(values)) for region, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time, each in one thread")
    parser.add_argument("--samples", type=int, default=12000, help="images shown in each training")
    parser.add_argument("--size", type=int, choices=tuple(UNETS), default=SIZE, help="side of a slice in pixels")
    parser.add_argument("--patients", type=int, default=N_TRAIN, help="real ones to train segmenters on")
    parser.add_argument("--generator", default="diffusion", help="at 32 pixels: which one")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="besides real")
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)

    subjects, real, synthetic = folder / "subjects", folder / "real", folder / "synthetic"
    if not subjects.exists():
        synthkit("phantom", "-o", subjects, "-n", str(N_SUBJECTS + N_REFERENCE), "--seed", "0")
    trained = linked(folder / "trained", subjects, range(1, N_SUBJECTS + 1))
    reference = linked(folder / "reference", subjects, range(N_SUBJECTS + 1, N_SUBJECTS + N_REFERENCE + 1))
    prepared(real, trained, options.size, options.patients)
    if not (synthetic / "result.json").exists():
        generator = FAITHFUL if options.size == SIZE else folder / "generator"
        if generator != FAITHFUL and not (generator / "result.json").exists():
            everyone = prepared(folder / "everyone", trained, options.size, N_TRAIN)
            synthkit("train", options.generator, everyone, "-o", generator, "--preset", "cpu", "--resume")
        synthkit("generate", generator, "--seeds", f"0-{N_SYNTHETIC - 1}", "-o", synthetic, "--resume")
    copies = altered(folder / "copies", real, noise=False)
    noise = altered(folder / "noise", real, noise=True)
    data = {
        "real": [real],
        "synthetic": [synthetic],
        "both": [real, synthetic],
        "copies": [copies],
        "noise": [noise],
    }
    data = {arm: data[arm] for arm in ("real", *options.arms)}

    def train(arm: str, seed: int) -> None:
        out = folder / "runs" / arm / f"seed-{seed}"
        if not (out / "result.json").exists():
            budget = ("-p", f"samples={options.samples}", "-p", f"seed={seed}")
            synthkit("train", "unet", *data[arm], "-o", out, "--resume", *UNETS[options.size], *budget)
            print(f"trained {arm}, seed {seed}", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(train, *zip(*[(arm, seed) for seed in range(options.seeds) for arm in data], strict=True)))

    budget = f"{options.seeds} trainings an arm, {options.samples:,} images each"
    print(f"{N_REFERENCE} phantom subjects, {options.patients} to train on, {options.size} pixels, {budget}")
    highest = "  ".join(f"{region} {value:.3f}" for region, value in ceiling(reference, options.size).items())
    print(f"Dice of the references at {options.size} pixels, the most there can be: {highest}")
    for arm in options.arms:
        out = folder / f"utility-{arm}"
        if not (out / "utility.json").exists():
            option = "--both" if len(data[arm]) > 1 else "--synthetic"
            trainings = ("--real", folder / "runs" / "real", option, folder / "runs" / arm)
            synthkit("utility", "--reference", reference, *trainings, "-o", out, "--resume")
        for item in json.loads((out / "utility.json").read_text())["comparisons"]:
            print(line("real and synthetic" if arm == "both" else arm, item))


def line(arm: str, item: dict[str, Any]) -> str:
    """One comparison: means, ratio with its interval."""
    ratio = "-" if item["ratio"] is None else f"{item['ratio']:.3f}"
    if item.get("ratio_low") is not None:
        ratio += f" ({item['ratio_low']:.3f} to {item['ratio_high']:.3f})"
    return f"{arm:20}{item['region']:5}{item['score']:12}{item['real']:9.3f}{item['synthetic']:9.3f}  {ratio}"


if __name__ == "__main__":
    main()
