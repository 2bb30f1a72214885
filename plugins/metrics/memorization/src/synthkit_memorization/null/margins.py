"""How near a synthetic image comes to a real person, and how near is a copy: an error rate by person.

Two sides of real people are at hand, training and held-out. One is *accused* of being copied; what follows is done
for either. A *family* is a way to see images, with its columns c (views by rules); each has its own margins and cut.

**Distances.** d_c(q, p) = sqrt(1 - r_c) for the best r of image q with any image of person p: sqrt(1/2) of the
Euclidean distance of standardised images. Of each image

    near_c  = the smallest over the accused people,
    other_c = the k-th smallest over the people of the other side, k = min(3, their number - 1).                    (1)

Where the other side has fewer than two people, the accused people are those of other_c too.

**Null.** All real people, of both sides, each left out of both sides: what their images come near to is nobody they
copied. A_c and B_c are medians over people of the smallest near_c, and near_c / other_c, over their own images.

**Margin** of an image, 1 where it comes as near as a usual person does:

    margin(q) = min over c of max(near_c / A_c, (near_c / other_c) / B_c).                                           (2)

A copy is near to one person both by the yardstick of people and by that of its own distance from others: smooth images
are near to everybody, rare ones far from everybody. Both are of images that cannot have been copied, so that no other
synthetic image can excuse this one, be it a decoy or a blank.

**Cut.** Let v_p be the smallest margin over the images of null person p, and w_p = v_p^2, which is nearly normal below
its median M (log v is not; above, people who resemble nobody spread it, and say nothing of those who do). The people
below M, but for those with v_p < TWIN (scans of one person under two names, who would widen the spread and hide
themselves), are taken for one half of m in all. They give the variance, drawn towards that of the people it was
developed on,

    s^2 = (10 * 0.12^2 + 2 sum (M - w)^2) / (m + 10),
    cut = min(CAP, sqrt(max(0, M - t_{m + 9}(1 - rate / units) s sqrt(1 + 1 / n)))).                                 (3)

The t quantile is that of one further draw from a normal population. N images count as ``units`` = 3 N / (images of a
null person) people, for they may be of more people than as many real images are.

So an innocent set fails at most at the given rate, as far as the tail of w is that of a normal: an extrapolation. No
rule free of it can serve, for ranks alone would need 20 times as many null people as there are units.

**Likeness.** A generator's images may be nearer to everybody than real images are, without a copy. So the cut is
multiplied by

    f = min(1, Q05(margins to the *other* side, but for those below its cut) / Q05(margins of null images to it)),  (4)

and by LEAST_LIKENESS at the least. Copies of the accused do not enter it. With one side alone there is no other: then f
comes from the accused, copies in mass could lower their own cut, and a verdict asks f to be near 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from synthkit_memorization.search.pixels import Float64, Int64

#: People whose nearest images a search gives: other_c is the distance to the last of them.
NEAREST = 3

#: No cut is larger: from here on people differ too much from set to set.
CAP = 0.70

#: Margin below which two people are scans of one: those of phantoms under two names (noise, a pixel's shift, other grey
#: levels) are below 0.4, while one of five real people comes to 0.61 of another at 32 pixels.
TWIN = 0.5

#: Standard deviation of w among phantoms and real people, and how many observations it counts for.
PRIOR_SD, PRIOR_WEIGHT = 0.12, 10

#: Units of N images, in people with as many images as a null person.
UNITS = 3

#: How far a likeness may lower a cut: smooth images of nobody (means of five people, principal components) had 0.82.
LEAST_LIKENESS = 0.75

#: Quantile of margins by which sets of images are compared in (4).
TAIL = 0.05


def distance(r: Float64) -> Float64:
    """d = sqrt(1 - r), 0..sqrt(2); infinite where there is no match (NaN)."""
    d: Float64 = np.sqrt(np.maximum(0.0, 1 - np.asarray(r, np.float64)))
    d[np.isnan(d)] = np.inf
    return d


@dataclass(frozen=True)
class Distances:
    """Of some images: ``near`` and ``other`` of (1), float64 ``(image, column)``, infinite where there is nobody."""

    near: Float64
    other: Float64

    @property
    def ratio(self) -> Float64:
        """near / other; infinite where near is, 0 where nobody is left to compare with (then near alone decides)."""
        far = ~np.isfinite(self.near) | (self.other == 0) & (self.near > 0)
        ratio = np.where(far, np.inf, 0.0)
        return np.divide(self.near, self.other, out=ratio, where=np.isfinite(self.other) & (self.other > 0))


@dataclass(frozen=True)
class Rule:
    """Margins of one family to one side, from null people.

    Attributes
    ----------
    near, ratio : A and B of (2), float64 ``(column,)``. A column with A = 0, in which even usual people are equal to
        somebody, cannot show a copy: its margins are infinite.
    people : v of (3), float64 ``(person,)``, NaN for numbers that no null image has.
    images : margins of the null images, float64 ``(image,)``, infinite where nobody can be compared. columns : int64,
        the column that each is smallest in. per_person : null images that a person has on average.
    """

    near: Float64
    ratio: Float64
    people: Float64
    images: Float64
    columns: Int64
    per_person: float

    @staticmethod
    def of(null: Distances, person: Int64) -> Rule | None:
        """From null images and the person, 0, 1, ..., that each is of; None if nobody can be compared."""
        comparable = np.isfinite(null.near).any(axis=1)
        if not comparable.any():
            return None
        near, ratio = (_median_of_people(_least_of(values, person)) for values in (null.near, null.ratio))
        per_person = float(comparable.sum() / len(np.unique(person[comparable])))
        margins = Rule(near, ratio, np.empty(0), np.empty(0), np.empty(0, np.int64), per_person).margins(null)
        images = margins.min(axis=1)
        people = _least_of(images[:, None], person)[:, 0]
        if not np.isfinite(people).any():
            return None
        return Rule(near, ratio, people, images, margins.argmin(axis=1), per_person)

    @property
    def n_people(self) -> int:
        return int(np.isfinite(self.people).sum())

    def margins(self, found: Distances) -> Float64:
        """Of each image in each column: the larger of the two quotients of (2), float64 ``(image, column)``."""
        nothing = np.full(found.near.shape, np.inf)
        near = np.divide(found.near, self.near, out=nothing, where=self.near > 0)
        ratio = np.divide(found.ratio, self.ratio, out=np.zeros_like(nothing), where=self.ratio > 0)
        margin: Float64 = np.maximum(near, ratio)
        return margin

    def cut(self, units: float, rate: float) -> float:
        """(3): margin below which an image is a copy, so that of ``units`` people ``rate`` sets fail; 0..CAP."""
        v = self.people[np.isfinite(self.people)]
        w, n = v**2, len(v)
        middle = float(np.median(w))
        below = w[(v >= TWIN) & (w < middle)]
        known = PRIOR_WEIGHT + 2 * len(below)
        variance = (PRIOR_WEIGHT * PRIOR_SD**2 + 2 * float(((middle - below) ** 2).sum())) / known
        quantile = float(student.isf(rate / max(units, 1.0), known - 1))
        least = middle - quantile * np.sqrt(variance * (1 + 1 / n))
        return float(min(CAP, np.sqrt(max(0.0, least))))

    def units(self, n_images: int) -> float:
        """How many people N images count for."""
        return UNITS * n_images / self.per_person

    def likeness(self, margins: Float64, cut: float) -> float:
        """(4) from margins of synthetic images to this side, ``(image,)``; 1 if none is left."""
        left = margins[np.isfinite(margins) & (margins >= cut)]
        usual = float(np.quantile(self.images[np.isfinite(self.images)], TAIL))
        if not len(left) or usual <= 0:
            return 1.0
        return float(np.clip(np.quantile(left, TAIL) / usual, LEAST_LIKENESS, 1.0))


def _least_of(values: Float64, person: Int64) -> Float64:
    """The smallest over the images of each person, float64 ``(person, column)``; NaN for a person without images."""
    least = np.full((int(person.max()) + 1, values.shape[1]), np.inf)
    np.minimum.at(least, person, values)
    least[~np.isfinite(least)] = np.nan
    return least


def _median_of_people(least: Float64) -> Float64:
    """Median over those who have any, ``(column,)``; 0 for a column in which nobody has."""
    known = np.isfinite(least).any(axis=0)
    median = np.zeros(least.shape[1])
    median[known] = np.nanmedian(least[:, known], axis=0)
    return median
