"""What the audit's families of searches take beside the plain one: processor time, at 64, 128 and 256 pixels.

    python benchmarks/memorization_families.py [--subjects FOLDER] [--people 64] [--queries 512] [--sizes 64 128 256]

Training images are of ``--people`` people, 16 each: slices of the subjects (as in ``memorization_search.py``),
deformed, in four contrasts (grey levels to different powers); queries are others of the same people, each compared with
everybody but its own. *Plain* is the search of the rules pearson, brain, flip and shift for the one best image; ratios
are to it. Compiling is not counted.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from memorization_search import _deformed, slices_of
from numpy.typing import NDArray
from phantom_people import CONTRASTS
from synthkit_memorization.search.exact import Groups, best_matches
from synthkit_memorization.search.frame import framed
from synthkit_memorization.search.warped import BLUR, CANDIDATES, SIDE, Halved, bent

PLAIN = ("pearson", "brain", "flip", "shift")
POWERS = (0.5, 0.8, 1.25, 2.0)
A_PERSON, BACKGROUND = 16, 8


class InMemory:
    """A dataset of four contrasts held in an array."""

    contrasts = CONTRASTS

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self.images = images
        self.size = images.shape[2:]

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Any) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        images = self.images[np.asarray(indices, dtype=np.int64)]
        return images, np.zeros((len(images), *self.size), np.uint8)


def people(bases: NDArray[np.uint8], n: int, each: int, seed: int) -> NDArray[np.uint8]:
    """``each`` images of n people, one after the other, ``(image, 256, 256)``: variants of a few slices of one base."""
    first = np.random.default_rng(1).integers(0, len(bases) - 3, n)
    return np.concatenate([_deformed(bases[b : b + 3], each, (seed, p)) for p, b in enumerate(first)])


def in_contrasts(images: NDArray[np.uint8], size: int) -> InMemory:
    """The means of squares of pixels, to four powers."""
    step = images.shape[-1] // size
    small = images.reshape(len(images), size, step, size, step).mean(axis=(2, 4))
    return InMemory(np.stack([np.rint(255 * (small / 255) ** power) for power in POWERS], axis=1).astype(np.uint8))


def processor_seconds(function: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[float, Any]:
    start = time.process_time()
    answer = function(*arguments, **options)
    return time.process_time() - start, answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(__file__).resolve().parents[2] / "shared" / "data"
    data = Path(os.environ.get("SYNTHKIT_TEST_DATA", shared)) / "brats-mini"
    parser.add_argument("--subjects", type=Path, default=data)
    parser.add_argument("--people", type=int, default=64)
    parser.add_argument("--queries", type=int, default=512)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256])
    options = parser.parse_args()
    bases = slices_of(options.subjects)
    train = people(bases, options.people, A_PERSON, 2)
    each = -(-options.queries // options.people)
    queries = people(bases, options.people, each, 3)[: options.queries]
    person = np.repeat(np.arange(options.people), A_PERSON)
    others = Groups(np.repeat(np.arange(options.people), each)[: options.queries], person)
    print(f"{len(queries):,} queries, {len(train):,} training images of {options.people} people, four contrasts")
    by_person: dict[str, Any] = {"k": 3, "distinct": person, "exclude": others}
    some = in_contrasts(train[:600], 64)
    best_matches(some, some, rules=("pearson", "brain"), method="cascade")  # compiles, once a process
    for size in options.sizes:
        x, y = in_contrasts(queries, size), in_contrasts(train, size)
        rows: dict[str, float] = {}
        rows["plain"], _ = processor_seconds(best_matches, x, y, rules=PLAIN, exclude=others)
        rows["the same, of the 3 nearest people"], _ = processor_seconds(best_matches, x, y, rules=PLAIN, **by_person)
        rows["family picture: and inverted, brain-inverted"], _ = processor_seconds(
            best_matches, x, y, rules=(*PLAIN, "inverted", "brain-inverted"), **by_person
        )
        first, in_frame = processor_seconds(framed, x, BACKGROUND)
        second, among = processor_seconds(framed, y, BACKGROUND)
        rows["both sides in the frame"] = first + second
        rows["family frame: turned, of the 3 nearest people"], _ = processor_seconds(
            best_matches, in_frame, among, rules=("turned",), **by_person
        )
        fine_x, fine_y = framed(x, BACKGROUND, SIDE, BLUR), framed(y, BACKGROUND, SIDE, BLUR)
        rows["family warped: the likest 5 of 24 x 24 pixels"], found = processor_seconds(
            best_matches,
            Halved(fine_x),
            Halved(fine_y),
            views={"joint": range(len(CONTRASTS))},
            rules=("turned",),
            **by_person | {"k": CANDIDATES},
        )
        bend_onto = fine_x, fine_y, found["joint", "turned"]
        bent(*bend_onto, 3)  # compiles
        rows["and bent onto them"], _ = processor_seconds(bent, *bend_onto, 3)
        print(f"{f'{size} x {size} pixels':48}{'processor s':>12}{'ratio':>8}")
        for name, seconds in rows.items():
            print(f"{name:48}{seconds:12.2f}{seconds / rows['plain']:7.2f}x", flush=True)


if __name__ == "__main__":
    main()
