"""What may become of a copy: the changes that ``planting.py`` plants, each of one source, some with a second image.

The brain is where any contrast of the image exceeds 0. Pixels outside the brain of the changed image are 0, but in a
negative. Labels are
carried along: deformed as the image is (nearest neighbour), or taken from where the pixels come from; where whole
images are mixed, they are those of the source.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthkit_memorization.search.pixels import Float32, Float64
from synthkit_memorization.search.transformations import moved

#: Width in pixels that lengths are given for; they scale with the image.
WIDTH = 256

#: Correlation length of elastic fields, and width of the seam of pasted regions, in pixels at WIDTH.
ELASTIC_PX, SEAM_PX = 20.0, 3.0

#: Places that are tried for a tumour.
PLACES = 16

UInt8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def scale_of(size: Sequence[int]) -> float:
    """Pixels of an image of this size a pixel of one that is WIDTH wide."""
    return max(size) / WIDTH


@dataclass(frozen=True)
class Picture:
    """One image, uint8 ``(contrast, y, x)``, with its labels, uint8 ``(y, x)``."""

    pixels: UInt8
    labels: UInt8

    @property
    def brain(self) -> Mask:
        inside: Mask = np.any(self.pixels > 0, axis=0)
        return inside

    @property
    def tumour(self) -> Mask:
        return self.labels > 0

    @property
    def scale(self) -> float:
        """Pixels of this image a pixel of one that is WIDTH wide."""
        return scale_of(self.labels.shape)

    def moved(self, dy: int, dx: int) -> Picture:
        """Down and to the right, in pixels; zeros come in."""
        return Picture(moved(self.pixels, dy, dx), moved(self.labels, dy, dx))

    def turned(self, quarters: int, mirrored: bool = False) -> Picture:
        """Quarter turns about the centre, after a mirror; of an image that is not square what fits its frame."""

        def turn(values: UInt8) -> UInt8:
            return _framed(np.rot90(values[..., ::-1] if mirrored else values, quarters, (-2, -1)), self.labels.shape)

        return Picture(turn(self.pixels), turn(self.labels))


#: Makes the copy: a source's random stream, the strength (in pixels of this image where it is a length), source and
#: second image (the source again where there is none).
Change = Callable[[np.random.Generator, float, Picture, Picture], Picture]


def _finished(pixels: Float32 | Float64, brain: Mask, labels: UInt8) -> Picture:
    """Rounded to bytes, 0 outside the brain."""
    return Picture(np.where(brain, np.clip(np.rint(pixels), 0, 255), 0).astype(np.uint8), labels)


def exact(rng: np.random.Generator, amount: float, source: Picture, second: Picture) -> Picture:
    return source


def noise(rng: np.random.Generator, amount: float, source: Picture, second: Picture) -> Picture:
    """Gaussian, independent in each pixel and contrast, of standard deviation ``amount`` (grey levels)."""
    drawn = rng.standard_normal(source.pixels.shape, dtype=np.float32)
    return _finished(source.pixels + amount * drawn, source.brain, source.labels)


def blur(rng: np.random.Generator, amount: float, source: Picture, second: Picture) -> Picture:
    """Gaussian of sigma ``amount``, normalised inside the brain, so that its edge does not darken."""
    brain = source.brain
    weight = np.maximum(ndimage.gaussian_filter(brain.astype(np.float32), amount), 1e-6)
    smooth = np.stack([ndimage.gaussian_filter(contrast, amount, output=np.float32) for contrast in source.pixels])
    return _finished(smooth / weight, brain, source.labels)


def intensity(rng: np.random.Generator, amount: float, source: Picture, second: Picture) -> Picture:
    """Each contrast by its own increasing curve: v -> bias + (1 - b) v^g, v relative to its maximum; 0 stays.

    g is gamma (``amount``) or its inverse, b = (gamma - 1) / 5, and bias is 0 (darker) or b (less contrast), as drawn.
    """
    shape = (len(source.pixels), 1, 1)
    power = np.where(rng.random(shape) < 0.5, amount, 1 / amount)
    lost = (amount - 1) / 5
    bias = np.where(rng.random(shape) < 0.5, 0.0, lost)
    largest = np.maximum(source.pixels.max(axis=(1, 2), keepdims=True), 1)
    curved = largest * (bias + (1 - lost) * (source.pixels / largest) ** power)
    return _finished(curved, source.pixels > 0, source.labels)


def negative(rng: np.random.Generator, amount: float, source: Picture, second: Picture) -> Picture:
    """255 - v everywhere, so that the background is 255."""
    return Picture(255 - source.pixels, source.labels)


def brain_negative(rng: np.random.Generator, amount: float, source: Picture, second: Picture) -> Picture:
    """255 - v inside the brain alone, in every contrast."""
    return _finished(255.0 - source.pixels, source.brain, source.labels)


def flip(rng: np.random.Generator, amount: float, source: Picture, second: Picture) -> Picture:
    """Left to right: the last axis reversed."""
    return Picture(source.pixels[..., ::-1], source.labels[..., ::-1])


def upside_down(rng: np.random.Generator, amount: float, source: Picture, second: Picture) -> Picture:
    """Top to bottom: the axis before the last reversed."""
    return Picture(source.pixels[..., ::-1, :], source.labels[..., ::-1, :])


def quarter_turn(rng: np.random.Generator, amount: float, source: Picture, second: Picture) -> Picture:
    """By 90 degrees about the centre, in the direction drawn."""
    return source.turned(int(rng.choice((1, 3))))


def shift(rng: np.random.Generator, amount: float, source: Picture, second: Picture) -> Picture:
    """By ``amount`` whole pixels along one axis or along both; zeros come in."""
    dy, dx = [(0, 1), (1, 0), (1, 1), (1, -1)][rng.integers(4)]
    sign = int(rng.choice((-1, 1)))
    return source.moved(sign * dy * int(amount), sign * dx * int(amount))


def rotation(rng: np.random.Generator, amount: float, source: Picture, second: Picture) -> Picture:
    """By ``amount`` degrees about the centre of the image, in the direction drawn."""
    angle = np.deg2rad(amount) * rng.choice((-1, 1))
    y, x = _from_centre(source)
    turned = np.stack([np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x])
    return _displaced(source, turned - np.stack([y, x]))


def scaling(rng: np.random.Generator, amount: float, source: Picture, second: Picture) -> Picture:
    """To ``amount`` per cent of its size, about the centre of the image; zeros come in."""
    return _displaced(source, _from_centre(source) * (100 / amount - 1))


def crop(rng: np.random.Generator, amount: float, source: Picture, second: Picture) -> Picture:
    """A part of ``amount`` per cent of each side, from where drawn, enlarged to the whole."""
    share = amount / 100
    height, width = source.labels.shape
    free = rng.uniform(-0.5, 0.5, 2) * (1 - share) * (height - 1, width - 1)
    return _displaced(source, _from_centre(source) * (share - 1) + free.reshape(2, 1, 1))


def elastic(rng: np.random.Generator, amount: float, source: Picture, second: Picture) -> Picture:
    """By a smooth random field (white noise through a Gaussian of ELASTIC_PX); ``amount``: rms length in the brain."""
    drawn = rng.standard_normal((2, *source.labels.shape))
    field = np.stack([ndimage.gaussian_filter(part, ELASTIC_PX * source.scale, mode="wrap") for part in drawn])
    length = np.sqrt((field**2).sum(axis=0)[source.brain].mean())
    return _displaced(source, field * (amount / length))


def tumour_swap(rng: np.random.Generator, amount: float, source: Picture, second: Picture) -> Picture:
    """The source's tumour gives way to that of the second image, moved there; ``amount``: margin around both."""
    dy, dx = np.rint(_centre(source.tumour) - _centre(second.tumour)).astype(int).tolist()
    donor = second.moved(dy, dx)
    return _pasted(source, donor, source.tumour | donor.tumour, amount)


def lesion(rng: np.random.Generator, amount: float, source: Picture, second: Picture) -> Picture:
    """Only the source's tumour and a margin of ``amount``, in its place in the head of the second image."""
    return _pasted(second, source, source.tumour, amount)


def tumour_elsewhere(rng: np.random.Generator, amount: float, source: Picture, second: Picture) -> Picture:
    """Only the source's tumour, mirrored or turned by quarters as drawn, in another place of the second image's head.

    Of PLACES drawn, the one with most of the tumour inside the brain.
    """
    turn = int(rng.integers(1, 8))
    dy, dx = np.rint((np.array(source.labels.shape) - 1) / 2 - _centre(source.tumour)).astype(int).tolist()
    donor = source.moved(dy, dx).turned(turn % 4, mirrored=turn >= 4)  # from the middle nothing is turned out
    middle, places = _centre(donor.tumour), np.argwhere(second.brain)
    moves = np.rint(places[rng.integers(len(places), size=PLACES)] - middle).astype(int).tolist()
    candidates = [donor.moved(dy, dx) for dy, dx in moves]
    best = max(candidates, key=lambda moved_donor: int((moved_donor.tumour & second.brain).sum()))
    return _pasted(second, best, best.tumour, amount)


def labels_only(rng: np.random.Generator, amount: float, source: Picture, second: Picture) -> Picture:
    """The source's labels over the pixels of the second image."""
    return Picture(second.pixels, source.labels)


def recombination(rng: np.random.Generator, amount: float, source: Picture, second: Picture) -> Picture:
    """``amount`` contrasts of the source, as drawn; the others of the second image. Each keeps its own head."""
    pixels = second.pixels.copy()
    copied = rng.permutation(len(pixels))[: int(amount)]
    pixels[copied] = source.pixels[copied]
    return Picture(pixels, source.labels)


def blend(rng: np.random.Generator, amount: float, source: Picture, second: Picture) -> Picture:
    """``amount`` per cent of the source, the rest of the second image, pixel by pixel."""
    share = amount / 100
    mixed = share * source.pixels + (1.0 - share) * second.pixels
    return _finished(mixed, source.brain | second.brain, source.labels)


def _from_centre(picture: Picture) -> Float64:
    """Places of the pixels from the centre of the image, pixels, ``(2, y, x)``."""
    places = np.indices(picture.labels.shape).astype(np.float64)
    result: Float64 = places - places.mean(axis=(1, 2), keepdims=True)
    return result


def _framed(values: UInt8, size: Sequence[int]) -> UInt8:
    """The middle of ``(..., y, x)`` in a frame of this size, with zeros around it."""
    result = np.zeros((*values.shape[:-2], *size), np.uint8)
    into, of = [], []
    for length, wanted in zip(values.shape[-2:], size, strict=True):
        shown = min(length, wanted)
        into.append(slice((wanted - shown) // 2, (wanted - shown) // 2 + shown))
        of.append(slice((length - shown) // 2, (length - shown) // 2 + shown))
    result[..., into[0], into[1]] = values[..., of[0], of[1]]
    return result


def _displaced(source: Picture, field: Float64) -> Picture:
    """Every pixel takes the value at its own place plus ``field`` (pixels, ``(2, y, x)``), by cubic splines."""
    places = np.indices(source.labels.shape) + field
    brain = ndimage.map_coordinates(source.brain.astype(np.uint8), places, order=0) > 0
    labels = ndimage.map_coordinates(source.labels, places, order=0)
    pixels = np.zeros(source.pixels.shape, np.float32)
    for contrast, values in zip(source.pixels, pixels, strict=True):
        values[brain] = ndimage.map_coordinates(contrast, places[:, brain], output=np.float32, order=3)
    return _finished(pixels, brain, labels)


def _pasted(host: Picture, donor: Picture, region: Mask, margin: float) -> Picture:
    """The donor in the region and its margin, a soft seam around, the host elsewhere; only where both are brain.

    The donor's contrasts take the levels of the host first: a step at the seam would be easy to find.
    """
    both = host.brain & donor.brain
    inside = both & (ndimage.distance_transform_edt(~region) <= margin)
    if not inside.any():
        return host
    seam = SEAM_PX * host.scale
    share = both * np.clip(1 - ndimage.distance_transform_edt(~inside) / seam, 0, 1)
    pixels = share * _levelled(donor, host) + (1 - share) * host.pixels
    return _finished(pixels, host.brain, np.where(inside, donor.labels, host.labels))


def _levelled(donor: Picture, host: Picture) -> Float64:
    """The donor's contrasts with the mean and standard deviation that the host has in brain free of tumour."""
    (mean, sd), (wanted_mean, wanted_sd) = _levels(donor), _levels(host)
    return wanted_mean + (donor.pixels - mean) * (wanted_sd / np.maximum(sd, 1))


def _levels(picture: Picture) -> tuple[Float64, Float64]:
    """Mean and standard deviation of each contrast outside the tumour, or in all of a brain that is all tumour."""
    healthy = picture.brain & ~picture.tumour
    values = picture.pixels[:, healthy if healthy.any() else picture.brain].astype(np.float64)
    return values.mean(axis=1)[:, None, None], values.std(axis=1)[:, None, None]


def _centre(region: Mask) -> Float64:
    """Centre of mass, pixels."""
    return np.array(ndimage.center_of_mass(region))
