"""Which trainings may be compared: those that differ in their data and their seed alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from synthkit.data.geometry import Geometry, Spacing, differ, in_mm
from synthkit.data.lineage import entries_of
from synthkit.data.slices import SliceProtocol
from synthkit.errors import UsageError
from synthkit.schemes import Scheme


@dataclass(frozen=True)
class Training:
    """What must be alike in all trainings of a comparison: notes of a checkpoint (``synthkit.json``)."""

    name: str
    metadata: Mapping[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """By the name that allows a difference: segmenter, contrasts, size, labels, regions, protocol, orientation,
        voxel size, the weights that it began with (a digest), each parameter but the seed.

        A budget in passes over the data is as large as the data: then their number is a setting too.
        """
        params = {key: value for key, value in self.metadata["params"].items() if key != "seed"}
        if params.get("epochs"):
            own = self.metadata["training_datasets"][: self.metadata.get("n_datasets")]
            params["n_samples"] = sum(entry["n_samples"] for entry in own)
        contrasts = params.pop("contrasts", None) or list(self.metadata["contrasts"])
        scheme = Scheme.of_record(self.metadata)
        return {
            "segmenter": self.metadata["plugin"],
            "contrasts": list(contrasts),
            "size": list(self.metadata["size"]),
            # A label is its name, whatever its value.
            "labels": sorted(label.name for label in scheme.labels),
            "regions": _Regions({region.name: frozenset(region.labels) for region in scheme.nested}),
            "protocol": _look(self.metadata.get("protocol") or {}),
            "orientation": _Orientation.of(self.metadata.get("protocol") or {}),
            "initial": self.metadata.get("initial", "none"),
            "voxel_size": _VoxelSize(Geometry.of(self.metadata.get("protocol") or {}).spacing_mm),
            **params,
        }


@dataclass(frozen=True)
class _Regions:
    """Nested regions, and the labels that they consist of."""

    labels_of: Mapping[str, frozenset[str]]

    def is_that_of(self, other: object) -> bool:
        """No region of both consists of other labels; the reference's are scored, so that one side may lack some."""
        return isinstance(other, _Regions) and all(
            other.labels_of.get(name, labels) == labels for name, labels in self.labels_of.items()
        )

    def __str__(self) -> str:
        return ", ".join(f"{name} of {'/'.join(sorted(labels))}" for name, labels in self.labels_of.items())


def _look(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """What images were made to look like by a recorded protocol, whichever version wrote it; empty where none is.

    Without voxel sizes and orders of axes, see :class:`_VoxelSize` and :class:`_Orientation`.
    """
    if not recorded:
        return {}
    protocol = SliceProtocol.from_dict(recorded).to_dict()
    return {key: value for key, value in protocol.items() if key not in ("name", "orientation", "stored_axes")}


@dataclass(frozen=True)
class _Orientation:
    """Which way images lie: what their protocol asked for (empty without one), and where their axes lead, if known."""

    asked: str
    axes: str | None

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> _Orientation:
        asked = SliceProtocol.from_dict(recorded).orientation if recorded else ""
        return cls(asked, Geometry.of(recorded).axes)

    def is_that_of(self, other: object) -> bool:
        """As far as is known: an order that is not recorded is taken to be the same where the same was asked for."""
        if not isinstance(other, _Orientation):
            return False
        return self.axes == other.axes if self.axes and other.axes else self.asked == other.asked

    def __str__(self) -> str:
        return self.axes or f"{self.asked or 'not recorded'}, its axes not known"


@dataclass(frozen=True)
class _VoxelSize:
    """Voxels of the images along x, y and between slices; None where that is not recorded."""

    spacing_mm: Spacing | None

    def is_that_of(self, other: object) -> bool:
        """As far as is known."""
        if not isinstance(other, _VoxelSize):
            return False
        return not (self.spacing_mm and other.spacing_mm and differ(self.spacing_mm, other.spacing_mm))

    def __str__(self) -> str:
        return in_mm(self.spacing_mm) if self.spacing_mm else "not recorded"


def check_comparable(trainings: Sequence[Training], allowed: Sequence[str] = ()) -> list[str]:
    """Refuse trainings that differ in anything but their data and seed.

    Returns
    -------
    a sentence for each difference that ``allowed`` names.

    Raises
    ------
    UsageError : a difference that is not allowed, or an allowed name that nothing has.
    """
    names = list(dict.fromkeys(key for training in trainings for key in training.settings))
    if unknown := sorted(set(allowed) - set(names)):
        raise UsageError(
            f"There is nothing called {', '.join(unknown)} to differ in.",
            f"The trainings have {', '.join(names)}.",
            "Correct --allow-different.",
        )
    differences = find_differences(trainings)
    if refused := [(name, text) for name, text in differences if name not in allowed]:
        raise UsageError(
            "The trainings cannot be compared.",
            " ".join(text for _, text in refused[:5]),
            "Train every arm with the same settings, or name what may differ: "
            + " ".join(f"--allow-different {name}" for name, _ in refused)
            + ".",
        )
    return [text for _, text in differences]


#: What the trainings of an arm have learned from, by the arm's name.
_LEARNED_FROM = {
    "real": frozenset({"real"}),
    "synthetic": frozenset({"synthetic"}),
    "both": frozenset({"real", "synthetic"}),
}


def check_arms(arms: Mapping[str, Sequence[Training]]) -> None:
    """Refuse trainings in the arm of another kind of images, as far as it is recorded what they were trained on.

    Raises
    ------
    UsageError : trained on real images in the synthetic arm, say.
    """
    for name, trainings in arms.items():
        for training in trainings:
            kinds = frozenset(str(entry.get("kind")) for entry in entries_of(training.metadata))
            own = next((arm for arm, learned in _LEARNED_FROM.items() if learned == kinds), None)
            if own is not None and own != name:
                wanted = " and ".join(sorted(_LEARNED_FROM[name]))
                raise UsageError(
                    f"{training.name} was trained on {' and '.join(sorted(kinds))} images, and is given as --{name}.",
                    f"A ratio with it would not say what training on {wanted} images is worth.",
                    f"Give it as --{own}, and as --{name} a training on {wanted} ones.",
                )


def find_differences(trainings: Sequence[Training]) -> list[tuple[str, str]]:
    """Settings in which trainings differ: their name and a sentence on the first two that do, once each."""
    names = dict.fromkeys(key for training in trainings for key in training.settings)
    found = []
    for name in names:
        for one, other in combinations(trainings, 2):  # what is known of two may not be known of the first
            mine, its = one.settings.get(name), other.settings.get(name)
            if not (mine.is_that_of(its) if isinstance(mine, _Orientation | _Regions | _VoxelSize) else mine == its):
                found.append((name, f"{name} is {mine} in {one.name} and {its} in {other.name}."))
                break
    return found
