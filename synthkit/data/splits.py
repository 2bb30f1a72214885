"""Which subjects are held out. The split is by patient: no patient is on both sides, whatever the number of scans."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from synthkit.data.patients import by_names, scans_of
from synthkit.errors import DataError, UsageError

Split = Literal["train", "holdout"]

#: Test subjects of Akbar et al. 2024 (doi 10.1038/s41597-024-03073-x), as in the split they ship: BraTS year -> number.
AKBAR2024_TEST: Mapping[str, frozenset[str]] = {
    "2020": frozenset(
        re.findall(
            r"\d+",
            """
        002 004 009 010 012 013 018 020 023 024 039 057 065 066 075 085 095 114 118 122 126 132 137 141 153 154 158 167
        168 191 206 207 215 222 225 226 245 251 260 262 263 276 277 285 288 293 297 313 334 341 342 348 350 359 363 368
        """,
        )
    ),
    "2021": frozenset(
        re.findall(
            r"\d+",
            """
        00002 00006 00018 00033 00070 00081 00195 00199 00203 00214 00227 00296 00332 00344 00347 00366 00413 00432
        00445 00477 00483 00510 00514 00571 00625 00704 00705 00739 00753 00778 00780 00781 00784 01010 01017 01069
        01112 01161 01162 01179 01233 01240 01246 01291 01363 01421 01448 01507 01526 01539 01563 01566 01568 01625
        01630 01666
        """,
        )
    ),
}

# "BraTS20_Training_002" and "BraTS2021_00002", whatever stands before them. The year has to be there: "BRATS_009" of
# the Medical Segmentation Decathlon is another subject than 009 of BraTS 2020.
_BRATS_2020 = re.compile(r"brats[-_]?(?:20)?20[-_](?:training[-_])?(\d{3})$", re.IGNORECASE)
_BRATS_2021 = re.compile(r"brats[-_]?(?:20)?21[-_](?:training[-_])?(\d{5})$", re.IGNORECASE)


@dataclass(frozen=True)
class Holdout:
    """What to hold out: named subjects, a number of them, a fraction of them, or the study's test list."""

    kind: Literal["subjects", "count", "fraction", "akbar2024"]
    subjects: tuple[str, ...] = ()
    amount: float = 0.0

    def __str__(self) -> str:
        if self.kind == "subjects":
            return ",".join(self.subjects) + ("," if len(self.subjects) == 1 else "")
        if self.kind == "count":
            return str(int(self.amount))
        return "akbar2024" if self.kind == "akbar2024" else repr(self.amount)


def parse_holdout(text: str) -> Holdout:
    """Read ``ID[,ID...]``, a whole number, a fraction such as ``0.2``, or ``akbar2024``.

    A subject whose id is a number is given with a comma after it: ``12,``. The number 0 holds nothing out.

    Raises
    ------
    UsageError : a negative number, a fraction not between 0 and 1, or nothing.
    """
    text = text.strip()
    if text.lower() == "akbar2024":
        return Holdout("akbar2024")
    if re.fullmatch(r"[+-]?\d+", text):
        if int(text) < 0:
            raise _refused(text, "A number of subjects is 0 or more.")
        return Holdout("count", amount=int(text))
    try:
        fraction = float(text)
    except ValueError:
        ids = tuple(dict.fromkeys(part for part in (piece.strip() for piece in text.split(",")) if part))
        if not ids:
            raise _refused(text, "It names no subject.") from None
        return Holdout("subjects", subjects=ids)
    if not 0 < fraction < 1:
        raise _refused(text, "A fraction lies between 0 and 1.")
    return Holdout("fraction", amount=fraction)


def _refused(text: str, why: str) -> UsageError:
    return UsageError(
        f"The holdout {text!r} is not understood.",
        why,
        "Give subject ids (ID,ID), how many subjects (5), a fraction (0.2) or akbar2024.",
    )


def split_subjects(
    ids: Iterable[str], holdout: Holdout | str, seed: int = 0, patients: Mapping[str, str] | None = None
) -> dict[str, Split]:
    """Subject id -> "train" or "holdout", sorted by id.

    Patients are drawn in the order of a hash of seed and patient, so a subject that joins or leaves moves at most one
    other, as long as the number held out stays the same.

    Parameters
    ----------
    holdout : what to hold out, or its text (see :func:`parse_holdout`). A fraction of the subjects is rounded, to at
        least 1. Where patients have several scans, whole patients are taken until the number is reached.
    seed : another seed, another draw; without meaning for named subjects and the study's list.
    patients : subject -> patient; what it lacks, or by default every subject, is the patient that its name says.

    Raises
    ------
    UsageError : an unknown id (close ones are named), a patient on both sides, nothing left to train on, or the
        study's list for subjects that are not the study's.
    """
    subjects = sorted(set(ids))
    scans = scans_of({**by_names(subjects), **{s: p for s, p in (patients or {}).items() if s in set(subjects)}})
    spec = parse_holdout(holdout) if isinstance(holdout, str) else holdout
    if spec.kind == "subjects":
        held = _named(subjects, spec.subjects)
    elif spec.kind == "akbar2024":
        held = _study(subjects)
    else:
        wanted = int(spec.amount) if spec.kind == "count" else max(1, round(spec.amount * len(subjects)))
        held = _drawn(scans, wanted, seed)
    if subjects and len(held) == len(subjects):
        raise UsageError(
            f"The holdout {spec} leaves nothing to train on.",
            f"It takes all {len(subjects)} subjects"
            + (f", which are scans of one patient, {next(iter(scans))}." if len(scans) == 1 < len(subjects) else "."),
            _smaller(spec, scans, seed),
        )
    for patient, own in scans.items():
        if 0 < len(held.intersection(own)) < len(own):
            raise UsageError(
                f"Patient {patient} would be in train and in the holdout.",
                f"{', '.join(own)} are scans of one patient.",
                "Name all of them, or none.",
            )
    return {subject: "holdout" if subject in held else "train" for subject in subjects}


def _smaller(spec: Holdout, scans: Mapping[str, Sequence[str]], seed: int) -> str:
    """What leaves something to train on."""
    if spec.kind == "subjects":
        return "Name fewer."
    n = sum(map(len, scans.values()))
    most = next((k for k in range(n - 1, 0, -1) if len(_drawn(scans, k, seed)) < n), 0)
    if spec.kind == "akbar2024" or not most:
        return "Prepare subjects of more patients, or hold nothing out: --holdout 0."
    return f"Hold out fewer: --holdout {most} at most, or --holdout 0 for none."


def check_sides(rows: Iterable[Mapping[str, Any]]) -> None:
    """For a split that others made: :class:`DataError` if a patient is on both sides.

    Parameters
    ----------
    rows : of samples, with ``split``, ``subject`` and perhaps ``patient``, by which the names are overridden.
    """
    known = [row for row in rows if row["subject"]]
    of = by_names(row["subject"] for row in known)
    of |= {row["subject"]: row["patient"] for row in known if row.get("patient")}
    sides: dict[str, set[str]] = {}
    for row in known:
        sides.setdefault(of[row["subject"]], set()).add(row["split"])
    scans = scans_of(of)
    both = sorted(patient for patient, found in sides.items() if len(found) > 1)
    if both:
        raise DataError(
            f"{len(both)} patient{'s are' if len(both) > 1 else ' is'} in train and in the holdout.",
            "The table of samples says so; a model would be tested on whom it was trained on.",
            "Give all scans of a patient one split, or say in a column patient of the table whom each is of.",
            [f"{patient}: {', '.join(scans[patient])}" for patient in both],
        )


def with_fewer_to_train_on(
    split: Mapping[str, Split], n_patients: int, seed: int = 0, patients: Mapping[str, str] | None = None
) -> dict[str, Split]:
    """The same split with only ``n_patients`` training patients; the holdout stays whole.

    Patients are drawn in the order of a hash of seed and patient: a smaller number draws a part of a larger one's.

    Raises
    ------
    UsageError : there are not so many, or fewer than one is asked for.
    """
    of = {**by_names(split), **(patients or {})}
    there = {of[subject] for subject, part in split.items() if part == "train"}
    n_there = len(there)
    if not 1 <= n_patients <= n_there:
        raise UsageError(
            f"{n_patients} training patients cannot be kept.",
            f"There are {n_there} of them after the holdout.",
            f"Give 1 to {n_there}.",
        )
    # Another order than the holdout's, whose first patients are gone.
    order = sorted(there, key=lambda name: hashlib.sha256(f"{seed}\0train\0{name}".encode()).digest())
    kept = set(order[:n_patients])
    return {s: part for s, part in split.items() if part == "holdout" or of[s] in kept}


def _named(subjects: Sequence[str], wanted: Sequence[str]) -> set[str]:
    unknown = [name for name in wanted if name not in set(subjects)]
    if unknown:
        close = {name: difflib.get_close_matches(name, subjects, n=3, cutoff=0.6) for name in unknown}
        details = [f"{name}: did you mean {', '.join(near)}?" if near else name for name, near in close.items()]
        raise UsageError(
            f"The holdout names {len(unknown)} subject{'s' if len(unknown) > 1 else ''} not among the {len(subjects)}.",
            f"Unknown: {', '.join(unknown[:5])}.",
            f"Did you mean {', '.join(close[unknown[0]])}?" if close[unknown[0]] else "Check the spelling of the ids.",
            details,
        )
    return set(wanted)


def _drawn(scans: Mapping[str, Sequence[str]], wanted: int, seed: int) -> set[str]:
    held: set[str] = set()
    for patient in sorted(scans, key=lambda name: hashlib.sha256(f"{seed}\0{name}".encode()).digest()):
        if len(held) >= wanted:
            break
        held.update(scans[patient])
    return held


def _study(subjects: Sequence[str]) -> set[str]:
    years: dict[str, dict[str, str]] = {"2020": {}, "2021": {}}
    for subject in subjects:
        for year, pattern in (("2020", _BRATS_2020), ("2021", _BRATS_2021)):
            if match := pattern.search(subject):
                years[year][subject] = match[1]
    if all(years.values()):
        raise UsageError(
            "The holdout akbar2024 is for BraTS 2020 or BraTS 2021, not for both together.",
            "BraTS 2021 contains subjects of BraTS 2020 under other names, which would be trained and tested on.",
            "Prepare the two separately.",
        )
    held = {subject for year, found in years.items() for subject, n in found.items() if n in AKBAR2024_TEST[year]}
    if not held:
        raise UsageError(
            "None of the subjects is a test subject of the study.",
            "The list names subjects of BraTS 2020 (BraTS20_Training_002 ...) and of BraTS 2021 (BraTS2021_00002 ...).",
            "Give subject ids, a number or a fraction as holdout.",
        )
    return held
