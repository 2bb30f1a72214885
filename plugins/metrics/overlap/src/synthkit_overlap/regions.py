"""Which regions a reference and a prediction can be compared in, each with the label values of its own scheme."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from synthkit.errors import DataError
from synthkit.schemes import BACKGROUND, Scheme, enumerated
from synthkit_overlap import Params


@dataclass(frozen=True)
class Regions:
    """The regions that both sides have, by name.

    Attributes
    ----------
    values : region -> label values of it in the reference, and in the prediction; in the order of the reference.
    mean_of : those of them whose mean is reported.
    notes : what is not scored, and why.
    reference, prediction : the schemes.
    """

    values: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    mean_of: tuple[str, ...]
    notes: tuple[str, ...]
    reference: Scheme
    prediction: Scheme

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.values)


def shared_regions(reference: Scheme, prediction: Scheme, params: Params) -> Regions:
    """The labels of the reference, and its nested regions if they are wanted, as far as the prediction has them.

    A region is found in the prediction's scheme by its name, else by the labels that it consists of.

    Raises
    ------
    DataError : there is none.
    """
    labels = {label.name for label in reference.labels}
    wanted = [
        name for name in reference.region_values if params.nested_regions or name in labels or name in reference.mean_of
    ]
    there = {name: found for name in wanted if (found := _values_in(prediction, reference, name)) is not None}
    if not there:
        raise DataError(
            "Reference and prediction have no region in common.",
            f"The reference has {_listed(wanted)}; the prediction has {_listed(prediction.region_values)}.",
            _how_to_compare(reference, prediction, params),
        )
    notes = []
    if lost := [name for name in wanted if name not in there]:
        notes.append(f"not scored: {enumerated(lost)}, which the prediction's scheme does not have")
    if beyond := [label.name for label in prediction.labels if label.name not in reference.region_values]:
        notes.append(f"not scored: {enumerated(beyond)}, which the reference's scheme does not have")
    ours = reference.region_values
    return Regions(
        {name: (ours[name], values) for name, values in there.items()},
        tuple(name for name in reference.mean_of if name in there),
        tuple(notes),
        reference,
        prediction,
    )


def _values_in(prediction: Scheme, reference: Scheme, region: str) -> tuple[int, ...] | None:
    if region in prediction.region_values:
        return prediction.region_values[region]
    parts = next(r.labels for r in reference.regions if r.name == region)
    values = prediction.label_values
    return tuple(sorted(values[part] for part in parts)) if set(parts) <= set(values) else None


def _how_to_compare(reference: Scheme, prediction: Scheme, params: Params) -> str:
    if set(reference.region_values) & set(prediction.region_values):  # only nested ones
        return "Score nested regions: -p nested_regions=true, without a protocol that leaves them out."
    whole = max(reference.nested, key=lambda region: len(region.labels), default=None)
    parts = ", ".join(f'"{label.name}"' for label in prediction.labels)
    region = (
        f", or give it a region of the reference's, `[regions]` and below it `{whole.name} = [{parts}]`"
        if whole
        else ""
    )
    return (
        f"They were read as {_name(reference)} and {_name(prediction)}: name the label schemes that the files have. In "
        f"the TOML file of a scheme of one's own, call the labels as the reference does{region}."
    )


def labels_in_words(scheme: Scheme) -> str:
    """``0 background, 1 NCR (necrotic core)``."""
    return enumerated([f"0 {BACKGROUND}", *(f"{x.value} {x.name}{_meaning(x.name, x.meaning)}" for x in scheme.labels)])


def _meaning(name: str, meaning: str) -> str:
    return "" if meaning == name else f" ({meaning})"


def _name(scheme: Scheme) -> str:
    return scheme.name or f"a scheme of {labels_in_words(scheme)}"


def _listed(names: Iterable[str]) -> str:
    return enumerated([*names])
