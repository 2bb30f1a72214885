"""Planted copies of phantom people: what copy_detection.py and audit_rates.py share. Not a script.

A copy is one slice of a training person, changed in one of the ways of KINDS. Where a change needs a second image, it
is the same slice of a *donor*, a person who is neither trained on, nor held out, nor among the innocents: it stands for
what a generator adds of its own.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from phantom_people import CONTRASTS, SIDE, People, Slices, UInt8, joined
from PIL import Image
from scipy import ndimage

#: Pixels of a tumour that is large enough to be told from others; slices with fewer are not sources of such copies.
LEAST_TUMOUR = 60

Float = NDArray[np.float64]


# ------------------------------------------------------------------------------------------- ways to change a copy


@dataclass(frozen=True)
class Picture:
    """One slice: pixels uint8 ``(contrast, y, x)`` and labels uint8 ``(y, x)``."""

    pixels: UInt8
    labels: UInt8

    @property
    def brain(self) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = (self.pixels > 0).any(axis=0)
        return inside


#: What becomes of a source, with a donor beside it.
Change = Callable[[np.random.Generator, Picture, Picture], Picture]


def _bytes(pixels: NDArray[np.floating]) -> UInt8:
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _each(change: Callable[[np.random.Generator, UInt8], NDArray[np.floating]]) -> Change:
    """A change of each contrast on its own; the labels stay."""

    def changed(rng: np.random.Generator, source: Picture, donor: Picture) -> Picture:
        return Picture(_bytes(np.stack([change(rng, contrast) for contrast in source.pixels])), source.labels)

    return changed


def _exact(rng: np.random.Generator, source: Picture, donor: Picture) -> Picture:
    return source


def _gamma(value: float) -> Change:
    return _each(lambda rng, image: 255 * (image / 255) ** value)


def _jpeg(rng: np.random.Generator, image: UInt8) -> NDArray[np.floating]:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=50)
    return np.asarray(Image.open(file), np.float64)


def _noise(sd: float) -> Change:
    return _each(lambda rng, image: image + rng.normal(0, sd, image.shape))


def _blur(sigma: float) -> Change:
    return _each(lambda rng, image: ndimage.gaussian_filter(image.astype(np.float64), sigma))


def _half(rng: np.random.Generator, image: UInt8) -> NDArray[np.floating]:
    """Means of 2 x 2 pixels, brought back by linear interpolation."""
    small = image.reshape(SIDE // 2, 2, SIDE // 2, 2).mean(axis=(1, 3))
    places = (np.indices(image.shape) - 0.5) / 2
    return ndimage.map_coordinates(small, places, order=1, mode="nearest")


def _smooth(rng: np.random.Generator, sigma: float) -> Float:
    """A random field of correlation length ``sigma`` pixels, mean 0 and standard deviation 1."""
    field = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), sigma, mode="wrap")
    return (field - field.mean()) / field.std()


def _bias(rng: np.random.Generator, image: UInt8) -> NDArray[np.floating]:
    shaded = image * np.exp(0.3 * _smooth(rng, SIDE / 4))
    return shaded * (image.max() / max(shaded.max(), 1))  # nothing is cut off


def _mixture(share: float) -> Change:
    def mixed(rng: np.random.Generator, source: Picture, donor: Picture) -> Picture:
        return Picture(_bytes(share * source.pixels + (1 - share) * donor.pixels), donor.labels)

    return mixed


def _one_contrast(rng: np.random.Generator, source: Picture, donor: Picture) -> Picture:
    """One contrast of the source, as drawn; the others and the labels of the donor."""
    pixels, drawn = donor.pixels.copy(), rng.integers(len(CONTRASTS))
    pixels[drawn] = source.pixels[drawn]
    return Picture(pixels, donor.labels)


def _inverted(rng: np.random.Generator, source: Picture, donor: Picture) -> Picture:
    return Picture(255 - source.pixels, source.labels)


def _brain_inverted(rng: np.random.Generator, source: Picture, donor: Picture) -> Picture:
    return Picture(np.where(source.brain, 255 - source.pixels, 0).astype(np.uint8), source.labels)


def _contrast_inverted(rng: np.random.Generator, source: Picture, donor: Picture) -> Picture:
    """One contrast, as drawn, inside the brain."""
    pixels, drawn = source.pixels.copy(), rng.integers(len(CONTRASTS))
    pixels[drawn] = np.where(source.brain, 255 - pixels[drawn], 0)
    return Picture(pixels, source.labels)


def _everywhere(change: Callable[[NDArray], NDArray]) -> Change:
    """Pixels and labels moved alike, without interpolation."""
    return lambda rng, source, donor: Picture(change(source.pixels), change(source.labels))


def _resampled(picture: Picture, places: Float) -> Picture:
    """Every pixel takes the value at its place (pixels, ``(2, y, x)``): linear, labels those of the nearest."""
    pixels = np.stack([ndimage.map_coordinates(c.astype(np.float64), places, order=1) for c in picture.pixels])
    return Picture(_bytes(pixels), ndimage.map_coordinates(picture.labels, places, order=0))


def _similar(degrees: float = 0, scale: float = 1) -> Change:
    """Turned, in the direction drawn, and enlarged, about the centre of the image."""

    def changed(rng: np.random.Generator, source: Picture, donor: Picture) -> Picture:
        angle = np.deg2rad(degrees) * rng.choice((-1, 1))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / scale
        centre = (SIDE - 1) / 2
        return _resampled(source, np.einsum("ij,jyx->iyx", turn, np.indices((SIDE, SIDE)) - centre) + centre)

    return changed


def _shift(length: int, mirror: bool = False) -> Change:
    """By ``length`` pixels down or up, right or left, or both, as drawn; zeros come in. Mirrored before, if asked."""

    def changed(rng: np.random.Generator, source: Picture, donor: Picture) -> Picture:
        steps = np.array([(0, 1), (1, 0), (1, 1), (1, -1)])[rng.integers(4)] * rng.choice((-1, 1)) * length
        places = np.indices((SIDE, SIDE)) - steps.reshape(2, 1, 1)
        if mirror:
            places[1] = SIDE - 1 - places[1]
        return _resampled(source, places.astype(np.float64))

    return changed


def _crop(share: float) -> Change:
    """A square of this share of the side, from where drawn, enlarged to the whole."""

    def changed(rng: np.random.Generator, source: Picture, donor: Picture) -> Picture:
        corner = rng.uniform(0, (1 - share) * (SIDE - 1), 2)
        return _resampled(source, np.indices((SIDE, SIDE)) * share + corner.reshape(2, 1, 1))

    return changed


def _elastic(length: float, measure: Callable[[Float], float]) -> Change:
    """By a smooth random field (correlation length 1/8 of the side), whose ``measure`` in the brain is ``length``."""

    def changed(rng: np.random.Generator, source: Picture, donor: Picture) -> Picture:
        field = np.stack([_smooth(rng, SIDE / 8), _smooth(rng, SIDE / 8)])
        moved = np.sqrt((field**2).sum(axis=0))[source.brain]
        return _resampled(source, np.indices((SIDE, SIDE)) + field * (length / measure(moved)))

    return changed


def _rms(lengths: Float) -> float:
    return float(np.sqrt((lengths**2).mean()))


def _labels_only(rng: np.random.Generator, source: Picture, donor: Picture) -> Picture:
    return Picture(donor.pixels, source.labels)


def _transplant(rng: np.random.Generator, source: Picture, donor: Picture) -> Picture:
    """The source's tumour in the donor's brain, at its place, with the donor's grey levels and a soft edge."""
    tumour = (source.labels > 0) & donor.brain
    share = np.clip(1.5 - ndimage.distance_transform_edt(~tumour) / 2, 0, 1) * donor.brain
    (mean, sd), (own_mean, own_sd) = _levels(source), _levels(donor)
    levelled = own_mean + (source.pixels - mean) * (own_sd / np.maximum(sd, 1))
    pixels = _bytes(share * levelled + (1 - share) * donor.pixels)
    return Picture(pixels, np.where(tumour, source.labels, donor.labels).astype(np.uint8))


def _levels(picture: Picture) -> tuple[Float, Float]:
    """Mean and standard deviation of each contrast in brain free of tumour."""
    values = picture.pixels[:, picture.brain & (picture.labels == 0)].astype(np.float64)
    return values.mean(axis=1).reshape(-1, 1, 1), values.std(axis=1).reshape(-1, 1, 1)


def _both(first: Change, then: Change) -> Change:
    return lambda rng, source, donor: then(rng, first(rng, source, donor), donor)


@dataclass(frozen=True)
class Kind:
    """One way of changing a copy. ``tumour``: sources are slices with a large tumour, donors have the least of one."""

    name: str
    change: Change
    tumour: bool = False


KINDS: tuple[Kind, ...] = (
    Kind("exact", _exact),
    Kind("gamma 1.5", _gamma(1.5)),
    Kind("JPEG, quality 50", _each(_jpeg)),
    Kind("noise 10", _noise(10)),
    Kind("noise 25", _noise(25)),
    Kind("blur 1 px", _blur(1)),
    Kind("half resolution", _each(_half)),
    Kind("bias field 0.3", _each(_bias)),
    Kind("mixture .8", _mixture(0.8)),
    Kind("mixture .6", _mixture(0.6)),
    Kind("mixture .5", _mixture(0.5)),
    Kind("one contrast of four", _one_contrast),
    Kind("inverted", _inverted),
    Kind("inverted in the brain", _brain_inverted),
    Kind("one contrast inverted", _contrast_inverted),
    Kind("mirrored", _everywhere(lambda image: image[..., ::-1])),
    Kind("upside down", _everywhere(lambda image: image[..., ::-1, :])),
    Kind("quarter turn", _everywhere(lambda image: np.rot90(image, axes=(-2, -1)))),
    Kind("rotation 3", _similar(3)),
    Kind("rotation 7", _similar(7)),
    Kind("rotation 10", _similar(10)),
    Kind("rotation 15", _similar(15)),
    Kind("scale .7", _similar(scale=0.7)),
    Kind("scale .8", _similar(scale=0.8)),
    Kind("scale 1.25", _similar(scale=1.25)),
    Kind("scale 1.4", _similar(scale=1.4)),
    Kind("shift 1 px", _shift(1)),
    Kind("shift 1/8", _shift(SIDE // 8)),
    Kind("mirrored, shift 1/8", _shift(SIDE // 8, mirror=True)),
    Kind("crop 80 %, resized", _crop(0.8)),
    Kind("elastic, at most 1.5 px", _elastic(1.5, np.max)),
    Kind("elastic, at most 3 px", _elastic(3, np.max)),
    Kind("elastic, rms 1.5 px", _elastic(1.5, _rms)),
    Kind("elastic, rms 3 px", _elastic(3, _rms)),
    Kind("labels only", _labels_only, tumour=True),
    Kind("tumour transplant", _transplant, tumour=True),
    Kind("rotation 7 and noise 10", _both(_similar(7), _noise(10))),
    Kind("scale .8 and noise 25", _both(_similar(scale=0.8), _noise(25))),
    Kind("mirrored, shift 1/8 and noise 10", _both(_shift(SIDE // 8, mirror=True), _noise(10))),
    Kind("rotation 7 and gamma 1.5", _both(_similar(7), _gamma(1.5))),
    Kind("scale 1.25 and blur 1 px", _both(_similar(scale=1.25), _blur(1))),
    Kind("mirrored and inverted in the brain", _both(_everywhere(lambda image: image[..., ::-1]), _brain_inverted)),
    Kind("shift 1/8 and mixture .8", _both(_shift(SIDE // 8), _mixture(0.8))),
)


def kind_of(name: str) -> Kind:
    """The kind of this name."""
    return next(kind for kind in KINDS if kind.name == name)


# ---------------------------------------------------------------------------------------------------- planting


def plant(kind: Kind, people: People, train: Sequence[int], donors: Sequence[int], n: int, seed: int) -> Slices:
    """At most n copies of slices of the training people, in turn; ``person`` is whom each was copied from.

    Fewer where a kind needs a tumour and too few training slices show a large one. A copy depends on the people, the
    kind and the seed alone.
    """
    rng = np.random.default_rng([seed, crc32(kind.name.encode())])
    made = []
    for person, level in list(_sources(kind, people, train, rng))[:n]:
        donor = donors[rng.integers(len(donors))]
        if kind.tumour:  # a donor with a tumour of its own would show that one instead
            sizes = (people.labels[np.asarray(donors), level] > 0).sum(axis=(1, 2))
            donor = donors[rng.choice(np.flatnonzero(sizes == sizes.min()))]
        pictures = [Picture(people.images[who, level], people.labels[who, level]) for who in (person, donor)]
        copy = kind.change(rng, pictures[0], pictures[1])
        made.append(Slices(copy.pixels[None], copy.labels[None], np.array([person])))
    if not made:
        raise SystemExit(f"No slice of {len(train)} people can be copied as {kind.name!r}: no tumour is large enough.")
    return joined(made)


def _sources(kind: Kind, people: People, train: Sequence[int], rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Person and slice of each source: one of every person, then a second of every person, and so on."""
    least = LEAST_TUMOUR if kind.tumour else 0
    left = {}
    for person in rng.permutation(np.asarray(train)).tolist():
        suitable = np.flatnonzero((people.labels[person] > 0).sum(axis=(1, 2)) >= least)
        left[person] = rng.permutation(suitable).tolist()
    while any(left.values()):
        for person, levels in left.items():
            if levels:
                yield person, levels.pop()


def changed(kind: Kind, slices: Slices, seed: int) -> Slices:
    """All slices, each changed with the same random numbers, as a person is who was scanned or saved in another way.

    For kinds that need no donor.
    """
    pictures = [Picture(image, labels) for image, labels in zip(slices.images, slices.labels, strict=True)]
    made = [kind.change(np.random.default_rng(seed), picture, picture) for picture in pictures]
    return Slices(np.stack([each.pixels for each in made]), np.stack([each.labels for each in made]), slices.person)
