"""Sample grids of every generator, trained for minutes on a CPU: what each makes of little.

    python benchmarks/sample_grids.py FOLDER [--subjects DIR] [--size 64] [--only NAME ...] [-p NAME=VALUE ...]
                                      [--jobs 2]

Trains each generator by its preset `cpu`, with -p other values than that, on the subjects of DIR (all
are trained on) or, without DIR, on the phantom of the demo (24 of its 30 subjects), each in one thread, draws samples
of seeds 0 to 255 and puts the first eight in one picture a generator, FOLDER/NAME.png: a row a sample, its contrasts
and the labels over the first contrast. Of the phantom, FOLDER/real.png shows real slices in the same layout; of
subjects it does not, so that no patient is in a picture. The stylegan2 of the phantom at 64 pixels is the faithful one
of the demo.

Everything is done by the commands that a user types; run again with the same FOLDER, it goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from synthkit.cli.demo import FAITHFUL, N_HOLDOUT, N_SUBJECTS, SIZE
from synthkit.data.dataset import Dataset
from synthkit.schemes import BRATS

NAMES = ("diffusion", "edm", "progan", "stylegan1", "stylegan2", "stylegan3")
N_ROWS, SIDE, HEADER = 8, 128, 14  # samples in a picture; pixels of a slice there and of the line above


def synthkit(*arguments: str | Path) -> None:
    """Run a command in one thread; its output is shown if it fails."""
    environment = {**os.environ, "SYNTHKIT_BACKEND": "local", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "synthkit", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"$ synthkit {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}")


def grid(images: NDArray[np.uint8], labels: NDArray[np.uint8], contrasts: Sequence[str]) -> Image.Image:
    """A row a sample of ``images (n, contrast, y, x)``: its contrasts, then the first with ``labels (n, y, x)``."""
    overlay = np.repeat(images[:, 0, ..., None], 3, axis=-1)
    for value, colour in BRATS.rgb(BRATS.values).items():
        overlay[labels == value] = colour
    grey = np.repeat(images[..., None], 3, axis=-1)
    pixels = np.concatenate([*np.moveaxis(grey, 1, 0), overlay], axis=2)  # (n, y, columns * x, 3)
    slices = Image.fromarray(np.concatenate(list(pixels), axis=0))
    scale = SIDE // images.shape[-1]
    slices = slices.resize((slices.width * scale, slices.height * scale), Image.Resampling.NEAREST)
    picture = Image.new("RGB", (slices.width, slices.height + HEADER))
    picture.paste(slices, (0, HEADER))
    for column, name in enumerate([*contrasts, "labels"]):
        ImageDraw.Draw(picture).text((column * SIDE + 2, 1), name, fill=(255, 255, 255))
    return picture


def save_grid(data: Dataset, rows: Sequence[int], file: Path) -> None:
    grid(*data.read(list(rows)), data.contrasts).save(file, optimize=True)


def make(name: str, folder: Path, changed: Sequence[str], demo: bool) -> None:
    """Train a generator, draw its samples and their picture, whatever of it is not there yet.

    ``changed`` are NAME=VALUE, parameters of the training that are not those of the preset.
    """
    run, samples = folder / name / "train", folder / name / "samples"
    if not demo and not (run / "result.json").exists():
        given = [word for change in changed for word in ("-p", change)]
        synthkit("train", name, folder / "real", "-o", run, "--preset", "cpu", *given, "--resume")
    if not (samples / "result.json").exists():
        synthkit("generate", FAITHFUL if demo else run, "--seeds", "0-255", "-o", samples, "--resume")
    save_grid(Dataset(samples), range(N_ROWS), folder / f"{name}.png")
    if not demo:
        result = json.loads((run / "result.json").read_text())
        job = json.loads((run / "job.json").read_text())
        print(f"{name}: {job['params']['kimg']:g} kimg in {result['seconds'] / 60:.1f} minutes", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--subjects", type=Path, help="train on these instead of the phantom")
    parser.add_argument("--size", type=int, choices=(32, 64), default=SIZE, help="side of a slice in pixels")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the training")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    real, subjects = folder / "real", options.subjects or folder / "subjects"
    if not subjects.exists():
        synthkit("phantom", "-o", subjects, "-n", str(N_SUBJECTS), "--seed", "0")
    if not real.exists():
        holdout = "0" if options.subjects else str(N_HOLDOUT)
        synthkit("prepare", subjects, "-o", real, "--size", str(options.size), "--holdout", holdout)
    if not options.subjects:
        data = Dataset(real)
        save_grid(data, [int(row) for row in np.linspace(0, len(data) - 1, N_ROWS)], folder / "real.png")
    has_demo = not options.subjects and options.size == SIZE
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda name: make(name, folder, options.p, has_demo and name == "stylegan2"), options.only))


if __name__ == "__main__":
    main()
