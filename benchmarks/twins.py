"""One person under two ids: how many planted twins `prepare` finds among 30 phantoms, and its false alarms.

Phantoms are heads of one template, which are more alike than people are. A twin of one of them is planted under another
id, by what people do to files, or as a scan of another day: turned and shifted, with another bias field, noise and
another tumour. A false alarm is any pair that is found and was not planted.

    python benchmarks/twins.py [--trials 20] [--subjects SUBJECTS]

``--subjects``: a folder of different real people, which are compared as well and twinned in the same ways. All volumes
of the phantom are of 2 mm voxels, T1 and T2.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from synthkit.data.phantom import make_subject
from synthkit.data.signatures import LIES, Signature, first_look, likeness, signature
from synthkit.data.subjects import find_subjects, load_subject
from synthkit.data.twins import ALIKE, find_twins

Volumes = list[NDArray[np.float32]]
Change = Callable[[Volumes, np.random.Generator], Volumes]
N_PHANTOMS = 30
CONTRASTS = ("t1", "t2")


def of_brain(change: Callable[[NDArray, NDArray], NDArray]) -> Change:
    """A change of grey values inside the brain; the background stays 0."""
    return lambda volumes, rng: [np.where(v > 0, change(v, v[v > 0]), 0).astype(np.float32) for v in volumes]


def resampled(factor: float, order: int) -> Change:
    return lambda volumes, rng: [ndimage.zoom(v, factor, order=order) for v in volumes]


def shifted(volumes: Volumes, rng: np.random.Generator) -> Volumes:
    by = rng.integers(-6, 7, 3)
    return [np.roll(np.pad(v, 8), by, (0, 1, 2)) for v in volumes]


def noisy(share: float) -> Change:
    def change(volumes: Volumes, rng: np.random.Generator) -> Volumes:
        return [np.abs(v + rng.normal(0, share * np.percentile(v[v > 0], 99), v.shape)) for v in volumes]

    return change


def cropped(volumes: Volumes, rng: np.random.Generator) -> Volumes:
    """A tenth of the brain is cut off below."""
    used = np.flatnonzero(volumes[0].any(axis=(0, 1)))
    return [v[:, :, used[0] + len(used) // 10 :] for v in volumes]


def stripped(volumes: Volumes, rng: np.random.Generator) -> Volumes:
    """Another brain extraction: about 4 mm less everywhere, and the lowest slices gone."""
    mask = ndimage.binary_erosion(volumes[0] > 0, iterations=2)
    mask[:, :, : np.flatnonzero(mask.any(axis=(0, 1)))[3]] = False
    return [v * mask for v in volumes]


def moved(degrees: float) -> Change:
    def change(volumes: Volumes, rng: np.random.Generator) -> Volumes:
        turn = Rotation.from_euler("zyx", rng.normal(0, degrees, 3), degrees=True).as_matrix()
        middle = (np.array(volumes[0].shape) - 1) / 2
        offset = middle - turn @ middle + rng.normal(0, 2, 3)
        return [ndimage.affine_transform(v, turn, offset, order=1) for v in volumes]

    return change


def other_tumour(volumes: Volumes, rng: np.random.Generator) -> Volumes:
    places = np.argwhere(ndimage.binary_erosion(volumes[0] > 0, iterations=6))
    centre = places[rng.integers(len(places))]
    grids = np.ogrid[tuple(slice(n) for n in volumes[0].shape)]
    blob = np.exp(-sum((g - c) ** 2 for g, c in zip(grids, centre, strict=True)) / (2 * 7.0**2))
    return [
        v * (1 - blob) + blob * (v > 0) * level * np.percentile(v[v > 0], 95)
        for v, level in zip(volumes, (0.3, 1.0), strict=True)
    ]


def biased(volumes: Volumes, rng: np.random.Generator) -> Volumes:
    return [v * np.exp(0.3 * _field(rng, v.shape)) for v in volumes]


def _field(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    knots = rng.normal(0, 1, (4, 4, 4))
    return np.asarray(ndimage.zoom(knots, [n / 4 for n in shape], order=3))


def after(*changes: Change) -> Change:
    def change(volumes: Volumes, rng: np.random.Generator) -> Volumes:
        for one in changes:
            volumes = one(volumes, rng)
        return volumes

    return change


def lying_otherwise(volumes: Volumes, rng: np.random.Generator) -> Volumes:
    """Axes in another order and mirrored; the affine, which is not looked at, says nothing of it."""
    order, signs = LIES[rng.integers(1, len(LIES))]
    return [v.transpose(order)[:: signs[0], :: signs[1], :: signs[2]] for v in volumes]


CHANGES: dict[str, Change] = {
    "saved again": lambda volumes, rng: volumes,
    "8-bit integers": lambda volumes, rng: [np.rint(v / v.max() * 255).astype(np.uint8) for v in volumes],
    "another scale": lambda volumes, rng: [v * rng.uniform(1e-4, 10) for v in volumes],
    "gamma 0.6 or 1.7": lambda volumes, rng: [np.maximum(v / v.max(), 0) ** rng.choice([0.6, 1.7]) for v in volumes],
    "z-scored brain": of_brain(lambda v, brain: (v - brain.mean()) / brain.std()),
    "mirrored left and right": lambda volumes, rng: [v[::-1] for v in volumes],
    "axes in another order": lying_otherwise,
    "voxels of 3 mm": resampled(2 / 3, 1),
    "voxels of 1.5 mm": resampled(4 / 3, 3),
    "shifted and padded": shifted,
    "noise of 5 %": noisy(0.05),
    "a tenth cut off": cropped,
    "another extraction": stripped,
    "3 mm, 8 bit, turned": after(resampled(2 / 3, 1), lying_otherwise, noisy(0.02)),
    "another day": after(moved(3), other_tumour, biased, noisy(0.03)),
    "another day, turned by 6": after(moved(6), other_tumour, stripped, biased, noisy(0.03)),
}


def phantoms() -> dict[str, Volumes]:
    made = {}
    for index in range(1, N_PHANTOMS + 1):
        subject = make_subject(index, 0, shape=(90, 110, 80), spacing_mm=2.0)
        made[f"phantom {index}"] = [subject[name].astype(np.float32) for name in CONTRASTS]
    return made


def compare(people: dict[str, Volumes], trials: int) -> None:
    start = time.process_time()
    signatures = {name: signature(volumes) for name, volumes in people.items()}
    there = {name: found for name, found in signatures.items() if found is not None}
    seconds = (time.process_time() - start) / len(people)
    start = time.process_time()
    alarms = find_twins(signatures)
    pairs = (time.process_time() - start) / len(people)
    print(f"{len(people)} people: {len(alarms)} false alarms; {len(there)} have a signature")
    print(f"processor time a subject: signature {seconds * 1e3:.1f} ms, comparing {pairs * 1e3:.1f} ms")
    print(f"most alike of different people: {most_alike(there):.2f}; from {ALIKE} on they are one person")
    print(f"{'twin':26s} {'found':>8s} {'false alarms':>13s} {'least alike':>12s}")
    names = list(people)
    for title, change in CHANGES.items():
        found = false = 0
        least = 1.0
        for trial in range(trials):
            rng = np.random.default_rng([trial, len(title)])
            of = names[trial % len(names)]
            twins = find_twins({**signatures, "twin": signature(change(people[of], rng))})
            hits = [pair for pair in twins if {pair.one, pair.other} == {of, "twin"}]
            found += bool(hits)
            false += len(twins) > len(hits)
            least = min([least, *(pair.alike for pair in hits)])
        print(f"{title:26s} {found:3d} / {trials:2d} {false:8d} / {trials:2d} {least:12.2f}", flush=True)


def most_alike(signatures: dict[str, Signature]) -> float:
    """Over each person's three nearest by the first look."""
    heads = list(signatures.values())
    first, lies = first_look(heads, heads)
    np.fill_diagonal(first, -1)
    near = [(row, int(column)) for row in range(len(heads)) for column in np.argsort(-first[row])[:3] if column != row]
    return max(likeness(heads[row], heads[column], LIES[lies[row, column]]) for row, column in near)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--subjects", type=Path, help="a folder of different real people")
    arguments = parser.parse_args()
    compare(phantoms(), arguments.trials)
    if arguments.subjects:
        people = {}
        for subject in find_subjects(arguments.subjects):
            volumes = load_subject(subject, labels=False)
            people[subject.id] = [volumes.images[name].astype(np.float32) for name in CONTRASTS]
        compare(people, len(people))


if __name__ == "__main__":
    main()
