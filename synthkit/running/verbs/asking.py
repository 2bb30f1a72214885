"""What a generator is asked for besides seeds: label maps that samples are to have, and conditions by name.

The sample of a seed has the label map of number ``seed % n`` of the n that were given, whichever other seeds are drawn
with it: shards, and runs that are taken up again, make the samples of the whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from synthkit.contract import Asked, Declaration, GeneratorDeclaration, NoParams, describe_params
from synthkit.data.dataset import Dataset
from synthkit.data.format import DESCRIPTION
from synthkit.data.geometry import Geometry, common_axes, common_geometry
from synthkit.data.mask_folders import MaskFolder
from synthkit.data.views import with_scheme
from synthkit.errors import DataError, UsageError
from synthkit.registry.parameters import make
from synthkit.registry.registry import discover
from synthkit.running.listening import Listener, counted
from synthkit.running.run import Input, Job, Run, folder_digest
from synthkit.running.verbs.boundary import opened_dataset, opened_folder
from synthkit.schemes import Scheme, enumerated

if TYPE_CHECKING:
    from synthkit.contract import Samples, UInt8Array

_ROLE = "labels"
_BATCH = 64

# ------------------------------------------------------------------------------------------------ asked on the host


def parse_conditions(given: Iterable[str]) -> dict[str, str]:
    """``["volume_ml=20", "parts=ED,ET"]`` by name; UsageError for what is none, and for a name that comes twice."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = (part.strip() for part in text.partition("="))
        name = name.replace("-", "_")
        if not (name and equals and value):
            raise UsageError(f"--condition {text} asks for nothing.", fix="Write it like --condition volume_ml=20.")
        if name in found:
            raise UsageError(f"--condition names {name} twice.", "A run asks for one value of it.", "Make two runs.")
        found[name] = value
    return found


def asked_for(
    declaration: Declaration,
    metadata: Mapping[str, Any],
    labels: Path | None,
    conditions: Mapping[str, Any],
    listener: Listener,
) -> tuple[dict[str, Input], dict[str, Any]]:
    """Inputs and options of a job that asks a model for something; both are empty where nothing is asked.

    Parameters
    ----------
    metadata : of the model's checkpoint.
    labels : a dataset whose label maps samples are to have (its holdout is never used), or a folder of masks.
    conditions : other conditions by name, as values or as text of the command line.

    Raises
    ------
    UsageError : what the generator does not offer, or a value that it does not take.
    DataError : label maps that cannot be read, or that are not of the model's size, contrasts, labels or geometry.
    """
    _check_offered(declaration, [*(["labels"] if labels is not None else []), *conditions])
    inputs, options = {}, {}
    if conditions:
        options["conditions"] = _as_given(_values(declaration, metadata, conditions))
    if labels is not None:
        inputs[_ROLE] = _maps_input(labels, metadata, listener)
    return inputs, options


def offered(declaration: Declaration) -> dict[str, str]:
    """What a generator can be asked for, by name, each in words: ``{"volume_ml": "volume_ml (0 to 300 ml)"}``."""
    found: dict[str, str] = {}
    if isinstance(declaration, GeneratorDeclaration):
        found |= {"labels": "label maps (--labels)"} if declaration.label_maps else {}
        for about in describe_params(declaration.conditions):
            found[about["name"]] = f"{about['name']} ({_allowed(about)})"
    return found


def _allowed(about: Mapping[str, Any]) -> str:
    choices = about.get("choices")
    if choices == "labels":
        return "names of labels"
    if choices:
        return ", ".join(map(str, choices))
    if "minimum" in about:
        return f"{about['minimum']:g} to {about['maximum']:g} {about.get('unit', '')}".strip()
    return str(about["type"]).removesuffix(" | None")


def _check_offered(declaration: Declaration, wanted: Iterable[str]) -> None:
    """:class:`UsageError` for what a generator cannot be asked for; it says what it offers, and who offers that."""
    mine = offered(declaration)
    for name in wanted:
        if name in mine:
            continue
        others = [n for n, other in sorted(discover().declarations.items()) if name in offered(other)]
        raise UsageError(
            f"{declaration.name} cannot be asked for {'label maps' if name == 'labels' else name}.",
            f"It offers {enumerated([*mine.values()])}." if mine else "It offers nothing but seeds.",
            f"Generators here that offer it: {', '.join(others)}." if others else "No generator here offers it.",
        )


def _values(declaration: Declaration, metadata: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """The object of a generator's conditions; names of labels in the order of the model's scheme, each once."""
    kind = getattr(declaration, "conditions", NoParams)
    reference = f"`synthkit plugins show {declaration.name}`"
    made = asdict(make(kind, given, declaration.name, reference))
    names = [label.name for label in Scheme.of_record(metadata).labels]
    for item in fields(kind):
        value = made[item.name]
        if item.name in given and value in (None, ()):
            raise UsageError(
                f"{item.name}={given[item.name]!r} asks for nothing.", fix="Give a value, or leave it out."
            )
        if value is not None and item.metadata.get("choices") == "labels":
            if unknown := [name for name in value if name not in names]:
                raise UsageError(
                    f"{item.name}={','.join(value)} does not suit this model.",
                    f"It has no label {enumerated(unknown)}; it has {enumerated(names)}.",
                    "Write the names as it does.",
                )
            made[item.name] = tuple(name for name in names if name in value)
    return kind(**made)


def _as_given(values: Any) -> dict[str, Any]:
    """JSON form of the conditions that are asked for."""
    asked = {name: value for name, value in asdict(values).items() if value is not None}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asked.items()}


def _maps_input(path: Path, metadata: Mapping[str, Any], listener: Listener) -> Input:
    is_dataset = any((folder / DESCRIPTION).is_file() for folder in (path, path / "outputs" / "dataset"))
    if is_dataset:
        dataset = Dataset(path)
        maps: LabelMaps = _DatasetMaps(dataset, metadata)
        _check_geometry(dataset, metadata, listener)
        found = Input("dataset", source=dataset.path, digest=dataset.digest)
    else:
        maps = folder = MaskFolder(path, Scheme.of_record(metadata), _size_of(metadata))
        folder.check()
        listener.warning(
            f"Whose masks {path} holds is not known: samples with them may show the tumours of people whom their "
            "lineage does not name."
        )
        found = Input("masks", source=path, digest=folder_digest(path))
    _tell(maps, Scheme.of_record(metadata), listener)
    return found


def _check_geometry(dataset: Dataset, metadata: Mapping[str, Any], listener: Listener) -> None:
    """:class:`DataError` for label maps that lie otherwise than the model's images, or have pixels of another size."""
    recorded = {"the model": metadata.get("protocol") or {}, "the labels": dataset.description.get("protocol") or {}}
    common_geometry(
        {name: Geometry.of(protocol) for name, protocol in recorded.items()},
        "model and the labels",
        "Prepare the labels with the --spacing of the data that the model was trained on.",
    )
    for doubt in common_axes(recorded)[1]:
        listener.warning(doubt)


def _tell(maps: LabelMaps, scheme: Scheme, listener: Listener) -> None:
    """Say how many maps there are, and in how many of them each label is."""
    present = []
    with listener.progress("read label maps") as view:
        for labels in maps.every():
            present.append(set(np.flatnonzero(np.bincount(labels.ravel())).tolist()) - {0})
            view.step(len(present), len(maps), unit="map")
    parts = [f"{label.name} in {sum(label.value in values for values in present)}" for label in scheme.labels]
    listener.note(f"Asked for {counted(len(maps), 'label map')}: {', '.join(parts)}; {present.count(set())} empty.")
    if isinstance(maps, MaskFolder) and len(scheme.labels) > 1 and set().union(*present) == {1}:
        name = next((label.name for label in scheme.labels if label.value == 1), "")
        listener.warning(
            f"All masks hold the value 1 alone, which this model takes for {name}. If they are masks of something "
            "else, save them with the values of its labels."
        )


# ------------------------------------------------------------------------------------------------- asked in the run


class LabelMaps(Protocol):
    """Label maps by number from 0."""

    def __len__(self) -> int: ...
    def labels(self, number: int) -> UInt8Array:
        """Label map uint8 (y, x), a new array, with values of the model's scheme."""

    def every(self) -> Iterator[UInt8Array]:
        """All of them in order."""


class _DatasetMaps:
    """The label maps of what may be trained on in a dataset, for a model; DataError where they do not fit it."""

    def __init__(self, dataset: Dataset, metadata: Mapping[str, Any]) -> None:
        for what, theirs, own in (
            ("sides of images (y, x)", dataset.size, _size_of(metadata)),
            ("contrasts", dataset.contrasts, tuple(metadata["contrasts"])),
        ):
            if theirs != own:
                raise DataError(
                    f"The labels of {dataset.path} do not fit the model.",
                    f"Its {what} are {', '.join(map(str, own))}; those of the dataset are "
                    f"{', '.join(map(str, theirs))}.",
                    "Prepare the subjects with the --size and the --contrasts of the data that the model has learned "
                    "from.",
                )
        scheme = Scheme.of_record(metadata)
        names, own_names = ([label.name for label in one.labels] for one in (dataset.scheme, scheme))
        if {*names} != {*own_names}:
            raise DataError(
                f"The labels of {dataset.path} do not fit the model.",
                f"The model's are {enumerated(own_names)}; those of the dataset are {enumerated(names) or 'none'}.",
                "Give labels of the model's scheme; if files were read by a wrong one, prepare them with --labels.",
            )
        part = dataset.training_part()
        if not len(part):
            raise DataError(
                f"{dataset.path} has no label maps to ask for.",
                "Every sample is held out, and the holdout is never used.",
                "Prepare with a smaller --holdout.",
            )
        self._samples: Samples = with_scheme(part, scheme)

    def __len__(self) -> int:
        return len(self._samples)

    def labels(self, number: int) -> UInt8Array:
        found: UInt8Array = self._samples.read([number])[1][0]
        return found

    def every(self) -> Iterator[UInt8Array]:
        for _, labels in self._samples.batches(_BATCH):
            yield from labels


def _size_of(metadata: Mapping[str, Any]) -> tuple[int, int]:
    return int(metadata["size"][0]), int(metadata["size"][1])


@dataclass(frozen=True)
class Asking:
    """What a run asks a generator for.

    Attributes
    ----------
    maps : the label maps; None where none were given.
    values : an object of the generator's conditions.
    about_labels : what the lineage says of the maps.
    behind : lineage entries of what samples descend from by what was asked.
    """

    maps: LabelMaps | None
    values: Any
    about_labels: Mapping[str, Any]
    behind: tuple[Mapping[str, Any], ...]

    def of(self, seed: int) -> Asked:
        """What the sample of a seed is asked for."""
        return Asked(self.labels(seed), self.values)

    def labels(self, seed: int) -> UInt8Array | None:
        """The label map of a seed, a new array."""
        return None if self.maps is None else self.maps.labels(seed % len(self.maps))

    def record(self, seed: int) -> str:
        """What the table of samples says of a seed; the map by its number, since ids may name a patient."""
        number = {} if self.maps is None else {"labels": seed % len(self.maps)}
        return json.dumps({**number, **_as_given(self.values)})

    def lineage(self, known: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """Parts of a dataset's lineage: what was asked, and what samples descend from beside the ``known`` entries."""
        entries = list(known)
        digests = {entry["digest"] for entry in entries}
        entries += [{**entry, "used": "labels"} for entry in self.behind if entry["digest"] not in digests]
        labels = {"labels": dict(self.about_labels)} if self.about_labels else {}
        return {"training_datasets": entries, "asked": {**labels, **_as_given(self.values)}}

    def check(self, seed: int, labels: Any) -> None:
        """:class:`DataError` for a sample with other labels than its seed was asked for."""
        wanted = self.labels(seed)
        if wanted is not None and not np.array_equal(wanted, labels):
            raise DataError(f"The sample of seed {seed} has other labels than it was asked for.")


def asking_of(run: Run, job: Job, declaration: Declaration, metadata: Mapping[str, Any]) -> Asking | None:
    """What a run asks for, its label maps opened; None where it asks for nothing.

    Raises :class:`DataError` for label maps that have changed since the run was made.
    """
    given = job.options.get("conditions", {})
    _check_offered(declaration, [*([_ROLE] if _ROLE in job.inputs else []), *given])
    if _ROLE not in job.inputs and not given:
        return None
    values = _values(declaration, metadata, given)
    if _ROLE not in job.inputs:
        return Asking(None, values, {}, ())
    if job.inputs[_ROLE].kind == "dataset":
        dataset = opened_dataset(run, job, _ROLE)
        maps: LabelMaps = _DatasetMaps(dataset, metadata)
        entry = dataset.training_entry()
        lent = (dataset.lineage.get("asked") or {}).get("labels")
        about = {
            "kind": dataset.kind,
            "digest": dataset.digest,
            "n_maps": len(maps),
            **({"asked": lent} if lent else {}),
        }
        return Asking(maps, values, about, (entry,))
    folder = opened_folder(run, job, _ROLE)
    maps = MaskFolder(folder, Scheme.of_record(metadata), _size_of(metadata))
    about = {"kind": "masks", "digest": job.inputs[_ROLE].digest, "n_maps": len(maps)}
    return Asking(maps, values, about, ())
