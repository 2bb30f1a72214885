"""The refusal of pictures of labels whose values are not those that were meant.

A grey that is no level goes to the nearest one, so a map that is coded in another way would be read as something else
without a word: the values 1, 2 and 4 lie next to the level of background. Values are therefore judged over all
pictures before any is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.data.label_levels import N_VALUES, LabelLevels, names_of_greys, raw_levels, study_levels
from synthkit.data.named_schemes import SCHEMES
from synthkit.errors import DataError
from synthkit.schemes import BRATS, Scheme, enumerated

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Shares of the pixels above background that may be at no level of the study, and are taken to the nearest: of all
#: pictures together, and of one. A handful in one picture says nothing about how it is coded.
MOST_OFF = 0.01
MOST_OFF_IN_PICTURE = 0.05
_HANDFUL = 8

#: With more values than these, labels were blurred or compressed; with fewer, they are coded in another way.
_MANY_VALUES = 16


@dataclass
class LabelCounts:
    """What the pictures of labels hold, by each way in which they may be coded.

    Parameters
    ----------
    asked : the way that the user, or the layout, says; None to see it from the values.
    scheme : of the labels.
    is_said : whether the user or the layout says the scheme; label values alone do not tell one from another.
    by_ids : how ids say it, in words; "" where they do not.
    by_a_four : ids say it of a collection that has a label 4.
    is_newer : names of channels are those of BraTS since 2023, where 4 is never enhancing tumour.
    """

    asked: LabelLevels | None
    scheme: Scheme
    is_said: bool = True
    by_ids: str = ""
    by_a_four: bool = False
    is_newer: bool = False
    found: NDArray[np.int64] = field(default_factory=lambda: np.zeros(N_VALUES, np.int64))
    # Of every way: label value -> samples that have it; name, pixels off and pixels above background of each picture.
    _samples: list[NDArray[np.int64]] = field(default_factory=list)
    _off: list[list[tuple[str, int, int]]] = field(default_factory=list)
    _are_values: set[bool] = field(default_factory=set)
    _n_pictures: int = 0

    def __post_init__(self) -> None:
        both = [study_levels(self.scheme), raw_levels(self.scheme)]
        self._ways = [self.asked] if self.asked else both
        self._samples = [np.zeros(256, np.int64) for _ in self._ways]
        self._off = [[] for _ in self._ways]

    def add(self, name: str, labels: NDArray[Any], *, are_values: bool) -> None:
        """Count one picture, whole numbers (y, x) of 0 to 65535; ``are_values`` if no viewer would show its greys."""
        self._n_pictures += 1
        counts = np.bincount(labels.ravel())
        present = np.flatnonzero(counts)
        self.found[present] += counts[present]
        self._are_values.add(are_values)
        for k, way in enumerate(self._ways):
            self._samples[k][np.unique(way.table[present])] += 1
            off = int(counts[present][~way.is_level[present]].sum())
            if off:
                background = [grey for grey, label in way.levels.items() if label == 0 and grey < counts.size]
                self._off[k].append((name, off, int(labels.size - counts[background].sum())))

    @property
    def values(self) -> list[int]:
        return [int(value) for value in np.flatnonzero(self.found)]

    def decide(self, source: str) -> tuple[LabelLevels, list[str]]:
        """The way in which they are coded, and what was concluded from the values, for the user.

        Raises
        ------
        DataError : values that are no levels: more than :data:`MOST_OFF` and :data:`MOST_OFF_IN_PICTURE` allow, or
            any at all where the way was asked for without ``nearest``.
        """
        notes = []
        k = 1 if not self.asked and self._are_label_values() else 0
        way = self._ways[k]
        off = self._off[k]
        if why := self._open(way):
            raise self._several_schemes(source, why)
        if k == 1:
            notes.append(
                f"Labels are read as label values (they hold {self._listed()}); --label-levels says otherwise."
            )
        there = {int(way.table[value]) for value in self.values} - {0}
        names = [f"{value} {name}" for name, value in self.scheme.label_values.items() if value in there]
        if way.name == "given" and not (self.is_said or way.by_name or self.by_ids) and len(there) == 1:
            raise self._one_value(source)
        if self.by_ids and there:
            notes.append(
                f"They are labels of {self.scheme.name} {self.by_ids}: {enumerated(names)}; --labels names another."
            )
        elif not self.is_said and there:
            notes.append(
                f"Nothing says their scheme: they are taken for those of {self.scheme.name}, {enumerated(names)}; "
                "--labels names another."
            )
        n_off = sum(pixels for _, pixels, _ in off)
        above = sum(count for value, count in enumerate(self.found.tolist()) if way.levels.get(value) != 0)
        wrong = [
            f"{name}: {pixels:,} of {of:,} pixels"
            for name, pixels, of in off
            if pixels > max(_HANDFUL, MOST_OFF_IN_PICTURE * of)
        ]
        # A level of another scheme is not a blurred edge, however few pixels have it.
        strict = way.name != "study" or (not self.is_said and bool(self._fitting()))
        if not way.nearest and n_off and (strict or wrong or n_off > max(_HANDFUL, MOST_OFF * above)):
            if len(self.values) <= _MANY_VALUES:
                some = wrong if len(wrong) < self._n_pictures else []  # of all, a list says nothing
                raise self._other_code(source, way, self._harm(way), some)
            raise self._noisy(source, way, n_off / above, wrong)
        return way, notes

    def pixels(self, way: LabelLevels) -> dict[str, int]:
        """Pixels of each label, by name."""
        return {name: int(self.found[way.table == value].sum()) for name, value in self.scheme.label_values.items()}

    def samples(self, way: LabelLevels) -> dict[str, int]:
        """Samples that have each label, by name."""
        counts = self._samples[self._ways.index(way)]
        return {name: int(counts[value]) for name, value in self.scheme.label_values.items()}

    def off_level(self, way: LabelLevels) -> tuple[int, int]:
        """Pixels that are at no level, and the samples that have such."""
        off = self._off[self._ways.index(way)]
        return sum(pixels for _, pixels, _ in off), len(off)

    def _are_label_values(self) -> bool:
        """Whether values are those of labels: stored as such, or no others fit where the scheme is said."""
        study, raw = (set(way.levels) for way in self._ways)
        found = set(self.values)
        return found <= raw and (self._are_values == {True} or (self._is_known and not found <= study))

    @property
    def _is_known(self) -> bool:
        return self.is_said or bool(self.by_ids)

    def _open(self, way: LabelLevels) -> str:
        """Why the scheme has to be asked for; "" where it is known, or may be taken for the default."""
        found = set(self.values)
        if self.is_said or found == {0}:
            return ""
        if self.by_ids:
            # As in files of subjects: see scheme_choice.
            if way.name == "raw" and found <= {0, 1} and len(self.scheme.labels) > 1:
                return "A mask of one value does not say what part of the tumour it is."
            if self.by_a_four and way.name == "raw" and 3 not in found:
                return (
                    f"{self.by_ids[:1].upper()}{self.by_ids[1:]} a 4 may be a cavity, but no sample has a 3, which "
                    "would be enhancing tumour: to 2021 that was 4."
                )
            mine, usual = names_of_greys(self.scheme), names_of_greys(BRATS)
            if way.name == "study" and found <= set(usual) and any(mine.get(grey) != usual[grey] for grey in found):
                return (
                    f"{self.by_ids[:1].upper()}{self.by_ids[1:]} they would be {self.scheme.name}, but they are grey "
                    "levels of BraTS to 2020 as well."
                )
            return ""
        if self.is_newer:
            return (
                "Channels are called as in BraTS since 2023, whose collections have several label schemes, none with "
                "ET as 4."
            )
        if not self.asked and way.name == "raw" and max(found) != max(self.scheme.values):
            return "They are label values of several label schemes."
        return ""

    @property
    def n_off(self) -> int:
        """Pixels that are at no level of the way that fits best."""
        return min(sum(pixels for _, pixels, _ in off) for off in self._off)

    def _fitting(self) -> list[str]:
        """Other named schemes, one for each set of labels, that have all values, be it as greys of exports."""
        names = {tuple(self.scheme.label_values.items()): ""}
        for scheme in SCHEMES.values():
            if self._fits(scheme):
                names.setdefault(tuple(scheme.label_values.items()), scheme.name)
        return [name for name in names.values() if name]

    def _fits(self, scheme: Scheme) -> bool:
        found = set(self.values)
        return found <= set(scheme.values) or found <= set(study_levels(scheme).levels)

    def _several_schemes(self, source: str, why: str) -> DataError:
        own = [self.scheme.name] if self._fits(self.scheme) else []
        names = [*own, *self._fitting()] or [*SCHEMES]
        options = [f"--labels {name}" for name in names]
        meanings = [
            f"{name}: {enumerated([f'{label.value} {label.name}' for label in SCHEMES[name].labels])}" for name in names
        ]
        return DataError(
            f"The labels of {source} hold {self._listed()}, and nothing says what these mean.",
            why,
            f"Name the scheme: {', '.join(options[:-1])} or {options[-1]}; or a TOML file of your own.",
            meanings,
        )

    def _one_value(self, source: str) -> DataError:
        """The error for maps of one value: a number for it would make a part of the tumour of what may be all of it."""
        return DataError(
            f"The labels of {source} hold {self._listed()}.",
            "A mask of one value does not say what part of the tumour it is.",
            self._which_mask(),
        )

    def _which_mask(self) -> str:
        background, value = (self.values[0], self.values[-1]) if len(self.values) == 2 else (0, self.values[-1])
        whole = SCHEMES["whole-tumour"]
        is_plain = {background, value} in ({*study_levels(whole).levels}, {*whole.values})
        levels = "" if is_plain else f" --label-levels 0={background},1={value}"
        own = self.scheme.labels[-1].name
        one = f"--label-levels 0={background},{own}={value}"
        known = f" --labels {self.scheme.name}" if self.is_said and self.scheme.name in SCHEMES else ""
        return (
            f"Give --labels {whole.name}{levels} if they are of the whole tumour. If they are of one label, name it, "
            f"as in{known} {one}."
        )

    def _listed(self) -> str:
        shown = [f"{value}" for value in self.values[:_MANY_VALUES]]
        return enumerated(shown) if len(self.values) <= _MANY_VALUES else ", ".join([*shown, "..."])

    def _harm(self, way: LabelLevels) -> str:
        expected = f"Labels are expected as {enumerated([*map(str, sorted(way.levels))])}"
        n_lost = int(self.found[~way.is_level & (way.table == 0)].sum())
        if n_lost:
            return f"{expected}; taken to the nearest, {n_lost:,} labelled pixels would become background."
        return f"{expected}."

    def _other_code(self, source: str, way: LabelLevels, why: str, wrong: Sequence[str] = ()) -> DataError:
        values, names = self.values, list(self.scheme.label_values)
        if len(values) == 2 < len(names):
            return DataError(f"The labels of {source} hold {self._listed()}.", why, self._which_mask(), _folded(wrong))
        if len(values) <= len(names):
            pairs = ",".join(f"{self.scheme.label_values[n]}={v}" for n, v in zip(names, values, strict=False))
            in_order = f"--label-levels {pairs} if they are {enumerated(names[: len(values)])} in this order"
            fix = f"Say which label each of them is, as in {in_order}."
        else:  # an order would be a guess that does harm
            fix = (
                "Say with --label-levels, as label=grey, which label each of them is, with nearest after the last if "
                "labels were blurred; or correct the pictures that differ."
            )
        others = self._fitting()
        if way.name != "raw" and set(values) <= set(raw_levels(self.scheme).levels):
            fix = f"These look like label values: give --label-levels raw. Or {fix[0].lower()}{fix[1:]}"
        elif way.name != "study" and set(values) <= set(study_levels(self.scheme).levels):
            fix = f"These are the grey levels of exports: give --label-levels study. Or {fix[0].lower()}{fix[1:]}"
        if others and not self.is_said:
            named = " or ".join(f"--labels {name}" for name in others)
            fix = f"{fix} If they are of another label scheme, name it: {named}."
        return DataError(f"The labels of {source} hold {self._listed()}.", why, fix, _folded(wrong))

    def _noisy(self, source: str, way: LabelLevels, share: float, wrong: list[str]) -> DataError:
        return DataError(
            f"{share:.1%} of the label pixels above background in {source} are at no level.",
            f"The levels are {enumerated([*map(str, sorted(way.levels))])}; the pixels hold {len(self.values)} values, "
            "as after blurring, resizing or JPEG, and the nearest level would leave thin false rims.",
            f"Store labels without loss, or take the nearest all the same: --label-levels {way.spec},nearest.",
            _folded(wrong),
        )


def _folded(lines: Sequence[str]) -> list[str]:
    return [*lines[:20], *([f"... and {len(lines) - 20} more"] if len(lines) > 20 else [])]
