"""Copies of training images, changed in known ways, to plant among the queries of an audit (``recall.py``).

Every copy has one *source*, a training image. Sources are taken from the patients in turn, so that as many patients as
possible are among them; they are the same for all kinds and strengths (but for the kinds that need a tumour), and so
are the draws of a source: directions, signs, fields. Strengths of a kind therefore differ in nothing but strength.

Some kinds need a second image, of another patient, whose brain overlaps most with the source's. It stands for what a
generator adds of its own, so its patient is to be left out of the search (``Plant.hidden``): only the source can be
found. Where a generator mixes two patients that are both in the training set, an audit has two to find; these plants
are the harder case.

Lengths are those of an image 256 pixels wide and scale with the image. Nothing is held in memory: an image is made when
it is read, and depends on the seed, its kind, strength and rows alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from synthkit_memorization.power import changes
from synthkit_memorization.power.changes import WIDTH, Change, Picture, UInt8, scale_of
from synthkit_memorization.search import label_maps
from synthkit_memorization.search.pixels import READ_BATCH, Float32, Images, Int64
from synthkit_memorization.search.windows import in_pixels, largest_part

#: Copies of each kind and strength. All found, 60 give a lower bound of 95 % (0.05^(1/60)), and one missed leaves 91 %;
#: 54 kinds and strengths make 3,240 more queries, a few per cent of an audit of 100,000 images.
DEFAULT_PLANTS = 60

#: Least share of the image that the brain of a source takes, and its tumour where a kind needs one.
LEAST_BRAIN, LEAST_TUMOUR = 0.02, 0.001

#: Points a side on which brains are compared.
BRAIN_GRID = 64

#: Unsuitable rows in a row after which a patient counts as one without suitable ones.
TRIES = 20


@dataclass(frozen=True)
class Kind:
    """One way of changing a copy.

    Attributes
    ----------
    strengths : from mild to hard. text : how one is named, from ``value`` and, of contrasts, ``count`` and ``of``.
    unit : "px" scales with the image, "whole px" is then rounded, "contrasts" is a share of them.
    second : a second image of another patient is needed.
    tumour : the source, or a second image too, shows one; "large": the source one whose labels are searched, and a
        second image none, if two patients have such images.
    """

    name: str
    summary: str
    strengths: tuple[float, ...]
    text: str
    change: Change
    unit: Literal["", "px", "whole px", "contrasts"] = ""
    second: bool = False
    tumour: Literal["", "source", "both", "large"] = ""

    def amount(self, value: float, images: Images) -> float:
        """A strength as ``change`` takes it."""
        if self.unit == "contrasts":
            return max(1, round(value * len(images.contrasts)))
        if self.unit == "":
            return value
        length = value * scale_of(images.size)
        return length if self.unit == "px" else round(length)

    def amounts(self, images: Images) -> dict[str, float]:
        """Strength and amount of all that differ on such images: whole pixels and contrasts may coincide."""
        found: dict[float, str] = {}
        for value in self.strengths:
            amount = self.amount(value, images)
            unchanged = {"whole px": 0, "contrasts": len(images.contrasts)}.get(self.unit)
            if amount == unchanged:
                continue
            found.setdefault(amount, self.text.format(value=value, count=amount, of=len(images.contrasts)))
        return {text: amount for amount, text in found.items()}


#: All kinds, and the strengths of each, from those that any audit finds to those that a search of whole images cannot.
KINDS: tuple[Kind, ...] = (
    Kind("exact", "the training image itself", (0,), "", changes.exact),
    Kind("noise", "Gaussian noise, grey levels", (5, 10, 20, 40, 80), "sd {value:g}", changes.noise),
    Kind("blur", "Gaussian blur inside the brain", (1, 2, 4, 8), "sigma {value:g} px", changes.blur, unit="px"),
    Kind(
        "intensity",
        "another curve of grey levels for each contrast",
        (1.2, 1.5, 2, 3),
        "gamma {value:g}",
        changes.intensity,
    ),
    Kind("negative", "255 less the grey level", (0,), "", changes.negative),
    Kind("brain-negative", "255 less the grey level inside the brain", (0,), "", changes.brain_negative),
    Kind("flip", "mirrored left to right", (0,), "", changes.flip),
    Kind("upside-down", "mirrored top to bottom", (0,), "", changes.upside_down),
    Kind("quarter-turn", "turned by 90 degrees", (0,), "", changes.quarter_turn),
    Kind("shift", "moved", (1, 2, 4, 8, 16, 32), "{value:g} px", changes.shift, unit="whole px"),
    Kind("rotation", "turned about the centre", (2, 5, 10, 20), "{value:g} degrees", changes.rotation),
    Kind("scaling", "made smaller about the centre", (95, 90, 80), "{value:g} %", changes.scaling),
    Kind("crop", "a part of each side, enlarged to the whole", (95, 90, 80), "{value:g} %", changes.crop),
    Kind("elastic", "deformed by a smooth field", (1, 2, 4, 8, 12), "rms {value:g} px", changes.elastic, unit="px"),
    Kind(
        "tumour-swap",
        "another patient's tumour in the place of its own",
        (5, 20),
        "margin {value:g} px",
        changes.tumour_swap,
        unit="px",
        second=True,
        tumour="both",
    ),
    Kind(
        "recombination",
        "some contrasts copied, the others of another patient",
        (0.75, 0.5, 0.25),
        "{count:g} of {of} contrasts",
        changes.recombination,
        unit="contrasts",
        second=True,
    ),
    Kind("blend", "mixed with another patient's image", (90, 70, 50), "{value:g} %", changes.blend, second=True),
    Kind(
        "lesion",
        "only the tumour and its surroundings, in another patient's head",
        (40, 20, 5),
        "margin {value:g} px",
        changes.lesion,
        unit="px",
        second=True,
        tumour="source",
    ),
    Kind(
        "tumour",
        "only a large tumour, in its place in another patient's head",
        (0,),
        "",
        changes.lesion,
        second=True,
        tumour="large",
    ),
    Kind(
        "tumour-elsewhere",
        "only a large tumour, mirrored or turned, at another place in another patient's head",
        (0,),
        "",
        changes.tumour_elsewhere,
        second=True,
        tumour="large",
    ),
    Kind(
        "labels",
        "only the labels of a large tumour, with another patient's image",
        (0,),
        "",
        changes.labels_only,
        second=True,
        tumour="large",
    ),
)


# --------------------------------------------------------------------------------------------------- the plants


@dataclass(frozen=True)
class Plant:
    """Copies of one kind and strength, as a search reads its queries (``pixels.Images``).

    Attributes
    ----------
    kind, strength : names, "noise" and "sd 10"; the strength of a kind without strengths is "".
    sources : int64 ``(copy,)``, training row that each is a copy of.
    hidden : int64 ``(copy,)``, patient to leave out of its search; -1 for none.
    note : what a length amounts to on images that are not WIDTH wide.
    """

    kind: str
    strength: str
    sources: Int64
    hidden: Int64
    note: str
    contrasts: tuple[str, ...]
    size: tuple[int, int]
    _train: Images = field(repr=False)
    _rows: Int64 = field(repr=False)  # (copy, source and second image)
    _change: Change = field(repr=False)
    _amount: float = field(repr=False)
    _seed: int = field(repr=False)

    def __len__(self) -> int:
        return len(self.sources)

    def read(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> tuple[UInt8, UInt8]:
        """Images uint8 ``(n, contrast, y, x)`` and labels ``(n, y, x)`` of these copies, in this order."""
        rows = self._rows[np.asarray(indices, dtype=np.int64)]
        unique, places = np.unique(rows, return_inverse=True)
        images, labels = self._train.read(unique)
        changed = np.empty((len(rows), *images.shape[1:]), np.uint8)
        moved = np.empty((len(rows), *labels.shape[1:]), np.uint8)
        for i, pair in enumerate(places.reshape(rows.shape)):
            source, second = (Picture(images[at], labels[at]) for at in pair)
            # Not seeded by the strength: strengths of a kind are to differ in nothing else.
            rng = np.random.default_rng([self._seed, crc32(self.kind.encode()), int(rows[i, 0])])
            made = self._change(rng, self._amount, source, second)
            changed[i], moved[i] = made.pixels, made.labels
        return changed, moved


def plants(train: Images, patient: Int64, n: int = DEFAULT_PLANTS, seed: int = 0) -> list[Plant]:
    """Copies of training images in every kind and strength that they allow, kinds as in KINDS, strengths mild to hard.

    Kinds with a second image need two patients, those with a tumour labels, recombination several contrasts; without,
    they are left out.

    Parameters
    ----------
    patient : int64 ``(training image,)``, 0, 1, ... for each patient.
    n : copies of each kind and strength; fewer if the training set has fewer images to copy (blank ones are not).
    seed : of the choice of sources and of all changes.
    """
    rng = np.random.default_rng([seed, 0])
    brains = _sources(train, patient, n, rng, _shows_brain)
    tumours = _sources(train, patient, n, rng, _shows_tumour)
    large = _sources(train, patient, n, rng, _shows_large_tumour)
    whole = _sources(train, patient, n, rng, _shows_no_tumour)
    sources_of: Mapping[str, Int64] = {"": brains, "source": tumours, "both": tumours, "large": large}
    # The host's own tumour could run into the copied one, so it has none where two patients have such images.
    seconds_of = {**sources_of, "source": brains, "large": whole if len(np.unique(patient[whole])) > 1 else brains}
    found: list[Plant] = []
    for kind in KINDS:
        seconds = sources = sources_of[kind.tumour]
        if kind.second:
            seconds = _seconds(train, sources, seconds_of[kind.tumour], patient)
            sources, seconds = sources[seconds >= 0], seconds[seconds >= 0]
        if len(sources) == 0:
            continue
        hidden = patient[seconds] if kind.second else np.full(len(sources), -1)
        rows = np.stack([sources, seconds], axis=1)
        for text, amount in kind.amounts(train).items():
            note = f"{amount:.3g} px at this size" if kind.unit.endswith("px") and max(train.size) != WIDTH else ""
            about = (kind.name, text, sources, hidden, note, train.contrasts, train.size)
            found.append(Plant(*about, train, rows, kind.change, amount, seed))
    return found


def _sources(
    train: Images, patient: Int64, n: int, rng: np.random.Generator, suitable: Callable[[UInt8, UInt8], bool]
) -> Int64:
    """At most n rows: one of each patient, then a second of each, and so on; patients and rows in random order."""
    order = rng.permutation(int(patient.max()) + 1)
    queues = [rng.permutation(np.flatnonzero(patient == number)).tolist() for number in order]
    chosen: list[int] = []
    while queues and len(chosen) < n:
        for queue in queues:
            for _ in range(TRIES):
                if not queue or len(chosen) == n:
                    break
                images, labels = train.read([row := queue.pop()])
                if suitable(images[0], labels[0]):
                    chosen.append(row)
                    break
            else:
                queue.clear()
        queues = [queue for queue in queues if queue]
    return np.array(chosen, dtype=np.int64)


def _shows_brain(image: UInt8, labels: UInt8) -> bool:
    return bool((image > 0).any(axis=0).mean() >= LEAST_BRAIN and image.max() > image[image > 0].min())


def _shows_tumour(image: UInt8, labels: UInt8) -> bool:
    return _shows_brain(image, labels) and bool((labels > 0).mean() >= LEAST_TUMOUR)


def _shows_large_tumour(image: UInt8, labels: UInt8) -> bool:
    return _shows_brain(image, labels) and largest_part(labels) >= in_pixels(label_maps.LEAST, labels.shape)


def _shows_no_tumour(image: UInt8, labels: UInt8) -> bool:
    return _shows_brain(image, labels) and not labels.any()


def _seconds(train: Images, sources: Int64, pool: Int64, patient: Int64) -> Int64:
    """For each source the row of the pool, of another patient, of the most similar brain; -1 if there is none.

    Similar: intersection over union of the brains, as they lie.
    """
    if min(len(sources), len(pool)) == 0:
        return np.full(len(sources), -1)
    own, other = _brains(train, sources), _brains(train, pool)
    both = own @ other.T
    overlap = both / np.maximum(own.sum(axis=1)[:, None] + other.sum(axis=1)[None, :] - both, 1)
    overlap[patient[sources][:, None] == patient[pool][None, :]] = -1
    best = overlap.argmax(axis=1)
    return np.where(overlap[np.arange(len(sources)), best] >= 0, pool[best], -1)


def _brains(train: Images, rows: Int64) -> Float32:
    """Where the brains are, 0 or 1, on about BRAIN_GRID^2 points: ``(row, point)``."""
    step = max(1, max(train.size) // BRAIN_GRID)
    parts = [train.read(rows[i : i + READ_BATCH])[0][..., ::step, ::step] for i in range(0, len(rows), READ_BATCH)]
    return np.concatenate([part.any(axis=1).reshape(len(part), -1) for part in parts]).astype(np.float32)
