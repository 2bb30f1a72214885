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
from functools import lru_cache
from pathlib import Path

from synthkit.contract import Sample
from synthkit.data.alike_names import OPAQUE, alike
from synthkit.data.patient_tables import read_patients
from synthkit.data.scan_words import DATE, FIELD, SEPARATOR, SURE_COUNTED, SURE_STATE, SURE_VISIT, surely_says_when
from synthkit.errors import DataError

#: Said instead of a table: every subject is a patient of its own.
ONE_PER_SUBJECT = "one-per-subject"

# ------------------------------------------------------------------------------------------------------ known namings

# Public collections whose ids begin with the patient; what follows is a scan. All of them are tried on every id.
_COLLECTIONS = [
    re.compile(rf"({pattern})(?=~|$).*".replace("~", SEPARATOR), re.IGNORECASE)
    for pattern in (
        r"brats(?:20)?(?:\d\d)?(?:~[a-z]+){1,3}~\d{4,5}(?=~\d{1,3}(?:\D|$))",  # BraTS-GLI-00005-101
        r"brats(?:20)?2\d(?:~[a-z]+)*~\d{3,5}",  # BraTS20_Training_002, BraTS2021_00002
        r"(?:(?:hgg|lgg)~)?brats~(?:tcia|2013)~pat\d+",  # brats_tcia_pat260_0129 of BraTS 2015
        r"brats~\d{3}",  # BRATS_009 of the Decathlon
        r"bratsreg~\d{3}",  # BraTSReg_001_01_0106
        r"upenn~gbm~\d{1,5}",  # UPENN-GBM-00002_21
        r"ucsf~pdgm~\d{3,5}",  # UCSF-PDGM-0429_FU003d
        r"ucsd~ptgbm~\d{4}",
        r"rhuh~\d{4}",
        r"tcga~\w{2}~\w{4}",  # TCGA-02-0006_1996.08.23
        r"c3[ln]~\d{5}",
        r"oas\d{5}",
        r"oas\d~\d{4}",
        r"900~00~\d{4}",  # REMBRANDT
        r"ixi\d{3}",
        r"ndar~?inv[a-z0-9]{8}",  # NDARINV00BD7VDC_baselineYear1Arm1 of ABCD
        r"miriad~\d{3}",
        r"patient~\d{1,3}(?=~week~)",  # LUMIERE: Patient-001_week-000-1
        r"phantom~\d{4}",
    )
]

# "Brats18_CBICA_AAB_1": the last number counts scans, and BraTS 2017, 2018 and 2019 name the same patients alike.
_BRATS_2017_TO_2019 = re.compile(
    r"brats(?:20)?1[789]~(2013|cbica|tcia\d*|tmc)~([a-z0-9]+)~\d+".replace("~", SEPARATOR), re.IGNORECASE
)

# "ADNI_002_S_0295_I13722", "002_S_0295": visits and images follow, and the collection's name may be left out.
_ADNI = re.compile(r"(?:adni~|nifd~)?(\d{1,3}~S~\d{4})(?=~|$).*".replace("~", SEPARATOR), re.IGNORECASE)

# "sub-01_ses-02", "sub-01/ses-02". An entity has to follow: "sub-BraTS20_Training_002" is not BIDS.
_BIDS = re.compile(
    r"((?:.*/)?sub-[a-z0-9+]+)[_/](?:ses|run|acq|task|rec|ce|trc|dir|echo|space|desc|res|mod|part)-.*", re.IGNORECASE
)

# What says "another scan" for ids of anybody; ~ may be a separator. A number has to stand before words that patients
# may be counted by and before dates, since "glioma_scan_12" and "glioma_20190304" may well be patients; so may
# "study2_post_001", hence few digits.
_ENDINGS = [
    re.compile(pattern.replace("~", f"{SEPARATOR}*"), re.IGNORECASE)
    for pattern in (
        rf"(\D*\d.*?){SEPARATOR}+{DATE}(?:{SEPARATOR}.*)?",
        rf"(.*?\d){SEPARATOR}+{FIELD}(?:{SEPARATOR}.*)?",
        rf"(.*?\d)~(?:{SURE_COUNTED}|time|scan|exam)~\d{{1,2}}(?:[a-z]?|{SEPARATOR}.*)",
        rf"(.*?\d)~(?:ses|session|time{SEPARATOR}?point|tp|follow{SEPARATOR}?up|fu|week|wk|month|day)~\d{{1,4}}"
        rf"(?:[a-z]?|{SEPARATOR}.*)",
        rf"(.*?\d)~{SURE_STATE}(?:{SEPARATOR}+[a-z].*)?",
        rf"(.*?\d)~(?:ses|session|visit|tp|time{SEPARATOR}?point|scan)~[a-e]",
        rf"(.+?){SEPARATOR}+(?:{SURE_STATE}|{SURE_VISIT}~\d{{1,2}})",
    )
]
_LETTER, _LATER_LETTER = (re.compile(rf"(.*\d\d)[-_. ]?[{some}]", re.IGNORECASE) for some in ("a-e", "f-z"))
_BEGINNINGS = [
    re.compile(pattern.replace("~", f"{SEPARATOR}*"), re.IGNORECASE)
    for pattern in (
        rf"{SURE_STATE}{SEPARATOR}+(.*\d.*)",  # pre_P012
        # visit1_P01, FU_Anna
        rf"(?:{SURE_STATE}|{SURE_COUNTED}~\d{{1,2}}){SEPARATOR}+(.*[^\W\d_]{{2}}.*|[^\W\d_]+~\d.*)",
    )
]


@lru_cache(maxsize=100_000)  # asked for every slice of a dataset that does not say it
def patient_of(subject: str) -> str:
    """The patient that a subject's id stands for by the known namings of follow-up scans; else the id itself.

    It needs nothing but the id. Where there is a dataset, ask :func:`patient_behind`, which knows what was decided.

    >>> patient_of("BraTS-GLI-00005-101"), patient_of("sub-01_ses-02"), patient_of("BraTS20_Training_002")
    ('BraTS-GLI-00005', 'sub-01', 'BraTS20_Training_002')
    """
    if match := _BRATS_2017_TO_2019.fullmatch(subject):
        return f"Brats_{match[1]}_{match[2]}"
    for pattern in (*_COLLECTIONS, _ADNI, _BIDS):
        if match := pattern.fullmatch(subject):
            return match[1]
    if surely_says_when(subject) or OPAQUE.fullmatch(subject):
        return subject
    # Endings pile up: "P012_pre_20190304". Each step shortens the id.
    for pattern in (*_ENDINGS, _LETTER, *_BEGINNINGS):
        if match := pattern.fullmatch(subject):
            return patient_of(match[1])
    return subject


def patient_behind(sample: Sample) -> str | None:
    """The patient of a sample: what its dataset says, else what its subject's id says; None for a synthetic sample."""
    if sample.subject is None:
        return None
    return sample.patient or patient_of(sample.subject)


def by_names(subjects: Iterable[str]) -> dict[str, str]:
    """Subject -> patient, by the known namings; patients whose names differ in upper and lower case alone are one.

    So are those of a public collection that differ in separators, zeros in front of numbers, or the year of a task.
    Letters up to e count scans (P012a, P012b) where no later one stands behind the same number: 01A to 01H are places.
    """
    subjects = sorted(subjects)
    places = {match[1].casefold() for subject in subjects if (match := _LATER_LETTER.fullmatch(subject))}
    spelling: dict[str, str] = {}
    of = {}
    for subject in subjects:
        match = _LETTER.fullmatch(subject)
        patient = subject if match and match[1].casefold() in places else patient_of(subject)
        spelled = _spelled_plainly(patient) if _is_of_collection(subject) else patient.casefold()
        of[subject] = spelling.setdefault(spelled, patient)
    return of


def _spelled_plainly(patient: str) -> str:
    """The same for "BraTS2023_GLI_00005" and "brats-gli-5": what one person is called by the one or the other."""
    plain = re.sub(rf"{SEPARATOR}+", "-", patient.casefold())
    plain = re.sub(r"(?<!\d)0+(?=\d)", "", plain)
    return re.sub(r"^brats(?:20)?2\d-(?=(?:gli|ped|met|men|ssa|goat)\b)", "brats-", plain)


def scans_of(patients: Mapping[str, str]) -> dict[str, list[str]]:
    """Patient -> subjects, sorted, of subject -> patient."""
    scans = defaultdict(list)
    for subject in sorted(patients):
        scans[patients[subject]].append(subject)
    return dict(scans)


# ------------------------------------------------------------------------------------------------------------ decisions

# So many subjects of one patient, by words that anybody may use, are rather counted patients: cohort1_scan_01 ...
_FEW_SCANS = 12


def unclear_groups(subjects: Iterable[str]) -> list[list[str]]:
    """Subjects that may be scans of one patient, by ids that are alike beyond the known namings; sorted."""
    subjects = list(subjects)
    scans = scans_of(by_names(subject for subject in subjects if not _is_known(subject)))
    groups = [sorted(subject for patient in group for subject in scans[patient]) for group in alike(scans)]
    # One person or two: sub-01_ses-1 and sub-1_ses-1, BraTS20_Training_001 and BraTS20_Training_1.
    plain = defaultdict(list)
    for patient, own in scans_of(by_names(subjects)).items():
        plain[_spelled_plainly(patient)].append(own)
    for several in plain.values():
        group = sorted(subject for own in several for subject in own)
        if len(several) > 1 and not any(set(group) <= set(other) for other in groups):
            groups.append(group)
    return sorted(groups)


def _is_known(subject: str) -> bool:
    """Whether the naming of the id leaves nothing open."""
    return _is_of_collection(subject) or _BIDS.fullmatch(subject) is not None


def _is_of_collection(subject: str) -> bool:
    """Whether the id is of a public collection."""
    return any(p.fullmatch(subject) for p in (_BRATS_2017_TO_2019, *_COLLECTIONS, _ADNI))


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
