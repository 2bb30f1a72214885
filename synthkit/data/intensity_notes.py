"""What is said of the intensities of a subject: backgrounds, contrasts that come out black or crushed, and copies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.data.intensities import OF_THE_BRAIN, PERCENTILES, Background, Rule, border_of, sampled

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A contrast is nearly black if half of the brain is darker than this grey level of 255, and clipped if more than this
#: share of the brain is 255.
NEARLY_BLACK, CLIPPED = 25, 0.01
# A contrast is crushed if half of the brain lies within so many grey levels, or this share of the median; in real
# subjects it takes 12 and more, and 0.11 and more.
_NARROW, _NARROW_FOR_MEDIAN = 5, 0.07
# By so many interquartile ranges brain is brighter than a border of several values.
_BEYOND_BORDER = 6
# Grey levels of half of the brain from which on another rule is worth its name.
_SPREAD = 20
# Every so manieth voxel of a sample; fewer of them say nothing.
_THINNED, _FEWEST = 8, 100
_ONE_IMAGE = 0.99


def background_notes(backgrounds: Mapping[str, Background], images: Mapping[str, NDArray[Any]]) -> list[str]:
    """Backgrounds that were moved to 0, or that are not constant, one line for all contrasts alike."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name, found in backgrounds.items():
        scores = "z-scores, " if found.is_z_score else ""
        if found.value and not found.is_inside:
            alike[f"{scores}background moved to 0 from"].append(name)
        elif found.is_inside:
            alike[f"{found.kind}, read by percentiles of the brain"].append(name)
        elif found.value is None:
            data = images[name]
            sides = np.concatenate([data[0].ravel(), data[-1].ravel(), data[:, 0].ravel(), data[:, -1].ravel()])
            grey = float(np.median(sides)) / float(data.max()) * 255
            if grey >= 1:
                alike[f"no constant background, half of its border is above {grey:.0f} of 255"].append(name)
    lines = []
    for what, names in alike.items():
        values = sorted({backgrounds[name].value or 0.0 for name in names})
        stored = f" {' to '.join(f'{v:.4g}' for v in sorted({values[0], values[-1]}))}" if what[-4:] == "from" else ""
        lines.append(f"{', '.join(names)}: {what}{stored}")
    return lines


def tone_note(name: str, data: NDArray[Any], rule: Rule, background: Background | None = None) -> str | None:
    """That a contrast comes out nearly black, clipped or crushed, with figures and what helps; None if it does not.

    Parameters
    ----------
    data : (x, y, z) with its background at 0.
    background : what was found; where none is constant, what is brain and what is air is told by brightness.
    """
    if background is not None and background.value is None:
        return _crushed(name, data, _above_border(data), rule, _ends(data, rule), in_air=True)
    sample = sampled(data)
    brain = sample[sample > 0] if rule.low is None else sample[sample != 0]
    if not len(brain):
        return None
    # With low, half of the brain is about the middle, and what is clipped was asked for.
    ends = _ends(data, rule)
    black = rule.low is None and _black_or_clipped(name, data, brain, rule, ends[1])
    return black if black and "black" in black else _crushed(name, data, brain, rule, ends) or black or None


def _black_or_clipped(name: str, data: NDArray[Any], brain: NDArray[Any], rule: Rule, top: float) -> str | None:
    bright = np.count_nonzero(brain >= top / 255 * 254.5) / len(brain)
    median = float(np.partition(brain, len(brain) // 2)[len(brain) // 2]) / top * 255
    if bright <= CLIPPED and median >= NEARLY_BLACK:
        return None
    # What is reported is exact.
    brain = data[data > 0]
    at = {text: float(np.percentile(brain, float(text[1:]))) for text in PERCENTILES}
    top = float(data.max() if rule.high == 100 else np.percentile(brain, rule.high))
    middle = float(np.median(brain))
    if middle / top * 255 < NEARLY_BLACK:
        figures = f"its maximum is {data.max():.4g}, its 99.9th percentile {at['p99.9']:.4g}, its median {middle:.4g}"
        helps = next((text for text in PERCENTILES if at[text] < top and middle / at[text] * 255 >= NEARLY_BLACK), "")
        way = (
            f"--intensity {helps} makes that {middle / at[helps] * 255:.0f}"
            if helps
            else f"--intensity {OF_THE_BRAIN} spreads the brain over all grey levels"
        )
        return f"{name} is nearly black: half of the brain is below {middle / top * 255:.0f} of 255 ({figures}); {way}"
    share = np.count_nonzero(brain >= top / 255 * 254.5) / len(brain)
    if share <= CLIPPED:
        return None
    if np.count_nonzero(brain == data.max()) > CLIPPED * len(brain):
        return f"{name} is clipped: {share:.1%} of the brain are 255, and its file has them at {data.max():.4g} already"
    if rule.high == 100:  # nothing lies above: they are so near the maximum that they are one grey
        return (
            f"{name} is clipped: {share:.1%} of the brain are 255, and its file has them at or just below its maximum"
        )
    way = "p99.9" if rule.high < 99.9 else "max"
    figures = f"its maximum is {data.max():.4g}, its 99.9th percentile {at['p99.9']:.4g}"
    return f"{name} is clipped: {share:.1%} of the brain are 255 ({figures}); --intensity {way} clips fewer"


def _crushed(
    name: str, data: NDArray[Any], brain: NDArray[Any], rule: Rule, ends: tuple[float, float], in_air: bool = False
) -> str | None:
    """That nearly all of the brain comes out in a few neighbouring greys: its background lies far below it.

    ``brain`` are the values of brain in a sample, ``ends`` those that become black and white; ``in_air``: its
    background has several values.
    """
    if len(brain) < _FEWEST:
        return None
    low, middle, high = (float(value) for value in np.percentile(brain[::_THINNED], (25, 50, 75)))
    darkest, brightest = ends
    if high <= low or brightest <= darkest:  # one value, as of a mask: nothing can spread it
        return None
    to_grey = 255 / (brightest - darkest)
    if high - low >= _NARROW_FOR_MEDIAN * (middle - darkest) and (high - low) * to_grey >= _NARROW:
        return None
    greys = [min(255.0, max(0.0, (value - darkest) * to_grey)) for value in (low, high)]
    said = f"{name} is crushed: half of the brain lies between {greys[0]:.0f} and {greys[1]:.0f} of 255"
    if in_air:
        return (
            f"{said}, far from a background of several values; write one value to all of that, and give --intensity "
            f"{OF_THE_BRAIN}"
        )
    by_brain = Rule.parse(OF_THE_BRAIN)
    assert by_brain is not None
    darkest, brightest = _ends(data, by_brain)
    spread = (high - low) / (brightest - darkest) * 255 if brightest > darkest else 0.0
    if rule.low is None and spread >= _SPREAD:
        return (
            f"{said}, far above its background; --intensity {OF_THE_BRAIN} spreads that over {spread:.0f} grey levels"
        )
    return f"{said}; other voxels have values far from these: take away or correct what is not brain"


def _ends(data: NDArray[Any], rule: Rule) -> tuple[float, float]:
    """The values that become black and white, from a sample where they are percentiles."""
    if rule.low is None and rule.high == 100:
        return 0.0, float(data.max())
    sample = sampled(data)
    if rule.low is None:
        return 0.0, float(np.percentile(sample[sample > 0], rule.high)) if (sample > 0).any() else 0.0
    low, high = np.percentile(sample[sample != 0], (rule.low, rule.high)) if sample.any() else (0.0, 0.0)
    return float(low), float(high)


def _above_border(data: NDArray[Any]) -> NDArray[Any]:
    """Values of a sample that are brighter than nearly all of the border."""
    low, middle, high = np.percentile(border_of(data), (25, 50, 75))
    sample = sampled(data)
    brighter: NDArray[Any] = sample[sample > middle + _BEYOND_BORDER * max(high - low, 0)]
    return brighter


def same_images(images: Mapping[str, NDArray[Any]]) -> dict[tuple[str, str], str]:
    """Pairs of contrasts of one subject that are one image, be it stored in another type or scale; each in words.

    Told by the rank correlation of a sample of the brain; of real subjects that of any two contrasts is below 0.9.
    """
    samples = {name: sampled(data).ravel()[::_THINNED] for name, data in images.items()}
    ranks: dict[str, NDArray[Any]] = {}
    brain = np.any([sample != 0 for sample in samples.values()], axis=0)
    if np.count_nonzero(brain) < _FEWEST:
        return {}
    for name, sample in samples.items():
        inside = sample[brain]
        if np.ptp(inside) > 0:
            order = np.argsort(inside, kind="stable")
            places = np.empty(len(order))
            places[order] = np.arange(len(order)) - (len(order) - 1) / 2
            ranks[name] = places
    found = {}
    for one, other in combinations(ranks, 2):
        # Not "@", whose many threads cost more than such short rows.
        alike = float((ranks[one] * ranks[other]).sum() / np.square(ranks[one]).sum())
        if alike > _ONE_IMAGE:
            equal = images[one].shape == images[other].shape and np.array_equal(images[one], images[other])
            how = "voxel by voxel" if equal else f"in another scale or type (rank correlation {alike:.4f})"
            found[one, other] = (
                f"{one} and {other} are one image, {how}: one of the two files is a copy under another name; put the "
                "right one there"
            )
    return found


def mixed(backgrounds: Mapping[str, Mapping[str, Background]]) -> list[str]:
    """Contrasts whose values are of several kinds across subjects (subject -> contrast -> what was found)."""
    lines: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(name for of in backgrounds.values() for name in of):
        kinds: dict[str, list[str]] = defaultdict(list)
        for subject, of in backgrounds.items():
            if name in of:
                kinds[_family(of[name])].append(subject)
        if len(kinds) > 1:
            parts = [f"{kind} in {len(ids)} ({ids[0]}{' ...' if len(ids) > 1 else ''})" for kind, ids in kinds.items()]
            lines[", ".join(parts)].append(name)
    return [
        f"intensities of {', '.join(names)} are of several kinds: {parts}; grey levels mean the same only if all were "
        "normalized alike"
        for parts, names in lines.items()
    ]


def _family(found: Background) -> str:
    """The kind without values, which each subject has its own of."""
    if found.value is None:
        return found.kind
    scores = "z-scores, " if found.is_z_score else ""
    if found.is_inside:
        return f"{scores}background not below the brain"
    return f"{scores}a background other than 0" if found.value else found.kind
