"""The audit of real people: five trained on, nine others, rescans, and copies that were registered and stripped anew.

    git clone https://github.com/muschellij2/open_ms_data
    python benchmarks/real_people.py --subjects SUBJECTS --others open_ms_data --work FOLDER [--size 64]

``--subjects``: glioma subjects as BraTS names them, which are trained on. ``--others``: people with multiple sclerosis
(Lesjak et al., Neuroinformatics 2016 and 2018; CC BY), T1 and FLAIR: those whose files are whole are used. Of the
longitudinal part both images are brought into the common space by the transforms that lie beside them and stripped by
the brain mask; where that holds the whole head, by thresholds. Two people of it were scanned twice. Takes SimpleITK.

Volumes become T1 and FLAIR slices with ``prepare``; each set below is one audit, without planted copies.

copies     of each training person: turned and scaled in 3-D, moved by some mm, brain extraction 2 mm tighter, another
           curve of grey values
innocents  each other person as synthetic images, the rest held out; and several of them at once
rescans    of one person two scans, months apart: the first is trained on, the second stands for synthetic images, or is
           among the held-out
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813 (its usual name)
from audit_rates import audit
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation
from synthkit_memorization import DECLARATION

from synthkit import api
from synthkit.data.dataset import Dataset
from synthkit.registry.parameters import make_params, parse_assignments
from synthkit.testing import InMemorySamples

CONTRASTS = ("t1", "flair")

#: More than this share of a volume is a head, not a brain.
HEAD = 0.2


# --------------------------------------------------------------------------------------------------- other people


def cross_sectional(folder: Path, out: Path) -> Iterator[str]:
    """People whose brains lie in the space of a template already; yields their names."""
    for person in sorted((folder / "cross_sectional" / "MNI").glob("patient*")):
        files = [next(person.glob(f"{name}_*brain*"), None) for name in ("T1", "FLAIR")]
        if images := _whole(files):
            mask = sitk.And(images[0] > 0, images[1] > 0)
            yield _written(out, f"mni{person.name[-2:]}", images, mask)


def longitudinal(folder: Path, out: Path) -> Iterator[str]:
    """Scans of people who came twice; yields ``person-visit``."""
    for person in sorted((folder / "longitudinal" / "raw").glob("patient*")):
        common = folder / "longitudinal" / "coregistered" / person.name
        for visit in (1, 2):
            files = [person / f"study{visit}_{name}.nii.gz" for name in ("T1W", "FLAIR")]
            if (images := _whole(files)) and (common / "brainmask.nii.gz").exists():
                to_common = sitk.ReadTransform(str(common / f"study{visit}_FLAIR_to_common_space.txt"))
                to_flair = sitk.ReadTransform(str(person / f"study{visit}_T1W_intrastudy_to_FLAIR.txt"))
                mask = _of_1_mm(sitk.ReadImage(str(common / "brainmask.nii.gz")) > 0)
                ways = sitk.CompositeTransform([to_flair, to_common]), to_common
                moved = [sitk.Resample(i, mask, way, sitk.sitkLinear, 0.0) for i, way in zip(images, ways, strict=True)]
                if sitk.GetArrayViewFromImage(mask).mean() > HEAD:
                    mask = _brain(moved[1])
                yield _written(out, f"long{person.name[-2:]}-{visit}", moved, mask)


def _whole(files: Sequence[Path | None]) -> list[sitk.Image] | None:
    """All images, or None where one is missing or cannot be read."""
    try:
        return [sitk.ReadImage(str(file), sitk.sitkFloat32) for file in files]
    except RuntimeError:
        return None


def _of_1_mm(mask: sitk.Image) -> sitk.Image:
    size = [round(n * mm) for n, mm in zip(mask.GetSize(), mask.GetSpacing(), strict=True)]
    space = mask.GetOrigin(), (1.0, 1.0, 1.0), mask.GetDirection()
    return sitk.Resample(mask, size, sitk.Transform(), sitk.sitkNearestNeighbor, *space)


def _brain(flair: sitk.Image) -> sitk.Image:
    """The largest bright part of a head in FLAIR, once thin bridges to the scalp are cut."""
    voxels = sitk.GetArrayFromImage(flair)
    bright = ndimage.binary_erosion(voxels > 0.3 * np.percentile(voxels[voxels > 0], 99), iterations=3)
    parts, n = ndimage.label(bright)
    largest = parts == 1 + np.argmax(ndimage.sum(bright, parts, range(1, n + 1)))
    closed = ndimage.binary_closing(ndimage.binary_dilation(largest, iterations=4), iterations=4)
    mask = sitk.GetImageFromArray(np.stack([ndimage.binary_fill_holes(each) for each in closed]).astype(np.uint8))
    mask.CopyInformation(flair)
    return mask


def _written(out: Path, name: str, images: Sequence[sitk.Image], mask: sitk.Image) -> str:
    """A subject as ``prepare`` reads it; it has no tumour."""
    (out / name).mkdir(parents=True)
    for image, contrast in zip(images, CONTRASTS, strict=True):
        sitk.WriteImage(
            sitk.Clamp(sitk.Mask(image, mask), sitk.sitkFloat32, 0), str(out / name / f"{name}_{contrast}.nii.gz")
        )
    sitk.WriteImage(sitk.Cast(mask * 0, sitk.sitkUInt8), str(out / name / f"{name}_seg.nii.gz"))
    return name


# --------------------------------------------------------------------------------------------------------- copies


def registered_anew(subject: Path, out: Path, seed: int) -> str:
    """A subject turned by about 3 degrees about each axis, scaled by at most 3 %, moved by about 2 mm, with a brain
    extraction tighter by 2 voxels and the grey values to a power between 0.8 and 1.25; returns its name."""
    rng = np.random.default_rng(seed)
    turn = Rotation.from_euler("zyx", rng.normal(0, 3, 3), degrees=True).as_matrix() / rng.uniform(0.97, 1.03)
    shift, power, name = rng.normal(0, 2, 3), rng.uniform(0.8, 1.25), f"copy-of-{subject.name}"
    (out / name).mkdir(parents=True)

    def moved(content: str) -> tuple[NDArray[np.float32], Any]:
        image: Any = nib.load(subject / f"{subject.name}_{content}.nii.gz")
        voxels = np.asarray(image.dataobj, np.float32)
        middle = (np.array(voxels.shape) - 1) / 2
        order = 0 if content == "seg" else 1
        return ndimage.affine_transform(voxels, turn, middle - turn @ middle + shift, order=order), image.affine

    brain = ndimage.binary_erosion(moved("t1")[0] > 0, iterations=2)
    for content in (*CONTRASTS, "seg"):
        voxels, affine = moved(content)
        if content != "seg":
            voxels = np.maximum(voxels, 0) * brain
            voxels = voxels.max() * (voxels / voxels.max()) ** power
        voxels = voxels.astype(np.uint8 if content == "seg" else np.float32)
        nib.save(nib.Nifti1Image(voxels, affine), out / name / f"{name}_{content}.nii.gz")
    return name


# --------------------------------------------------------------------------------------------------------- audits


class People:
    """Slices of people of prepared datasets, by name."""

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        self._slices: dict[str, tuple[Any, Any]] = {}
        for dataset in datasets:
            for name in dict.fromkeys(sample.subject for sample in dataset.samples):
                rows = [i for i, sample in enumerate(dataset.samples) if sample.subject == name]
                self._slices[str(name)] = dataset.read(rows)

    def of(self, names: Sequence[str]) -> PeopleSlices:
        return PeopleSlices(names, [self._slices[name] for name in names])


class PeopleSlices:
    """Slices of some people, as :func:`audit_rates.audit` takes them."""

    def __init__(self, names: Sequence[str], slices: Sequence[tuple[Any, Any]]) -> None:
        self._images, self._labels = (np.concatenate(part) for part in zip(*slices, strict=True))
        self._names = [name for name, (images, _) in zip(names, slices, strict=True) for _ in images]

    def dataset(self, prefix: str = "") -> InMemorySamples:
        """Real images of named people, or without ``prefix`` synthetic ones of nobody."""
        subjects = self._names if prefix else [None] * len(self._names)
        return InMemorySamples(self._images, self._labels, subjects=subjects, contrasts=CONTRASTS)


#: What an audit is of: its name, training people, held-out people, people as synthetic images, and what is right.
Audit = tuple[str, list[str], list[str], list[str], str]


def audits(trained: list[str], copies: list[str], scans: list[str]) -> Iterator[Audit]:
    """``scans``: one or two of each other person, the person before the ``-``."""
    again = [scan for scan in scans if scan.endswith("-2") and f"{scan[:-2]}-1" in scans]
    others = [scan for scan in scans if scan not in again]
    for copy in copies:
        yield copy, trained, others, [copy], "fail"
    for other in others:
        yield f"innocent: {other}", trained, [each for each in others if each != other], [other], "not fail"
    third = len(others) - len(others) // 3
    yield f"innocent: {len(others) - third} people", trained, others[:third], others[third:], "not fail"
    yield f"innocent: {len(others)} people, none held out", trained, [], others, "not fail"
    for second in again:
        first = f"{second[:-2]}-1"
        rest = [each for each in others if each != first]
        yield f"{second}, trained on {first}", [*trained, first], rest, [second], "fail"
        yield f"{second} held out, trained on {first}", [*trained, first], [*rest[1:], second], rest[:1], "not fail"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=Path, required=True, help="people trained on")
    parser.add_argument("--others", type=Path, required=True, help="a checkout of open_ms_data")
    parser.add_argument("--work", type=Path, required=True, help="a new folder")
    parser.add_argument("--size", type=int, default=64, help="side of a slice in pixels")
    options = parser.parse_args()
    options.work.mkdir(parents=True)
    subjects = sorted(folder for folder in options.subjects.iterdir() if folder.is_dir())
    copies = [registered_anew(subject, options.work / "copies", seed) for seed, subject in enumerate(subjects)]
    others = options.work / "others"
    scans = [*longitudinal(options.others, others), *cross_sectional(options.others, others)]
    datasets = []
    for folder in (options.subjects, options.work / "copies", others):
        out = options.work / f"{folder.name}-{options.size}"
        how = {"contrasts": CONTRASTS, "intensity": "p99.9", "labels": "brats2018", "patients": "one-per-subject"}
        api.prepare(folder, out, holdout="1", size=options.size, **how)
        datasets.append(Dataset(out))
    people = People(datasets)
    params = make_params(DECLARATION, parse_assignments(["plants=0"]))
    print(f"{'audit of':52s}{'verdict':24s}{'right':12s}seconds  first reason")
    for name, train, holdout, synthetic, right in audits([each.name for each in subjects], copies, scans):
        start = time.process_time()
        sides = people.of(train), people.of(holdout) if holdout else None, people.of(synthetic)
        outcome, reasons = audit(*sides, params=params)
        wrong = "" if (outcome == "fail") == (right == "fail") else "  WRONG"
        took = time.process_time() - start
        print(f"{name:52s}{outcome:24s}{right:12s}{took:7.0f}  {reasons[0] if reasons else ''}{wrong}", flush=True)


if __name__ == "__main__":
    main()
