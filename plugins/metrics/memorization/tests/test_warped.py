"""Warped copies: images bent onto the people they are likest to, and what r means then."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

for needed in ("numba", "torch"):
    pytest.importorskip(needed, reason=f"{needed} is not installed")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from scipy import ndimage  # noqa: E402
from synthkit_memorization.search.fields import COST, REACH, SMOOTH, STEP, WINDOW, bend, smoothing  # noqa: E402
from synthkit_memorization.search.matches import Matches  # noqa: E402
from synthkit_memorization.search.warped import CANDIDATES, SIDE, Halved, bent, halved  # noqa: E402

from synthkit.testing import InMemorySamples  # noqa: E402

Pixels = NDArray[np.uint8]
Float = NDArray[np.float64]


def heads(n: int, size: int = SIDE, seed: int = 0) -> Pixels:
    """Smooth textures in a disc, ``(n, 2, size, size)``."""
    fields = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(n, 2, size, size)), (0, 0, 2, 2))
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    inside = np.hypot(y, x) < 0.42 * size
    return (inside * np.clip(120 + 50 * fields / fields.std(), 1, 255)).astype(np.uint8)


def elastic(images: Pixels, most: float, seed: int = 1) -> Pixels:
    """Each image moved by a smooth field of at most so many pixels."""
    rng, moved = np.random.default_rng(seed), np.empty_like(images)
    grid = np.indices(images.shape[-2:]).astype(float)
    for image, into in zip(images, moved, strict=True):
        field = ndimage.gaussian_filter(rng.normal(size=(2, *images.shape[-2:])), (0, 8, 8))
        field *= most / np.hypot(*field).max()
        into[:] = [np.rint(ndimage.map_coordinates(plane.astype(float), grid + field, order=1)) for plane in image]
    return moved


def correlation(one: Float, other: Float) -> float:
    return 0.0 if one.std() == 0 or other.std() == 0 else float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def by_definition(query: Pixels, image: Pixels) -> float:
    """What ``bend`` gives for a pair, by numpy and scipy."""
    x = query.astype(float)
    padded = np.pad(image.astype(float), ((0, 0), (REACH, REACH), (REACH, REACH)))
    starts = range(0, x.shape[-1] - WINDOW + 1, STEP)
    field, trust = np.zeros((2, len(starts), len(starts))), np.zeros((len(starts), len(starts)))
    for i, top in enumerate(starts):
        for j, left in enumerate(starts):
            own = x[:, top : top + WINDOW, left : left + WINDOW]
            own = own - own.mean(axis=(1, 2), keepdims=True)
            trust[i, j] = (own**2).sum()
            best = -2.0
            for dy in range(-REACH, REACH + 1) if trust[i, j] else ():
                for dx in range(-REACH, REACH + 1):
                    y0, x0 = top + REACH + dy, left + REACH + dx
                    other = padded[:, y0 : y0 + WINDOW, x0 : x0 + WINDOW]
                    other = other - other.mean(axis=(1, 2), keepdims=True)
                    if not (energy := (other**2).sum()):
                        continue
                    score = (own * other).sum() / np.sqrt(trust[i, j] * energy) - COST * (dy * dy + dx * dx)
                    if score > best + 1e-12:
                        best, field[:, i, j] = score, (dy, dx)
    apart = np.arange(len(starts))[:, None] - np.arange(len(starts))
    gauss = np.exp(-0.5 * (apart / SMOOTH) ** 2)
    weight = trust + trust.max() * 1e-3
    total = gauss @ weight @ gauss
    smooth = np.divide(gauss @ (field * weight) @ gauss, total, out=np.zeros_like(field), where=total > 0)
    place = (np.indices(x.shape[-2:]) - (WINDOW - 1) / 2) / STEP
    moves = [ndimage.map_coordinates(part, place, order=1, mode="nearest") for part in smooth]
    grid = np.indices(x.shape[-2:]) + REACH + np.stack(moves)
    return correlation(x, np.stack([ndimage.map_coordinates(plane, grid, order=1) for plane in padded]))


def bent_r(queries: Pixels, images: Pixels) -> Float:
    padded = np.pad(images, ((0, 0), (0, 0), (REACH, REACH), (REACH, REACH))).astype(np.float32)
    r = np.empty(len(queries))
    bend(queries.astype(np.float32), padded, smoothing((queries.shape[-1] - WINDOW) // STEP + 1), r)
    return r


def with_candidates(queries: Pixels, images: Pixels, index: Any, k: int = 3) -> Matches:
    candidates = np.asarray(index)
    found = Matches(candidates, np.zeros(candidates.shape))
    return bent(InMemorySamples(queries), InMemorySamples(images), found, k)


def test_r_of_bent_images_is_what_its_definition_says() -> None:
    images = heads(6)
    queries = np.concatenate([elastic(images[:3], 3), images[3:5], np.zeros_like(images[:1])])
    others = np.concatenate([images[:3], elastic(images[1:3], 2), images[5:]])
    expected = [by_definition(*pair) for pair in zip(queries, others, strict=True)]
    np.testing.assert_allclose(bent_r(queries, others), expected, atol=1e-9)
    assert expected[-1] == 0


def test_bending_brings_a_warped_copy_nearer_and_hardly_anybody_else() -> None:
    images, others = heads(20), heads(20, seed=9)
    copies = elastic(images, 3)
    plain = np.array([correlation(a, b) for a, b in zip(copies, images, strict=True)])
    assert np.median(1 - bent_r(copies, images)) < 0.3 * np.median(1 - plain)
    assert bent_r(copies, others).max() < bent_r(copies, images).min()
    moved = np.roll(images, (2, -1), axis=(-2, -1))
    assert bent_r(moved, images).min() > 0.999  # by whole pixels: nothing is interpolated
    assert bent_r(images, images).min() == pytest.approx(1)


@pytest.mark.parametrize("way", [lambda a: a, lambda a: a[..., ::-1], lambda a: np.rot90(a, 1, (-2, -1))])
def test_a_warped_copy_is_found_in_any_orientation(way: Any) -> None:
    images = heads(2 * CANDIDATES)
    queries = np.ascontiguousarray(way(elastic(images[:4], 3)))
    index = [[i, *range(CANDIDATES, 2 * CANDIDATES - 1)] for i in range(4)]
    found = with_candidates(queries, images, index)
    assert found.index[:, 0].tolist() == list(range(4))
    assert (found.r[:, 0] > 0.9).all() and (found.r[:, 0] > found.r[:, 1]).all()


def test_the_likest_come_first_and_what_is_no_candidate_last() -> None:
    images = heads(4)
    found = with_candidates(images[:2], images, [[2, 0, 3], [1, -1, -1]])
    assert found.index[0, 0] == 0 and found.index[1].tolist() == [1, -1, -1]
    assert (np.diff(found.r[0]) <= 0).all() and np.isnan(found.r[1, 1:]).all()
    blank = with_candidates(np.zeros_like(images[:1]), images, [[0, 1, 2]])
    assert blank.r.tolist() == [[0, 0, 0]] and blank.index.tolist() == [[0, 1, 2]]
    nobody = with_candidates(images[:1], images, [[-1, -1, -1]])
    assert nobody.index.tolist() == [[-1, -1, -1]] and np.isnan(nobody.r).all()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 150))
def test_a_pair_does_not_depend_on_the_others(seed: int, n: int) -> None:
    rng, images = np.random.default_rng(seed), heads(6)
    queries = images[rng.integers(0, 6, n)]
    index = rng.integers(0, 6, (n, 2))
    together = with_candidates(queries, images, index, 2)
    for i in range(0, n, 37):
        alone = with_candidates(queries[i : i + 1], images, index[i : i + 1], 2)
        np.testing.assert_array_equal(alone.r[0], together.r[i])


def test_halved_images_are_means_of_four() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 2, 7, 10), dtype=np.uint8)
    whole = images[..., :6, :].astype(float).reshape(3, 2, 3, 2, 5, 2).mean(axis=(3, 5))
    np.testing.assert_array_equal(halved(images), np.floor(whole + 0.5))
    half = Halved(InMemorySamples(images[..., :6, :]))
    assert half.size == (3, 5) and len(half) == 3
    np.testing.assert_array_equal(half.read([2, 0])[0], halved(images)[[2, 0]])
