"""What is known of labels before anything is read: what ``--labels`` says, and which contrasts go with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from synthkit.data.channel_names import SEG
from synthkit.data.file_names import Names
from synthkit.data.label_tables import BY_TABLE, TableOfLabels, table_of_labels
from synthkit.data.layouts import group_files
from synthkit.data.raw_layouts import description_of, table_of
from synthkit.data.scheme_choice import scheme_given
from synthkit.data.scheme_ids import Labelled, by_ids
from synthkit.data.subject_files import BadSubject
from synthkit.errors import UsageError
from synthkit.schemes import BRATS, Scheme, enumerated


def known_labels(labels: Scheme | str | None, folder: Path) -> Scheme | None:
    """The scheme that ``--labels`` says of a folder; None where it says nothing.

    Raises
    ------
    UsageError : no such scheme. DataError : labels by a table, and there is not one.
    """
    return scheme_given(labels, _tables_in(folder) if labels == BY_TABLE else ())


def _tables_in(folder: Path) -> list[TableOfLabels]:
    """All tables of labels beside the files of a folder."""
    if not folder.is_dir():
        return []
    grouped = group_files(folder, Names())
    known: dict[Path, TableOfLabels | None] = {}
    tables = [
        table_of(description, place)
        for place in dict.fromkeys([folder, *grouped.raw_folders])
        if (description := description_of(place))
    ]
    files = [file.path for unit in grouped.units for file in unit.files]
    return [*tables, *(table for path in files if (table := table_of_labels(path, folder, known)))]


def default_contrasts(labels: Scheme | str | None, folder: Path) -> tuple[str, ...]:
    """Contrasts of datasets with these labels, where none are asked for; raises as :func:`known_labels`."""
    return (known_labels(labels, folder) or BRATS).contrast_names


def check_contrasts(contrasts: Sequence[str], scheme: Scheme | None, names: Sequence[str]) -> None:
    """UsageError for a contrast that neither the scheme knows nor ``--names`` says how its files end."""
    known = {*(scheme or BRATS).contrast_names, *BRATS.contrast_names, *Names.parse(names, ()).contents}
    if unknown := [name for name in contrasts if name not in known]:
        raise UsageError(
            f"There is no contrast {enumerated(unknown)}.",
            f"Known are {enumerated(sorted(known - {'seg'}))}.",
            f"Say how its files end, --names {unknown[0]}=_ENDING, or give --labels FILE.toml with [contrasts].",
        )


def fewer_contrasts(bad: Sequence[BadSubject], contrasts: Sequence[str], is_all: bool) -> str:
    """What to advise where bad subjects have fewer contrasts than are asked for; "" where something else is wrong.

    ``is_all``: there is no good subject beside them.
    """
    schemes = {scheme.name: scheme for scheme, _ in by_ids([Labelled(one.id, (), ()) for one in bad]).values()}
    if len(schemes) == 1 and (scheme := next(iter(schemes.values()))) and set(contrasts) - set(scheme.contrast_names):
        return f"{scheme.family} has no other image: give --contrasts {','.join(scheme.contrast_names)}."
    missing = {one.missing for one in bad}
    there = [name for name in contrasts if not any(name in names for names in missing)]
    if not is_all or len(missing) != 1 or missing == {()} or SEG in next(iter(missing)) or not there:
        return ""
    without = f"If they have no {enumerated(next(iter(missing)))}, give --contrasts {','.join(there)}."
    return f"{without} Where files have other names, --names says what they are (t1ce=_T1GD,seg=_segm)."
