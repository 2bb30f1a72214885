"""What ids and names of files say of a label scheme: the collections that are known."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from synthkit.data.file_names import base_name
from synthkit.data.label_looks import LabelLook, contradicted, judged
from synthkit.data.label_places import LabelPlaces
from synthkit.data.label_tables import TableOfLabels
from synthkit.data.named_schemes import SCHEMES
from synthkit.data.subject_files import Subject
from synthkit.schemes import Scheme

_S = r"[-_. ]"
# Ids of collections: pattern, how it is called, its scheme, and the one that it has where a 4 is found among them.
_IDS = tuple(
    (
        re.compile(rf"(?:.*[^a-z0-9])?(?:{pattern.replace('~', _S)})(?:[^0-9].*)?", re.IGNORECASE),
        said,
        scheme,
        with_four,
    )
    for pattern, said, scheme, with_four in (
        # After another mark than the one before the patient stands no timepoint, but the number of a slice.
        (r"brats(?:20\d\d)?~gli(?P<mark>~)\d{4,5}(?P=mark)1\d\d", "BraTS-GLI-...-1..", "gli2024", ""),
        (r"brats(?:20\d\d)?~gli~\d{4,5}(?:~\d{3})?", "BraTS-GLI-...", "brats2023-gli", "gli2024"),
        (r"brats(?:20\d\d)?~peds?~\d{4,5}(?:~\d{3})?", "BraTS-PED-...", "ped", ""),
        (r"brats(?:20\d\d)?~mets?~\d{4,5}(?:~\d{3})?", "BraTS-MET-...", "met", "met2025"),
        (r"brats(?:20\d\d)?~men~rt~\d{4,5}(?:~\d+)?", "BraTS-MEN-RT-...", "men-rt", ""),
        (r"brats(?:20\d\d)?~men~\d{4,5}(?:~\d{3})?", "BraTS-MEN-...", "men", ""),
        (r"brats(?:20\d\d)?~ssa~\d{4,5}(?:~\d{3})?", "BraTS-SSA-...", "ssa", ""),
        (r"brats(?:20\d\d)?~goat~\d{4,5}(?:~\d{3})?", "BraTS-GoAT-...", "brats2023-gli", ""),
        (r"brats(?:20)?21~(?:training~|validation~)?\d{4,5}", "BraTS2021_...", "brats2021", ""),
        (r"brats(?:20)?(?:17|18|19|20)~[a-z0-9]+~[a-z0-9_]+", "BraTS 2017 to 2020", "brats2018", ""),
        (r"brats~(?:2013|tcia)~pat\d+~\d+", "brats_..._pat...", "brats2013", ""),
        (r"upenn~gbm~\d{5}(?:~\d+)?", "UPENN-GBM-...", "brats2018", ""),
        (r"ucsf~pdgm~\d{3,5}", "UCSF-PDGM-...", "brats2018", ""),
        (r"tcga~[a-z0-9]{2}~[a-z0-9]{4}", "TCGA-...", "brats2018", ""),
        (r"patientid~\d{4}~timepoint~\d+", "PatientID_..._Timepoint_.", "gli2024", ""),
        (r"phantom~\d{4}", "the phantom's", "brats2018", ""),
    )
)
# How names of files end, the surest first: images by both, then labels alone.
_STYLES = tuple(
    (re.compile(pattern, re.IGNORECASE), style)
    for pattern, style in (
        (r".*-(?:t1c|t1n|t2f|t2w)", "new"),
        (r".*[-_. ](?:t1ce|flair)", "classic"),
        (r".*-seg", "new"),
        (r".*_seg", "classic"),
    )
)
_NEW_CONTRASTS = {"t1n", "t2f"}
_MASK = re.compile(r".*[-_]mask", re.IGNORECASE)


@dataclass(frozen=True)
class Labelled:
    """What is known of the label map of one subject.

    Attributes
    ----------
    files : names of its files, that of the labels last.
    values : found in the label map.
    table : what a table of labels says.
    looks : value -> how its voxels look, see :mod:`synthkit.data.label_looks`; empty without images.
    places : whether labels fit the images better mirrored; None without images.
    whose : the other subject whose labels fit its images better, and whose images its labels do.
    exchanged : contrast -> the one that it looks like, where that is another.
    copies : pairs of contrasts that are one image.
    endings : contrast -> how the name of its file ends, where all begin with the id; what a ``dataset.json`` calls it.
    """

    id: str
    files: tuple[str, ...]
    values: tuple[int, ...]
    table: TableOfLabels | None = None
    looks: Mapping[int, LabelLook] = field(default_factory=dict)
    places: LabelPlaces | None = None
    whose: str = ""
    exchanged: Mapping[str, str] = field(default_factory=dict)
    copies: tuple[tuple[str, str], ...] = ()
    endings: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, subject: Subject, values: Iterable[int], looks: Mapping[int, LabelLook] | None = None) -> Labelled:
        """Of a subject whose label map was read."""
        paths = [*subject.contrasts.values(), *([subject.seg] if subject.seg else [])]
        bases = {name: base_name(path.name) or "" for name, path in subject.contrasts.items()}
        endings = {name: base[len(subject.id) :] for name, base in bases.items() if base.startswith(subject.id)}
        told = {name: word.strip() for name, word in subject.called.items() if not set(word) & {",", "="}} or endings
        own = told if len({ending.lower() for ending in told.values()} - {""}) == len(bases) else {}
        files = tuple(path.name for path in paths)
        return cls(subject.id, files, tuple(values), subject.table, looks or {}, endings=own)

    @property
    def labels(self) -> frozenset[int]:
        """The values above background; those that its table calls background are none."""
        zeros = self.table.zeros if self.table else ()
        return frozenset(value for value in self.values if value and value not in zeros)

    @property
    def style(self) -> str:
        """What the names of the files are like: ``classic`` (BraTS to 2021), ``new`` (2023 and later), ``mask``, ""."""
        bases = [
            re.sub(r"\.(nii|mha|mhd)(\.gz)?$", "", PurePath(name).name, flags=re.IGNORECASE) for name in self.files
        ]
        if bases and _MASK.fullmatch(bases[-1]):
            return "mask"
        return style_of(bases)


def style_of(bases: Iterable[str]) -> str:
    """What names of files, without ``.nii``, are like: ``new``, ``classic`` or "", see :attr:`Labelled.style`."""
    listed = list(bases)
    return next((style for pattern, style in _STYLES if any(pattern.fullmatch(base) for base in listed)), "")


def style_of_folders(names: Iterable[str]) -> str:
    """The same of folders, one a contrast: ``new`` by names that no collection had before 2023."""
    return "new" if _NEW_CONTRASTS & {name.lower() for name in names} else ""


def told_by_name(subject: str, files: Sequence[str]) -> bool:
    """Whether the id of a subject says its scheme whatever values its label map has."""
    match = _match(subject)
    return match is not None and not match[2] and Labelled(subject, tuple(files), ()).style != "mask"


def fours_without_threes(subjects: Sequence[Labelled]) -> list[Labelled]:
    """Subjects of collections that have a cavity as 4 or no 4 at all, whose files have 4 and nobody's have 3.

    So would be enhancing tumour as it was numbered to 2021. Ids of after treatment are believed, unless the images of
    those with cores as well show no cavity.
    """
    groups: dict[str, list[Labelled]] = defaultdict(list)
    sure: set[str] = set()
    for subject in subjects:
        if subject.table is None and (match := _match(subject.id)):
            groups[match[2] or match[1]].append(subject)
            sure |= set() if match[2] else {match[1]}
    found = []
    for name, group in groups.items():
        having = [subject for subject in group if 4 in subject.labels]
        if SCHEMES[name].label_values.get("RC") != 4 or any(3 in subject.labels for subject in group):
            continue
        scheme = SCHEMES[name]
        with_core = [subject for subject in having if 1 in subject.labels]
        enhances = any("RC" in contradicted(subject.looks, scheme)[1] for subject in with_core)
        shown = any(judged(subject.looks, scheme).get("RC") for subject in with_core)
        if name not in sure or (enhances and not shown):
            found += having
    return found


def _match(subject: str) -> tuple[str, str, str] | None:
    """How the collection of an id is called, its scheme, and the one that it has with a 4; None of no collection."""
    return next((item[1:] for item in _IDS if item[0].fullmatch(subject)), None)


def by_ids(subjects: Sequence[Labelled]) -> dict[str, tuple[Scheme, str]]:
    """Id -> the scheme of its collection, and how that is known in words; without ids that say nothing."""
    matched: dict[str, tuple[str, str, str]] = {}
    fours: set[str] = set()
    for subject in subjects:
        if match := _match(subject.id):
            _, scheme, with_four = matched[subject.id] = match
            if with_four and 4 in subject.labels:
                fours.add(with_four)
            if not with_four:
                fours.add(scheme)
    # One collection has one scheme: where one of its subjects has a cavity, no 4 of another is anything else.
    return {
        subject: (SCHEMES[with_four if with_four in fours else scheme], f"by the ids {said}")
        for subject, (said, scheme, with_four) in matched.items()
    }
