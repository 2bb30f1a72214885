"""Which files a subject is made of: one a content, the best of several, all of them really there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from synthkit.data.channel_names import SEG
from synthkit.data.fetched import finished_name, not_fetched
from synthkit.data.file_names import NamedFile, Names, ending_that_chooses, named_file
from synthkit.data.label_tables import TableOfLabels, table_of_labels
from synthkit.data.layouts import Unit, first_of
from synthkit.data.raw_layouts import RawCase, RawFolder
from synthkit.data.stand_ins import stand_in
from synthkit.errors import DataError


@dataclass(frozen=True)
class Subject:
    """Files of one subject.

    Attributes
    ----------
    seg : None where there is no segmentation and none was asked for.
    channels : contrast -> index along the fourth axis, where its file is 4-D and of ``n_channels``.
    table : what values of ``seg`` are called, where a table of labels says so.
    label_values : value in ``seg`` -> value to read it as, where that is another; None: values stay as they are.
    """

    id: str
    folder: Path
    contrasts: dict[str, Path]
    seg: Path | None
    channels: dict[str, int] = field(default_factory=dict)
    n_channels: int = 0
    table: TableOfLabels | None = None
    label_values: Mapping[int, int] | None = None


@dataclass(frozen=True)
class BadSubject:
    """A subject that cannot be used, and the reason in words; ``missing`` where no file has a name that says these."""

    id: str
    reason: str
    missing: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.id}: {self.reason}"


def missing_files(subject_id: str, missing: Sequence[str], others: Sequence[Path]) -> BadSubject:
    """The bad subject that lacks these contents; ``others`` are files that were not understood."""
    what = " and ".join("segmentation (seg)" if name == SEG else name for name in missing)
    unknown = f" (not understood in its folder: {first_of(others)})" if others else ""
    return BadSubject(subject_id, f"missing {what}{unknown}", tuple(missing))


def subject_of_case(case: RawCase, raw: RawFolder, contrasts: Sequence[str], need_labels: bool) -> Subject | BadSubject:
    """The subject that a case of ``imagesTr`` is."""
    missing = [name for name in contrasts if name not in case.images] + ([SEG] if need_labels and not case.seg else [])
    if missing:
        return missing_files(case.id, missing, ())
    seg = case.seg if need_labels else None
    used = {**{name: case.images[name] for name in contrasts}, **({SEG: seg} if seg else {})}
    if absent := _absent(list(dict.fromkeys(used.values()))):
        return BadSubject(case.id, absent)
    return Subject(
        case.id,
        case.folder,
        {name: case.images[name] for name in contrasts},
        seg,
        channels={name: case.channels[name] for name in contrasts if name in case.channels},
        n_channels=case.n_channels,
        table=raw.table if seg else None,
    )


@dataclass
class RankedFiles:
    """Files passed over for better ones, such as automatic labels for corrected ones; and those taken without one."""

    aside: list[Path] = field(default_factory=list)
    second: list[Path] = field(default_factory=list)


def subject_of_unit(
    unit: Unit,
    root: Path,
    names: Names,
    contrasts: Sequence[str],
    need_labels: bool,
    tables: dict[Path, TableOfLabels | None] | None,
    ranked: RankedFiles,
    units: Sequence[Unit],
) -> Subject | BadSubject:
    """The subject that the files of a unit are.

    Parameters
    ----------
    tables : those read before, None where none is to be read.
    units : all that there are, this one among them.
    """
    files: dict[str, list[NamedFile]] = defaultdict(list)
    for file in unit.files:
        files[file.content].append(file)
    wanted = [*contrasts, SEG]
    if missing := [name for name in wanted if not files[name] and (need_labels or name != SEG)]:
        holding = {file.path.parent for other in units for file in other.files}
        instead = [(name, stand_in(unit.folder, name, unit.stems, names, holding)) for name in missing]
        if told := [f"{name}: {found}" for name, found in instead if found]:
            return BadSubject(unit.id, "; ".join([*told, *(f"missing {name}" for name, found in instead if not found)]))
        return missing_files(unit.id, missing, unit.others)
    chosen: dict[str, Path] = {}
    for name in wanted:
        best = min((file.rank for file in files[name]), default=0)
        first = [file.path for file in files[name] if file.rank == best]
        if len(first) > 1 and (need_labels or name != SEG):
            both = " and ".join(path.name for path in first)
            if len({path.name for path in first}) < len(first):
                both = " and ".join(path.relative_to(root).as_posix() for path in first)
            return BadSubject(unit.id, f"ambiguous {name}: {both} ({_how_to_choose(name, first, names, units)})")
        if len(first) == 1:
            chosen[name] = first[0]
        if need_labels or name != SEG:
            ranked.aside += [file.path for file in files[name] if file.rank > best]
            ranked.second += first if best else []
    used = [path for name, path in chosen.items() if need_labels or name != SEG]
    if absent := _absent(used):
        return BadSubject(unit.id, absent)
    seg = chosen.pop(SEG, None)
    if not need_labels and seg and not_fetched(seg):
        seg = None
    table = None
    try:
        table = table_of_labels(seg, root, tables) if seg and tables is not None else None
    except DataError as error:
        if need_labels and seg:
            return BadSubject(unit.id, f"{seg.name}: {error.what} {error.why}")
        seg = None  # what is not understood is not offered
    return Subject(unit.id, unit.folder, chosen, seg, table=table)


_ORDINALS = ("first", "second", "third", "fourth", "fifth")


def _how_to_choose(content: str, files: Sequence[Path], names: Names, units: Sequence[Unit]) -> str:
    """What takes one of several files and leaves every subject the one that it has: tried on all of them."""
    for ordinal, path in zip(_ORDINALS, files, strict=False):
        ending = ending_that_chooses(path, [other for other in files if other != path])
        given = replace(names, given=(*names.given, (content, ending.lower())), used=set())
        if all(_has_one(content, unit, given) for unit in units if any(file.content == content for file in unit.files)):
            return f"--names {content}={ending} takes the {ordinal}"
    return "move all but one out of the folder"


def _has_one(content: str, unit: Unit, names: Names) -> bool:
    """Whether a subject has one file of a content by these names, which begins as others of its files do."""
    found = [said for file in unit.files if (said := named_file(file.path, names)) and said.content == content]
    return len(found) == 1 and found[0].stem.lower() in unit.stems


def _absent(paths: Sequence[Path]) -> str | None:
    """Which of these files are not here, and why; one cause stands for all that have it."""
    causes: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        if finished_name(path):
            causes["an unfinished download"].append(path)
        elif why := not_fetched(path):
            causes[why].append(path)
    return "; ".join(f"{first_of(found)}: {why}" for why, found in causes.items()) or None
