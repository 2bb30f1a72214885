"""Where an ideal generator lies beside the floors of `fd`, `kd` and the shares of neighbours, and where others do.

    python benchmarks/floors.py [--repeats 100] [--features 32] [--metrics fid kid prdc] [--case 0]

People have slices, alike by a given correlation within each person; features are normal. Three generators: an ideal
one, which draws images of new people; one that is shifted by 0.2 standard deviations in every feature; and one that
copies its training images. Each repeat draws everything anew and scores as `synthkit evaluate fid kid prdc` does. Of an
ideal generator 95 % should lie within the interval of the floor, and none of the floors may depend on how many images
are synthetic. The floor of recall has no interval.

Exits with 1 where fewer lie within a floor than chance explains: were it 95 %, so few or fewer would be there in less
than 1 of 1,000 runs (binomial). So 12 repeats show little; 200 show 89 % or less.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from unittest import mock

import numpy as np
import synthkit_fidelity.metrics as metrics
from numpy.typing import NDArray
from scipy.special import bdtr
from synthkit_fidelity import Params
from synthkit_fidelity.floors import make_floor
from synthkit_fidelity.sets import FeatureSet

Float32 = NDArray[np.float32]
SCORES = ("fd_matched", "kd", "precision_matched", "density_matched", "coverage_matched")
SHIFT = 0.2
#: So few ideal generators within a floor are no chance.
CHANCE = 0.001
#: Patients, slices of each, held-out patients, synthetic images, correlation within a patient.
CASES = (
    (200, 60, 50, 1000, 0.5),
    (200, 60, 50, 1000, 0.2),
    (50, 30, 0, 100, 0.5),
    (20, 20, 0, 300, 0.3),
)


def people(rng: np.random.Generator, n: int, n_slices: int, correlation: float, dimension: int) -> Float32:
    """Features ``(n * n_slices, dimension)``, slices of a person side by side."""
    own = np.repeat(rng.normal(size=(n, dimension)), n_slices, axis=0)
    other = rng.normal(size=(n * n_slices, dimension))
    return (1 + correlation**0.5 * own + (1 - correlation) ** 0.5 * other).astype(np.float32)


def scores_of(
    names: list[str], real: FeatureSet, held: FeatureSet | None, images: Float32, params: Params
) -> Iterator[metrics.Score]:
    """Scores of one generator, as the metrics give them for one contrast."""
    synthetic = FeatureSet(images, np.arange(len(images)))
    floor = make_floor(real.group, None if held is None else held.group, len(images), params.seed)
    view = metrics.View({"contrast": "t1"}, False, real, synthetic, held, floor, params)
    for metric in names:
        yield from metrics._SCORES[metric](view)


def simulate(case: tuple[int, int, int, int, float], dimension: int, repeats: int, names: list[str]) -> bool:
    """Print a row a score: the floor, and how often each generator lies within it; True if an ideal one does."""
    n, n_slices, n_held, n_images, correlation = case
    print(
        f"\n{n} patients x {n_slices} slices, {n_held} held out, {n_images} synthetic images, {dimension} features, "
        f"correlation {correlation}"
    )
    where: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        real = people(rng, n, n_slices, correlation, dimension)
        group = np.arange(len(real)) // n_slices
        held = None
        if n_held:
            images = people(rng, n_held, n_slices, correlation, dimension)
            held = FeatureSet(images, np.arange(len(images)) // n_slices)
        ideal = people(rng, n_images, 1, correlation, dimension)
        generators = {
            "ideal": ideal,
            "shifted": ideal + np.float32(SHIFT),
            "copies": real[rng.choice(len(real), n_images, replace=n_images > len(real))],
        }
        for name, images in generators.items():
            found = {s.name: s for s in scores_of(names, FeatureSet(real, group), held, images, Params(seed=seed))}
            for score in (score for score in SCORES if score in found):
                floor, own = found[score.removesuffix("_matched") + "_floor"], found[score].value
                if own is None or floor.low is None or floor.high is None or floor.value is None:
                    where[score, name]["none"] += 1
                    continue
                values[score, name].append(own)
                values[score, "floor"].append(floor.value)
                side = "below" if own < floor.low else "above" if own > floor.high else "within"
                where[score, name][side] += 1
    print(f"  {'mean':18}{'floor':>10}" + "".join(f"{name:>10}{'<  in  > (%)':>16}" for name in generators))
    met = True
    for score in SCORES:
        if not values[score, "floor"]:
            continue
        line = f"  {score:18}{np.mean(values[score, 'floor']):10.4f}"
        for name in generators:
            shares = [100 * where[score, name][side] / repeats for side in ("below", "within", "above")]
            line += f"{np.mean(values[score, name]):10.4f}{' '.join(f'{share:.0f}' for share in shares):>16}"
        print(line, flush=True)
        met &= bool(bdtr(where[score, "ideal"]["within"], repeats, 0.95) >= CHANCE)
    return met


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--features", type=int, default=32)
    parser.add_argument("--case", type=int, action="append", help="number of a case, from 0; repeatable")
    parser.add_argument("--metrics", nargs="+", default=["fid", "kid", "prdc"])
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, NumPy {np.__version__}, {arguments.repeats} repeats")
    cases = [CASES[i] for i in arguments.case] if arguments.case else CASES
    with mock.patch.object(metrics.synthkit, "progress"):
        met = [simulate(case, arguments.features, arguments.repeats, arguments.metrics) for case in cases]
    print(f"\nideal generators are {'as often' if all(met) else 'LESS OFTEN'} within the floors as 95 %, up to chance")
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
