"""Label volumes in a folder, segmentations of subjects or predictions side by side; whether two are on one grid."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit import events
from synthkit.data.channel_names import SEG
from synthkit.data.file_names import Names, base_name, named_file
from synthkit.data.known_labels import known_labels
from synthkit.data.label_reading import ReadLabels, load_labels, read_as, values_of_file
from synthkit.data.label_tables import TableOfLabels, table_of_labels
from synthkit.data.nifti import read_grid
from synthkit.data.raw_layouts import description_of, refuse_part, table_of
from synthkit.data.scheme_choice import SchemeChoice, decide
from synthkit.data.scheme_ids import Labelled, told_by_name
from synthkit.data.scheme_questions import fitting_in_words, labels_in_words, values_in_words
from synthkit.data.subjects import bad_subjects_error, scan_subjects
from synthkit.errors import DataError
from synthkit.schemes import BRATS, Scheme

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array
    from synthkit.data.subject_files import BadSubject, Subject

#: How names of predictions may end besides.
_OF_PREDICTIONS = ("pred", "prediction")


class LabelFolder:
    """Label volumes in a folder; satisfies :class:`synthkit.contract.Volumes`.

    The folder holds subjects in any layout that ``prepare`` reads (their segmentations are used, the contrasts need not
    be there), or predictions side by side, ``<subject>.nii.gz``, ``<subject>_seg.nii.gz`` or ``<subject>_pred.nii.gz``.

    Their label scheme is what ``labels`` says, else what a ``predictions.json`` of `segment` or a table of labels says
    (nnU-Net leaves its ``dataset.json`` beside predictions), else that of ``reference``, else what
    :mod:`synthkit.data.scheme_choice` makes of ids, names and values. It is decided when it is asked for.

    Parameters
    ----------
    folder : the folder.
    subjects : only these; what is wrong with others does not matter then.
    usable_only : leave out subjects without one usable label volume instead of refusing the folder.
    names : what files are by their endings, as for :func:`synthkit.data.subjects.survey_folder`.
    labels : a scheme, the name of one, a TOML file, or "table".
    reference : label volumes whose scheme these have where nothing else says it, and whose endings of names too.
    decided : what :meth:`decision` of a folder with the same files said.

    Raises
    ------
    DataError : no such folder, nothing in it, two files for one subject, or no labels for a subject asked for.
    """

    def __init__(
        self,
        folder: Path | str,
        subjects: Sequence[str] | None = None,
        *,
        usable_only: bool = False,
        names: Sequence[str] = (),
        labels: Scheme | str | None = None,
        reference: LabelFolder | None = None,
        decided: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.option = "--labels" if reference is None else "--prediction-labels"
        self._given = Scheme.from_dict(decided["scheme"]) if decided else known_labels(labels, self.folder)
        self._decided = dict(decided["values"]) if decided else {}
        self._reference = reference
        self._tables: dict[str, TableOfLabels] = {}
        self._listed: dict[Path, list[str]] = {}
        self._rounding_said = False
        endings = Names.parse(names, (), scheme=self._with_endings())
        found = [] if names else self._predictions(endings)
        if not found:
            good, bad = self._scanned(endings)
            if not usable_only and (bad := [b for b in bad if subjects is None or b.id in subjects]):
                raise self._refused(bad_subjects_error(bad, len(good) + len(bad)))
            found = [(subject.id, subject.seg) for subject in good if subject.seg]
            self._tables = {s.id: s.table for s in good if s.table is not None}
        self._files: dict[str, Path] = {}
        for name, path in found:
            if subjects is not None and name not in subjects:
                continue
            if name in self._files:
                raise DataError(
                    f"{self.folder} holds two label volumes of {name}.",
                    f"They are {self._files[name].name} and {path.name}.",
                    "Remove one of them.",
                )
            self._files[name] = path
        for name in subjects or ():
            self.path(name)

    def _with_endings(self) -> Scheme:
        """A scheme that has the endings of names that these files may have: its own; of predictions those of the
        reference, too, and what says of a file that it is one.
        """
        scheme = self._given or BRATS
        theirs = (*self._reference._with_endings().label_endings, *_OF_PREDICTIONS) if self._reference else ()
        more = [ending for ending in dict.fromkeys(theirs) if ending not in scheme.endings]
        return dataclasses.replace(scheme, label_endings=(*scheme.label_endings, *more))

    def _scanned(self, endings: Names) -> tuple[list[Subject], list[BadSubject]]:
        try:
            return scan_subjects(self.folder, contrasts=(), need_labels=True, names=endings, scheme=self._given)
        except DataError as error:
            raise self._refused(error) from error

    def _refused(self, error: DataError) -> DataError:
        """The error about files that cannot be used; of predictions, which ``--names`` is not about, with their way."""
        if self._reference is None or "--names" not in error.fix:
            return error
        endings = " or ".join(f"NAME_{ending}.nii.gz" for ending in self._with_endings().label_endings)
        return DataError(
            f"The predictions in {self.folder} cannot be used: {error.what[:1].lower()}{error.what[1:]}",
            error.why,
            f"A prediction is NAME.nii.gz, all in one folder, or {endings}. What else its name may end with says "
            f'label_endings = ["gt"] in {self.option} FILE.toml.',
            error.details,
        )

    def _predictions(self, names: Names) -> list[tuple[str, Path]]:
        """Subject and file of label volumes side by side; nothing if the folder holds something else."""
        files = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        flat = [p for p in files if base_name(p.name) and not p.name.startswith(".") and not p.is_dir()]
        said = [named_file(path, names) for path in flat]
        if not flat or any(file and file.content != SEG for file in said):
            return []
        if self._given is None:
            refuse_part(self.folder)
        found = [
            (file.stem if file and file.stem else base_name(path.name) or "", path)
            for path, file in zip(flat, said, strict=True)
        ]
        if self._given is None:
            tables: dict[Path, TableOfLabels | None] = {}
            description = description_of(self.folder)
            whole = table_of(description, self.folder) if description else None
            for name, path in found:
                if table := whole or table_of_labels(path, self.folder, tables):
                    self._tables[name] = table
        return found

    # ------------------------------------------------------------------------------------------------ label scheme

    @property
    def scheme(self) -> Scheme:
        """What the label values mean; DataError that asks where it is not known."""
        return self._choice.scheme

    @functools.cached_property
    def _choice(self) -> SchemeChoice:
        scheme = self._given or (self._scheme_of_run() if not self._tables else None)
        if scheme is None and self._reference is not None and not self._tables:
            scheme = self._reference.scheme
        if scheme is not None:
            values = {value: value for value in scheme.values}
            own = {name: {int(k): v for k, v in of.items()} for name, of in self._decided.items()}
            return SchemeChoice(scheme, "", {name: own.get(name, values) for name in self._files})
        return decide([self._labelled(name) for name in self.subjects], option=self.option)

    @property
    def is_said(self) -> bool:
        """Whether something but the reference says the scheme."""
        return bool(self._given or self._tables or self._reference is None or self._scheme_of_run())

    def decision(self) -> dict[str, Any]:
        """The scheme in JSON, and the values that are read as others by subject."""
        others = {
            name: {str(k): v for k, v in values.items()}
            for name, values in self._choice.label_values.items()
            if any(k != v for k, v in values.items())
        }
        return {"scheme": self.scheme.to_dict(), "values": others}

    def _scheme_of_run(self) -> Scheme | None:
        """What `segment` wrote beside its predictions; None where it wrote no scheme, as before there were several."""
        try:
            notes = json.loads((self.folder / "predictions.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(notes, dict) or "scheme" not in notes:
            return None
        try:
            return Scheme.from_dict(notes["scheme"])
        except (ValueError, TypeError) as error:
            raise DataError(
                f"The label scheme in {self.folder / 'predictions.json'} cannot be read.",
                f"{error}.",
                f"Say it with {self.option}, or segment again.",
            ) from error

    def _labelled(self, subject: str) -> Labelled:
        """What is known of a subject's labels; they are read only where their values matter."""
        path, table = self._files[subject], self._tables.get(subject)
        begin = re.split(r"[-_. ][^-_. ]*$", base_name(path.name) or path.name)[0].lower()
        beside = [name for name in self._names_in(path.parent) if name.lower().startswith(begin) and name != path.name]
        files = (*beside, path.name)
        needed = (table is None or table.scheme is None) and not told_by_name(subject, files)
        return Labelled(subject, files, values_of_file(path) if needed else (), table)

    def _names_in(self, folder: Path) -> list[str]:
        if folder not in self._listed:
            self._listed[folder] = sorted(path.name for path in folder.iterdir())
        return self._listed[folder]

    # ----------------------------------------------------------------------------------------------------- volumes

    @property
    def subjects(self) -> tuple[str, ...]:
        return tuple(sorted(self._files))

    def path(self, subject: str) -> Path:
        """File of a subject; raises :class:`DataError` if there is none."""
        try:
            return self._files[subject]
        except KeyError:
            close = difflib.get_close_matches(subject, self._files, n=3)
            raise DataError(
                f"There are no labels of {subject} in {self.folder}.",
                f"It holds {len(self._files)} subjects" + (f", among them {', '.join(close)}." if close else "."),
                "Give folders whose subjects have the same names.",
            ) from None

    def labels(self, subject: str) -> tuple[UInt8Array, tuple[float, float, float]]:
        """Labels uint8 (x, y, z) with the scheme's values, and the voxel spacing in mm; DataError for other values."""
        path, values = self.path(subject), self._choice.label_values[subject]
        read, volume = load_labels(path)
        if unknown := sorted(set(read.stored) - {0, *values}):
            raise unknown_values_error(path, unknown, read.stored, self.scheme, self.option)
        if read.n_rounded and not self._rounding_said:
            self._rounding_said = True
            events.message(
                f"{self.path(subject).name}: {read.n_rounded:,} voxels are not quite whole numbers and were rounded, "
                "as of labels that were saved from floating point; of other files here this is not said again.",
                level="warning",
            )
        return read_as(read.labels, read.stored, values), volume.spacing_mm

    def stored(self, subject: str) -> ReadLabels:
        """Labels of a subject as its file has them."""
        return load_labels(self.path(subject))[0]

    def grid(self, subject: str) -> tuple[tuple[int, ...], NDArray[np.float64]]:
        """Shape in voxels, and the affine (4, 4) from voxel indices to mm; reads the header alone where it can."""
        shape, affine, _ = read_grid(self.path(subject))
        return shape, affine

    def affine(self, subject: str) -> NDArray[np.float64]:
        """(4, 4) voxel indices -> mm."""
        return self.grid(subject)[1]


def unknown_values_error(
    path: Path,
    unknown: Sequence[int],
    present: Sequence[int],
    scheme: Scheme,
    option: str,
    best: str = "",
    mask_of: str = "WT",
) -> DataError:
    """The error for a file with values that its scheme lacks.

    ``best`` says which scheme fits best, if one does, and ``mask_of`` what a single value would be.
    """
    labels = [value for value in present if value]
    fits = fitting_in_words(labels)
    file = f"give {option} FILE.toml with a table [labels] of name = value"
    if len(labels) == 1:
        what = "the whole tumour" if mask_of == "WT" else mask_of
        file += f", {mask_of} = {labels[0]} for a mask of {what}"
    remedy = f"Say what they are with {option} and one of the names listed, or" if fits else "No known scheme has them:"
    return DataError(
        f"{path.name} has labels that {scheme.name or 'its scheme'} does not have.",
        f"It holds {values_in_words(unknown)}; {scheme.name or 'the scheme'} is {labels_in_words(scheme)}.{best}",
        f"{remedy} {file}.",
        [f"fits {line}" for line in fits],
    )
