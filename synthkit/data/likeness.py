"""Whether datasets that are used together look alike: what no description says is seen in the images.

Descriptions compare contrasts, labels, voxel sizes and orientations as far as they are recorded; imported images record
nothing. Here a channel that shows another contrast than its name, labels that do not look like their names, heads of
another size and heads that lie another way are found by looking.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from synthkit.data.label_looks import contradiction, looks_of
from synthkit.data.naming import brain_mask, can_judge, identify

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import Samples

    Maps = NDArray[np.float64]

_N_LOOKED_AT = 128
# Fewer images with a brain in them say nothing of heads in general.
_FEWEST = 16
# Share of an image that a brain takes at least.
_LEAST_BRAIN = 0.05
# Parts of the images that each have to say the same.
_N_PARTS = 4
# Slices that are kept differ from dataset to dataset, and heads from person to person: of single subjects, five real
# and four phantom, brains measure 0.95 to 1.04 of those of the others, and mean images correlate by 0.95 or more as
# they lie, by 0.86 or less another way.
_OTHER_SIZE = 1.15
# How much better another way has to fit, in correlation of mean images.
_MARGIN = 0.03

# Turns of the plane, by what they do to an image (y, x). Mirrored left to right a head looks nearly the same, so that
# each stands for its mirror image too.
_WAYS: dict[str, Callable[[Maps], Maps]] = {
    "the same way": lambda image: image,
    "upside down": lambda image: image[..., ::-1, :],
    "turned by 90 degrees": lambda image: np.rot90(image, 1, axes=(-2, -1)),
    "turned by 90 degrees the other way": lambda image: np.rot90(image, -1, axes=(-2, -1)),
}


@dataclass(frozen=True)
class _Heads:
    """What the brains of a dataset look like.

    Attributes
    ----------
    extent : pixels, square root of the area of large brains.
    means : (part, contrast, y, x) mean of the images of each part, each relative to its own mean; None of too few.
    """

    extent: float
    means: Maps


def doubts_about(datasets: Mapping[str, Samples]) -> list[str]:
    """A sentence for all that looks otherwise than it is called, or than in the first dataset.

    Parameters
    ----------
    datasets : by the name to call them by. The first is what the others are compared with: a real one, if there is one.
    """
    found: list[str] = []
    first: tuple[str, Samples, _Heads] | None = None
    for name, data in datasets.items():
        if not len(data):
            continue
        index = np.unique(np.linspace(0, len(data) - 1, _N_LOOKED_AT).round().astype(np.intp))
        images, labels = data.read(index)
        copies = [
            (a, b) for a, b in combinations(range(len(data.contrasts)), 2) if _are_one(images[:, a], images[:, b])
        ]
        found += [f"{name}: {data.contrasts[a]} and {data.contrasts[b]} are one image." for a, b in copies]
        # Which of them the image really is, nothing says.
        judged = [k for k in range(len(data.contrasts)) if not any(k in pair for pair in copies)]
        called = [data.contrasts[k] for k in judged]
        findings = identify(images[:, judged], labels, called, data.scheme) if can_judge(called) else []
        found += [f"{name}: {f.sentence}" for f in findings if f.looks_like is not None]
        volumes = {contrast: images[:, k].transpose(2, 1, 0) for k, contrast in enumerate(data.contrasts)}
        if why := contradiction(looks_of(volumes, labels.transpose(2, 1, 0), every=1), data.scheme):
            found.append(f"{name}: its labels do not look like those of {data.scheme.name or 'its scheme'}: {why}.")
        heads = _heads(images)
        if heads is None:
            continue
        if first is None:
            first = name, data, heads
        elif data.contrasts == first[1].contrasts and data.size == first[1].size:
            found += _compared(first[0], first[2], name, heads)
    return found


def _are_one(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    return bool(one.any() and np.array_equal(one, other))


def _heads(images: NDArray[np.uint8]) -> _Heads | None:
    brain = brain_mask(images)
    area = brain.sum(axis=(1, 2))
    good = area > _LEAST_BRAIN * brain.shape[1] * brain.shape[2]
    if good.sum() < _FEWEST:
        return None
    chosen = images[good].astype(np.float64) * brain[good][:, None]
    level = chosen.sum(axis=(2, 3)) / area[good][:, None]
    chosen /= np.maximum(level, 1)[:, :, None, None]
    means = np.stack([chosen[part::_N_PARTS].mean(axis=0) for part in range(_N_PARTS)])
    return _Heads(float(np.sqrt(np.percentile(area[good], 75))), means)


def _compared(name: str, heads: _Heads, other_name: str, other: _Heads) -> list[str]:
    found = []
    ratio = other.extent / heads.extent
    if not 1 / _OTHER_SIZE < ratio < _OTHER_SIZE:
        found.append(
            f"What is bright in {other_name} is {ratio:.2f} as wide as in {name}: as of voxels of another size, or of "
            "slices from another part of the head."
        )
    reference = heads.means.mean(axis=0)
    fits = {way: [_correlation(reference, turn(part)) for part in other.means] for way, turn in _WAYS.items()}
    usual = np.asarray(fits["the same way"])
    best = max(fits, key=lambda way: sum(fits[way]))
    if (np.asarray(fits[best]) > usual + _MARGIN).all():
        found.append(f"By what they show, images of {other_name} lie {best}, against those of {name}.")
    return found


def _correlation(one: Maps, other: Maps) -> float:
    """Of mean images (contrast, y, x), or with one mirrored left to right, whichever fits better."""
    return max(float(np.corrcoef(one.ravel(), image.ravel())[0, 1]) for image in (other, other[..., ::-1]))
