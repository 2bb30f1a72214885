"""What a generator is asked for besides seeds: label maps that samples are to have, and conditions by name.

Which label map the sample of a seed has does not depend on the other seeds (:mod:`synthkit.running.verbs.label_maps`):
shards, and runs that are taken up again, make the samples of the whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.contract import Asked, Declaration, GeneratorDeclaration, NoParams, describe_params
from synthkit.data.dataset import Dataset
from synthkit.data.format import DESCRIPTION
from synthkit.data.geometry import Geometry, common_axes, common_geometry
from synthkit.data.lineage import is_phantom
from synthkit.data.mask_folders import MaskFolder
from synthkit.errors import DataError, UsageError
from synthkit.registry.parameters import make
from synthkit.registry.registry import discover
from synthkit.running.listening import Listener, counted
from synthkit.running.run import Input, Job, Run, folder_digest
from synthkit.running.verbs.boundary import opened_dataset, opened_folder
from synthkit.running.verbs.label_maps import DatasetMaps, LabelMaps, number_of, size_of
from synthkit.schemes import Scheme, enumerated

if TYPE_CHECKING:
    from synthkit.contract import UInt8Array

_ROLE = "labels"

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
    seeds: Iterable[int],
    listener: Listener,
) -> tuple[dict[str, Input], dict[str, Any]]:
    """Inputs and options of a job that asks a model for something; both are empty where nothing is asked.

    Parameters
    ----------
    metadata : of the model's checkpoint.
    labels : a dataset whose label maps samples are to have (its holdout is never used), or a folder of masks.
    conditions : other conditions by name, as values or as text of the command line.
    seeds : of the samples.

    Raises
    ------
    UsageError : what the generator does not offer, or not as this model was trained, or a value that it does not take.
    DataError : label maps that cannot be read, or that are not of the model's size, contrasts, labels or geometry.
    """
    _check_offered(declaration, metadata, [*(["labels"] if labels is not None else []), *conditions])
    inputs: dict[str, Input] = {}
    options: dict[str, Any] = {}
    if conditions:
        options["conditions"] = _as_given(_values(declaration, metadata, conditions))
    if labels is not None:
        inputs[_ROLE], options["label_maps"] = _maps_input(labels, metadata, seeds, listener)
    return inputs, options


def offered(declaration: Declaration) -> dict[str, str]:
    """What a generator can be asked for, by name, each in words: ``{"volume_ml": "volume_ml (0 to 300 ml)"}``."""
    found: dict[str, str] = {}
    if isinstance(declaration, GeneratorDeclaration):
        trained = f", of a training with {declaration.label_maps_need}=true" if declaration.label_maps_need else ""
        found |= {"labels": f"label maps (--labels{trained})"} if declaration.label_maps else {}
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


def _check_offered(declaration: Declaration, metadata: Mapping[str, Any], wanted: Iterable[str]) -> None:
    """:class:`UsageError` for what a generator cannot be asked for; it says what it offers, and who offers that."""
    mine = offered(declaration)
    for name in wanted:
        if name in mine:
            need = declaration.label_maps_need if isinstance(declaration, GeneratorDeclaration) else ""
            if name == "labels" and need and not metadata["params"].get(need):
                raise UsageError(
                    f"This model of {declaration.name} cannot be asked for label maps.",
                    f"It was trained with {need}=false.",
                    f"Train one with -p {need}=true.",
                )
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


def _maps_input(
    path: Path, metadata: Mapping[str, Any], seeds: Iterable[int], listener: Listener
) -> tuple[Input, dict[str, int]]:
    """The input, and how many of its label maps these seeds get, of how many people, and how many of them are empty."""
    is_dataset = any((folder / DESCRIPTION).is_file() for folder in (path, path / "outputs" / "dataset"))
    if is_dataset:
        dataset = Dataset(path)
        maps: DatasetMaps | MaskFolder = DatasetMaps(dataset, metadata)
        _check_geometry(dataset, metadata, listener)
        found = Input("dataset", source=dataset.path, digest=dataset.digest)
    else:
        maps = MaskFolder(path, Scheme.of_record(metadata), size_of(metadata))
        maps.check()
        if maps.skipped:
            listener.warning(f"Not read from {path}, since they are no pictures: {', '.join(maps.skipped)}.")
        listener.warning(
            f"Whose masks {path} holds is not known: samples with them may show the tumours of people whom their "
            "lineage does not name."
        )
        found = Input("masks", source=path, digest=folder_digest(path))
    return found, _counts(maps, Scheme.of_record(metadata), seeds, listener)


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


def _counts(maps: DatasetMaps | MaskFolder, scheme: Scheme, seeds: Iterable[int], listener: Listener) -> dict[str, int]:
    """Count, and say, the maps that these seeds get, the people whose they are, and in how many each label is."""
    used: dict[int, None] = {}
    for seed in seeds:
        used[number_of(maps, seed)] = None
        if len(used) == len(maps):
            break
    present = []
    with listener.progress("read label maps") as view:
        for number in used:
            present.append({*np.unique(maps.labels(number)).tolist()} - {0})
            view.step(len(present), len(used), unit="map")
    counts = {"n_used": len(used), "n_empty": present.count(set())}
    of = ""
    if isinstance(maps, DatasetMaps) and (people := maps.people([*used])):
        counts["n_people"] = len(people)
        who = counted(len(people), "phantom" if all(map(is_phantom, people)) else "person")
        of = f", of {who.replace('persons', 'people')}"
    parts = [f"{label.name} in {sum(label.value in values for values in present)}" for label in scheme.labels]
    listener.note(
        f"The samples get {len(used):,} of {counted(len(maps), 'label map')}{of}: {', '.join(parts)}; "
        f"{counts['n_empty']} empty."
    )
    if isinstance(maps, MaskFolder) and len(scheme.labels) > 1 and set().union(*present) == {1}:
        name = next((label.name for label in scheme.labels if label.value == 1), "")
        listener.warning(
            f"All masks of these samples hold the value 1 alone, which this model takes for {name}. If they are masks "
            "of something else, save them with the values of its labels."
        )
    return counts


# ------------------------------------------------------------------------------------------------- asked in the run


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
        return None if self.maps is None else self.maps.labels(number_of(self.maps, seed))

    def record(self, seed: int) -> str:
        """What the table of samples says of a seed; the map by its number, since ids may name a patient."""
        number = {} if self.maps is None else {"labels": number_of(self.maps, seed)}
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
    _check_offered(declaration, metadata, [*([_ROLE] if _ROLE in job.inputs else []), *given])
    if _ROLE not in job.inputs and not given:
        return None
    values = _values(declaration, metadata, given)
    if _ROLE not in job.inputs:
        return Asking(None, values, {}, ())
    counts = job.options.get("label_maps", {})
    if job.inputs[_ROLE].kind == "dataset":
        dataset = opened_dataset(run, job, _ROLE)
        maps: LabelMaps = DatasetMaps(dataset, metadata)
        entry = dataset.training_entry()
        lent = (dataset.lineage.get("asked") or {}).get("labels")
        about = {"kind": dataset.kind, "digest": dataset.digest, "n_maps": len(maps), **counts}
        about |= {"asked": lent} if lent else {}
        return Asking(maps, values, about, (entry,))
    folder = opened_folder(run, job, _ROLE)
    maps = MaskFolder(folder, Scheme.of_record(metadata), size_of(metadata))
    about = {"kind": "masks", "digest": job.inputs[_ROLE].digest, "n_maps": len(maps), **counts}
    return Asking(maps, values, about, ())
