"""Who subjects to be scored are: whom a model has seen under another id, and which of them are scans of one patient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from synthkit.data.dataset import Dataset
from synthkit.data.patients import by_names, decided, scans_of
from synthkit.data.slices import SliceProtocol
from synthkit.data.subject_files import Subject
from synthkit.data.twins import find_twins, signature_of_subject, signatures_of
from synthkit.errors import DataError, SynthkitError
from synthkit.running.listening import Listener
from synthkit.running.run import Run

_SHOWN = 3


def datasets_of_training(run: Path) -> list[Dataset]:
    """The real datasets that a run of `train` was given, as far as they are still where they were."""
    return [dataset for dataset in datasets_given(run) if dataset.kind == "real"]


def datasets_given(run: Path) -> list[Dataset]:
    """All datasets that a run was given, as far as they are still where they were."""
    try:
        inputs = Run(run).job().inputs
    except SynthkitError:  # a checkpoint alone
        return []
    found = []
    for role, item in inputs.items():
        try:
            dataset = Dataset(Run(run).input(role)) if item.kind == "dataset" else None
        except SynthkitError:
            continue
        if dataset is not None and dataset.digest == item.digest:
            found.append(dataset)
    return found


def patients_said(subjects: Sequence[str], datasets: Iterable[Dataset]) -> dict[str, str]:
    """Subject -> patient of those subjects that the datasets have, in their holdout too."""
    said: dict[str, str] = {}
    for dataset in datasets:
        said |= dataset.patients
    return {subject: said[subject] for subject in subjects if subject in said}


def tell_apart(
    subjects: Mapping[str, Subject],
    runs: Sequence[Path],
    protocol: SliceProtocol,
    patients: Path | str | None,
    listener: Listener,
) -> dict[str, str]:
    """Subject -> patient of the subjects that no training has seen, by what their images show.

    Parameters
    ----------
    subjects : those whose ids no training has learned from, by id.
    runs : of `train`.
    protocol : by which the images of the trainings were made.
    patients : as for :func:`synthkit.data.patients.decided`; by default what the trainings' datasets say, then names.

    Raises
    ------
    DataError : nobody is left, or names leave open which patient is meant.
    """
    datasets = {dataset.digest: dataset for run in dict.fromkeys(runs) for dataset in datasets_of_training(run)}
    with listener.progress("compare people") as view:
        mine = {}
        for n, (name, subject) in enumerate(subjects.items(), start=1):
            mine[name] = signature_of_subject(subject, protocol)
            view.step(n, len(subjects), unit="subject")
        seen = {
            pair.other: f"{pair.other} ({pair.one} of {dataset.path.resolve().name}, correlation {pair.alike:.2f})"
            for dataset in datasets.values()
            for pair in find_twins(signatures_of(dataset.training_part(), partial(view.step, unit="subject")), mine)
        }
    if not datasets:
        listener.note(
            "No real training data are where they were: by ids alone it is told whom the trainings have learned from."
        )
    elif little := [name for name, signature in mine.items() if signature is None]:
        listener.note(
            f"{len(little)} of {len(mine)} subjects have too few slices, or too little in them, to be compared with "
            "those that were trained on."
        )
    if seen:
        more = f" and {len(seen) - _SHOWN} more" if len(seen) > _SHOWN else ""
        listener.warning(
            f"{len(seen)} of {len(subjects)} subjects are left out: by their images they show people whom a training "
            f"has learned from under another id: {', '.join([*seen.values()][:_SHOWN])}{more}."
        )
    unseen = [name for name in subjects if name not in seen]
    if not unseen:
        raise DataError(
            "There is no subject to compare on.",
            f"By their images all {len(seen)} show people whom the trainings have learned from under other ids.",
            "Give subjects of other people.",
            list(seen.values()),
        )
    of = _patients(unseen, datasets.values(), patients, listener)
    for pair in find_twins({name: mine[name] for name in unseen}):
        if of[pair.one] != of[pair.other]:
            listener.warning(f"{pair} show one person, and count as one patient.")
            of = {name: of[pair.one] if patient == of[pair.other] else patient for name, patient in of.items()}
    return of


def _patients(
    subjects: Sequence[str], datasets: Iterable[Dataset], patients: Path | str | None, listener: Listener
) -> dict[str, str]:
    said = {} if patients is not None else patients_said(subjects, datasets)
    rest = [subject for subject in subjects if subject not in said]
    identity = decided(rest, patients)
    for note in identity.notes:
        listener.note(note)
    return {**identity.of, **said}


def unlike_names(patients: Mapping[str, str]) -> dict[str, str]:
    """Subject -> the first scan of its patient, as a job keeps it; none where the subjects' names say the same.

    A job names subjects already, and they get other names where it is published; patients of a table would not.
    """
    said = _first_scans(patients)
    return {} if said == _first_scans(by_names(patients)) else said


def _first_scans(patients: Mapping[str, str]) -> dict[str, str]:
    return {scan: scans[0] for scans in scans_of(patients).values() for scan in scans}
