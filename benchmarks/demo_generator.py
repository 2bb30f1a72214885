"""The generator that comes with `synthkit demo`: trained, or described anew.

    python benchmarks/demo_generator.py FOLDER [--notes]

Makes the phantom of the demo and its dataset in FOLDER, trains a StyleGAN2 by demo_generator.toml (more than an hour on
two cores), and puts the checkpoint where the demo finds it.

With --notes the shipped weights stay, and nothing is trained: what is noted beside them is written as a training of
today would note it of the same images (scheme, protocol, voxel size, orientation). It is refused unless the dataset has
the digest that the weights were trained on, so that what is true of it is true of those images. A minute.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from synthkit import api
from synthkit.cli.demo import CHECKPOINT, N_HOLDOUT, N_SUBJECTS, SIZE
from synthkit.contract import NOTES
from synthkit.data.dataset import Dataset
from synthkit.registry.parameters import parse_assignments
from synthkit.registry.registry import discover
from synthkit.running.checkpoints import find_checkpoint, read_checkpoint_metadata
from synthkit.running.run import write_json
from synthkit.running.verbs.train import checkpoint_notes, common_protocol

PARAMETERS = Path(__file__).with_suffix(".toml")


def dataset_of_the_demo(folder: Path) -> Path:
    """Made as the demo makes it, or found from an earlier call."""
    real = folder / "data"
    if not real.exists():
        api.phantom(out=folder / "subjects", number=N_SUBJECTS, seed=0)
        api.prepare(subjects=folder / "subjects", out=real, size=SIZE, holdout=str(N_HOLDOUT))
    return real


def describe(real: Path) -> None:
    """Write the notes of the shipped checkpoint anew, from the images that it was trained on."""
    old, data = read_checkpoint_metadata(CHECKPOINT), Dataset(real)
    trained_on = [item["digest"] for item in old["training_datasets"]]
    if trained_on != [data.digest]:
        sys.exit(f"{real} is {data.digest}; the weights were trained on {', '.join(trained_on)}: nothing is changed.")
    datasets = {"data": data}
    declaration, protocol = discover().get(old["plugin"], "generator"), common_protocol(datasets)
    notes = checkpoint_notes(declaration, old["params"], data.training_part(), protocol, datasets, {})
    write_json(CHECKPOINT / NOTES, notes)


def train(real: Path, run: Path) -> None:
    params = parse_assignments((), PARAMETERS)
    api.train("stylegan2", [real], params=params, out=run, backend="local")
    shutil.copytree(find_checkpoint(run), CHECKPOINT, dirs_exist_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--notes", action="store_true", help="keep the weights, describe them anew")
    options = parser.parse_args()
    real = dataset_of_the_demo(options.folder)
    if options.notes:
        describe(real)
    else:
        train(real, options.folder / "run")


if __name__ == "__main__":
    main()
