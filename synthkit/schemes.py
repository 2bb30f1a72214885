"""What the images of a dataset are called and what its label values mean: contrasts, labels, regions, colours, means.

A :class:`Scheme` is one object that everything else reads: subjects find files by it, readers check label values by it,
datasets, checkpoints and predictions carry it, metrics take their regions from it, pages their names and colours.
**A label is its name**; values are how one scheme writes it in files, so that datasets of two schemes meet by names.
Another label set is another instance: those with names of their own are in :mod:`synthkit.data.named_schemes`.
Standard library only, so that declarations and command lines may import it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

_Key = TypeVar("_Key", str, int)

#: The label that everything outside of the others has, of value 0 in every scheme.
BACKGROUND = "background"

#: The name under which scores report the mean over :attr:`Scheme.mean_of`.
MEAN = "mean"

#: Colours of labels that a scheme does not know, in turn; from the same palette as those of :data:`BRATS`.
FURTHER_COLOURS = ("#009e73", "#cc79a7", "#e69f00")


@dataclass(frozen=True)
class Contrast:
    """One kind of image.

    Attributes
    ----------
    name : as datasets and options write it, ``t1ce``.
    title : as it is written out, and the name of its folder in the study's PNG layout, ``T1CE``.
    endings : what the names of its files end with, before ``.nii``; in lower case, without ``_`` or ``-``.
    """

    name: str
    title: str
    endings: tuple[str, ...]


@dataclass(frozen=True)
class Label:
    """One value of a label map above background.

    Attributes
    ----------
    name : as datasets write it, ``NCR``.
    value : 1 to 255.
    meaning : in words, ``necrotic core``.
    colour : of this label in every picture, ``#rrggbb``.
    """

    name: str
    value: int
    meaning: str
    colour: str


@dataclass(frozen=True)
class Region:
    """Labels that are scored together; ``labels`` are their names."""

    name: str
    labels: tuple[str, ...]
    meaning: str


@dataclass(frozen=True)
class Scheme:
    """Contrasts and labels of a family of datasets, each in the order in which it is shown.

    Attributes
    ----------
    name : of the scheme.
    family : what its datasets are called in messages, ``BraTS``.
    contrasts : the kinds of image.
    labels : the labels above background.
    nested : regions of several labels. Every label is a region of its own besides, see :attr:`regions`.
    mean_of : the regions whose mean is reported as :data:`MEAN`.
    label_endings : what the names of label files end with, as :attr:`Contrast.endings`.
    brain_contrast : the contrast that shows where there is brain.
    drawn_on : contrasts that labels are drawn over, the best one first.

    Raises
    ------
    ValueError : names or values that are used twice, or a region, a mean or a contrast of something that is not there.
    """

    name: str
    family: str
    contrasts: tuple[Contrast, ...]
    labels: tuple[Label, ...]
    nested: tuple[Region, ...] = ()
    mean_of: tuple[str, ...] = ()
    label_endings: tuple[str, ...] = ("seg",)
    brain_contrast: str = ""
    drawn_on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        me = self.name or "it"
        endings = [*(ending for contrast in self.contrasts for ending in contrast.endings), *self.label_endings]
        for what, names in (
            ("contrast", self.contrast_names),
            ("file ending", endings),
            ("label value", self.values),
            ("region", [region.name for region in self.regions]),
            ("region to take the mean of", self.mean_of),
        ):
            if "" in names:
                raise ValueError(f"{me} has a {what} without a name")
            if twice := [name for name in names if list(names).count(name) > 1]:
                raise ValueError(f"{me} has the {what} {twice[0]} twice")
        if reserved := {BACKGROUND, MEAN} & {region.name for region in self.regions}:
            raise ValueError(f"{me} has a label or region called {min(reserved)}, which means something else")
        if beyond := [label.name for label in self.labels if not 0 < label.value < 256]:
            raise ValueError(f"the value of the label {beyond[0]} of {me} is not 1 to 255")
        known = {label.name for label in self.labels}
        for region in self.nested:
            if not region.labels or set(region.labels) - known:
                raise ValueError(f"the region {region.name} of {me} is not made of its labels")
            if len(set(region.labels)) < len(region.labels):
                raise ValueError(f"the region {region.name} of {me} has a label twice")
        if missing := set(self.mean_of) - {region.name for region in self.regions}:
            raise ValueError(f"{me} has no region {min(missing)} to take the mean of")
        if missing := {*self.drawn_on, self.brain_contrast} - {"", *self.contrast_names}:
            raise ValueError(f"{me} has no contrast {min(missing)}")

    # ----------------------------------------------------------------------------------------------- written, read

    def to_dict(self) -> dict[str, Any]:
        """JSON form, as datasets, checkpoints and predictions carry it: what reading it back gives."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Scheme:
        """From :meth:`to_dict`, read back from JSON.

        Raises
        ------
        ValueError : something is missing, of another type, or contradicts itself.
        """
        try:
            return cls(
                name=str(data["name"]),
                family=str(data["family"]),
                contrasts=tuple(
                    Contrast(str(c["name"]), str(c["title"]), tuple(map(str, c["endings"]))) for c in data["contrasts"]
                ),
                labels=tuple(
                    Label(str(x["name"]), int(x["value"]), str(x["meaning"]), str(x["colour"])) for x in data["labels"]
                ),
                nested=tuple(
                    Region(str(r["name"]), tuple(map(str, r["labels"])), str(r["meaning"])) for r in data["nested"]
                ),
                mean_of=tuple(map(str, data["mean_of"])),
                label_endings=tuple(map(str, data["label_endings"])),
                brain_contrast=str(data["brain_contrast"]),
                drawn_on=tuple(map(str, data["drawn_on"])),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"no label scheme: {error!r}") from error

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Scheme:
        """The scheme of a dataset's description or a checkpoint's metadata: its ``scheme``, else by its ``labels``.

        Records from before schemes were written have only ``labels``, name -> value: those of :data:`BRATS`, or of a
        plugin author's own making.
        """
        if "scheme" in record:
            return cls.from_dict(record["scheme"])
        labels = {str(name): int(value) for name, value in record["labels"].items()}
        return BRATS if labels == BRATS.label_values else cls.of_labels(labels)

    @classmethod
    def of_values(cls, values: Iterable[int]) -> Scheme:
        """Of values alone, background 0 among them or not: named as in :data:`BRATS` where that has them."""
        known = {label.value: label.name for label in BRATS.labels}
        labels = {known.get(value, f"label{value}"): value for value in values if value}
        return BRATS if {BACKGROUND: 0, **labels} == BRATS.label_values else cls.of_labels(labels)

    @classmethod
    def of_labels(cls, label_values: Mapping[str, int]) -> Scheme:
        """A scheme without a name, of labels that are known by name and value alone; contrasts are those of BraTS."""
        names = [name for name, value in label_values.items() if value]
        colours = BRATS.colours(label_values)
        return cls(
            name="",
            family="This dataset",
            contrasts=BRATS.contrasts,
            labels=tuple(Label(name, label_values[name], name, colours[name]) for name in names),
            mean_of=tuple(names),
            brain_contrast=BRATS.brain_contrast,
            drawn_on=BRATS.drawn_on,
        )

    # ------------------------------------------------------------------------------------------------- contrasts

    @property
    def contrast_names(self) -> tuple[str, ...]:
        """Names of the contrasts, in order."""
        return tuple(contrast.name for contrast in self.contrasts)

    @property
    def endings(self) -> dict[str, str]:
        """Ending of a file's name -> the contrast that it holds, or ``seg`` for labels."""
        found = {ending: contrast.name for contrast in self.contrasts for ending in contrast.endings}
        return {**found, **dict.fromkeys(self.label_endings, "seg")}

    def base_contrast(self, contrasts: Sequence[str]) -> int:
        """Position of the contrast that labels are drawn over: the first of :attr:`drawn_on`, else the last."""
        return next((contrasts.index(name) for name in self.drawn_on if name in contrasts), len(contrasts) - 1)

    # ---------------------------------------------------------------------------------------------------- labels

    @property
    def label_values(self) -> dict[str, int]:
        """Label name -> value, background first, in nnU-Net's form."""
        return {BACKGROUND: 0, **{label.name: label.value for label in self.labels}}

    @property
    def label_names(self) -> dict[int, str]:
        """Value -> label name, background first: :attr:`label_values` the other way round."""
        return {value: name for name, value in self.label_values.items()}

    @property
    def values(self) -> tuple[int, ...]:
        """Label values in ascending order, background included."""
        return tuple(sorted(self.label_values.values()))

    def reads(self, other: Scheme) -> dict[int, int] | None:
        """Value in files of ``other`` -> value here of the label of the same name, background included.

        None where ``other`` has a label that is not one of this scheme's.
        """
        here = self.label_values
        there = other.label_values
        return {value: here[name] for name, value in there.items()} if set(there) <= set(here) else None

    # --------------------------------------------------------------------------------------------------- regions

    @property
    def regions(self) -> tuple[Region, ...]:
        """Every label as a region of its own, then the nested ones."""
        return (*(Region(label.name, (label.name,), label.meaning) for label in self.labels), *self.nested)

    @property
    def region_values(self) -> dict[str, tuple[int, ...]]:
        """Region -> the label values that it consists of, ascending; in the order of :attr:`regions`."""
        values = self.label_values
        return {region.name: tuple(sorted(values[name] for name in region.labels)) for region in self.regions}

    @property
    def scored(self) -> tuple[str, ...]:
        """Names under which scores are reported, in the order shown: the regions and :data:`MEAN`."""
        return (*(region.name for region in self.regions), MEAN)

    @property
    def meanings(self) -> dict[str, str]:
        """What each of :attr:`scored` means: ``tumour core: NCR and ET``, ``mean of NCR, ED and ET``."""
        found = {label.name: label.meaning for label in self.labels}
        found |= {region.name: f"{region.meaning}: {enumerated(region.labels)}" for region in self.nested}
        return {**found, MEAN: f"mean of {enumerated(self.mean_of)}"}

    # --------------------------------------------------------------------------------------------------- colours

    def colours(self, label_values: Mapping[str, int]) -> dict[str, str]:
        """Colour ``#rrggbb`` of each of a dataset's labels but background, by name.

        Labels that the scheme does not know take :data:`FURTHER_COLOURS` in turn.
        """
        names = [name for name, value in label_values.items() if value]
        return _coloured(names, {label.name: label.colour for label in self.labels})

    def rgb(self, values: Iterable[int]) -> dict[int, tuple[int, int, int]]:
        """As :meth:`colours`, by value: 0 to 255 of red, green and blue."""
        found = _coloured([value for value in values if value], {label.value: label.colour for label in self.labels})
        return {value: _rgb(colour) for value, colour in found.items()}


def _coloured(keys: Sequence[_Key], known: Mapping[_Key, str]) -> dict[_Key, str]:
    others = [key for key in keys if key not in known]
    further = {key: FURTHER_COLOURS[i % len(FURTHER_COLOURS)] for i, key in enumerate(others)}
    return {key: known.get(key) or further[key] for key in keys}


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def enumerated(names: Sequence[str]) -> str:
    """Names as a sentence lists them: "NCR, ED and ET"."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


#: BraTS up to 2020, as in the study (Akbar et al., Sci Data 11:259, 2024). Since 2023 files have enhancing tumour as 3,
#: which is read as 4. Endings are those of every year; "segm" is what one segmentation of 2020 (subject 355) is called.
#: The study averages the labels, not the nested regions. Sky blue, yellow and vermilion stay apart in every common form
#: of colour blindness, also by lightness (Okabe and Ito 2008, Color Universal Design).
BRATS = Scheme(
    name="brats2018",
    family="BraTS",
    contrasts=(
        Contrast("t1", "T1", ("t1", "t1n", "t1w")),
        Contrast("t1ce", "T1CE", ("t1ce", "t1c", "t1gd", "ct1")),
        Contrast("t2", "T2", ("t2", "t2w")),
        Contrast("flair", "FLAIR", ("flair", "t2f")),
    ),
    labels=(
        Label("NCR", 1, "necrotic core", "#56b4e9"),
        Label("ED", 2, "oedema", "#f0e442"),
        Label("ET", 4, "enhancing tumour", "#d55e00"),
    ),
    nested=(
        Region("TC", ("NCR", "ET"), "tumour core"),
        Region("WT", ("NCR", "ED", "ET"), "whole tumour"),
    ),
    mean_of=("NCR", "ED", "ET"),
    label_endings=("seg", "segm"),
    brain_contrast="t1",
    drawn_on=("t1ce", "flair"),
)
