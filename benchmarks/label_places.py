"""Label maps of another subject, or moved: how many `prepare` names, and its false alarms.

Phantoms of 3 mm voxels and, with ``--subjects``, real people, each with its own labels, with those of two others (all
others of the real people, brought to the same number of slices), and with its own moved by 15 mm along each axis.

    python benchmarks/label_places.py [--phantoms 100] [--subjects SUBJECTS]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthkit.data.label_places import places_of
from synthkit.data.phantom import make_subject
from synthkit.data.slices import SliceProtocol, arranged
from synthkit.data.subjects import find_subjects, load_subject

SHAPE, SPACING_MM, BY_MM = (80, 80, 52), 3.0, 15.0
UInt8 = NDArray[np.uint8]
Person = tuple[dict[str, NDArray], UInt8, tuple[float, float, float]]


def phantom(index: int) -> Person:
    subject = make_subject(index, 7, shape=SHAPE, spacing_mm=SPACING_MM)
    return subject, subject.pop("seg"), (SPACING_MM,) * 3


def real_people(folder: Path) -> list[Person]:
    volumes = [arranged(load_subject(subject), SliceProtocol()) for subject in find_subjects(folder)]
    return [(v.images, v.labels, v.spacing_mm) for v in volumes if v.labels is not None]


def fitted(labels: UInt8, like: UInt8) -> UInt8:
    """Labels with as many slices as others have."""
    return labels[:, :, np.linspace(0, labels.shape[2] - 1, like.shape[2]).round().astype(int)]


def moved(labels: UInt8, spacing_mm: tuple[float, float, float]) -> Iterator[UInt8]:
    for axis in range(3):
        for way in (1, -1):
            yield np.roll(labels, way * round(BY_MM / spacing_mm[axis]), axis)


def rate(people: list[Person], others: int) -> None:
    n = len(people)
    found: dict[str, list[bool | None]] = {"own": [], "another's": [], "moved": []}
    for k, (images, labels, spacing_mm) in enumerate(people):
        cases = [("own", labels), *(("moved", turned) for turned in moved(labels, spacing_mm))]
        cases += [("another's", fitted(people[(k + j) % n][1], labels)) for j in range(1, others + 1)]
        for kind, given in cases:
            places = places_of(images, given, "LPS", spacing_mm)
            found[kind].append(None if places is None else bool(places.misfit or places.are_elsewhere))
    for kind, named in found.items():
        print(f"{kind:10s} {sum(map(bool, named)):4d} named of {len(named)}, too few voxels in {named.count(None)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phantoms", type=int, default=100)
    parser.add_argument("--subjects", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with ProcessPoolExecutor(arguments.workers, get_context("spawn")) as pool:
        phantoms = list(pool.map(phantom, range(arguments.phantoms)))
    print(f"{len(phantoms)} phantoms")
    rate(phantoms, others=2)
    if arguments.subjects:
        people = real_people(arguments.subjects)
        print(f"{len(people)} people")
        rate(people, others=len(people) - 1)


if __name__ == "__main__":
    main()
