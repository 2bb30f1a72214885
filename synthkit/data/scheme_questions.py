"""The question which label scheme files have: values found, the schemes that fit them, and what the images tell."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from synthkit.data.contrast_looks import exchanged_in_words
from synthkit.data.label_looks import contradicted, contradiction, explained_by_exchange, judged, supported
from synthkit.data.named_schemes import SCHEMES, is_of_tumours
from synthkit.data.scheme_ids import Labelled
from synthkit.errors import DataError
from synthkit.schemes import Scheme, enumerated

_SOME = 5
# No label map that schemes are asked about has more values.
_MOST_VALUES = 32


def labels_in_words(scheme: Scheme) -> str:
    """``"1 NCR, 2 ED, 3 ET"``."""
    return ", ".join(f"{label.value} {label.name}" for label in sorted(scheme.labels, key=lambda label: label.value))


@dataclass(frozen=True)
class Doubt:
    """What the images of one subject say against its labels, and what would explain it.

    Attributes
    ----------
    why : in words, with what was measured.
    labels : names of the labels that it is about; none of all together.
    mirrored : labels fit the images mirrored or turned.
    swapped : labels fit the images of another subject, and that one's labels its own.
    copied : T1 and T1ce are one image, in which nothing enhances.
    exchanged : contrast -> the one that it seems to be, if that explains it.
    """

    subject: Labelled
    why: str
    labels: tuple[str, ...] = ()
    mirrored: bool = False
    swapped: bool = False
    copied: bool = False
    exchanged: Mapping[str, str] = field(default_factory=dict)

    @property
    def explained(self) -> bool:
        return bool(self.mirrored or self.swapped or self.copied or self.exchanged)

    def __str__(self) -> str:
        explained = "t1 and t1ce are one image" if self.copied else ""
        if self.exchanged:
            explained = exchanged_in_words(self.exchanged)
        return f"{self.why}{f': {explained}' if explained else ''}"


def doubts(subjects: Sequence[Labelled], scheme: Scheme) -> tuple[list[Doubt], list[Labelled]]:
    """Subjects whose images speak against their labels; and where these are most, all that say anything of it.

    Of a label that few subjects have the others say nothing: then most of those that have it count, unless it is one
    subject among many.
    """
    telling = [subject for subject in subjects if subject.looks]
    found = [doubt for subject in telling if (doubt := _doubt(subject, scheme))]
    if 2 * len(found) > len(telling):
        return found, telling
    for labels in {doubt.labels for doubt in found if doubt.labels}:
        about = [doubt for doubt in found if doubt.labels == labels]
        having = [s for s in telling if {scheme.label_values[name] for name in labels} <= set(s.looks)]
        if 2 * len(about) > len(having) and (len(about) > 1 or 2 * len(about) >= len(telling)):
            return found, having
    return found, []


def _doubt(subject: Labelled, scheme: Scheme) -> Doubt | None:
    if (other := subject.whose) and is_of_tumours(scheme):
        return Doubt(subject, f"its labels fit the images of {other}, and those of {other} its images", swapped=True)
    if subject.places and subject.places.are_elsewhere and is_of_tumours(scheme):
        return Doubt(subject, str(subject.places), mirrored=True)
    why, labels = contradicted(subject.looks, scheme)
    if not why:
        return None
    if ("t1", "t1ce") in subject.copies:
        return Doubt(subject, why, labels, copied=True)
    exchanged = subject.exchanged
    if not exchanged and explained_by_exchange(subject.looks, scheme):
        exchanged = {"t1": "t1ce", "t1ce": "t1"}
    return Doubt(subject, why, labels, exchanged=exchanged)


def what_helps(found: Sequence[Doubt], goes_on: str) -> str:
    """What to do where most doubts have one explanation; "" where they have none. ``goes_on`` insists on the labels."""
    mirrored = [doubt for doubt in found if doubt.mirrored]
    exchanged = [doubt for doubt in found if doubt.exchanged]
    if 2 * sum(doubt.copied for doubt in found) > len(found):
        return f"Put the T1ce in place of the copy; to go on with what is there, give {goes_on}."
    swapped = [doubt.subject for doubt in found if doubt.swapped]
    if 2 * len(swapped) > len(found):
        pairs = {tuple(sorted((subject.id, subject.whose))) for subject in swapped}
        return (
            f"Exchange the label maps of {'; '.join(' and '.join(pair) for pair in sorted(pairs))}; if they lie where "
            f"they belong, {goes_on} goes on."
        )
    if 2 * len(mirrored) > len(found):
        return (
            "Turn the label maps to the array order of their images, or put the right ones in place of another "
            f"subject's; if they lie where they belong, {goes_on} goes on."
        )
    if 2 * len(exchanged) <= len(found):
        return ""
    first = exchanged[0]
    names = ",".join(
        f"{like}={first.subject.endings[name]}"
        for name, like in first.exchanged.items()
        if name in first.subject.endings
    )
    renamed = f", or read them so: --names {shlex.quote(names)}" if names else ""
    return f"Give the files the names of what they show{renamed}; if they are named right, {goes_on} goes on."


def meanings(schemes: Iterable[Scheme]) -> list[list[Scheme]]:
    """Schemes by what their values mean."""
    found: dict[tuple[tuple[str, int], ...], list[Scheme]] = defaultdict(list)
    for scheme in schemes:
        found[tuple(sorted(scheme.label_values.items()))].append(scheme)
    return list(found.values())


def fitting_in_words(values: Iterable[int]) -> list[str]:
    """Known schemes that have these values, a line a meaning: ``"msd or nnunet-brats: 1 ED, 2 NCR, 3 ET"``."""
    present = set(values)
    return [
        f"{' or '.join(scheme.name for scheme in group)}: {labels_in_words(group[0])}"
        for group in meanings(scheme for scheme in SCHEMES.values() if present <= set(scheme.values))
    ]


def best_by_looks(subjects: Sequence[Labelled], values: frozenset[int]) -> tuple[str, bool]:
    """The one meaning that the images of most subjects support, in words, and whether they tell all of its labels.

    "" where others are as likely. Nothing is said of labels that lie elsewhere, or of images that were exchanged: no
    meaning is right of them.
    """
    telling = [subject for subject in subjects if subject.looks]
    odd = [s for s in telling if s.exchanged or s.copies or s.whose or (s.places and s.places.are_elsewhere)]
    if 2 * len(odd) >= max(1, len(telling)):
        return "", False
    groups = meanings(scheme for scheme in SCHEMES.values() if values <= set(scheme.values))
    left = [
        group
        for group in groups
        if 2 * sum(bool(contradiction(subject.looks, group[0])) for subject in telling) < max(1, len(telling))
    ]
    # A scheme with labels that nobody has says no more than the one without them.
    least = [g for g in left if not any(o is not g and g[0].reads(o[0]) == {v: v for v in o[0].values} for o in left)]
    if not telling or len(least) != 1 or len(groups) == 1:
        return "", False
    best = least[0][0]
    if 2 * sum(supported(subject.looks, best) for subject in telling) <= len(telling):
        return "", False
    names = " or ".join(scheme.name for scheme in least[0])
    told = set().union(*(judged(subject.looks, best) for subject in telling))
    there = [label for label in best.labels if label.value in values]
    if open_values := [str(label.value) for label in there if label.name not in told]:
        known = enumerated([f"{label.value} is {label.name}" for label in there if label.name in told])
        verb = "are" if len(open_values) > 1 else "is"
        said = f"they do not tell what {enumerated(open_values)} {verb}"
        return f" By the images {known}, as in {names}; {said}.", False
    return f" By the images {names} fits best.", True


def question(
    what: str,
    subjects: Sequence[Labelled],
    option: str,
    why: str,
    also: str = "",
    helps: str = "",
    judges: Sequence[Labelled] = (),
) -> DataError:
    """The error that asks which labels these are.

    Parameters
    ----------
    helps : said instead where something else explains it.
    judges : subjects whose images tell which scheme fits best, if not all do.
    """
    union = frozenset().union(*(subject.labels for subject in subjects))
    by_values: dict[frozenset[int], list[str]] = defaultdict(list)
    for subject in subjects:
        by_values[subject.labels].append(subject.id)
    found = [
        f"found {values_in_words(values) if values else 'no label'} in {listed(ids)}"
        for values, ids in sorted(by_values.items(), key=lambda item: sorted(item[0]))
    ]
    fits = fitting_in_words(union)
    first = f"Say it with {option} and one of the names listed, or" if fits else "No known scheme has these values:"
    if helps:
        return DataError(what, why, helps, found[:_SOME])
    best, is_whole = best_by_looks(judges or subjects, union)
    file = f"write the labels into a TOML file with a table [labels] of name = value and give {option} FILE.toml"
    return DataError(
        what,
        f"{why}{best}",
        f"{first} {file}{also}."
        if is_whole or not best
        else f"{file[0].upper()}{file[1:]}; only where one of those listed is true of every value, {option} and its "
        f"name{also}.",
        [*found[:_SOME], *(f"fits {line}" for line in fits)],
    )


def values_in_words(values: Iterable[int]) -> str:
    ordered = [str(value) for value in sorted(values)]
    if len(ordered) <= _MOST_VALUES:
        return enumerated(ordered)
    return f"{', '.join(ordered[:3])}, ... {ordered[-1]} ({len(ordered)} values, as of grey levels or probabilities)"


def listed(ids: Sequence[str]) -> str:
    rest = f" and {len(ids) - _SOME} more" if len(ids) > _SOME else ""
    return f"{', '.join(ids[:_SOME])}{rest}"


def counted(subjects: Sequence[Labelled], verb: str = "have", verb_of_one: str = "has") -> str:
    one = len(subjects) == 1
    return f"{subjects[0].id} {verb_of_one}" if one else f"{len(subjects)} subjects {verb}"
