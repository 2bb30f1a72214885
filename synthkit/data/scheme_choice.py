"""Which label scheme files have: told by ids, names of files, tables and values, checked by the images, or asked.

Nothing is guessed. A value means what the collection of the subject says (its id), else what a table names it, else
what only one meaning of the values found allows; where several remain, or the images contradict, the question is asked
and ``--labels`` answers it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from synthkit.data.label_tables import BY_TABLE, TableOfLabels, scheme_of_table, unknown_names
from synthkit.data.named_schemes import SCHEMES, scheme_named
from synthkit.data.scheme_ids import Labelled, by_ids, fours_without_threes
from synthkit.data.scheme_questions import (
    Doubt,
    best_by_looks,
    counted,
    doubts,
    labels_in_words,
    listed,
    meanings,
    question,
    values_in_words,
    what_helps,
)
from synthkit.errors import DataError
from synthkit.schemes import BRATS, Scheme, enumerated

_SHOWN = 20


@dataclass(frozen=True)
class SchemeChoice:
    """The scheme of a dataset, and how the files of each subject are read into it.

    Attributes
    ----------
    scheme : of the dataset.
    why : how it is known, in words: ``by the ids BraTS-GLI-...``.
    label_values : subject -> every value that its file may hold -> value of ``scheme``.
    notes : what is worth knowing.
    """

    scheme: Scheme
    why: str
    label_values: dict[str, dict[int, int]]
    notes: tuple[str, ...] = ()

    @property
    def in_words(self) -> str:
        """``"brats2023-gli by the ids BraTS-GLI-...: 1 NCR, 2 ED, 3 ET"``."""
        return f"{self.scheme.name or 'of their own'} {self.why}: {labels_in_words(self.scheme)}"

    def to_dict(self) -> dict[str, str]:
        return {"name": self.scheme.name, "why": self.why}


def scheme_given(labels: str | Scheme | None, tables: Iterable[TableOfLabels] = ()) -> Scheme | None:
    """The scheme that ``--labels`` says; None where it says nothing.

    Parameters
    ----------
    labels : a name, a TOML file, :data:`BY_TABLE`, or a scheme.
    tables : those found beside the files.

    Raises
    ------
    UsageError : no such scheme. DataError : by a table, and there is none, or several that differ.
    """
    if labels is None or isinstance(labels, Scheme):
        return labels
    if labels != BY_TABLE:
        return scheme_named(labels)
    schemes = list(dict.fromkeys(scheme_of_table(table) for table in tables))
    if len(schemes) != 1:
        raise DataError(
            "The labels cannot be taken from a table.",
            f"There are {len(schemes)} tables with different labels." if schemes else "There is none.",
            "Name the scheme with --labels, or write it into a TOML file with a table [labels] of name = value.",
        )
    return schemes[0]


# ------------------------------------------------------------------------------------------------------------ deciding


def decide(subjects: Sequence[Labelled], given: Scheme | None = None, option: str = "--labels") -> SchemeChoice:
    """The scheme of files.

    Parameters
    ----------
    subjects : at least one.
    given : what ``option`` says, which wins over everything.

    Raises
    ------
    DataError : values that the given scheme does not have, or a question: values that several schemes have, an id whose
        scheme does not have them, names that no scheme explains, labels that do not look like their names, or subjects
        of schemes that do not go together.
    """
    if given is not None:
        return _as_given(subjects, given, option)
    _refuse_fours_without_threes(subjects, option)
    by_id = by_ids(subjects)
    found: dict[str, tuple[Scheme, str]] = {}
    open_subjects: list[Labelled] = []
    for subject in subjects:
        if subject.table is not None:
            found[subject.id] = (_by_table(subject.table, by_id.get(subject.id), option), _table_said(subject.table))
        elif subject.id in by_id and (subject.style != "mask" or subject.labels - {1}):
            found[subject.id] = by_id[subject.id]
        else:
            open_subjects.append(subject)
    _refuse_unknown_values(subjects, found, option)
    if open_subjects:
        scheme, why = _by_names_or_values(open_subjects, option)
        found |= {subject.id: (scheme, why) for subject in open_subjects}
    _refuse_single_masks(subjects, found, option)
    choice = _in_one(subjects, found)
    notes = _refuse_what_looks_otherwise(subjects, found, option)
    return replace(choice, notes=(*choice.notes, *notes))


def _as_given(subjects: Sequence[Labelled], given: Scheme, option: str) -> SchemeChoice:
    if unknown := [subject for subject in subjects if set(subject.values) - set(given.values)]:
        values = sorted({value for subject in unknown for value in set(subject.values) - set(given.values)})
        raise question(
            f"{counted(unknown)} not the labels of {given.name}: unknown {values_in_words(values)}.",
            subjects,
            option,
            f"{option} says {labels_in_words(given)}.",
        )
    reading = {value: value for value in given.values}
    notes = _doubtful(doubts(subjects, given)[0], len(subjects), f"{given.name}, which {option} says they are")
    return SchemeChoice(given, f"as {option} says", {subject.id: dict(reading) for subject in subjects}, notes)


def _by_table(table: TableOfLabels, by_id: tuple[Scheme, str] | None, option: str) -> Scheme:
    if table.scheme is None:
        raise unknown_names(table, option)
    if by_id and by_id[0].label_values == table.scheme.label_values:
        return by_id[0]
    return table.scheme


def _table_said(table: TableOfLabels) -> str:
    return f"by the names in {table.source.name}"


def _by_names_or_values(subjects: Sequence[Labelled], option: str) -> tuple[Scheme, str]:
    union = frozenset().union(*(subject.labels for subject in subjects))
    styles = {subject.style for subject in subjects}
    if styles == {"classic"} and union <= {1, 2, 4} and union != {1}:
        return BRATS, "by the names of files, which are those of BraTS to 2021"
    fitting = [scheme for scheme in SCHEMES.values() if set(scheme.values) - {0} == union]
    if "new" in styles:  # since 2023 a 4 is never enhancing tumour
        fitting = [scheme for scheme in fitting if scheme.label_values.get("ET") != 4]
    if len(meanings(fitting)) == 1 and "mask" not in styles:
        return fitting[0], f"by the values {values_in_words(union)}, which only this one has"
    raise question(
        f"It is not known which labels {counted(subjects, 'have', 'has')}.",
        subjects,
        option,
        "Neither ids nor names of files say it, and values alone do not.",
    )


def _refuse_fours_without_threes(subjects: Sequence[Labelled], option: str) -> None:
    if unclear := fours_without_threes(subjects):
        raise question(
            f"It is not known which labels {counted(unclear, 'have', 'has')}.",
            unclear,
            option,
            "Their ids allow a cavity as 4, but nobody has a 3, which would be enhancing tumour: to 2021 that was 4.",
        )


def _refuse_unknown_values(subjects: Sequence[Labelled], found: Mapping[str, tuple[Scheme, str]], option: str) -> None:
    wrong = [s for s in subjects if s.id in found and s.labels - set(found[s.id][0].values)]
    if wrong:
        scheme, why = found[wrong[0].id]
        raise question(
            f"It is not known which labels {counted(wrong, 'have', 'has')}.",
            wrong,
            option,
            f"{why[:1].upper()}{why[1:]} they would be {scheme.name or 'what it says'} ({labels_in_words(scheme)}), "
            f"which does not have {values_in_words(wrong[0].labels - set(scheme.values))}.",
            "; or repair or remove it (`synthkit prepare --skip-bad` goes on without it)"
            if len(wrong) < len(subjects)
            else "",
        )


def without_misfits(subjects: Sequence[Labelled], given: Scheme | None) -> dict[str, str]:
    """Subjects that have values which theirs and others' scheme lacks, with the reason; none where most are such."""
    by_id = by_ids(subjects)
    found: dict[str, str] = {}
    for subject in subjects:
        table = subject.table.scheme if subject.table else None
        scheme = given or table or (by_id[subject.id][0] if subject.id in by_id else None)
        if scheme is None and subject.style == "classic":
            scheme = BRATS
        if scheme and (unknown := subject.labels - set(scheme.values)):
            found[subject.id] = (
                f"seg: unknown label value {values_in_words(unknown)} ({scheme.name}: {labels_in_words(scheme)})"
            )
    return found if 2 * len(found) <= len(subjects) else {}


def _refuse_single_masks(subjects: Sequence[Labelled], found: Mapping[str, tuple[Scheme, str]], option: str) -> None:
    """A folder whose only value is 1 is a mask of something, whatever its ids say."""
    groups: dict[str, list[Labelled]] = defaultdict(list)
    for subject in subjects:
        if subject.table is None and len(found[subject.id][0].labels) > 1:
            groups[found[subject.id][0].name].append(subject)
    for group in groups.values():
        if frozenset().union(*(subject.labels for subject in group)) == {1}:
            raise question(
                f"It is not known which labels {counted(group, 'have', 'has')}.",
                group,
                option,
                "A mask of one value does not say what part of the tumour it is.",
            )


def _in_one(subjects: Sequence[Labelled], found: Mapping[str, tuple[Scheme, str]]) -> SchemeChoice:
    """All subjects in one scheme: that of the most, if it has the labels of all; 2018's if it is among them."""
    # By the schemes themselves: two tables of subjects' own have no name to tell them apart.
    count = Counter(scheme for scheme, _ in found.values())
    able = [s for s in count if all(s.reads(other) is not None for other in count)]
    if not able:
        parts = [f"{scheme.name or 'own'} ({labels_in_words(scheme)})" for scheme in count]
        raise DataError(
            "Subjects have labels that do not go together.",
            f"They are {enumerated(parts)}.",
            "Prepare them apart, one folder a scheme; where one of them is not true, say which is: --labels NAME.",
            [
                f"{scheme.name or 'own'}: {listed([s.id for s in subjects if found[s.id][0] == scheme])}"
                for scheme in sorted(count, key=lambda scheme: scheme.name)
            ],
        )
    scheme = min(able, key=lambda s: (s.name != BRATS.name, -count[s], s.name))
    values = {}
    for subject in subjects:
        reading = scheme.reads(found[subject.id][0])
        assert reading is not None  # it is able to read all of them
        zeros = subject.table.zeros if subject.table else ()
        values[subject.id] = {**reading, **dict.fromkeys(zeros, 0)}
    reasons = list(dict.fromkeys(why for _, why in found.values()))
    notes = []
    if translated := [s for s in count if s.label_values != scheme.label_values]:
        those = [f"{count[s]} of {s.name or 'own labels'} ({labels_in_words(s)})" for s in translated]
        if any(value != other for reading in values.values() for value, other in reading.items()):
            notes.append(f"labels of {enumerated(those)} are stored as {scheme.name} ({labels_in_words(scheme)})")
    peds = [subject for subject in subjects if found[subject.id][0].name == "ped" and subject.table is None]
    if peds and not any(4 in subject.labels for subject in peds):
        notes.append(
            "no BraTS-PED subject has the label 4 (oedema): where files are of the release of 2023, whose labels are "
            "1 NCR, 2 ED and 3 ET, give --labels brats2023-gli"
        )
    return SchemeChoice(scheme, " and ".join(reasons[:3]), values, tuple(notes))


# --------------------------------------------------------------------------------------------------------- the images


def _refuse_what_looks_otherwise(
    subjects: Sequence[Labelled], found: Mapping[str, tuple[Scheme, str]], option: str
) -> list[str]:
    """DataError where most subjects of a scheme look otherwise; else a line on each of the others that does."""
    groups: dict[str, list[Labelled]] = defaultdict(list)
    for subject in subjects:
        groups[found[subject.id][0].name].append(subject)
    notes: list[str] = []
    for group in groups.values():
        scheme, why = found[group[0].id]
        doubted, judges = doubts(group, scheme)
        if not doubted:
            continue
        if judges:
            ids = listed([doubt.subject.id for doubt in doubted])
            first = next((doubt for doubt in doubted if doubt.explained), doubted[0])
            raise question(
                f"Labels of {ids} do not look like those of {scheme.name or 'their table'}.",
                group,
                option,
                f"{why[:1].upper()}{why[1:]} they would be {labels_in_words(scheme)}, but in {first.subject.id} "
                f"{first}.",
                helps=what_helps(doubted, f"{option} {scheme.name or BY_TABLE}"),
                judges=judges,
            )
        notes += _doubtful(doubted, len(group), scheme.name or "their table")
    return notes


def _doubtful(doubted: Sequence[Doubt], n_subjects: int, whose: str) -> tuple[str, ...]:
    """A line on each subject whose labels do not look like their names, with what was measured."""
    if not doubted:
        return ()
    lines = []
    for doubt in doubted[:_SHOWN]:
        best = "" if doubt.explained else best_by_looks([doubt.subject], doubt.subject.labels)[0].rstrip(".")
        lines.append(
            f"labels of {doubt.subject.id} do not look like those of {whose}: {doubt}; correct it, or leave it out"
            f"{'.' if best else ''}{best}"
        )
    if len(doubted) > _SHOWN:
        lines.append(f"and so do those of {len(doubted) - _SHOWN} more of {n_subjects} subjects")
    return tuple(lines)
