"""What 95 % intervals cover: per cent of 1,000 draws whose interval holds the true value, by method and size.

    python benchmarks/intervals.py [--draws 1000] [means] [arms]

``means``: of a score like Dice over patients, bodies of Beta distributions with some patients missed (0). ``arms``: the
ratio of two arms of trainings. "-" is no interval. The columns: the percentile bootstrap, Student's t and, for means,
BCa; then what synthkit prints. Beyond 93 to 97 a number has a star.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

from synthkit.judging.intervals import mean_interval, paired_intervals

Floats = NDArray[np.float64]
Ends = tuple[float, float] | None
PATIENTS, TRAININGS = (3, 5, 10, 30, 100), (1, 2, 3, 5)
RESAMPLES = 1000


def covered(found: list[Ends], truth: float) -> str:
    """Per cent of the intervals that hold the truth."""
    printed = [ends for ends in found if ends is not None]
    if not printed:
        return f"{'-':>7s}"
    share = 100 * np.mean([low - 1e-12 <= truth <= high + 1e-12 for low, high in printed])
    return f"{share:6.1f}{' ' if 93 <= share <= 97 else '*'}"


def table(title: str, methods: tuple[str, ...], rows: Iterator[tuple[str, list[str]]]) -> None:
    print(f"\n{title:34s}" + "".join(f"{name:>12s}" for name in methods))
    for name, cells in rows:
        print(f"{name:34s}" + "".join(f"{cell:>12s}" for cell in cells), flush=True)


# ------------------------------------------------------------------------------------------------------------ means


@cache
def resampled(n: int) -> Floats:
    """How often each of n is drawn, as shares ``(resample, n)``; the same for all draws, which saves time."""
    return np.random.default_rng(n).multinomial(n, [1 / n] * n, size=RESAMPLES) / n


def percentile(values: Floats, seed: int) -> Ends:
    low, high = np.percentile(resampled(len(values)) @ values, [2.5, 97.5])
    return float(low), float(high)


def student(values: Floats, seed: int) -> Ends:
    half = stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / len(values) ** 0.5
    return values.mean() - half, values.mean() + half


def bca(values: Floats, seed: int) -> Ends:
    """Efron, JASA 82:171, 1987."""
    n, mean = len(values), values.mean()
    means = np.sort(resampled(n) @ values)
    below = (np.searchsorted(means, mean, "left") + np.searchsorted(means, mean, "right")) / 2 / RESAMPLES
    bias, away = ndtri(np.clip(below, 1e-3, 1 - 1e-3)), values - mean
    skew = (away**3).sum() / (6 * max((away**2).sum(), 1e-12) ** 1.5)
    at = [ndtr(bias + (bias + z) / (1 - skew * (bias + z))) for z in (ndtri(0.025), ndtri(0.975))]
    low, high = means[np.clip((np.array(at) * RESAMPLES).astype(int), 0, RESAMPLES - 1)]
    return low, high


def ours(values: Floats, seed: int) -> Ends:
    return mean_interval(values, (0, 1), [str(k) for k in range(len(values))], resamples=RESAMPLES, seed=seed)


def means(draws: int) -> None:
    bodies = {"0.80 +- 0.12": (8, 2), "0.80 +- 0.16": (4, 1), "0.86 +- 0.06": (30, 5), "0.67 +- 0.24": (2, 1)}
    bodies["0.30 +- 0.14"] = (3, 7)
    methods: dict[str, Callable[[Floats, int], Ends]] = {
        "percentile": percentile, "t": student, "BCa": bca, "synthkit": ours
    }  # fmt: skip

    def rows(n: int) -> Iterator[tuple[str, list[str]]]:
        for name, (a, b) in bodies.items():
            for missed in (0.0, 0.02, 0.05, 0.1, 0.2, 0.4):
                rng = np.random.default_rng([n, a, b, round(100 * missed)])
                scores = np.where(rng.random((draws, n)) < missed, 0, rng.beta(a, b, (draws, n)))
                truth = (1 - missed) * a / (a + b)
                found = ([method(row, seed) for seed, row in enumerate(scores)] for method in methods.values())
                yield f"{name}, {missed:4.0%} missed", [covered(each, truth) for each in found]

    for n in PATIENTS:
        table(f"mean of {n} patients", tuple(methods), rows(n))


# ------------------------------------------------------------------------------------------------------------- arms


@dataclass(frozen=True)
class Truth:
    """Two arms; standard deviations between trainings and of one training on one patient; shares of patients missed.

    ``by_both``, ``by_other``, ``by_real``: by all trainings of the arms in question; ``by_chance``: in each training,
    by the real and the other arm.
    """

    trainings: float = 0.03
    each: float = 0.05
    by_both: float = 0.0
    by_other: float = 0.0
    by_real: float = 0.0
    by_chance: tuple[float, float] = (0.0, 0.0)

    def draw(self, shape: tuple[int, int, int], rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Scores ``(draw, training, patient)`` of both arms."""
        n, n_trainings, patients = shape
        body, both = rng.beta(8, 2, (n, 1, patients)), rng.random((n, 1, patients)) < self.by_both
        arms = []
        for share, alone, chance in zip((1, 0.85), (self.by_real, self.by_other), self.by_chance, strict=True):
            scores = share * body + self.trainings * rng.normal(size=(n, n_trainings, 1))
            scores = np.clip(scores + self.each * rng.normal(size=shape), 0.01, 0.99)
            missed = both | (rng.random((n, 1, patients)) < alone) | (rng.random(shape) < chance)
            arms.append(np.where(missed, 0, scores))
        return arms[0], arms[1]


TRUTHS = {
    "none missed": Truth(),
    "trainings differ little": Truth(trainings=0.01),
    "trainings differ much": Truth(trainings=0.06),
    "10 % missed by both": Truth(by_both=0.1),
    "5 and 10 % missed by chance": Truth(by_chance=(0.05, 0.1)),
    "10 % by both, 5 % more by other": Truth(by_both=0.1, by_other=0.05),
    "10 % missed by other alone": Truth(by_other=0.1),
    "3 % missed by real alone": Truth(by_real=0.03),
    "10 % missed by real alone": Truth(by_real=0.1),
}


def bootstrap_ratio(real: Floats, other: Floats, seed: int) -> Ends:
    """Percentiles; patients drawn in both arms together, trainings in each."""
    drawn = []
    for arm in (real, other):
        trainings = resampled(len(arm))
        order = np.random.default_rng([seed, len(drawn)]).permutation(RESAMPLES)
        drawn.append(((trainings[order] @ arm) * resampled(arm.shape[1])).sum(axis=1))
    some = drawn[0] > 0
    low, high = np.percentile(drawn[1][some] / drawn[0][some], [2.5, 97.5])
    return float(low), float(high)


def student_ratio(real: Floats, other: Floats, seed: int) -> Ends:
    """Student's t of the ratio over patients, trainings taken for given."""
    ratio, n = other.mean() / real.mean(), real.shape[1]
    away = (other.mean(axis=0) - ratio * real.mean(axis=0)) / real.mean()
    half = stdtrit(n - 1, 0.975) * away.std(ddof=1) / n**0.5
    return ratio - half, ratio + half


def our_ratio(real: Floats, other: Floats, seed: int) -> Ends:
    names = [str(k) for k in range(real.shape[1])]
    found = paired_intervals(real, other, (0, 1), names, resamples=RESAMPLES, seed=seed)
    return None if found is None else found.ratio


def arms(draws: int) -> None:
    methods = {"percentile": bootstrap_ratio, "t": student_ratio, "synthkit": our_ratio}

    def rows(patients: int, trainings: int) -> Iterator[tuple[str, list[str]]]:
        for number, (name, truth) in enumerate(TRUTHS.items()):
            many = truth.draw((200_000, 1, 1), np.random.default_rng(number))
            drawn = truth.draw((draws, trainings, patients), np.random.default_rng([number, patients, trainings]))
            pairs = [pair for pair in zip(*drawn, strict=True) if pair[0].any()]
            found = ([method(*pair, seed) for seed, pair in enumerate(pairs)] for method in methods.values())
            yield name, [covered(each, many[1].mean() / many[0].mean()) for each in found]

    for patients in PATIENTS:
        for trainings in TRAININGS:
            title = f"ratio: {patients} patients, {trainings} training{'s' * (trainings > 1)}"
            table(title, tuple(methods), rows(patients, trainings))


def run(description: str, parts: dict[str, Callable[[int], None]]) -> None:
    """The parts that the command line names, or all, each with as many draws as it says."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*parts, []], default=[])
    parser.add_argument("--draws", type=int, default=1000)
    arguments = parser.parse_args()
    for name in arguments.parts or parts:
        parts[name](arguments.draws)


def main() -> None:
    run(__doc__, {"means": means, "arms": arms})


if __name__ == "__main__":
    main()
