"""The canonical frame: the same picture wherever a brain lies and however large it is."""

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
from synthkit_memorization.search.exact import best_matches  # noqa: E402
from synthkit_memorization.search.frame import FRAMED, SHARE, SIDE, framed, in_frame  # noqa: E402

from synthkit.testing import InMemorySamples  # noqa: E402

Pixels = NDArray[np.uint8]


def heads(n: int, size: int = 64, seed: int = 0) -> Pixels:
    """Ellipses of a texture of their own in two contrasts, ``(n, 2, size, size)``."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size - 0.5
    images = np.empty((n, 2, size, size), np.uint8)
    for image in images:
        inside = (y / rng.uniform(0.3, 0.36)) ** 2 + (x / rng.uniform(0.24, 0.28)) ** 2 < 1
        for contrast in image:
            texture = ndimage.zoom(rng.normal(110, 45, (8, 8)), size / 8, order=1, grid_mode=True, mode="nearest")
            contrast[:] = inside * np.clip(texture, 20, 255)
    return images


def warped(images: Pixels, scale: float = 1, degrees: float = 0, shift: tuple[float, float] = (0, 0)) -> Pixels:
    """Enlarged, turned and moved (pixels), about the middle."""
    turn = np.deg2rad(degrees)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) / scale
    middle = (np.array(images.shape[-2:]) - 1) / 2
    offset = middle - matrix @ (middle + shift)
    planes = [
        ndimage.affine_transform(p.astype(float), matrix, offset, order=1)
        for p in images.reshape(-1, *images.shape[2:])
    ]
    return np.rint(planes).reshape(images.shape).astype(np.uint8)


def noisy(images: Pixels, sd: float) -> Pixels:
    noise = np.random.default_rng(7).normal(0, sd, images.shape)
    return np.clip(np.rint(images + noise), 0, 255).astype(np.uint8)


def frame(images: Pixels) -> Pixels:
    return in_frame(images, 8)[0]


COPIES: dict[str, Any] = {
    "smaller": lambda images: warped(images, 0.7),
    "larger": lambda images: warped(images, 1.3),
    "cropped to 80 %": lambda images: warped(images, 1.25),
    "an eighth of the side away, mirrored": lambda images: np.roll(images, (8, -8), (-2, -1))[..., ::-1],
    "upside down": lambda images: images[..., ::-1, :],
    "turned by a quarter": lambda images: np.rot90(images, 1, (-2, -1)),
    "turned by 15 degrees and smaller": lambda images: warped(images, 0.9, 15),
    "turned by 10 degrees": lambda images: warped(images, 1, -10),
    "noise of sd 8, an eighth of the side away": lambda images: noisy(np.roll(images, (8, -8), (-2, -1)), 8),
    "noise of sd 10, smaller": lambda images: noisy(warped(images, 0.8), 10),
    "noise of sd 20, turned by 10 degrees": lambda images: noisy(warped(images, 1, 10), 20),
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_found_in_the_frame(kind: str) -> None:
    images = heads(40)
    found = best_matches(
        framed(InMemorySamples(COPIES[kind](images[:8])), 8), framed(InMemorySamples(images), 8), rules=("turned",), k=2
    )["joint", "turned"]
    assert found.index[:, 0].tolist() == list(range(8))
    assert found.r[:, 0].min() > 0.97 and found.r[:, 1].max() < found.r[:, 0].min()


def test_where_a_brain_lies_and_what_is_beside_it_does_not_matter() -> None:
    images = heads(5)
    expected = frame(images)
    lit = expected.max(axis=1) > 0
    assert np.abs(lit.mean(axis=(1, 2)) - SHARE).max() < 0.1
    y, x = np.mgrid[:SIDE, :SIDE]
    assert all(abs(np.average(axis, weights=part) - (SIDE - 1) / 2) < 0.5 for part in lit for axis in (y, x))
    np.testing.assert_array_equal(frame(np.roll(images, (7, -9), (-2, -1))), expected)
    beside = images.copy()
    beside[..., :2, :], beside[..., -2:], beside[..., 60:62, 3:6] = 200, 250, 255
    np.testing.assert_array_equal(frame(beside), expected)
    # A bright frame larger than the head: the head is the brain, and its holes stay dark.
    framed_brightly = np.full((5, 2, 96, 96), 240, np.uint8)
    framed_brightly[..., 14:82, 14:82] = 0
    framed_brightly[..., 16:80, 16:80] = images
    np.testing.assert_array_equal(frame(framed_brightly), expected)


def test_larger_images_of_the_same_give_nearly_the_same() -> None:
    images = heads(4, 256, seed=1)
    smaller = images.reshape(4, 2, 64, 4, 64, 4).mean(axis=(3, 5)).round().astype(np.uint8)
    assert np.abs(frame(images).astype(float) - frame(smaller)).mean() < 4


def test_without_a_brain_the_whole_picture_is_shown() -> None:
    rng = np.random.default_rng(2)
    noise = rng.integers(9, 256, (3, 2, 40, 30), dtype=np.uint8)
    images, whole = in_frame(noise, 8)
    assert whole.all() and images.any(axis=(1, 2, 3)).all()
    images, whole = in_frame(np.zeros((2, 1, 33, 20), np.uint8) + np.uint8(8), 8)
    assert not whole.any() and not images.any()
    cut = heads(1)[..., :40]  # two or three borders do not make a whole picture
    assert not in_frame(cut, 8)[1].any()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 70), st.integers(1, 2 * FRAMED))
def test_a_frame_depends_on_its_image_alone(seed: int, height: int, width: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 2, (n, 2, height, width)).astype(np.uint8) * rng.integers(0, 256, (n, 1, 1, 1), np.uint8)
    together = framed(InMemorySamples(images), 8)
    assert len(together) == n and together.size == (SIDE, SIDE) and together.contrasts == ("t1", "t1ce")
    for i in range(0, n, 7):
        alone, whole = in_frame(images[i : i + 1], 8)
        np.testing.assert_array_equal(alone, together.read([i])[0])
        assert whole == together.whole[i]
