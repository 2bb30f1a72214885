"""Connected components of masks, their dilation, and which of them touch: pure functions of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]
    Labels = NDArray[np.int32]
    Words = NDArray[np.uint64]

_CUBE = np.ones((3, 3, 3), dtype=bool)
_EIGHTEEN = ndimage.generate_binary_structure(3, 2)
_BITS = 64


def components(mask: Mask) -> Labels:
    """Components by 26 neighbours, 1 and up in order of their first voxel, the last axis running first."""
    found = np.empty(mask.shape, dtype=np.int32)
    ndimage.label(mask, structure=_CUBE, output=found)
    return found


def dilate(mask: Mask, steps: int) -> Mask:
    """The mask grown by its 18 nearest neighbours ``steps`` times; nothing grows out of the array ``(x, y, z)``.

    64 voxels of the last axis are one word, so that a step is a few shifts of words.
    """
    side = mask.shape[2]
    width = -(-side // _BITS)
    padded = np.zeros((*mask.shape[:2], width * _BITS), dtype=bool)
    padded[:, :, :side] = mask
    words = np.packbits(padded, axis=2, bitorder="little").view("<u8")
    inside = np.zeros(width * _BITS, dtype=bool)
    inside[:side] = True
    room = np.packbits(inside, bitorder="little").view("<u8")
    for _ in range(steps):
        along_x, along_y = _grown(words, 0), _grown(words, 1)
        words = _grown(along_x, 1) | _grown_in_words(along_x) | _grown_in_words(along_y)
        words &= room
    grown = np.unpackbits(words.view(np.uint8), axis=2, bitorder="little", count=side)
    return grown.view(bool)


def _grown(words: Words, axis: int) -> Words:
    """With the neighbours of each voxel along an axis of whole words."""
    grown = words.copy()
    first, last = [slice(None)] * 3, [slice(None)] * 3
    first[axis], last[axis] = slice(None, -1), slice(1, None)
    grown[tuple(last)] |= words[tuple(first)]
    grown[tuple(first)] |= words[tuple(last)]
    return grown


def _grown_in_words(words: Words) -> Words:
    """With the neighbours of each voxel along the last axis."""
    one, carried = np.uint64(1), np.uint64(_BITS - 1)
    grown: Words = words | (words << one) | (words >> one)
    grown[:, :, 1:] |= words[:, :, :-1] >> carried
    grown[:, :, :-1] |= words[:, :, 1:] << carried
    return grown


def joined_components(mask: Mask, steps: int) -> Labels:
    """Components, where those whose dilated masks meet are one; numbered as the dilated ones are."""
    found = components(mask)
    if steps and found.max(initial=0) > 1:
        found = components(dilate(mask, steps))
        found[~mask] = 0
    return found


def joined_by_touch(labels: Labels, others: Sequence[Labels]) -> Labels:
    """Labels of which those that touch the same label of one of ``others`` are one; the others in their order.

    A label that touches several goes with the first of them, as the challenges have it. Touching is being among the 18
    nearest neighbours.
    """
    for other in others:
        groups: dict[int, int] = {}
        for label, touched in touching(labels, other):
            groups.setdefault(label, touched)
        if len(groups) > len(set(groups.values())):
            numbers = np.arange(int(labels.max()) + 1, dtype=np.int32)
            for label, touched in groups.items():
                numbers[label] = len(numbers) + touched
            labels = numbers[labels]
    return labels


def touching(labels: Labels, other: Labels) -> list[tuple[int, int]]:
    """Pairs of a label and one of ``other`` that touch, in ascending order."""
    if not labels.any() or not other.any():
        return []
    here, there = np.pad(labels, 1), np.pad(other, 1).ravel()
    steps = np.array([here.shape[1] * here.shape[2], here.shape[2], 1])
    places = np.flatnonzero(here)
    label = here.ravel()[places].astype(np.int64)
    many = int(other.max()) + 1
    pairs = np.empty(0, np.int64)  # label * many + other: single numbers are sorted far sooner than pairs
    for shift in np.argwhere(_EIGHTEEN) - 1:
        touched = there[places + shift @ steps]
        hit = touched != 0
        pairs = np.union1d(pairs, label[hit] * many + touched[hit])
    return list(zip((pairs // many).tolist(), (pairs % many).tolist(), strict=True))
