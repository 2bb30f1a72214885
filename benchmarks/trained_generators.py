"""Audits of trained generators: on 24 people, from whom one learns what people look like, and on three, who are copied.

    python benchmarks/trained_generators.py --work FOLDER [--only diffusion-3,diffusion-24,stylegan2-3,stylegan2-24]

Phantom people of 32 x 32 pixels, 20 of them held out; generators by their preset ``cpu``, trained for as many
thousand images as KIMG says (half an hour each, on one core), then 400 samples and an audit without planted copies.
What is in FOLDER already is not made again. Beside the verdict stands, for the eye, a picture: samples (nearest to
training people first), each above its nearest training image: ``FOLDER/NAME.png``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from synthkit import api
from synthkit.data.dataset import Dataset
from synthkit.data.phantom import affine, make_subject
from synthkit.judging.audit_tables import PAIRS
from synthkit.report.audit.tables import Pair, read_pairs

KIMG = {"diffusion-3": 16, "diffusion-24": 9, "stylegan2-3": 80, "stylegan2-24": 60}
HOLDOUT, SIZE, SAMPLES, SEED = 20, 32, 400, 20
SHAPE, SPACING_MM, FINER = (64, 64, 40), 3.75, 4


def people(folder: Path, n: int) -> None:
    """n phantom subjects of 0.94 mm in plane; each voxel of the phantom is FINER squared of theirs."""
    place = affine(SHAPE, SPACING_MM)
    place[:, :2] /= FINER
    for number in range(n):
        name = f"P_{number:04d}"
        (folder / name).mkdir(parents=True)
        for content, voxels in make_subject(number, SEED, shape=SHAPE, spacing_mm=SPACING_MM).items():
            finer = voxels.repeat(FINER, 0).repeat(FINER, 1)
            nib.save(nib.Nifti1Image(finer, place), folder / name / f"{name}_{content}.nii.gz")


def samples(work: Path, name: str) -> tuple[Path, Path]:
    """The real dataset and the run of the samples of a generator, made where they are missing."""
    generator, n = name.split("-")
    subjects, data = work / "subjects", work / f"data-{n}"
    if not subjects.exists():
        people(subjects, 24 + HOLDOUT)
    if not data.exists():
        held = ",".join(f"P_{number:04d}" for number in range(24, 24 + HOLDOUT))
        api.prepare(subjects, data, holdout=held, size=SIZE, training_patients=int(n))
    model, drawn = work / f"run-{name}", work / f"gen-{name}"
    if not model.exists():
        api.train(generator, [data], model, preset="cpu", params={"kimg": KIMG[name]}, backend="local")
    if not drawn.exists():
        api.generate(model, range(SAMPLES), drawn, backend="local")
    return data, drawn


def picture(pairs: list[Pair], data: Path, drawn: Path, out: Path, n: int = 12) -> None:
    """The nearest of the audit's pairs in the joint view: samples above training images, T1 and FLAIR."""
    real, made = Dataset(data), Dataset(drawn / "outputs" / "dataset")
    rows = {which.samples[i].id: i for which in (real, made) for i in range(len(which))}
    joint = [pair for pair in pairs if pair.contrast == "joint"][:n]

    def strip(which: Dataset, ids: list[str]) -> np.ndarray:
        images, _ = which.read([rows[name] for name in ids])
        return np.hstack([np.hstack([image[0], image[-1]]) for image in images])

    above = strip(made, [pair.synthetic_id for pair in joint])
    tall = np.vstack([above, strip(real, [pair.train_id for pair in joint])])
    Image.fromarray(tall).resize((tall.shape[1] * 2, tall.shape[0] * 2), 0).save(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where data, generators and audits are kept")
    parser.add_argument("--only", default=",".join(KIMG), help="generators, with commas between")
    options = parser.parse_args()
    policy = options.work / "policy.toml"
    options.work.mkdir(parents=True, exist_ok=True)
    policy.write_text("required_power = []\n")
    for name in options.only.split(","):
        data, drawn = samples(options.work, name)
        out = options.work / f"audit-{name}"
        audit = api.audit_memorization(
            data, drawn, out, policy=policy, params={"plants": 0}, backend="local", overwrite=True
        )
        verdict = audit.result["verdict"]
        print(f"{name:14s} {KIMG[name]:3d} kimg  {verdict['outcome']:24s}{verdict['reasons'][0]}", flush=True)
        picture(read_pairs(audit.run.outputs / PAIRS.file), data, drawn, options.work / f"{name}.png")


if __name__ == "__main__":
    main()
