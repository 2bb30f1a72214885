"""Sample grids of every generator, trained for minutes on a CPU at 64 x 64: what each makes of little.

    python benchmarks/sample_grids.py FOLDER [--subjects DIR] [--only NAME ...] [--jobs 2]

Trains each generator by its file in benchmarks/generators/ on the subjects of DIR (all are trained on) or, without
DIR, on the phantom of the demo (24 of its 30 subjects), each in one thread, draws 64 samples and puts the first eight
in one picture a generator, FOLDER/NAME.png: a row a sample, its contrasts and the labels over the first contrast.
Everything is done by the commands that a user types; run again with the same FOLDER, it goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from synthkit.dataset import Dataset

PARAMETERS = Path(__file__).parent / "generators"
NAMES = sorted(file.stem for file in PARAMETERS.glob("*.toml"))
N_ROWS, SCALE = 8, 2
COLOURS = {1: (228, 26, 28), 2: (77, 175, 74), 4: (255, 214, 0)}


def synthkit(*arguments: str | Path) -> None:
    """Run a command in one thread; its output is shown if it fails."""
    environment = {**os.environ, "SYNTHKIT_BACKEND": "local", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "synthkit", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"$ synthkit {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}")


def grid(data: Dataset, rows: list[int]) -> Image.Image:
    """A row a sample: its contrasts, then the first of them with the labels in colour."""
    images, labels = data.read(rows)
    lines = []
    for image, label in zip(images, labels, strict=True):
        overlay = np.repeat(image[0][..., None], 3, axis=2)
        for value, colour in COLOURS.items():
            overlay[label == value] = colour
        lines.append(np.hstack([*(np.repeat(channel[..., None], 3, axis=2) for channel in image), overlay]))
    picture = Image.fromarray(np.vstack(lines))
    return picture.resize((picture.width * SCALE, picture.height * SCALE), Image.Resampling.NEAREST)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--subjects", type=Path, help="train on these instead of the phantom")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    real, subjects = folder / "real", options.subjects or folder / "subjects"
    if not subjects.exists():
        synthkit("phantom", "-o", subjects, "-n", "30", "--seed", "0")
    if not real.exists():
        synthkit("prepare", subjects, "-o", real, "--size", "64", "--holdout", "0" if options.subjects else "6")
    if not options.subjects:
        data = Dataset(real)
        grid(data, list(np.linspace(0, len(data) - 1, N_ROWS).astype(int))).save(folder / "real.png", optimize=True)

    def make(name: str) -> None:
        run, samples = folder / name / "train", folder / name / "samples"
        if not (run / "result.json").exists():
            synthkit("train", name, real, "-o", run, "--params", PARAMETERS / f"{name}.toml", "--resume")
        if not (samples / "result.json").exists():
            synthkit("generate", run, "--seeds", "0-63", "-o", samples, "--resume")
        grid(Dataset(samples), list(range(N_ROWS))).save(folder / f"{name}.png", optimize=True)
        result = json.loads((run / "result.json").read_text())
        job = json.loads((run / "job.json").read_text())
        print(f"{name}: {job['params']['kimg']:g} kimg in {result['seconds'] / 60:.1f} minutes", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(make, options.only))


if __name__ == "__main__":
    main()
