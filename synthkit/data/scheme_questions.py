"""The question which label scheme files have: values found, the schemes that fit them, and what the images tell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from synthkit.data.label_looks import contradiction
from synthkit.data.named_schemes import SCHEMES
from synthkit.data.scheme_ids import Labelled
from synthkit.errors import DataError
from synthkit.schemes import Scheme, enumerated

_SOME = 5
# No label map that schemes are asked about has more values.
_MOST_VALUES = 32


def labels_in_words(scheme: Scheme) -> str:
    """``"1 NCR, 2 ED, 3 ET"``."""
    return ", ".join(f"{label.value} {label.name}" for label in sorted(scheme.labels, key=lambda label: label.value))


def contradicted(subjects: Sequence[Labelled], schemes: Mapping[str, Scheme]) -> list[tuple[Labelled, str]]:
    """Subjects whose images speak against their schemes, if these are most of those that say anything."""
    telling = [subject for subject in subjects if subject.looks]
    found = [(subject, why) for subject in telling if (why := contradiction(subject.looks, schemes[subject.id]))]
    return found if 2 * len(found) > len(telling) else []


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


def _best_by_looks(subjects: Sequence[Labelled], values: frozenset[int]) -> str:
    """The one meaning that the images of most subjects do not contradict, in words; "" where several remain."""
    telling = [subject for subject in subjects if subject.looks]
    groups = meanings(scheme for scheme in SCHEMES.values() if values <= set(scheme.values))
    left = [
        group
        for group in groups
        if 2 * sum(bool(contradiction(subject.looks, group[0])) for subject in telling) < max(1, len(telling))
    ]
    # A scheme with labels that nobody has says no more than the one without them.
    least = [g for g in left if not any(o is not g and g[0].reads(o[0]) == {v: v for v in o[0].values} for o in left)]
    if not telling or len(least) != 1 or len(groups) == 1:
        return ""
    return f" By the images {' or '.join(scheme.name for scheme in least[0])} fits best."


def question(what: str, subjects: Sequence[Labelled], option: str, why: str, also: str = "") -> DataError:
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
    return DataError(
        what,
        f"{why}{_best_by_looks(subjects, union)}",
        f"{first} write the labels into a TOML file with a table [labels] of name = value and give {option} FILE.toml"
        f"{also}.",
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
