"""What 95 % intervals of scores of sets cover: per cent of 1,000 draws whose interval holds the true value.

    python benchmarks/set_intervals.py [--draws 1000] [pairs] [quantiles] [copies] [distances] [classes] [ideal]

Real patients have slices that are alike within a patient by a given correlation; synthetic images are independent.

* ``pairs``: a share of pairs, as ``membership_auc`` (people on both sides), ``closer_than_holdout`` and ``effect``
  (slices of patients against images); columns are true shares. "odd": 5 % of the patients lie far below all.
* ``quantiles``: of independent images. ``copies``: recall of planted copies, over training people of whom some are
  never found.
* ``distances``: of features, about their mean at these numbers of patients and images; ``fd_infinity`` about the truth.
* ``classes``: the Inception score, about its mean at these numbers; columns are the spread of the logits.
* ``ideal``: how many ideal generators lie within the interval of ``floor_ks``.

"-" is no interval. Beyond 93 to 97 a number has a star.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from intervals import Ends, covered, run, table
from numpy.typing import NDArray
from scipy.special import ndtri
from synthkit_fidelity import Params, metrics
from synthkit_fidelity.sets import FeatureSet
from synthkit_realism.statistics import Draws, compare

from synthkit.contract import Score
from synthkit.judging.intervals import clopper_pearson
from synthkit.judging.spreads import quantile_interval, share_of_pairs

Floats = NDArray[np.float64]
PATIENTS = (3, 5, 10, 30, 100)


def alike(rng: np.random.Generator, n: int, slices: int, correlation: float, dimension: int = 1) -> Floats:
    """Values ``(n * slices, dimension)`` of standard deviation 1, those of a patient side by side."""
    own = np.repeat(rng.normal(size=(n, dimension)), slices, axis=0)
    return correlation**0.5 * own + (1 - correlation) ** 0.5 * rng.normal(size=(n * slices, dimension))


# ------------------------------------------------------------------------------------------------- pairs, quantiles


def pairs(draws: int) -> None:
    shares = (0.5, 0.6, 0.75, 0.9, 0.97)

    def cell(first: tuple[int, int], n_second: int, correlation: float, share: float, odd: float) -> str:
        rng, found = np.random.default_rng([*first, n_second, round(100 * share)]), list[Ends]()
        unit = np.repeat(np.arange(first[0]), first[1])
        for _ in range(draws):
            values = 2**0.5 * ndtri(share) + alike(rng, *first, correlation)[:, 0]
            values[(rng.random(first[0]) < odd)[unit]] = -100
            found.append(share_of_pairs(values, unit, rng.normal(size=n_second), np.arange(n_second)).interval)
        return covered(found, share * (1 - odd))

    def rows(second: int | None, slices: int, correlation: float, odd: float) -> Iterator[tuple[str, list[str]]]:
        for n in PATIENTS:
            m = n if second is None else second
            name = f"{n} people, {m} people" if slices == 1 else f"{n} patients x {slices}, {m} images"
            yield name, [cell((n, slices), m, correlation, share, odd) for share in shares]

    columns = tuple(f"{share:g}" for share in shares)
    table("pairs: as many people a side", columns, rows(None, 1, 0, 0))
    table("pairs: 30 people on one side", columns, rows(30, 1, 0, 0))
    table("pairs: slices, correlation 0.3", columns, rows(300, 10, 0.3, 0))
    table("pairs: slices, correlation 0.8", columns, rows(300, 10, 0.8, 0))
    table("pairs: the same, 5 % odd", columns, rows(300, 10, 0.8, 0.05))


def quantiles(draws: int) -> None:
    levels = (0.05, 0.5)

    def rows() -> Iterator[tuple[str, list[str]]]:
        for n in (5, 10, 30, 100, 1000):
            values = np.random.default_rng(n).exponential(size=(draws, n))
            cells = [covered([quantile_interval(row, level) for row in values], -np.log(1 - level)) for level in levels]
            yield f"{n} images", cells

    table("quantiles", tuple(f"{level:.0%}" for level in levels), rows())


def copies(draws: int) -> None:
    def rows() -> Iterator[tuple[str, list[str]]]:
        for n in PATIENTS:
            cells = []
            for lost in (0.0, 0.1, 0.3):
                rng = np.random.default_rng([n, round(10 * lost)])
                # Copies are shared evenly by the people, of whom a share is never found.
                recall = np.where(np.arange(60) % n < round(lost * n), 0.0, 0.95)
                found = rng.random((draws, 60)) < recall
                cells.append(covered([clopper_pearson(int(row.sum()), 60) for row in found], float(recall.mean())))
            yield f"60 copies of {n} people", cells

    table("copies: never found of", ("0 %", "10 %", "30 %"), rows())


# ---------------------------------------------------------------------------------------------------- distances, ideal

DIMENSION = 16
NAMES = ("fd", "fd_infinity", "fd_matched", "kd", "kd_between_patients", "precision", "recall", "density", "coverage")


def distances(draws: int) -> None:
    def scores(n: int, slices: int, correlation: float, shift: float, seed: Sequence[int]) -> dict[str, Score]:
        rng = np.random.default_rng(seed)
        real, group = alike(rng, n, slices, correlation, DIMENSION), np.repeat(np.arange(n), slices)
        images = shift + rng.normal(size=(200, DIMENSION))
        floor = metrics.make_floor(group, None, len(images), seed[-1])
        sets = [FeatureSet(x.astype(np.float32), g) for x, g in ((real, group), (images, np.arange(len(images))))]
        view = metrics.View({"contrast": "t1"}, False, sets[0], sets[1], None, floor, Params(seed=seed[-1]))
        return {score.name: score for metric in ("fid", "kid", "prdc") for score in metrics._SCORES[metric](view)}

    def rows(slices: int, correlation: float) -> Iterator[tuple[str, list[str]]]:
        for n in PATIENTS:
            for shift in (0.0, 0.5):
                found = [scores(n, slices, correlation, shift, (n, slices, seed)) for seed in range(draws)]
                cells = []
                for name in NAMES:
                    each = [score[name] for score in found if name in score and score[name].value is not None]
                    ends = [(s.low, s.high) if s.low is not None and s.high is not None else None for s in each]
                    mean = float(np.mean([s.value for s in each])) if each else 0.0
                    cells.append(covered(ends, DIMENSION * shift**2 if name == "fd_infinity" else mean))
                yield f"{n} patients, shifted by {shift:g}", cells

    names = tuple(name.replace("between_patients", "between") for name in NAMES)
    table("distances: 10 slices, corr. 0.3", names, rows(10, 0.3))
    table("distances: 10 slices, corr. 0.8", names, rows(10, 0.8))


def classes(draws: int) -> None:
    """Parts of few images have a mean of their own, so the score jumps less than its images, taken for themselves."""

    def cell(n: int, slices: int, correlation: float, spread: float) -> str:
        found: list[Score] = []
        for seed in range(draws):
            rng = np.random.default_rng([n, slices, round(10 * correlation), seed])
            logits = (spread * alike(rng, n, slices, correlation, 20)).astype(np.float32)
            one = FeatureSet(logits, np.repeat(np.arange(n), slices), logits)
            view = metrics.View({"contrast": "t1"}, False, one, one, None, "", Params(seed=seed))
            found.append(
                next(score for score in metrics._SCORES["inception-score"](view) if score.name.endswith("real"))
            )
        values = [score.value for score in found if score.value is not None]
        ends = [(s.low, s.high) if s.low is not None and s.high is not None else None for s in found]
        return covered(ends, float(np.mean(values))) if values else covered([None], 0.0)

    def rows() -> Iterator[tuple[str, list[str]]]:
        for n in (*PATIENTS, 300):
            for slices, correlation in ((1, 0.0), (10, 0.3), (10, 0.8)):
                if n * slices <= 1000:
                    name = f"{n} patients x {slices}, correlation {correlation:g}"
                    yield name, [cell(n, slices, correlation, spread) for spread in (1.0, 3.0)]

    table("classes", ("1", "3"), rows())


def ideal(draws: int) -> None:
    def cell(n: int, slices: int, correlation: float, sparse: bool) -> str:
        inside: list[Ends] = []
        for seed in range(draws):
            rng = np.random.default_rng([n, slices, seed])
            sets = [alike(rng, n, slices, correlation)[:, 0], rng.normal(size=300)]
            real, images = (np.maximum(x - 0.5, 0).round(1) if sparse else x for x in sets)
            found = compare(real, np.repeat(np.arange(n), slices), images, Draws.of(n, n_draws=200, seed=seed), rng)
            if found.floor is None or found.ks is None:
                return covered([None], 0.0)
            inside.append((found.floor[1] - found.ks, found.floor[2] - found.ks))
        return covered(inside, 0.0)

    def rows() -> Iterator[tuple[str, list[str]]]:
        for n in PATIENTS:
            for slices, correlation in ((1, 0.0), (10, 0.3), (10, 0.8)):
                name = f"{n} patients x {slices}, correlation {correlation:g}"
                yield name, [cell(n, slices, correlation, sparse) for sparse in (False, True)]

    table("floor_ks: ideal generators within", ("continuous", "mostly zero"), rows())


def main() -> None:
    parts = {"pairs": pairs, "quantiles": quantiles, "copies": copies, "distances": distances, "classes": classes}
    parts["ideal"] = ideal
    run(__doc__, parts)


if __name__ == "__main__":
    main()
