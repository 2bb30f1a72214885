"""Which contrast a channel is, told by what it shows: a T1 named T2 trains a segmenter that fails without a word.

Published generators order their channels differently, and a folder of pictures says nothing of what is in it. But the
four contrasts differ in known ways on any brain slice, whatever the scaling of intensities:

* T2 alone shows CSF bright, the others dark: the brightest 1 % of its healthy brain stands farther above the median
  than in the others, the darkest 5 % not as far below.
* T1 and T1ce run against T2 (grey matter darker than white, CSF dark), FLAIR does not: its rank correlation with T2
  is the larger one.
* Oedema is bright in FLAIR, and about as bright as the brain in T1 and T1ce.
* Enhancing tumour is brighter in T1ce than in T1. Nothing else tells these two apart for certain.

Each statement that an image confirms or denies is a vote for or against a naming of the channels. The naming with most
votes wins, and is believed only if the images agree; where they do not, or show nothing, the answer is "cannot tell".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import TYPE_CHECKING

import numpy as np

from synthkit.data.masked_greys import MaskedGreys
from synthkit.schemes import BRATS, Scheme

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array

    Float64 = NDArray[np.float64]

#: What the physics above can name, in the order of the study.
NAMES = BRATS.contrast_names
#: Quantiles of healthy brain that describe a channel; the first and the last show whether CSF is dark or bright.
QUANTILES = (0.05, 0.25, 0.75, 0.95, 0.99)

# Labels whose brightness in a contrast is known; where a scheme does not have one, it says nothing.
_OEDEMA, _ENHANCING = "ED", "ET"
# A pixel is brain if the sum of its contrasts exceeds this share of the image's 99th percentile: the background of
# diffusion models is not exactly zero, CSF in T1 is about a fifth of white matter.
_BRAIN_SHARE = 0.1
_MIN_BRAIN_PIXELS, _MIN_LABEL_PIXELS = 100, 10
# Differences below this (of log intensity, or of correlation) are not a vote.
_INDIFFERENT = 0.05
# A naming is believed if this share of the images that vote is for it, and so many that it is 3 standard deviations
# from even: the best of 24 namings of noise is not evidence. Nine images that agree are enough.
_MIN_SHARE, _MIN_DEVIATIONS = 0.75, 3.0


# ------------------------------------------------------------------------------------------------ what images show

_FIELDS = ("quantiles", "oedema", "enhancing", "level", "rho")


@dataclass(frozen=True)
class Signatures:
    """What each channel of each image looks like, free of scale. NaN where an image does not show it.

    Attributes
    ----------
    quantiles : ``(n, contrast, quantile)``, natural logarithm of each of :data:`QUANTILES` of healthy brain (brain
        without labels), relative to the median.
    oedema, enhancing : ``(n, contrast)``, logarithm of the mean in the label, relative to the same median.
    level : ``(n, contrast)``, logarithm of that median itself.
    rho : ``(n, contrast, contrast)``, Spearman rank correlation over healthy brain.
    """

    quantiles: Float64
    oedema: Float64
    enhancing: Float64
    level: Float64
    rho: Float64

    def __len__(self) -> int:
        return len(self.level)

    def take(self, rows: Sequence[int]) -> Signatures:
        """Those of some images."""
        chosen = list(rows)
        return Signatures(*(getattr(self, name)[chosen] for name in _FIELDS))

    @staticmethod
    def join(parts: Sequence[Signatures]) -> Signatures:
        """The images of all parts, in order."""
        return Signatures(*(np.concatenate([getattr(part, name) for part in parts]) for name in _FIELDS))


def brain_mask(images: UInt8Array) -> NDArray[np.bool_]:
    """Brain ``(n, y, x)`` of skull-stripped images ``(n, contrast, y, x)``.

    The pixels whose sum over contrasts exceeds a tenth of the 99th percentile of that sum over the image.
    """
    total = images.sum(axis=1, dtype=np.uint16)
    step = _step(images)
    sampled = total[:, :: 2 * step, :: 2 * step].reshape(len(images), -1)
    k = int(0.99 * (sampled.shape[1] - 1))
    bright = np.partition(sampled, k, axis=1)[:, k]
    mask: NDArray[np.bool_] = total > (_BRAIN_SHARE * bright)[:, None, None]
    return mask


def healthy_medians(images: UInt8Array, labels: UInt8Array, brain: NDArray[np.bool_] | None = None) -> Float64:
    """Median grey level ``(n, contrast)`` of brain without labels, at least 1; NaN where there is hardly any.

    What intensities are relative to in every comparison of datasets that were scaled in different ways. ``brain`` is
    the :func:`brain_mask`, if it is already known.
    """
    flat, _, healthy = _flattened(images, labels, brain)
    medians = np.maximum(_quantile(MaskedGreys.of(flat, healthy).histograms(), 0.5), 1).astype(np.float64)
    medians[healthy.sum(axis=1) < _MIN_BRAIN_PIXELS] = np.nan
    return medians


def signatures(images: UInt8Array, labels: UInt8Array, scheme: Scheme) -> Signatures:
    """:class:`Signatures` of images ``(n, contrast, y, x)`` with labels ``(n, y, x)`` of a scheme (may be all 0).

    Large images are read at every second or fourth pixel: the statistics are the same, at a fraction of the cost.
    """
    flat, flat_labels, healthy = _flattened(images, labels, None)
    greys = MaskedGreys.of(flat, healthy)
    histogram = greys.histograms()
    # One grey level is added throughout: a contrast with a smaller field of view is 0 in part of the brain.
    level = np.log1p(_quantile(histogram, 0.5))
    quantiles = np.stack([np.log1p(_quantile(histogram, q)) - level for q in QUANTILES], axis=2)
    values = scheme.label_values
    # No label has 0 voxels: NaN, as where an image does not show it.
    named = [
        flat_labels == values[name] if name in values else np.zeros_like(healthy) for name in (_OEDEMA, _ENHANCING)
    ]
    tumour = [_mean_log(flat, mask) - level for mask in named]
    found = Signatures(quantiles, tumour[0], tumour[1], level, greys.rank_correlations(histogram))
    too_small = healthy.sum(axis=1) < _MIN_BRAIN_PIXELS
    for array in (found.quantiles, found.oedema, found.enhancing, found.level, found.rho):
        array[too_small] = np.nan
    return found


def _step(images: UInt8Array) -> int:
    size: int = images.shape[-1]
    return max(1, size // 128)


def _flattened(
    images: UInt8Array, labels: UInt8Array, brain: NDArray[np.bool_] | None
) -> tuple[UInt8Array, UInt8Array, NDArray[np.bool_]]:
    """Images ``(n, contrast, pixel)``, labels ``(n, pixel)`` and healthy brain, thinned to about 128 pixels a side."""
    step, n = _step(images), len(images)
    mask = (brain_mask(images) if brain is None else brain)[:, ::step, ::step].reshape(n, -1)
    flat = images[:, :, ::step, ::step].reshape(n, images.shape[1], -1)
    flat_labels = labels[:, ::step, ::step].reshape(n, -1)
    return flat, flat_labels, mask & (flat_labels == 0)


def _quantile(histogram: NDArray[np.int64], q: float) -> NDArray[np.int64]:
    """The lowest level that a share q of the pixels does not exceed; 0 for an empty histogram."""
    cumulative = histogram.cumsum(axis=-1)
    level: NDArray[np.int64] = (cumulative >= q * cumulative[..., -1:]).argmax(axis=-1)
    return level


def _mean_log(flat: UInt8Array, mask: NDArray[np.bool_]) -> Float64:
    """log(1 + mean) of each channel in the mask; NaN where that has too few pixels."""
    counts = mask.sum(axis=1)
    sums = (flat * mask[:, None]).sum(axis=2, dtype=np.float64)
    logs: Float64 = np.log1p(sums / np.where(counts < _MIN_LABEL_PIXELS, np.nan, counts)[:, None])
    return logs


# ------------------------------------------------------------------------------------------------- who is who


@dataclass(frozen=True)
class NameFinding:
    """What the images say about the name of one channel, or about two names that they cannot tell apart.

    Attributes
    ----------
    contrasts : the name of the channel, or the two names in question.
    looks_like : the contrast that the channel looks like; None if it cannot be told.
    n_images : how many images can say something about it.
    share : share of those that say so; 0.5 if there are none.
    sentence : the same for the user.
    """

    contrasts: tuple[str, ...]
    looks_like: str | None
    n_images: int
    share: float
    sentence: str


def identify(images: UInt8Array, labels: UInt8Array, contrasts: Sequence[str], scheme: Scheme) -> list[NameFinding]:
    """Channels that look like another contrast than their name says, then names that cannot be told apart.

    Parameters
    ----------
    images, labels : ``(n, contrast, y, x)`` and ``(n, y, x)``, skull-stripped brain slices; 20 to 200 are enough. Take
        them from all over the dataset: slices of one subject agree in their mistakes.
    contrasts : names of the channels. Those that are not in :data:`NAMES` are left out; fewer than two have nothing to
        be compared with, and give no findings.
    scheme : of the labels; oedema and enhancing tumour are those that it calls ED and ET.
    """
    return check_names(signatures(images, labels, scheme), contrasts)


def can_judge(contrasts: Sequence[str]) -> bool:
    """Whether there are two contrasts whose looks are known, so that their names can be judged at all."""
    return sum(name in NAMES for name in contrasts) > 1


def check_names(found: Signatures, contrasts: Sequence[str]) -> list[NameFinding]:
    """:func:`identify`, from signatures."""
    channels = {name: contrasts.index(name) for name in NAMES if name in contrasts}
    names = tuple(channels)
    if len(names) < 2:
        return []
    kept = tuple(range(len(names)))
    # Those that change least come first, so that a draw is not a reason to doubt a name.
    namings = sorted(permutations(kept), key=_n_moved)
    statements = _Statements.of(found)
    votes = {
        naming: statements.votes({name: channels[names[k]] for name, k in zip(names, naming, strict=True)})
        for naming in namings
    }
    best = _believed(votes, max(namings, key=lambda naming: votes[naming].sum()))
    findings: list[NameFinding] = []
    for cycle in _cycles(best):
        n_images, share = _support(votes[best] - votes[_undone(best, cycle)])
        findings += [_mismatch(names[k], names[best.index(k)], n_images, share) for k in cycle]
    for a, b in combinations(kept, 2):
        n_images, share = _support(votes[best] - votes[_swapped(best, a, b)])
        if not _is_decisive(n_images, share):
            findings.append(_undecided((names[a], names[b]), n_images, share, len(found)))
    return findings


#: Position among the names of the channel that really shows each name.
_Naming = tuple[int, ...]


def _believed(votes: Mapping[_Naming, NDArray[np.int64]], best: _Naming) -> _Naming:
    """The naming of most votes, without the changes that too few images are for."""
    for cycle in _cycles(best):
        undone = _undone(best, cycle)
        if not _is_decisive(*_support(votes[best] - votes[undone])):
            best = undone
    # Within a longer cycle, two contrasts that cannot be told apart are taken in the order that changes less.
    for a, b in combinations(range(len(best)), 2):
        swapped = _swapped(best, a, b)
        if _n_moved(swapped) < _n_moved(best) and not _is_decisive(*_support(votes[best] - votes[swapped])):
            best = swapped
    return best


def _n_moved(naming: _Naming) -> int:
    return sum(k != moved for k, moved in enumerate(naming))


def _undone(naming: _Naming, cycle: Collection[int]) -> _Naming:
    return tuple(k if k in cycle else moved for k, moved in enumerate(naming))


def _swapped(naming: _Naming, a: int, b: int) -> _Naming:
    return tuple({a: naming[b], b: naming[a]}.get(k, moved) for k, moved in enumerate(naming))


@dataclass(frozen=True, eq=False)
class _Statements:
    """The statements of the module's head as votes of each image, 1 for, -1 against, 0 for neither.

    Attributes
    ----------
    t2 : ``(channel, channel, n)``, that the first is T2 rather than the second, by its brightest and darkest brain.
    oedema, enhancing : as many, that the label is brighter in the first than in the second.
    rho : ``(channel, channel, channel, n)``, that the second runs with the first, T2, rather than the third.
    """

    t2: NDArray[np.int64]
    oedema: NDArray[np.int64]
    enhancing: NDArray[np.int64]
    rho: NDArray[np.int64]

    @classmethod
    def of(cls, found: Signatures) -> _Statements:
        return cls(
            _more(found.quantiles[:, :, -1].T) + _more(found.quantiles[:, :, 0].T),
            _more(found.oedema.T),
            _more(found.enhancing.T),
            _more(found.rho.transpose(1, 2, 0)),
        )

    def votes(self, channel: dict[str, int]) -> NDArray[np.int64]:
        """Votes ``(n,)`` of the images for a naming: statements confirmed less statements denied."""
        total = np.zeros(self.t2.shape[-1], dtype=np.int64)
        t2, flair = channel.get("t2"), channel.get("flair")
        t1s = [channel[name] for name in ("t1", "t1ce") if name in channel]
        if t2 is not None:
            for other in (channel[name] for name in channel if name != "t2"):
                total += self.t2[t2, other]
        if flair is not None:
            for other in t1s:
                total += self.oedema[flair, other]
                if t2 is not None:
                    total += self.rho[t2, flair, other]
        if len(t1s) == 2:
            total += self.enhancing[t1s[1], t1s[0]]
        return total


def _more(values: Float64) -> NDArray[np.int64]:
    """Of values ``(..., channel, n)`` of every two channels: 1 where the first is larger, -1 the second, else 0."""
    difference = values[..., :, None, :] - values[..., None, :, :]
    return (difference > _INDIFFERENT).astype(np.int64) - (difference < -_INDIFFERENT)


def _support(difference: NDArray[np.int64]) -> tuple[int, float]:
    """How many images prefer one of two namings, and which share of them prefers the first (0.5 if there are none)."""
    deciding = int(np.count_nonzero(difference))
    return deciding, float(np.count_nonzero(difference > 0) / deciding) if deciding else 0.5


def _is_decisive(n_images: int, share: float) -> bool:
    # The share of n fair coins has a standard deviation of 1 / (2 sqrt(n)).
    return share >= _MIN_SHARE and (share - 0.5) * 2 * n_images**0.5 >= _MIN_DEVIATIONS


def _cycles(naming: _Naming) -> list[tuple[int, ...]]:
    """Groups of positions that a permutation exchanges among themselves, two or more each."""
    cycles = []
    left = {k for k, moved in enumerate(naming) if k != moved}
    while left:
        cycle = [min(left)]
        while (after := naming[cycle[-1]]) != cycle[0]:
            cycle.append(after)
        left -= set(cycle)
        cycles.append(tuple(cycle))
    return cycles


def _mismatch(name: str, looks_like: str, n_images: int, share: float) -> NameFinding:
    sentence = (
        f"The channel named {name} looks like {looks_like} in {share:.0%} of {n_images} images: "
        "see that the channels carry the right names."
    )
    return NameFinding((name,), looks_like, n_images, share, sentence)


def _undecided(names: tuple[str, str], n_images: int, share: float, n: int) -> NameFinding:
    few = n_images < _MIN_DEVIATIONS**2
    if names == ("t1", "t1ce") and few:
        reason = f"enhancing tumour would show it, and {n_images} of {n} images have enough of it"
    elif few:
        reason = f"{n_images} of {n} images show a difference"
    else:
        reason = f"{share:.0%} of {n_images} images are for these names, the others against"
    sentence = f"Whether {names[0]} and {names[1]} carry the right names cannot be told: {reason}."
    return NameFinding(names, None, n_images, share, sentence)
