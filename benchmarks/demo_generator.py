"""The two generators that come with `synthkit demo`: trained, or described anew.

    python benchmarks/demo_generator.py FOLDER [--only faithful | memorized] [--notes]

Makes the phantom of the demo and its datasets in FOLDER: one with all training people, and one with three of them and
the same held-out people. Trains StyleGAN2 on the first by demo_faithful.toml and EDM on the second by
demo_memorized.toml (an hour and 20 minutes of one core), and puts both checkpoints where the demo finds them, the
weights of the second in half precision.

With --notes the shipped weights stay, and nothing is trained: what is noted beside them is written as a training of
today would note it of the same images (scheme, protocol, voxel size, orientation). It is refused unless the dataset has
the digest that the weights were trained on, so that what is true of it is true of those images. A minute.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from synthkit_torch.storage import load_tensors, save_tensors

from synthkit import api
from synthkit.cli.demo import FAITHFUL, MEMORIZED, N_HOLDOUT, N_MEMORIZED, N_SUBJECTS, SIZE
from synthkit.contract import NOTES
from synthkit.data.dataset import Dataset
from synthkit.registry.parameters import parse_assignments
from synthkit.registry.registry import discover
from synthkit.running.checkpoints import find_checkpoint, read_checkpoint_metadata
from synthkit.running.run import write_json
from synthkit.running.verbs.train import checkpoint_notes, common_protocol


class Shipped(NamedTuple):
    """A shipped generator: its plugin, where it is kept, on how many of the training people it is trained (None: on
    all), and whether its weights are stored in half precision."""

    plugin: str
    checkpoint: Path
    patients: int | None
    halved: bool


SHIPPED = {
    "faithful": Shipped("stylegan2", FAITHFUL, None, halved=False),
    "memorized": Shipped("edm", MEMORIZED, N_MEMORIZED, halved=True),
}
#: Tensors of fewer numbers keep their precision: biases, norms, what was measured of the images.
SMALL = 1024


def parameters(name: str) -> Path:
    return Path(__file__).with_name(f"demo_{name}.toml")


def dataset_of_the_demo(folder: Path, name: str) -> Path:
    """Made as the demo makes it, but for who is trained on; or found from an earlier call."""
    subjects, data = folder / "subjects", folder / f"data-{name}"
    if not subjects.exists():
        api.phantom(out=subjects, number=N_SUBJECTS, seed=0)
    if not data.exists():
        few = SHIPPED[name].patients
        api.prepare(subjects=subjects, out=data, size=SIZE, holdout=str(N_HOLDOUT), training_patients=few)
    return data


def describe(real: Path, checkpoint: Path) -> None:
    """Write the notes of a shipped checkpoint anew, from the images that it was trained on."""
    old, data = read_checkpoint_metadata(checkpoint), Dataset(real)
    trained_on = [item["digest"] for item in old["training_datasets"]]
    if trained_on != [data.digest]:
        sys.exit(f"{real} is {data.digest}; the weights were trained on {', '.join(trained_on)}: nothing is changed.")
    datasets = {"data": data}
    declaration, protocol = discover().get(old["plugin"], "generator"), common_protocol(datasets)
    notes = checkpoint_notes(declaration, old["params"], data.training_part(), protocol, datasets, {})
    write_json(checkpoint / NOTES, notes)


def train(real: Path, run: Path, params: Path, shipped: Shipped) -> None:
    api.train(shipped.plugin, [real], params=parse_assignments((), params), out=run, backend="local")
    shutil.copytree(find_checkpoint(run), shipped.checkpoint, dirs_exist_ok=True)
    for file in sorted(shipped.checkpoint.glob("*.safetensors")) if shipped.halved else ():
        halve(file)


def halve(file: Path) -> None:
    """Store weights in half precision; they are as they were, to 11 bits, where they are loaded into float32."""
    tensors, facts = load_tensors(file)
    halved = {
        name: tensor.half() if tensor.dtype == torch.float32 and tensor.numel() >= SMALL else tensor
        for name, tensor in tensors.items()
    }
    if beyond := [name for name, tensor in halved.items() if not bool(tensor.isfinite().all())]:
        sys.exit(f"{file} has weights beyond half precision: {', '.join(beyond)}.")
    save_tensors(file, halved, facts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=tuple(SHIPPED), help="one of the two")
    parser.add_argument("--notes", action="store_true", help="keep the weights, describe them anew")
    options = parser.parse_args()
    for name in [options.only] if options.only else SHIPPED:
        real, shipped = dataset_of_the_demo(options.folder, name), SHIPPED[name]
        if options.notes:
            describe(real, shipped.checkpoint)
        else:
            train(real, options.folder / name, parameters(name), shipped)


if __name__ == "__main__":
    main()
