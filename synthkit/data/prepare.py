"""From a folder of subjects to a dataset: look at every subject first, then write.

Two passes. The first reads and checks all subjects and applies the slice rule, so that everything that can be wrong is
known, and said, before anything is written; it costs about as much as reading the files. The second writes; it reads
again what did not fit into memory. Both go over subjects in parallel, a few at a time, in a fixed order: the result
does not depend on the number of workers.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from synthkit.contract import Sample
from synthkit.data.contact_sheet import ContactSheet, complete_from
from synthkit.data.dataset import Dataset
from synthkit.data.geometry import common_geometry
from synthkit.data.header_scale import check_scales
from synthkit.data.kept_volumes import MOST_BYTES, KeptVolumes
from synthkit.data.known_labels import check_contrasts, fewer_contrasts, known_labels
from synthkit.data.patients import decided, patient_behind
from synthkit.data.prepared import PreparedSubject, PreparedSummary
from synthkit.data.scheme_choice import SchemeChoice
from synthkit.data.slice_rule import no_slice_error
from synthkit.data.slices import SliceProtocol, Slices, slice_volume
from synthkit.data.splits import Holdout, Split, parse_holdout, split_subjects, with_fewer_to_train_on
from synthkit.data.subject_files import BadSubject, Subject
from synthkit.data.subjects import FoundSubjects, SubjectError, bad_subjects_error, load_subject, survey_folder
from synthkit.data.survey import SurveyedSubject, choose_scheme, notes_of_all, survey
from synthkit.data.twins import find_twins, settled
from synthkit.data.volume_checks import NO_IMAGE
from synthkit.data.writer import DatasetWriter, check_replaceable, replacing
from synthkit.errors import UsageError
from synthkit.registry.provenance import versions
from synthkit.schemes import Scheme, enumerated

_T = TypeVar("_T")
_R = TypeVar("_R")

# So many are read in seconds: what is wrong with them is said before a holdout that cannot be. Of more, the holdout is
# refused before minutes of reading.
_FEW_SUBJECTS = 20
# All pairs of so many are compared in seconds; progress is shown for more.
_COMPARED_AT_ONCE = 300

#: Called with the pass ("check", "compare" or "write"), how many subjects are done, and of how many.
Pass = Literal["check", "compare", "write"]
PASSED: Mapping[Pass, str] = {"check": "checked", "compare": "compared", "write": "written"}
OnProgress = Callable[[Pass, int, int], None]


def prepare(
    subjects_dir: Path | str,
    out: Path | str,
    *,
    protocol: SliceProtocol | None = None,
    labels: Scheme | str | None = None,
    holdout: Holdout | str = "0",
    seed: int = 0,
    patients: Path | str | None = None,
    training_patients: int | None = None,
    names: Sequence[str] = (),
    skip_bad: bool = False,
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    on_progress: OnProgress | None = None,
) -> PreparedSummary:
    """Make a dataset of real slices from a folder of subjects.

    Parameters
    ----------
    subjects_dir : folder of subjects in any layout that :mod:`synthkit.data.layouts` or
        :mod:`synthkit.data.raw_layouts` knows, each with a segmentation.
    out : folder to write; absent or empty, unless ``resume`` or ``overwrite`` (which replaces a dataset, nothing else).
    protocol : how volumes become slices; the study's by default.
    labels : what label values mean: a scheme, the name of one, a TOML file, or "table"; by default ids, names, tables
        and values of files say it, see :mod:`synthkit.data.scheme_choice`.
    holdout, seed : see :func:`synthkit.data.splits.split_subjects`; only usable subjects are split.
    patients : a table of which patient each subject is, or "one-per-subject"; by default the names say it, see
        :func:`synthkit.data.patients.decided`.
    training_patients : keep only so many patients to train on, drawn by ``seed``; the holdout stays whole.
    names : what files are by their endings, ``t1ce=_T1GD,seg=_segm``; they win over the known ones.
    skip_bad : go on without bad subjects. By default one of them stops everything, before anything is written.
    workers : subjects in work at the same time; by default one a core, at most 8. Each takes up to 0.2 GB,
        and up to 0.27 GB of what was read is kept.
    dry_run : check every subject and return the summary, write nothing.
    on_progress : called from this thread after every subject of each pass ("compare": of many, some at a time).

    Raises
    ------
    DataError : bad subjects (each is in ``details`` with its reason), labels that may mean several things, no
        subject, no slice kept at all, voxels of different sizes or headers that look wrong by a factor, names that
        leave open which patient is meant, a table of patients that does not fit, or one person under two ids by what
        the images show (see :mod:`synthkit.data.twins`).
    UsageError : a holdout that cannot be, or an output that may not be written.
    """
    protocol = protocol or SliceProtocol()
    holdout = parse_holdout(holdout) if isinstance(holdout, str) else holdout
    source, target = Path(subjects_dir), Path(out)
    _check_target(source, target, resume=resume, overwrite=overwrite)
    given = known_labels(labels, source)
    check_contrasts(protocol.contrasts, given, names)
    folder = survey_folder(source, protocol.contrasts, names=names, scheme=given)
    found, bad = folder.good, folder.bad
    n_workers = workers or min(8, os.cpu_count() or 1)
    identity = decided([subject.id for subject in found], patients)
    impossible = _refused_holdout(folder, holdout, seed, training_patients, identity.of)
    if impossible and bad and not skip_bad:
        raise bad_subjects_error(
            bad,
            len(found) + len(bad),
            _fix_of_bad(bad, len(found), protocol.contrasts),
            (*folder.notes, str(impossible)),
        )
    if impossible and len(found) > _FEW_SUBJECTS:
        raise _with_bad(impossible, bad)

    checked: list[SurveyedSubject] = []
    volumes = None if dry_run else KeptVolumes(MOST_BYTES)
    for n, result in enumerate(_in_order(lambda s: survey(s, protocol, volumes), found, n_workers), start=1):
        if isinstance(result, BadSubject):
            bad.append(result)
        else:
            checked.append(result)
        _report(on_progress, "check", n, len(found))
    bad.sort(key=lambda subject: subject.id)
    if bad and not (skip_bad and checked):
        fix = _fix_of_bad(bad, len(checked), protocol.contrasts)
        raise bad_subjects_error(bad, len(checked) + len(bad), fix, folder.notes)
    check_scales({c.subject.id: c.grid for c in checked})
    checked, choice, misfits = choose_scheme(checked, given, skip_bad)
    bad = sorted([*bad, *misfits], key=lambda subject: subject.id)
    many = on_progress if len(checked) > _COMPARED_AT_ONCE else None
    twins = find_twins({c.subject.id: c.signature for c in checked}, on_progress=partial(_report, many, "compare"))
    identity = settled(identity, twins)
    try:
        split = split_subjects([c.subject.id for c in checked], holdout, seed, identity.of)
        if training_patients is not None:
            split = with_fewer_to_train_on(split, training_patients, seed, identity.of)
    except UsageError as error:
        raise _with_bad(error, bad, identity.notes) from None
    checked = [c for c in checked if c.subject.id in split]
    geometry = common_geometry({c.subject.id: c.geometry for c in checked})
    summary = PreparedSummary(
        path=target,
        protocol=protocol,
        holdout=holdout,
        seed=seed,
        subjects=tuple(_row(c, identity.of[c.subject.id], split[c.subject.id], choice) for c in checked),
        bad_subjects=tuple(bad),
        geometry=geometry,
        labels=choice,
        notes=(*choice.notes, *folder.notes, *notes_of_all(checked), *identity.notes),
    )
    if summary.n_samples == 0:
        raise no_slice_error([c.subject for c in checked], protocol)
    if volumes is None:
        return summary
    sheet = ContactSheet(protocol.contrasts, choice.scheme, geometry.axes)
    by_id = {c.subject.id: c.subject for c in checked}
    with replacing(target, overwrite and not resume):
        n_resumed = _write(summary, by_id, volumes, source, n_workers, resume, on_progress, sheet)
    complete_from(sheet, Dataset(target), split)
    sheets = sheet.write(target, [subject.id for subject in summary.subjects])
    return PreparedSummary(**{**vars(summary), "n_resumed": n_resumed, "contact_sheets": sheets})


def _fix_of_bad(bad: Sequence[BadSubject], n_good: int, contrasts: Sequence[str]) -> str:
    """What to do about bad subjects; nothing that would not help."""
    if fewer := fewer_contrasts(bad, contrasts, not n_good):
        return fewer
    ways = [
        "Do what the lines advise."
        if any("--" in b.reason or "`" in b.reason for b in bad)
        else "Repair or remove them."
    ]
    if any("affines disagree" in b.reason for b in bad):
        ways.append(
            "Where affines disagree, resample the file to the grid of the others by its affine, labels with nearest "
            "neighbours; one that was saved without an affine (identity) and is in their order gets theirs."
        )
    masks = [name for name in contrasts if any(f"{name} {NO_IMAGE}" in b.reason for b in bad)]
    if masks and (left := [name for name in contrasts if name not in masks]):
        ways.append(f"Where there is no image of {enumerated(masks)}, give --contrasts {','.join(left)}.")
    if n_good:
        ways.append("--skip-bad goes on without them.")
    if any(subject.missing or "no file in its folder" in subject.reason for subject in bad):
        ways.append("Where files have other names, --names says what they are (t1ce=_T1GD,seg=_segm).")
    return " ".join(ways)


def _refused_holdout(
    folder: FoundSubjects,
    holdout: Holdout,
    seed: int,
    training_patients: int | None,
    patient_of: Mapping[str, str],
) -> UsageError | None:
    """Why the holdout cannot be, whatever reading the subjects may find."""
    try:
        # Bad subjects may still leave the split when they are known.
        ids = [*(subject.id for subject in folder.good), *(subject.id for subject in folder.bad)]
        possible = split_subjects(ids, holdout, seed, patient_of)
        if training_patients is not None:
            with_fewer_to_train_on(possible, training_patients, seed, patient_of)
    except UsageError as error:
        return error
    return None


def _with_bad(error: UsageError, bad: Sequence[BadSubject], notes: Sequence[str] = ()) -> UsageError:
    """The error with the subjects that are left out and who is who, without which it is hard to understand."""
    left_out = [f"left out {subject}" for subject in bad]
    return UsageError(error.what, error.why, error.fix, [*error.details, *notes, *left_out])


def _row(subject: SurveyedSubject, patient: str, split: Split, choice: SchemeChoice) -> PreparedSubject:
    return PreparedSubject(
        id=subject.subject.id,
        patient=patient,
        split=split,
        kept=subject.kept,
        n_dropped=subject.n_dropped,
        label_voxels=subject.label_voxels(choice.scheme),
        negative_voxels=subject.negative_voxels,
        notes=subject.notes,
    )


# ------------------------------------------------------------------------------------------------ second pass: write


def _write(
    summary: PreparedSummary,
    subjects: Mapping[str, Subject],
    volumes: KeptVolumes,
    source: Path,
    n_workers: int,
    resume: bool,
    on_progress: OnProgress | None,
    sheet: ContactSheet,
) -> int:
    described = summary.to_dict()
    recorded = {key: described.pop(key) for key in ("protocol", "holdout", "seed")}
    protocol = {**recorded.pop("protocol"), **recorded}
    writer = DatasetWriter(
        summary.path,
        contrasts=summary.protocol.contrasts,
        scheme=summary.labels.scheme,
        size=(summary.protocol.size, summary.protocol.size),
        protocol=protocol,
        provenance={"command": "prepare", "subjects": source.name, "versions": versions(), "summary": described},
        resume=resume,
    )
    with writer:
        n_resumed = writer.n_samples
        done = _written(summary.subjects, writer.samples)
        todo = [row for row in summary.subjects[done:] if row.kept]
        _report(on_progress, "write", len(summary.subjects) - len(todo), len(summary.subjects))

        def slices_of(row: PreparedSubject) -> Slices:
            subject = subjects[row.id]
            return slice_volume(volumes.take(subject) or load_subject(subject), summary.protocol)

        results = _in_order(slices_of, todo, n_workers)
        for n, (row, slices) in enumerate(zip(todo, results, strict=True), start=1):
            if slices.slice_indices != row.kept or slices.labels is None:
                raise SubjectError(row.id, "its files changed while they were being read", "Run the command again.")
            writer.append(slices.images, slices.labels, _rows(row))
            sheet.add(row.id, row.split, row.kept, slices.images, slices.labels)
            _report(on_progress, "write", len(summary.subjects) - len(todo) + n, len(summary.subjects))
    return n_resumed


def _rows(subject: PreparedSubject) -> list[dict[str, Any]]:
    of = {"split": subject.split, "subject": subject.id, "patient": subject.patient}
    return [{"id": f"{subject.id}_{z:03d}", "slice": z, **of} for z in subject.kept]


def _written(subjects: Sequence[PreparedSubject], samples: Sequence[Sample]) -> int:
    """How many of the subjects an interrupted command has written; its samples have to be the first of this one's."""
    position = 0
    for n, subject in enumerate(subjects):
        if position == len(samples):
            return n
        expected = [(row["id"], row["split"], row["patient"]) for row in _rows(subject)]
        there = [(row.id, row.split, patient_behind(row)) for row in samples[position : position + len(expected)]]
        if there != expected:
            break
        position += len(expected)
    else:
        if position == len(samples):
            return len(subjects)
    raise UsageError(
        "The dataset begun here is of other subjects.",
        f"It differs from what this command would write at sample {position}.",
        "Give the folder of subjects and the --patients it was begun with, or --overwrite.",
    )


# ------------------------------------------------------------------------------------------------------------ output


def _check_target(source: Path, target: Path, *, resume: bool, overwrite: bool) -> None:
    here, there = target.resolve(), source.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise UsageError(
            f"The output {target} and the subjects {source} overlap.",
            "Subjects are only read.",
            "Choose an output outside of the folder of subjects.",
        )
    if not target.exists():
        return
    if not target.is_dir() or (any(target.iterdir()) and not overwrite and not resume):
        raise UsageError(
            f"The output {target} {'is not empty' if target.is_dir() else 'is not a folder'}.",
            "Nothing is overwritten unasked.",
            "Choose another folder, or give --overwrite or --resume.",
        )
    check_replaceable(target)


# ---------------------------------------------------------------------------------------------------------- parallel


def _in_order(function: Callable[[_T], _R], items: Iterable[_T], n_workers: int) -> Iterator[_R]:
    """``map`` over threads, in order, with at most ``n_workers`` + 1 results in work or waiting.

    Threads do: decompression, numpy and zstd all release the interpreter lock.
    """
    waiting: deque[Future[_R]] = deque()
    pool = ThreadPoolExecutor(n_workers, thread_name_prefix="synthkit-prepare")
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > n_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _report(on_progress: OnProgress | None, phase: Pass, done: int, total: int) -> None:
    if on_progress is not None:
        on_progress(phase, done, total)
