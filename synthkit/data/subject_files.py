"""Which files a subject is made of: one a content, the best of several, all of them really there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from synthkit.data.channel_names import SEG
from synthkit.data.fetched import finished_name, not_fetched
from synthkit.data.file_names import NamedFile, Names, base_name, ending_that_chooses, entity_of, named_file
from synthkit.data.label_tables import TableOfLabels, table_of_labels
from synthkit.data.layouts import Unit, first_of
from synthkit.data.raw_layouts import RawCase, RawFolder
from synthkit.data.stand_ins import stand_in
from synthkit.errors import DataError
from synthkit.schemes import enumerated


@dataclass(frozen=True)
class Subject:
    """Files of one subject.

    Attributes
    ----------
    seg : None where there is no segmentation and none was asked for.
    channels : contrast -> index along the fourth axis, where its file is 4-D and of ``n_channels``.
    table : what values of ``seg`` are called, where a table of labels says so.
    called : contrast -> the name of its channel, where a ``dataset.json`` says it.
    label_values : value in ``seg`` -> value to read it as, where that is another; None: values stay as they are.
    """

    id: str
    folder: Path
    contrasts: dict[str, Path]
    seg: Path | None
    channels: dict[str, int] = field(default_factory=dict)
    n_channels: int = 0
    table: TableOfLabels | None = None
    called: Mapping[str, str] = field(default_factory=dict)
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
        called=raw.called,
    )


@dataclass
class RankedFiles:
    """Files passed over for better ones, such as automatic labels for corrected ones; and those taken without one.

    ``exact``: contents of which some subject has a file that says nothing but whose it is.
    """

    aside: list[Path] = field(default_factory=list)
    second: list[Path] = field(default_factory=list)
    exact: dict[str, bool] = field(default_factory=dict)


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
    open_still: dict[str, list[NamedFile]] = {}
    for name in wanted:
        best, rest = _best(files[name], unit, names)
        if len(best) > 1 and (need_labels or name != SEG):
            open_still[name] = best
        elif len(best) == 1:
            chosen[name] = best[0].path
        if need_labels or name != SEG:
            ranked.aside += [file.path for file in rest]
            ranked.second += [file.path for file in best if file.rank or _is_second(file, unit, names, ranked, units)]
    if open_still:
        return BadSubject(unit.id, _ambiguous(open_still, chosen.get(SEG), root, names, units))
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


def _best(files: Sequence[NamedFile], unit: Unit, names: Names) -> tuple[list[NamedFile], list[NamedFile]]:
    """Files of one content that may be taken, and those passed over for them.

    Of several that end as ``--names`` says, that counts which says nothing between its subject and the ending: of
    ``P01_seg`` and ``P01_auto_seg`` the first.
    """
    lowest = min((file.rank for file in files), default=0)
    best = [file for file in files if file.rank == lowest]
    if files and files[0].content in names.contents and (exact := [file for file in best if _is_exact(file, unit)]):
        best = exact
    return best, [file for file in files if file not in best]


def _is_exact(file: NamedFile, unit: Unit) -> bool:
    """Whether a file begins as others of its subject do, of other contents, or as its subject is called."""
    return file.stem.lower() in {unit.id.lower(), *(f.stem.lower() for f in unit.files if f.content != file.content)}


def _is_second(file: NamedFile, unit: Unit, names: Names, ranked: RankedFiles, units: Sequence[Unit]) -> bool:
    """Whether ``--names`` takes a file that says more than whose it is, where other subjects have one that does not."""
    name = file.content
    if name not in names.contents or _is_exact(file, unit):
        return False
    if name not in ranked.exact:
        ranked.exact[name] = any(_is_exact(f, other) for other in units for f in other.files if f.content == name)
    return ranked.exact[name]


_ORDINALS = ("first", "second", "third", "fourth", "fifth")


def _ambiguous(
    several: Mapping[str, Sequence[NamedFile]], seg: Path | None, root: Path, names: Names, units: Sequence[Unit]
) -> str:
    """That several files may be one content, and each way to choose that leaves every subject the file that it has."""
    space = entity_of(seg, "space") if seg else None
    if len(several) > 1 and space and (way := _in_space(several, space, names, units)):
        return f"ambiguous {enumerated([*several])}: images in several spaces ({way})"
    name, found = next(iter(several.items()))
    unit = next(unit for unit in units if found[0] in unit.files)
    # What says nothing but whose it is comes first, and what lies on the grid of the labels before that.
    files = sorted(
        found, key=lambda file: (bool(space) and entity_of(file.path, "space") != space, not _is_exact(file, unit))
    )
    listed = [file.path.name for file in files]
    if len(set(listed)) < len(files):
        listed = [file.path.relative_to(root).as_posix() for file in files]
    ways = []
    for ordinal, file in zip(_ORDINALS, files, strict=False):
        endings = _endings(file, files) if _is_exact(file, unit) else reversed(_endings(file, files))
        working = (ending for ending in endings if _takes([(name, ending, file)], names, units))
        if ending := next(working, ""):
            ways.append(f"--names {name}={ending} takes the {ordinal}")
    return f"ambiguous {name}: {' and '.join(listed)} ({', '.join(ways) or 'move all but one out of the folder'})"


def _in_space(several: Mapping[str, Sequence[NamedFile]], space: str, names: Names, units: Sequence[Unit]) -> str:
    """What takes the images in the space of the labels, all contrasts at once; "" where nothing does."""
    given = []
    for name, files in several.items():
        there = [file for file in files if entity_of(file.path, "space") == space]
        if len(there) != 1:
            return ""
        given.append((name, _endings(there[0], files)[0], there[0]))
    if not _takes(given, names, units):
        return ""
    return f"--names {','.join(f'{name}={ending}' for name, ending, _ in given)} takes those of the labels, {space}"


def _endings(file: NamedFile, files: Sequence[NamedFile]) -> list[str]:
    """Endings that may choose a file among others: what stands behind its subject, then what only it has."""
    base = base_name(file.path.name) or ""
    own = base[len(file.stem) :] if file.stem and base.startswith(file.stem) else ""
    return list(filter(None, [own, ending_that_chooses(file.path, [f.path for f in files if f is not file])]))


def _takes(given: Sequence[tuple[str, str, NamedFile]], names: Names, units: Sequence[Unit]) -> bool:
    """Whether endings take these files, and leave every subject with such files one: tried on all of them."""
    tried = replace(names, given=(*names.given, *((name, ending.lower()) for name, ending, _ in given)), used=set())
    for unit in units:
        now = [said for file in unit.files if (said := named_file(file.path, tried))]
        for name, _, wanted in given:
            had = [file for file in unit.files if file.content == name]
            best, _ = _best([file for file in now if file.content == name], replace(unit, files=now), tried)
            if had and (len(best) != 1 or best[0].stem.lower() not in unit.stems):
                return False
            if wanted in had and best[0].path != wanted.path:
                return False
    return True


def _absent(paths: Sequence[Path]) -> str | None:
    """Which of these files are not here, and why; one cause stands for all that have it."""
    causes: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        if finished_name(path):
            causes["an unfinished download"].append(path)
        elif why := not_fetched(path):
            causes[why].append(path)
    return "; ".join(f"{first_of(found)}: {why}" for why, found in causes.items()) or None
