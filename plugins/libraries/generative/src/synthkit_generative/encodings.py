"""Labels as the channels that a generator draws, and back. Pure functions of arrays, for any label scheme.

| encoding | channels | an edge that was drawn blurred |
|---|---|---|
| ``grey`` | one, a grey level a label, as the study | passes through other labels' levels: rims of them |
| ``onehot`` | one a label above background: 1 there, -1 elsewhere | ends in one of its two labels |
| ``nested`` | one a region, as whole tumour, core and necrosis | the same |
| ``distance`` | one a label, background too: how far its border is, positive inside | the same, far from others |

Channels are float32 in [-1, 1]. Decoding gives every label a score in every pixel; the highest wins. Scores of
``onehot`` and ``nested`` are margins, in [-1, 1]: with p = (channel + 1) / 2 a region is divided among the regions in
it by their p, and what they leave is the one label that has no channel (in the whole image background). A part's margin
is its share less the largest other; a label's score is the least margin on the way down to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthkit.contract import Samples
from synthkit.data.labels import grey_levels
from synthkit.errors import UsageError
from synthkit.schemes import Scheme
from synthkit_generative import decoding

Name = Literal["grey", "onehot", "nested", "distance"]
NAMES: tuple[Name, ...] = get_args(Name)

#: Slices that :func:`encoding_of` looks at to see which label surrounds which.
_LOOKED_AT = 512


@dataclass(frozen=True)
class Encoding:
    """How labels are coded; made by :func:`encoding_of`, kept in a checkpoint by :meth:`to_dict`.

    Attributes
    ----------
    name : one of :data:`NAMES`.
    label_values : background first; of ``grey`` from the lowest grey level to the highest.
    regions : of ``onehot`` and ``nested`` the label values of each channel. Any two are apart or one is in the other,
        and in each region, as in the whole image, at most one label is in no smaller one.
    reach : of ``distance``, in pixels: borders further away than this are all as far.
    """

    name: Name
    label_values: tuple[int, ...]
    regions: tuple[tuple[int, ...], ...] = ()
    reach: int = 0

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ValueError(f"its labels are coded as {self.name!r}, which is not known here")
        if self.name == "distance" and self.reach < 1:
            raise ValueError("its distances reach nowhere")
        if self.name in ("onehot", "nested"):
            everything = frozenset(self.label_values)
            sets = [frozenset(region) for region in self.regions]
            crossing = any(a & b and not (a < b or b < a) for k, a in enumerate(sets) for b in sets[:k])
            if crossing or any(not region or not region < everything for region in sets):
                raise ValueError("its regions of labels cross one another")
            if any(len(self._left(inside)) > 1 for inside in (everything, *sets)):
                raise ValueError("its regions do not tell all labels apart")

    @property
    def channels(self) -> int:
        """Channels that labels take."""
        return {"grey": 1, "distance": len(self.label_values)}.get(self.name, len(self.regions))

    def encode(self, labels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Labels ``(n, y, x)`` as channels ``(n, channel, y, x)`` in [-1, 1]. Values without a meaning: background."""
        if self.name == "grey":
            grey = decoding.encode(labels, self.label_values)
            return of_bytes(grey[:, None])
        if self.name == "distance":
            known = np.where(np.isin(labels, self.label_values), labels, self.label_values[0])
            far = [[_signed_distance(each == value, self.reach) for value in self.label_values] for each in known]
            shape = (len(labels), self.channels, *labels.shape[1:])
            return np.array(far, dtype=np.float32).reshape(shape)
        table = np.full((256, self.channels), -1, dtype=np.float32)
        for channel, region in enumerate(self.regions):
            table[list(region), channel] = 1
        coded: NDArray[np.float32] = np.moveaxis(table[labels], -1, 1)
        return coded

    def scores(self, channels: NDArray[np.float32]) -> NDArray[np.float32]:
        """How much speaks for each of ``label_values``: ``(n, label, y, x)``, of channels ``(n, channel, y, x)``."""
        if self.name == "grey":
            grey = np.rint((channels + 1) * 127.5)
            levels = np.array(grey_levels(sorted(self.label_values)), dtype=np.float32)
            gap = np.diff(levels).min() if len(levels) > 1 else np.float32(255)
            near: NDArray[np.float32] = -np.abs(grey - levels[:, None, None]) * (np.float32(2) / gap)
            return near
        if self.name == "distance":
            return channels
        shares = (channels + 1) / np.float32(2)
        found: dict[int, NDArray[np.float32]] = {}
        everywhere = np.ones((len(channels), *channels.shape[2:]), dtype=np.float32)
        self._descend(frozenset(self.label_values), everywhere, shares, found)
        return np.stack([found[value] for value in self.label_values], axis=1)

    def decode(self, channels: NDArray[np.float32], offsets: Sequence[float] = ()) -> NDArray[np.uint8]:
        """Labels ``(n, y, x)`` of channels ``(n, channel, y, x)``; the first of ``label_values`` wins a tie.

        ``offsets`` are added to the scores of each label (:func:`fitted_offsets`); none if empty.
        """
        scores = self.scores(channels)
        if len(offsets):
            scores = scores + np.asarray(offsets, dtype=np.float32)[:, None, None]
        labels: NDArray[np.uint8] = np.array(self.label_values, dtype=np.uint8)[scores.argmax(axis=1)]
        return labels

    def unclear(self, channels: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Where ``(n, y, x)`` a pixel lies between labels: nearer to half-way than to the code of the best one."""
        if self.name == "grey":
            grey = np.rint((channels[:, 0] + 1) * 127.5).astype(np.uint8)
            decoded = decoding.encode(self.decode(channels), self.label_values)
            return decoding.unclear(grey, decoded, self.label_values)
        least = 0.25 / self.reach if self.name == "distance" else 0.5  # a pixel at a border is half a pixel from it
        found: NDArray[np.bool_] = self.scores(channels).max(axis=1) < least
        return found

    @property
    def in_words(self) -> str:
        """``nested (1+2+4, 1+4, 1)``, for messages."""
        regions = ", ".join("+".join(map(str, region)) for region in self.regions)
        return f"{self.name} ({regions})" if regions else self.name

    @property
    def most_offset(self) -> float:
        """The largest of :func:`fitted_offsets`: a quarter of what parts two labels, or one pixel of distance."""
        return 2 / self.reach if self.name == "distance" else 0.5

    def to_dict(self) -> dict[str, Any]:
        """JSON form, without ``label_values``, which a checkpoint has anyway."""
        return {"name": self.name, "regions": [list(region) for region in self.regions], "reach": self.reach}

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Encoding:
        """Of a checkpoint's ``config.json``; those that do not say have grey levels. ValueError if it is none."""
        said = config.get("label_encoding", {"name": "grey", "regions": [], "reach": 0})
        values = tuple(int(value) for value in config["label_values"])
        regions = tuple(tuple(int(value) for value in region) for region in said["regions"])
        return cls(said["name"], values, regions, int(said["reach"]))

    # ------------------------------------------------------------------------------------------------- regions

    def _parts(self, inside: frozenset[int]) -> list[int]:
        """Channels of the largest regions within ``inside``."""
        within = [k for k, region in enumerate(self.regions) if frozenset(region) < inside]
        return [k for k in within if not any(set(self.regions[k]) < set(self.regions[other]) for other in within)]

    def _left(self, inside: frozenset[int]) -> frozenset[int]:
        """Labels of ``inside`` that are in no smaller region."""
        return inside - {value for k in self._parts(inside) for value in self.regions[k]}

    def _descend(
        self,
        inside: frozenset[int],
        margin: NDArray[np.float32],
        shares: NDArray[np.float32],
        found: dict[int, NDArray[np.float32]],
    ) -> None:
        """Put the score of each label of ``inside`` into ``found``; ``margin`` is the least one down to there."""
        parts, left = self._parts(inside), self._left(inside)
        regions = [frozenset(self.regions[k]) for k in parts] + ([left] if left else [])
        if len(inside) == 1:
            found[min(inside)] = margin
            return
        each = [shares[:, k] for k in parts]
        each += [np.float32(1) - np.sum(each, axis=0)] if left else []
        for number, region in enumerate(regions):
            others = np.max([share for k, share in enumerate(each) if k != number], axis=0)
            self._descend(region, np.minimum(margin, each[number] - others), shares, found)


def to_bytes(channels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Channels in [-1, 1] as 0..255, a fourth of the bytes; exact for every encoding but ``distance``."""
    levels: NDArray[np.uint8] = np.rint((channels + 1) * 127.5).astype(np.uint8)
    return levels


def of_bytes(levels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What :func:`to_bytes` was given, within 1/255; labels that were encoded are decoded from it as they were."""
    return levels.astype(np.float32) / np.float32(127.5) - np.float32(1)


def encoding_of(name: Name, data: Samples, label_order: str = "", initial: Encoding | None = None) -> Encoding:
    """The encoding ``name`` of a dataset's labels, by its scheme.

    The regions of ``nested`` are those of the scheme, where one is in the other or apart from it; of the labels that
    such a region has besides, the one that touches its outside most in ``data`` needs no channel, since it is what the
    others leave. A training that begins with another's weights keeps its regions, those of ``initial``. ``label_order``
    is for ``grey`` (:func:`~synthkit_generative.decoding.read_order`).

    Raises
    ------
    UsageError : an order that is not one of these labels, or one beside another encoding than grey.
    """
    if name == "grey":
        return Encoding("grey", decoding.read_order(label_order, data.label_values))
    if label_order.strip():
        raise UsageError(
            f"label_order says nothing to label_encoding={name}.",
            "It orders the grey levels of labels, and there are none.",
            "Leave it out, or give label_encoding=grey.",
        )
    values = tuple(sorted(data.label_values))
    if name == "distance":
        return Encoding("distance", values, reach=max(2, max(data.size) // 8))
    if name == "onehot":
        return Encoding("onehot", values, tuple((value,) for value in values[1:]))
    if initial is not None and (initial.name, initial.label_values) == (name, values):
        return initial
    rows = np.unique(np.linspace(0, len(data) - 1, min(len(data), _LOOKED_AT)).astype(int))
    parts = np.array_split(rows, max(1, len(rows) // 64)) if len(rows) else []
    touching = sum((contacts(data.read(part)[1], values) for part in parts), np.zeros((len(values),) * 2, np.int64))
    return Encoding("nested", values, nested_regions(data.scheme, touching))


def contacts(labels: NDArray[np.uint8], values: Sequence[int]) -> NDArray[np.int64]:
    """How often pixels of two labels are neighbours along y or x: ``(label, label)``, in order of ``values``.

    ``labels`` is ``(n, y, x)``; values that are not among ``values`` count as the first.
    """
    table = np.zeros(256, dtype=np.int64)
    table[list(values)] = np.arange(len(values))
    places, n = table[labels], len(values)
    pairs = ((places[:, 1:], places[:, :-1]), (places[:, :, 1:], places[:, :, :-1]))
    found = sum(np.bincount((a * n + b).ravel(), minlength=n * n).reshape(n, n) for a, b in pairs)
    return np.asarray(found + np.transpose(found), dtype=np.int64)


def nested_regions(scheme: Scheme, touching: NDArray[np.int64]) -> tuple[tuple[int, ...], ...]:
    """Label values of each channel of ``nested``, the largest region first; ``touching`` as :func:`contacts` has it.

    A region of the scheme that crosses a larger one, or has the labels of another, gets no channel.
    """
    values = scheme.values
    everything, kept = frozenset(values), list[frozenset[int]]()
    named = (frozenset(scheme.region_values[region.name]) for region in scheme.nested)
    for region in sorted(named, key=len, reverse=True):
        apart = all(not region & other or region < other for other in kept)
        if len(region) > 1 and apart:
            kept.append(region)
    alone: list[frozenset[int]] = []
    for inside in (everything, *kept):
        smaller = frozenset(value for region in kept if region < inside for value in region)
        own = [value for value in values if value in inside - smaller]
        outside = [place for place, value in enumerate(values) if value not in inside]
        # In the whole image it is background (the first): max keeps the first of equals.
        left = max(own, key=lambda value: int(touching[values.index(value), outside].sum()), default=None)
        alone += [frozenset({value}) for value in own if value != left]
    return tuple(tuple(sorted(region)) for region in (*kept, *alone))


def _signed_distance(mask: NDArray[np.bool_], reach: int) -> NDArray[np.float64]:
    """Distance in ``reach`` to the border of ``mask (y, x)``, positive inside, in [-1, 1]; 1 or -1 without a border."""
    if mask.all() or not mask.any():
        return np.where(mask, 1.0, -1.0)
    inside, outside = (ndimage.distance_transform_edt(each) for each in (mask, ~mask))
    distance: NDArray[np.float64] = np.clip((inside - outside - np.where(mask, 0.5, -0.5)) / reach, -1, 1)
    return distance


# ------------------------------------------------------------------------------------------------------- offsets


def fitted_offsets(
    scores: NDArray[np.float32], shares: Sequence[float], most: float, rounds: int = 20
) -> tuple[float, ...]:
    """What to add to the scores of each label so that drawn labels have these shares of all pixels.

    Where a network is undecided, the label with the most pixels wins; thin rings are lost. One label after the other
    takes the offset at which it wins as many pixels as it should, ``rounds`` times. The first label, background, keeps
    0; a label without real pixels gets the least there is. None is beyond ``most`` (:attr:`Encoding.most_offset`): a
    label that the network does not draw at all would come as specks where least speaks against it.

    Parameters
    ----------
    scores : of drawn samples, ``(n, label, y, x)``, as :meth:`Encoding.scores` has them.
    shares : of the pixels of real slices, a label; they sum to 1.
    most : largest offset, either way.
    """
    flat = np.moveaxis(scores, 1, 0).reshape(len(shares), -1)
    flat = flat[:, :: max(1, flat.shape[1] >> 22)]  # a few million pixels are enough
    offsets = np.zeros(len(shares), dtype=np.float64)
    for _ in range(rounds):
        for label in range(1, len(shares)):
            wanted = round(shares[label] * flat.shape[1])
            if wanted == 0:
                offsets[label] = -most
                continue
            others = np.delete(flat + offsets[:, None].astype(np.float32), label, axis=0).max(axis=0)
            needed = np.partition(others - flat[label], wanted - 1)[wanted - 1]
            offsets[label] = np.clip(needed + 1e-6, -most, most)
    return tuple(float(offset) for offset in offsets)
