"""The floor of a score: what an ideal generator would have, one that draws images of new people.

Images of new people are at hand: those of real patients, where the score is one against *other* real patients. An ideal
generator's images are independent of each other, so the floor takes **one image of each** of these patients, and the
score is *matched*: it compares as many synthetic images with the same real ones. Both are then the same function of
sets of the same sizes, from as many people, and differ in nothing but the generator:

    floor    mean over draws of  s(real images of one half of the patients, one image of each patient of the other)
    matched  mean over blocks of s(real images of one half of the patients, as many synthetic images)

Each half is the one and the other in turn. Held-out patients take the place of the other half, and all real ones that
of the first, where there are at least half as many. No number of synthetic images is part of the floor.

Patients have different numbers of slices, and a real image is drawn from the slices. So a patient is in a draw as often
as it has slices, and never twice: systematic sampling with unequal probabilities (Madow 1949), which limits the size of
a draw to the number of images over the largest number of one patient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthkit.judging.spreads import Spread, influence_spread
from synthkit_fidelity.sets import FeatureSet, Float64, Indices

#: With fewer patients than this on both sides together, no floor is one that a score could be held against.
MIN_PATIENTS = 10
#: Images of a draw at most: with more, few synthetic sets could be compared.
MOST_IMAGES = 200
#: Draws of a side, which leave chance to the patients alone; blocks of synthetic images at most.
N_DRAWS, MOST_BLOCKS = 16, 16

#: A score of one set against a fixed one: by name, its value and the influence of each image, up to a constant.
Influences = Mapping[str, tuple[float, Float64]]
#: Fixes the first set of a score.
Fix = Callable[[FeatureSet], Callable[[FeatureSet], Influences]]


@dataclass(frozen=True)
class Side:
    """Real images ``base`` that are compared with, and draws of images of other people, one a person."""

    base: Indices
    draws: tuple[Indices, ...]


@dataclass(frozen=True)
class Floor:
    """Which images make the floor and the matched score; the same for every contrast.

    Attributes
    ----------
    blocks : of synthetic images, disjoint; none where there are fewer than ``size``.
    size : images of each draw and block.
    person : of each image that draws are of.
    n_patients : who are compared with, on each side.
    """

    sides: tuple[Side, ...]
    blocks: tuple[Indices, ...]
    size: int
    person: Indices
    n_patients: int
    from_holdout: bool

    @property
    def note(self) -> str:
        """What the floor is made of, and what its interval says."""
        others = "held-out patients" if self.from_holdout else "the other half of the patients, both halves in turn"
        n_images = len(self.blocks) * self.size
        who = f"95 % of ideal generators with {n_images} images are in the interval" if n_images else ""
        made = f"{self.size} images, one each of {others}, against all of {self.n_patients} patients"
        return "; ".join(filter(None, (made, who, "compare with the matched score")))

    @property
    def matched_note(self) -> str:
        """What the matched score is made of."""
        return f"{len(self.blocks)} times {self.size} synthetic images against those of {self.n_patients} patients"

    @property
    def too_few(self) -> str:
        """Why there is no matched score; empty if there is one."""
        return "" if self.blocks else f"the floor is one of {self.size} images: draw at least as many synthetic ones"


def make_floor(real: Indices, holdout: Indices | None, n_synthetic: int, seed: int) -> Floor | str:
    """The floor from the patient of each real and held-out image; or why there is none."""
    rng = np.random.default_rng(seed)
    n_real, n_held = len(np.unique(real)), 0 if holdout is None else len(np.unique(holdout))
    if n_real + n_held < MIN_PATIENTS or n_real < 2:
        held = f" and {n_held} held out" if n_held else ""
        return f"a floor needs the images of {MIN_PATIENTS} patients, there are {n_real}{held}"
    from_holdout = holdout is not None and 2 * n_held >= n_real
    if from_holdout:
        assert holdout is not None
        person, pairs = holdout, [(np.arange(len(real)), np.arange(len(holdout)))]
    elif n_real < MIN_PATIENTS:
        return f"a floor needs the images of {MIN_PATIENTS} patients, or half as many held-out patients as real ones"
    else:
        first = _half(real, rng)
        halves = np.flatnonzero(first), np.flatnonzero(~first)
        person, pairs = real, [halves, halves[::-1]]
    size = min(MOST_IMAGES, *(_most(person[others]) for _, others in pairs))
    if size < 3:
        return "one patient has most of the images: a floor needs several with about as many"
    sides = tuple(
        Side(base, tuple(others[_one_each(person[others], size, rng)] for _ in range(N_DRAWS)))
        for base, others in pairs
    )
    order = rng.permutation(n_synthetic)
    n_blocks = min(n_synthetic // size, MOST_BLOCKS)
    blocks = tuple(order[number * size : (number + 1) * size] for number in range(n_blocks))
    n_patients = min(len(np.unique(real[side.base])) for side in sides)
    return Floor(sides, blocks, size, person, n_patients, from_holdout)


def _half(real: Indices, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which images are of the first half: of the patients in random order, by images, who differ in their number."""
    rank = rng.permutation(real.max() + 1)[real]
    per_patient = np.bincount(rank)
    before = np.cumsum(per_patient) - per_patient / 2
    chosen: NDArray[np.bool_] = (before <= len(real) / 2)[rank]
    return chosen


def _most(person: Indices) -> int:
    """The largest draw in which nobody is twice: nobody's share of the images may exceed one over it."""
    return int(len(person) / np.unique(person, return_counts=True)[1].max())


def _one_each(person: Indices, size: int, rng: np.random.Generator) -> Indices:
    """``size`` images, every image with equal probability, no two of one person."""
    shuffled = rng.permutation(len(person))
    order = shuffled[np.argsort(rng.permutation(person.max() + 1)[person[shuffled]], kind="stable")]
    # Images of a person are side by side, one step of them at most: points a step apart hit nobody twice.
    step = len(person) / size
    points = np.floor((rng.random() + np.arange(size)) * step).astype(np.int64)
    drawn: Indices = order[np.minimum(points, len(person) - 1)]
    return drawn


# ---------------------------------------------------------------------------------------------------------- scores


@dataclass(frozen=True)
class Compared:
    """A score at the floor's sizes: of other people and, if there are enough of them, of the synthetic images."""

    floor: float
    floor_spreads: tuple[Spread, ...]
    matched: float | None

    def relation(self, low: float | None, high: float | None) -> str:
        """Where the matched score lies, in words, given the interval of the floor."""
        if self.matched is None or low is None or high is None:
            return ""
        return where(self.matched, low, high)


def where(value: float, low: float, high: float) -> str:
    """A score beside the interval of its floor."""
    return "above the floor" if value > high else "below the floor" if value < low else "within the floor"


def compare(floor: Floor, real: FeatureSet, others: FeatureSet, synthetic: FeatureSet, fix: Fix) -> dict[str, Compared]:
    """Floor and matched score of each name.

    The interval of the floor is where an ideal generator with as many synthetic images would lie: the chance of who the
    other people are, and that of as many blocks of images as the matched score has.
    """
    people: dict[str, list[tuple[float, Float64, Indices]]] = {}
    generated: dict[str, list[tuple[float, Float64, Indices]]] = {}
    for side in floor.sides:
        against = fix(real.take(side.base))
        for found, images, drawn, who in (
            (people, others, side.draws, floor.person),
            (generated, synthetic, floor.blocks, np.arange(len(synthetic))),
        ):
            for indices in drawn:
                for name, (value, influence) in against(images.take(indices)).items():
                    found.setdefault(name, []).append((value, influence, who[indices]))
    return {name: _compared(found, generated.get(name), len(floor.blocks)) for name, found in people.items()}


def _compared(
    people: list[tuple[float, Float64, Indices]], generated: list[tuple[float, Float64, Indices]] | None, n_blocks: int
) -> Compared:
    value, spread = _mean(people)
    if generated is None:
        return Compared(value, (spread,), None)
    one_draw = float(
        np.mean([influence_spread(influence, np.arange(len(influence))).variance for _, influence, _ in people])
    )
    of_images = Spread(one_draw / n_blocks, n_blocks * len(people[0][1]))
    return Compared(value, (spread, of_images), float(np.mean([value for value, _, _ in generated])))


def _mean(drawn: list[tuple[float, Float64, Indices]]) -> tuple[float, Spread]:
    """Mean over draws, and its variance by whom the images are of: a person is in several draws."""
    influence = np.concatenate([own - own.mean() for _, own, _ in drawn])
    person = np.unique(np.concatenate([who for _, _, who in drawn]), return_inverse=True)[1]
    return float(np.mean([value for value, _, _ in drawn])), influence_spread(influence, person.astype(np.int64))
