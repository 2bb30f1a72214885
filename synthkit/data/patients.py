"""Which patient a subject is a scan of: the one owner of identity. Standard library only.

A subject is what a folder holds: one scan. A patient may have several, and everything that asks whether two samples are
independent, or whether somebody was trained on, has to ask for patients. Three answers, the first that there is:

1. what the dataset says (the column ``patient`` of its ``samples.csv``), decided once by ``synthkit prepare``;
2. the namings of follow-up scans that are known (:func:`patient_of`), which need nothing but the id;
3. the subject is a patient of its own.

Where ids are alike in a way that no known naming explains, nobody but their owner knows: :func:`decided` asks.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from synthkit.contract import Sample
from synthkit.data.patient_tables import read_patients
from synthkit.errors import DataError

#: Said instead of a table: every subject is a patient of its own.
ONE_PER_SUBJECT = "one-per-subject"

_S = r"[-_. /\\]"

# ------------------------------------------------------------------------------------------------------ known namings

# Public collections whose ids begin with the patient; what follows is a scan. All of them are tried on every id.
_COLLECTIONS = [
    re.compile(rf"({pattern})(?=~|$).*".replace("~", _S), re.IGNORECASE)  # ~ is any separator
    for pattern in (
        r"brats(?:20)?(?:\d\d)?(?:~[a-z]+){1,3}~\d{4,5}(?=~\d{1,3}(?:\D|$))",  # BraTS-GLI-00005-101
        r"brats(?:20)?2\d(?:~[a-z]+)*~\d{3,5}",  # BraTS20_Training_002, BraTS2021_00002
        r"(?:(?:hgg|lgg)~)?brats~(?:tcia|2013)~pat\d+",  # brats_tcia_pat260_0129 of BraTS 2015
        r"brats~\d{3}",  # BRATS_009 of the Decathlon
        r"bratsreg~\d{3}",  # BraTSReg_001_01_0106
        r"upenn~gbm~\d{5}",  # UPENN-GBM-00002_21
        r"ucsf~pdgm~\d{3,5}",  # UCSF-PDGM-0429_FU003d
        r"ucsd~ptgbm~\d{4}",
        r"rhuh~\d{4}",
        r"tcga~\w{2}~\w{4}",  # TCGA-02-0006_1996.08.23
        r"c3[ln]~\d{5}",
        r"oas\d{5}",
        r"patient~\d{3}(?=~week~)",  # LUMIERE: Patient-001_week-000-1
        r"phantom~\d{4}",
    )
]

# "Brats18_CBICA_AAB_1": the last number counts scans, and BraTS 2017, 2018 and 2019 name the same patients alike.
_BRATS_2017_TO_2019 = re.compile(
    rf"brats(?:20)?1[789]{_S}(2013|cbica|tcia\d*|tmc){_S}([a-z0-9]+){_S}\d+", re.IGNORECASE
)

# "sub-01_ses-02", "sub-01/ses-02". An entity has to follow: "sub-BraTS20_Training_002" is not BIDS.
_BIDS = re.compile(
    r"((?:.*/)?sub-[a-z0-9+]+)[_/](?:ses|run|acq|task|rec|ce|trc|dir|echo|space|desc|res|mod|part)-.*", re.IGNORECASE
)

_YMD = r"(?:19|20)\d\d[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:0[1-9]|[12]\d|3[01])"
_DMY = r"(?:0[1-9]|[12]\d|3[01])[-_.](?:0[1-9]|1[0-2])[-_.](?:19|20)\d\d"
_DATE = rf"(?:{_YMD}|{_DMY})(?!\d)"
_OP = rf"(?:{_S}?(?:op|operative|surgery|treatment|therapy|rt|contrast))?"
_STATE = rf"(?:baseline|bl|follow{_S}?up|fu|pre{_OP}|post{_OP}|initial|recurrence|progression|relapse|rescan|retest)"
_COUNTED = rf"(?:ses|session|visit|tp|time{_S}?point|time|scan|exam|baseline|pre{_OP}|post{_OP})"
_TIMED = rf"(?:ses|session|time{_S}?point|tp|follow{_S}?up|fu|week|wk|month|day)"

# Endings that say "another scan", for ids of anybody. A number has to stand before words that are counted and before
# dates, since "glioma_scan_12" and "glioma_20190304" may well be patients; so may "study2_post_001", hence few digits.
_ENDINGS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(\D*\d.*?){_S}+{_DATE}(?:[-_. /\\T].*)?",
        rf"(.*?\d){_S}*{_COUNTED}{_S}*\d{{1,2}}(?:[a-z]?|{_S}.*)",
        rf"(.*?\d){_S}*{_TIMED}{_S}*\d{{1,4}}(?:[a-z]?|{_S}.*)",
        rf"(.*?\d){_S}*{_STATE}(?:{_S}+[a-z].*)?",
        rf"(.+?){_S}+{_STATE}",
        r"(.*\d\d)[-_. ]?[a-d]",  # P012a, P012b
    )
]
_BEGINNING = re.compile(rf"{_STATE}{_S}+(.*\d.*)", re.IGNORECASE)  # pre_P012


def patient_of(subject: str) -> str:
    """The patient that a subject's id stands for by the known namings of follow-up scans; else the id itself.

    It needs nothing but the id. Where there is a dataset, ask :func:`patient_behind`, which knows what was decided.

    >>> patient_of("BraTS-GLI-00005-101"), patient_of("sub-01_ses-02"), patient_of("BraTS20_Training_002")
    ('BraTS-GLI-00005', 'sub-01', 'BraTS20_Training_002')
    """
    if match := _BRATS_2017_TO_2019.fullmatch(subject):
        return f"Brats_{match[1]}_{match[2]}"
    for pattern in (*_COLLECTIONS, _BIDS):
        if match := pattern.fullmatch(subject):
            return match[1]
    # Endings pile up: "P012_pre_20190304". Each step shortens the id.
    for pattern in (*_ENDINGS, _BEGINNING):
        if match := pattern.fullmatch(subject):
            return patient_of(match[1])
    return subject


def patient_behind(sample: Sample) -> str | None:
    """The patient of a sample: what its dataset says, else what its subject's id says; None for a synthetic sample."""
    if sample.subject is None:
        return None
    return sample.patient or patient_of(sample.subject)


def by_names(subjects: Iterable[str]) -> dict[str, str]:
    """Subject -> patient, by the known namings; patients whose names differ in upper and lower case alone are one."""
    spelling: dict[str, str] = {}
    patients = {subject: patient_of(subject) for subject in sorted(subjects)}
    return {subject: spelling.setdefault(patient.casefold(), patient) for subject, patient in patients.items()}


def scans_of(patients: Mapping[str, str]) -> dict[str, list[str]]:
    """Patient -> subjects, sorted, of subject -> patient."""
    scans = defaultdict(list)
    for subject in sorted(patients):
        scans[patients[subject]].append(subject)
    return dict(scans)


# ------------------------------------------------------------------------------------------------------ what is unclear

# So many scans may be of one patient; larger groups of numbered ids are enumerations of patients.
_FEW_SCANS = 12
_FEW_WITHOUT_NUMBER = 5
_OPAQUE = re.compile(r"(?=.*[a-f])(?=.*\d)[0-9a-f-]{6,}", re.IGNORECASE)  # a hash or UUID says nothing


def unclear_groups(subjects: Iterable[str]) -> list[list[str]]:
    """Subjects that may be scans of one patient, by ids that are alike beyond the known namings; sorted.

    One stem with (nearly) all of the subjects, ``sub-001``, ``sub-002`` ..., counts patients: nothing is unclear.
    Several stems with a few each, ``P012-1``, ``P012-2``, ``P013-1`` ..., may count scans: each such stem is a group.
    """
    names = scans_of(by_names(s for s in subjects if not _is_known(s) and not _OPAQUE.fullmatch(s)))
    tokens = {name: tuple(re.findall(r"[^\W\d_]+|\d+", name.casefold())) for name in names}
    while len(tokens) > 1 and len({t[-1:] for t in tokens.values()}) == 1 and all(len(t) > 1 for t in tokens.values()):
        tokens = {name: t[:-1] for name, t in tokens.items()}  # what all ids end with tells nobody apart
    by_stem: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for name, parts in tokens.items():
        if without_date := re.fullmatch(rf"{_DATE}{_S}+(.*\d.*)", name):  # 20190304_P012
            by_stem["after a date", *re.findall(r"[^\W\d_]+|\d+", without_date[1].casefold())].add(name)
            continue
        by_stem[parts[:-1]].add(name)
        if number := re.match(rf"\D*\d+(?={_S})", name):  # P012-x1 and P012-y2: the number may be the patient's
            by_stem[tuple(re.findall(r"[^\W\d_]+|\d+", number[0].casefold()))].add(name)
    for name, parts in tokens.items():
        if parts in by_stem and parts and parts[-1].isdigit():  # P012 beside P012_2
            by_stem[parts].add(name)
    spelled: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for name, parts in tokens.items():
        spelled[parts].add(name)  # P012 and P-012
    groups = {stem: members for stem, members in by_stem.items() if len(members) > 1 and stem}
    unclear = [members for stem, members in groups.items() if _may_be_scans(stem, members, tokens, len(names))]
    unclear += [members for members in spelled.values() if len(members) > 1]
    wordy = [g for stem, g in groups.items() if not _has_number(stem) and _are_few_and_short(g, tokens)]
    if len(wordy) > 1 and 2 * len(set().union(*wordy)) > len(names):  # AAB_1, AAB_2, ABC_1 ...
        unclear += wordy
    widest = [group for group in unclear if not any(group < other for other in unclear)]
    found = {tuple(sorted(s for name in group for s in names[name])) for group in widest}
    return sorted(list(group) for group in found)


def _may_be_scans(stem: tuple[str, ...], members: set[str], tokens: Mapping[str, tuple[str, ...]], n: int) -> bool:
    """Whether a stem with a number in it, of these members among ``n`` names, is rather a patient than a collection."""
    if not _has_number(stem):
        return False
    if stem[0] == "after a date":
        return True
    lasts = [tokens[name][-1] for name in members if len(tokens[name]) > len(stem)]
    n_digits = min((len(last) if last.isdigit() else 0 for last in lasts), default=0)
    years = all(_is_year(last) for last in lasts)
    if n_digits >= 4 and not years and not stem[-1].isdigit():  # 002_S_0295: so long a number names a patient
        return False
    if n_digits >= 4 and not years and all(not tokens[name][len(stem)].isdigit() for name in members):
        return False  # the same, seen from its first number
    if len(members) >= 0.8 * n:  # one stem for all: P012-1 and P012-2 alone, or a numbered collection
        alone = len(members) <= _FEW_WITHOUT_NUMBER and stem[-1].isdigit() and not _is_year(stem[-1])
        return alone and n_digits < 3 and len({tokens[name][: len(stem) + 1] for name in members}) > 1
    return len(members) <= _FEW_SCANS


def _are_few_and_short(members: set[str], tokens: Mapping[str, tuple[str, ...]]) -> bool:
    """A few, told apart by something short and apart: HGG_001 and HGG_002, case1 and case2 are numbered patients."""
    return len(members) <= _FEW_WITHOUT_NUMBER and not any(
        (tokens[name][-1].isdigit() and len(tokens[name][-1]) > 2) or re.fullmatch(r"[^\W\d_]+\d+", name)
        for name in members
    )


def _has_number(stem: Sequence[str]) -> bool:
    return any(part.isdigit() for part in stem)


def _is_year(token: str) -> bool:
    return re.fullmatch(r"(?:19|20)\d\d", token) is not None


def _is_known(subject: str) -> bool:
    """Whether the id is of a public collection whose naming leaves nothing open."""
    return any(p.fullmatch(subject) for p in (_BRATS_2017_TO_2019, *_COLLECTIONS, _BIDS))


# ------------------------------------------------------------------------------------------------------------ decisions


@dataclass(frozen=True)
class Patients:
    """Which patient each subject of a dataset is.

    Attributes
    ----------
    of : subject -> patient.
    source : who says so: "names", "table" or "one-per-subject".
    notes : what should be known of it.
    """

    of: dict[str, str]
    source: str
    notes: tuple[str, ...] = ()


def decided(subjects: Sequence[str], patients: Path | str | None = None) -> Patients:
    """Decide which patient each subject is, or ask.

    Parameters
    ----------
    patients : a table (see :func:`synthkit.data.patient_tables.read_patients`), which overrides all names; or
        "one-per-subject": each subject is a patient of its own, whatever the names say. By default the known namings
        decide.

    Raises
    ------
    DataError : ids are alike in a way that no known naming explains (``details`` has a line a group), or the table
        cannot be read or does not have all subjects.
    UsageError : there is no such table.
    """
    if patients is not None and str(patients) == ONE_PER_SUBJECT:
        joined = _several(by_names(subjects))
        said = f"By their names {_counted(joined)}, but not by --patients {ONE_PER_SUBJECT}: {_listed(joined)}."
        notes = (said,) if joined else ()
        return Patients({subject: subject for subject in subjects}, ONE_PER_SUBJECT, notes)
    if patients is not None:
        of, without = read_patients(Path(patients), subjects)
        few = ", ".join(without[:5]) + (", ..." if len(without) > 5 else "")
        note = f"The table of patients names {len(without)} more than the folder holds: {few}."
        return Patients(of, "table", (note,) if without else ())
    of = by_names(subjects)
    joined = _several(of)
    # So many subjects of one patient, by words that anybody may use, are rather counted patients: cohort1_scan_01 ...
    many = [group for group in joined if len(group) > _FEW_SCANS and not _is_known(group[0])]
    if groups := sorted([*unclear_groups(subjects), *many]):
        raise _question(groups, any(group not in many for group in joined))
    notes = (f"By their names {_counted(joined)}, and stay together: {_listed(joined)}.",) if joined else ()
    return Patients(of, "names", notes)


def _several(of: Mapping[str, str]) -> list[list[str]]:
    return [scans for scans in scans_of(of).values() if len(scans) > 1]


def _listed(groups: Sequence[Sequence[str]]) -> str:
    shown = "; ".join(" and ".join(group[:3]) + (" ..." if len(group) > 3 else "") for group in groups[:3])
    return shown + (f"; and {len(groups) - 3} more" if len(groups) > 3 else "")


def _counted(groups: Sequence[Sequence[str]]) -> str:
    n = len(groups)
    return f"{sum(map(len, groups))} subjects are scans of {n} patient{'s' if n > 1 else ''}"


def _question(groups: Sequence[Sequence[str]], has_known_scans: bool) -> DataError:
    n = len(groups)
    table = "Say which patient each is by --patients TABLE.csv (columns subject, patient)"
    # "one-per-subject" would tear scans apart that a known naming joins, so it is no advice beside those.
    other = "" if has_known_scans else f", or that none belong together by --patients {ONE_PER_SUBJECT}"
    return DataError(
        f"The names leave open whether {n} group{'s' if n > 1 else ''} of subjects {'are' if n > 1 else 'is'} scans of "
        f"one patient{' each' if n > 1 else ''}.",
        "Scans of one patient on both sides of the split would make every score on the holdout too good.",
        f"{table}{other}.",
        [", ".join(group) for group in groups],
    )
