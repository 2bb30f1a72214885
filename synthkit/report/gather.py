"""What a report is made from: run folders and datasets, found on disk, with a note for all that is missing.

Nothing here raises for the state of a run: a run that failed, that has no result, whose ``job.json`` is damaged or
whose inputs were moved is part of what happened, and the report shows it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any

from synthkit.data.dataset import Dataset
from synthkit.data.format import DESCRIPTION
from synthkit.data.lineage import datasets_behind, entries_of, is_phantom, training_keys
from synthkit.errors import DataError, SynthkitError
from synthkit.files import read_inside
from synthkit.judging.arms import UTILITY
from synthkit.running.checkpoints import read_checkpoint_metadata
from synthkit.running.run import JOB, MAX_JSON_BYTES, RESULT, Job, Run

#: What reading damaged files of an earlier run may raise.
DAMAGE = (SynthkitError, OSError, KeyError, ValueError, TypeError, AttributeError, IndexError)

#: What the parts of a result are, where it has them.
_PARTS: dict[str, type | UnionType] = {
    "status": str,
    "seconds": int | float,
    "backend": str,
    "isolation": dict,
    "container": dict,
    "warnings": list,
    "error": dict | None,
    "outputs": dict,
    "scores": list,
    "verdict": dict,
}


@dataclass
class RunRecord:
    """A run folder and what could be read of it. ``name`` is its path below the folder that all runs share.

    ``also`` are runs that scored the same for other metrics.
    """

    run: Run
    name: str
    job: Job | None
    result: dict[str, Any] | None
    problem: str = ""
    also: tuple[Run, ...] = ()

    @property
    def verb(self) -> str:
        return self.job.verb if self.job else "unknown"

    @property
    def plugins(self) -> tuple[str, ...]:
        return self.job.plugins if self.job else ()

    @property
    def status(self) -> str:
        """ "succeeded", "failed", "no result" or "unreadable"."""
        if self.job is None:
            return "unreadable"
        if self.result is None:
            return "unreadable" if self.problem else "no result"
        return "succeeded" if self.result.get("status") == "succeeded" else "failed"

    @property
    def scores(self) -> list[dict[str, Any]]:
        scores = (self.result or {}).get("scores")
        return [s for s in scores if isinstance(s, dict) and "name" in s] if isinstance(scores, list) else []

    @property
    def subjects(self) -> tuple[str, ...]:
        """Subjects that this run segmented or scored."""
        listed = (self.job.options.get("subjects") if self.job else None) or ()
        scored = (s["of"]["subject"] for s in self.scores if "subject" in (s.get("of") or {}))
        return tuple(dict.fromkeys([*map(str, listed), *map(str, scored)]))


@dataclass
class DatasetRecord:
    """A dataset that a run made or used, or that was given. ``roles`` says for what it was used."""

    dataset: Dataset
    name: str
    roles: set[str] = field(default_factory=set)

    @property
    def n_subjects(self) -> int:
        return len(self.dataset.subjects)


@dataclass
class Material:
    """All runs in the order of their creation, all datasets once each (by digest), and what was not found.

    ``utilities`` are the files of results of ``synthkit utility``.
    """

    runs: list[RunRecord] = field(default_factory=list)
    utilities: list[Path] = field(default_factory=list)
    datasets: list[DatasetRecord] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def of_verb(self, verb: str) -> list[RunRecord]:
        """Runs of this verb that succeeded."""
        return [record for record in self.runs if record.verb == verb and record.status == "succeeded"]

    def of_kind(self, kind: str) -> list[DatasetRecord]:
        return [record for record in self.datasets if record.dataset.kind == kind]

    def by_digest(self, digest: str) -> DatasetRecord | None:
        return next((record for record in self.datasets if record.dataset.digest == digest), None)


def gather(paths: Sequence[Path]) -> Material:
    """Find the runs and datasets at or below ``paths``, and the datasets that the runs used or made.

    Raises
    ------
    DataError : a path does not exist, or there is neither a run nor a dataset.
    """
    run_folders, dataset_folders, utilities = _walk(paths)
    if not run_folders and not dataset_folders:
        where = ", ".join(map(str, paths)) or "nothing"
        raise DataError(
            "There is nothing to report.",
            f"Neither a run nor a dataset was found in {where}.",
            "Give run folders (they hold a job.json), datasets, or folders that hold some.",
        )
    material = Material(runs=_records(run_folders), utilities=utilities)
    collect = _Collector(material)
    for folder in dataset_folders:
        collect.add(folder, "", f"The dataset {folder.name}")
    for record in material.runs:
        for role, item in (record.job.inputs if record.job else {}).items():
            if item.kind == "dataset":
                collect.add(record.run.input(role), role, f"The dataset that {record.name} used as {role}", item.digest)
        if record.verb == "generate" and (record.run.dataset / DESCRIPTION).is_file():
            collect.add(record.run.dataset, "made", f"The dataset that {record.name} made")
    # Real beside synthetic, in this order.
    material.datasets.sort(key=lambda record: record.dataset.kind != "real")
    return material


def _walk(paths: Sequence[Path]) -> tuple[list[Path], list[Path], list[Path]]:
    """Run folders and dataset folders, neither of which is searched inside; and results of ``utility``."""
    runs: dict[Path, Path] = {}
    datasets: dict[Path, Path] = {}
    utilities: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            raise DataError(
                f"There is no folder {path}.", fix="Give a run folder, a dataset, or a folder that holds some."
            )
        for folder, children, files in os.walk(path):
            here = Path(folder)
            if JOB in files:
                runs.setdefault(here.resolve(), here)
                children.clear()
            elif DESCRIPTION in files:
                datasets.setdefault(here.resolve(), here)
                children.clear()
            else:
                children.sort()
                if UTILITY in files:
                    utilities.setdefault(here.resolve(), here / UTILITY)
    return list(runs), list(datasets), list(utilities.values())


def _records(folders: Sequence[Path]) -> list[RunRecord]:
    common = Path(os.path.commonpath([folder.parent for folder in folders])) if folders else Path()
    records = []
    for folder in folders:
        record = RunRecord(Run(folder), folder.relative_to(common).as_posix(), None, None)
        try:
            record.job = record.run.job()
            record.result = _sound(record.run.result())
        except DAMAGE as error:
            record.problem = sentence(error)
        records.append(record)
    return sorted(records, key=lambda r: (r.job.created if r.job else "", r.name))


def _sound(result: dict[str, Any] | None) -> dict[str, Any] | None:
    """The result; :class:`DataError` if a part of it is not what it should be."""
    for key, value in (result or {}).items():
        if not isinstance(value, _PARTS.get(key, object)):
            raise DataError(f"{RESULT} is damaged.", f"Its {key} is {value!r:.80}.", "Make the run again.")
    return result


class _Collector:
    """Opens datasets, keeps each once, and notes those that cannot be opened."""

    def __init__(self, material: Material) -> None:
        self._material = material

    def add(self, path: Path, role: str, what: str, expected: str = "") -> None:
        try:
            dataset = Dataset(path)
            digest = dataset.digest
            # A damaged description shows here.
            dataset.kind, dataset.subjects, training_keys(dataset.training_datasets)
        except DAMAGE as error:
            known = expected and self._material.by_digest(expected)
            if known:
                known.roles.add(role)
                return
            note = f"{what} cannot be shown: {sentence(error)}"
            if note not in self._material.notes:
                self._material.notes.append(note)
            return
        if expected and digest != expected:
            self._material.notes.append(f"{what} has changed since: its digest is {digest}, was {expected}.")
        record = self._material.by_digest(digest)
        if record is None:
            record = DatasetRecord(dataset, _dataset_name(dataset.path))
            self._material.datasets.append(record)
        if role:
            record.roles.add(role)


def _dataset_name(path: Path) -> str:
    """Folder name; of a dataset inside a run, the run's."""
    resolved = path.resolve()
    inside_run = resolved.parent.name == "outputs" and (resolved.parent.parent / JOB).is_file()
    return resolved.parent.parent.name if inside_run else resolved.name


def sentence(error: BaseException) -> str:
    """An error in a sentence or two."""
    if isinstance(error, SynthkitError):
        return " ".join(part for part in (error.what, error.why) if part)
    return f"{type(error).__name__}: {error}."


# -------------------------------------------------------------------------------------------------- lineage


@dataclass(frozen=True)
class TrainedOn:
    """What the model behind a checkpoint was trained on, as entries of :mod:`synthkit.data.lineage`.

    ``behind`` are all that it has learned from: ``datasets``, and what it was validated on. ``metadata`` are the notes
    of the checkpoint.
    """

    checkpoint: Path
    plugin: str
    checkpoint_digest: str
    datasets: tuple[dict[str, Any], ...]
    behind: tuple[dict[str, Any], ...]
    n_subjects: int
    metadata: dict[str, Any]

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset(str(item.get("kind")) for item in self.datasets)

    @property
    def n_samples(self) -> int:
        return sum(int(item.get("n_samples") or 0) for item in self.datasets)


def training_behind(record: RunRecord, material: Material) -> TrainedOn | None:
    """Of an ``evaluate`` run: what the segmenter was trained on whose predictions it scored.

    The way is evaluate run, its prediction, the segment run, its checkpoint; where a link is broken, the digest of the
    checkpoint among the training runs at hand. None if neither leads anywhere.
    """
    predictions = record.run.input("prediction").resolve()
    for find in (_checkpoint_of_segment_run, _checkpoint_of_predictions):
        try:
            checkpoint, digest = find(predictions)
        except DAMAGE:
            continue
        trained = [run.run.checkpoint for run in material.of_verb("train") if _checkpoint_digest(run) == digest]
        for candidate in ([checkpoint] if checkpoint else []) + trained:
            try:
                return _trained_on(candidate, digest)
            except DAMAGE:
                continue
    return None


def _checkpoint_of_segment_run(predictions: Path) -> tuple[Path | None, str]:
    segment = Run(predictions.parent.parent)
    return segment.input("checkpoint"), segment.job().inputs["checkpoint"].digest


def _checkpoint_of_predictions(predictions: Path) -> tuple[Path | None, str]:
    return None, str(
        json.loads(read_inside(predictions, "predictions.json", max_bytes=MAX_JSON_BYTES))["checkpoint_digest"]
    )


def _checkpoint_digest(record: RunRecord) -> str:
    outputs = (record.result or {}).get("outputs") or {}
    return str((outputs.get("checkpoint") or {}).get("digest", ""))


def training_of(record: RunRecord) -> TrainedOn | None:
    """Of a ``train`` run: what its model was trained on."""
    try:
        return _trained_on(record.run.checkpoint, _checkpoint_digest(record))
    except DAMAGE:
        return None


def _trained_on(checkpoint: Path, digest: str) -> TrainedOn:
    metadata = read_checkpoint_metadata(checkpoint)
    return TrainedOn(
        checkpoint=checkpoint.resolve(),
        plugin=str(metadata["plugin"]),
        checkpoint_digest=digest,
        datasets=tuple(entries_of(metadata)),
        behind=tuple(datasets_behind(metadata)),
        n_subjects=len(training_keys(entries_of(metadata))),
        metadata=metadata,
    )


def subjects_behind(material: Material) -> tuple[set[str], set[str]]:
    """Names (hashed where a lineage gives no others) of all subjects behind this report: phantoms, and the others."""
    names: set[str] = set()
    phantoms: set[str] = set()
    for record in material.datasets:
        own = set(record.dataset.subjects)
        names |= own
        if dict(record.dataset.description.get("provenance") or {}).get("phantom"):
            phantoms |= own
        behind = record.dataset.training_datasets
        names |= training_keys(behind)
        phantoms |= training_keys(behind, phantoms_only=True)
    for run in material.runs:
        names.update(run.subjects)
    phantoms |= set(filter(is_phantom, names))
    return phantoms, names - phantoms


def phantoms_among(material: Material) -> str:
    """Whether the subjects behind this report are phantoms: "all", "some" or "no"."""
    phantoms, patients = subjects_behind(material)
    return "no" if not phantoms else "some" if patients else "all"


def grouped(items: Iterable[tuple[str, dict[str, Any]]]) -> list[tuple[dict[str, Any], list[str]]]:
    """Equal dictionaries together, each with the names that have it."""
    groups: list[tuple[dict[str, Any], list[str]]] = []
    for name, value in items:
        for known, names in groups:
            if known == value:
                names.append(name)
                break
        else:
            groups.append((value, [name]))
    return groups
