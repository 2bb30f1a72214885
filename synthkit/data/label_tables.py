"""Tables that say what label values are called: the ``labels`` of nnU-Net's ``dataset.json``, and ``dseg.tsv`` of BIDS.

A table gives names. Names that are known (of parts of a brain tumour) make a label scheme: a named one where the values
are its values, else one of the table's own. Names of another anatomy make one only if that is asked for
(``--labels table``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from synthkit.data.channel_names import content_called, endings_of_files
from synthkit.data.label_regions import parts_of_regions
from synthkit.data.named_schemes import SCHEMES, is_name, scheme_of_parts
from synthkit.data.tables import read_table
from synthkit.errors import DataError
from synthkit.schemes import BACKGROUND, BRATS, Contrast, Region, Scheme, enumerated

#: What ``--labels`` takes besides names of schemes and files: the labels as a table beside the files names them.
BY_TABLE = "table"

# Columns of BIDS' own table.
_COLUMNS = ("index", "name")

# Words that make a name mean one of our labels, in the order in which they are looked for and taken out.
_MEANS = (
    ("RC", r"(?:(?:resection|surgical|post ?op\w*) )?cavit\w+|\brc\b"),
    ("CC", r"cyst\w*(?: component)?|\bcc\b"),
    ("ED", r"snfh|(?:surrounding )?non ?enhancing flair hyperintensity|(?:peri ?tumou?ral )?o?edema|\bed\b"),
    ("GTV", r"\bgtv\b|gross (?:tumou?r|target) volume"),
    ("WT", r"\bwhole (?:tumou?r|lesion)\b|\bwt\b"),
    ("NCR", r"necro\w*|\bncr\b|\bnetc\b"),
    ("NET", r"\bnet\b|non ?enhanc\w*"),
    ("ET", r"enhanc\w*|\bg?d?a?et\b"),
)
# What 0 may be called.
_NOTHING = (
    r"\b(?:back ?ground|bg|none|nothing|no|non|not|un ?label+ed|un ?known|clear label|outside|exterior|void|other|rest|"
    r"air|empty|healthy|normal|brain|zero|0)\b"
)
_NOT = r"\bignore\b|\b(?:without|no|not|excluding|except|minus|outside)\b"


@dataclass(frozen=True)
class TableOfLabels:
    """What a table says.

    Attributes
    ----------
    source : the file.
    named : name as it is written -> value, without background.
    zeros : values other than 0 that it calls background.
    scheme : what the names mean; None where one of them is not known, and ``problem`` says which.
    channels : what channels of images are called, in order, where the file says that too.
    regions : region of several labels -> their names in ``named``; where a label is what other regions leave of one.
    """

    source: Path
    named: dict[str, int]
    zeros: tuple[int, ...]
    scheme: Scheme | None
    problem: str
    channels: tuple[str, ...] = ()
    regions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def in_words(self) -> str:
        """``"1 edema, 2 necrosis"``."""
        return ", ".join(f"{value} {name}" for name, value in sorted(self.named.items(), key=lambda item: item[1]))


def labels_named(
    labels: Mapping[str, Any], source: Path, channels: Iterable[str] = (), order: object = None
) -> TableOfLabels:
    """What a table of labels says.

    Parameters
    ----------
    labels : name -> value (nnU-Net 2), value -> name (nnU-Net 1, the Decathlon), or region -> values (nnU-Net 2) where
        regions are the whole tumour, the tumour core and the enhancing tumour, or ``order`` says what each value is.
    source : the file that says so, for messages.
    order : the ``regions_class_order`` of nnU-Net 2, see :mod:`synthkit.data.label_regions`.

    Raises
    ------
    DataError : it is not a table of names and values, one value has two names, or regions leave open what a value is.
    """
    several = _by_name(labels, source)
    regions: Mapping[str, tuple[str, ...]] = {}
    if any(len(values) > 1 for values in several.values()):
        try:
            several, regions = parts_of_regions(several, order, label_meant)
        except ValueError as error:
            raise _unusable(source, several, str(error)) from error
    named: dict[str, int] = {}
    zeros = []
    for name, (value, *_) in several.items():
        if value == 0 and not re.search(_NOTHING, name.lower()):
            raise _unusable(
                source,
                several,
                f"{name!r} has the value 0, which is background",
                f"Call 0 background in {source.name} if that is what it is; else give each label a value above 0, as "
                "its files have it.",
            )
        if value == 0 or name.strip().lower() == BACKGROUND:
            zeros += [value] if value else []
        elif not 0 < value < 256 or value in named.values():
            why = f"two of its labels are {value}" if value in named.values() else f"{value} is not 1 to 255"
            raise _unusable(source, several, why)
        else:
            named[name] = value
    if not named:
        raise _unusable(source, several, "none of them is a label")
    # What is left of a region is not what the name of the region means.
    scheme, problem = (None, f"it has regions, of which a value is {next(iter(named))!r}") if regions else _meant(named)
    return TableOfLabels(source, named, tuple(zeros), scheme, problem, tuple(channels), regions)


def each_name_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; ValueError where a name stands there twice, of which Python keeps the last without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands there twice")
    return found


def scheme_of_table(table: TableOfLabels) -> Scheme:
    """The scheme of a table whatever its names: the known one, else one of its own names and channels.

    Raises
    ------
    DataError : a name that is marked as no label, or that cannot be the name of a label.
    """
    if table.scheme is not None:
        return table.scheme
    names = {n: re.sub(r"[^A-Za-z0-9_.+-]+", "_", n).strip("_.+-") for n in (*table.named, *table.regions)}
    for name, plain in names.items():
        if re.search(_NOT, name.lower()) or not is_name(plain) or list(names.values()).count(plain) > 1:
            raise DataError(
                f"The labels that {table.source} names cannot be taken as they are.",
                f"{name!r} marks what is not a label, or is not a name of at most 32 letters and digits of its own.",
                "Write the labels into a TOML file with a table [labels] of name = value, and give --labels FILE.toml.",
            )
    try:
        scheme = Scheme.of_labels({names[name]: value for name, value in table.named.items()})
        nested = tuple(Region(names[r], tuple(names[part] for part in of), r) for r, of in table.regions.items())
        scheme = replace(scheme, name="table", family="This table", nested=nested)
        contrasts = channel_contrasts(table.channels)
        if not contrasts or set(contrasts) <= set(BRATS.contrasts):
            return scheme
        there = {contrast.name for contrast in contrasts}
        if wrong := [contrast.title for contrast in contrasts if not is_name(contrast.name) or contrast.name == "seg"]:
            raise ValueError(f"{wrong[0]!r} cannot be the name of a contrast")
        return replace(
            scheme,
            contrasts=contrasts,
            brain_contrast=BRATS.brain_contrast if BRATS.brain_contrast in there else "",
            drawn_on=tuple(name for name in BRATS.drawn_on if name in there),
        )
    except ValueError as error:
        raise DataError(
            f"The labels and channels that {table.source} names cannot be taken as they are.",
            f"{str(error)[:1].upper()}{str(error)[1:]}.",
            f"Give each a name of its own in {table.source.name}, or write the labels into a TOML file with a table "
            "[labels] of name = value, and give --labels FILE.toml.",
        ) from error


def channel_contrasts(channels: Iterable[str]) -> tuple[Contrast, ...]:
    """The contrasts that channels of these names hold: those of BraTS by any known ending, others by their own."""
    known, of_brats = endings_of_files(), {contrast.name: contrast for contrast in BRATS.contrasts}
    found = []
    for name in channels:
        plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        content = content_called(plain, known)
        found.append(of_brats.get(content or "") or Contrast(plain, name, (plain,)))
    return tuple(dict.fromkeys(found))


def label_meant(name: str) -> tuple[str, ...]:
    """Our labels that a name speaks of: ``("NCR", "NET")`` for "necrosis and non-enhancing tumour"."""
    left = re.sub(r"[^a-z]+", " ", name.lower()).strip()
    if re.search(_NOT, left):
        return ()
    found = []
    for label, words in _MEANS:
        left, n = re.subn(words, " ", left)
        if n:
            found.append(label)
    return tuple(found)


def _meant(named: Mapping[str, int]) -> tuple[Scheme | None, str]:
    """The scheme of known names, or what is the matter with one of them."""
    spoken = {name: label_meant(name) for name in named}
    # "Non-enhancing tumour" is NCR where the two are one label, and NET where cysts or necrosis have a label besides.
    apart = any("CC" in labels or labels == ("NCR",) for labels in spoken.values())
    found: dict[str, int] = {}
    for name, labels in spoken.items():
        if set(labels) == {"NCR", "NET"} or (labels == ("NET",) and not apart):
            labels = ("NCR",)
        if len(labels) != 1:
            what = f"stands for {enumerated(labels)} together" if labels else "is not a known label"
            return None, f"{name!r} ({named[name]}) {what}"
        if labels[0] in found:
            return None, f"two of its labels stand for {labels[0]}"
        found[labels[0]] = named[name]
    wanted = {BACKGROUND: 0, **found}
    same = next((scheme for scheme in SCHEMES.values() if scheme.label_values == wanted), None)
    return same or scheme_of_parts("own", "This table", found), ""


def _by_name(labels: Mapping[str, Any], source: Path) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    try:
        for key, value in labels.items():
            if isinstance(value, list | tuple):
                found[str(key)] = tuple(map(_whole, value))
            elif isinstance(value, str) and not _is_number(value):
                if value in found:
                    raise ValueError(f"{value!r} is the name of {found[value][0]} and of {key}")
                if not _is_number(key):
                    raise ValueError(f"neither {key!r} nor {value!r} is a number")
                found[value] = (_whole(key),)
            else:
                found[str(key)] = (_whole(value),)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"The labels in {source} are not understood.",
            f"{str(error)[:1].upper()}{str(error)[1:]}.",
            'Write name: value, each name once, as in "labels": {"background": 0, "edema": 1}.',
        ) from error
    if "ignore" in found:
        value = "/".join(map(str, found["ignore"]))
        raise _unusable(
            source,
            found,
            "'ignore' marks what nobody has labelled",
            f"Write to each voxel of {value} in the label maps what it shows, 0 where that is no label, or leave out "
            f"the cases that have such voxels; then take 'ignore' out of {source.name}.",
        )
    if any(not values for values in found.values()):
        raise _unusable(source, found, "one of them has no value")
    return found


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"\s*[+-]?\d+(\.\d*)?\s*", text))


def _whole(value: object) -> int:
    """ValueError for what is no whole number: half of one and true are none."""
    is_one = isinstance(value, int | float | str) and not isinstance(value, bool)
    if not is_one or (isinstance(value, str) and not _is_number(value)) or not float(value).is_integer():  # type: ignore[arg-type]
        raise ValueError(f"{value!r} is not a whole number")
    return int(float(value))  # type: ignore[arg-type]


def _unusable(source: Path, named: Mapping[str, tuple[int, ...]], why: str, fix: str = "") -> DataError:
    listed = ", ".join(f"{'/'.join(map(str, values))} {name}" for name, values in named.items())
    return DataError(
        f"The labels that {source} names do not say what each value is.",
        f"{why[:1].upper()}{why[1:]}. It names {listed}.",
        fix
        or f"Name each value in {source.name} as what it is, such as edema, necrosis, enhancing tumor or resection "
        "cavity, each once.",
    )


# ----------------------------------------------------------------------------------------------------- BIDS' own table


def table_of_labels(seg: Path, root: Path, known: dict[Path, TableOfLabels | None]) -> TableOfLabels | None:
    """What the nearest table says of a ``dseg``; None where there is none.

    Parameters
    ----------
    seg : the file; its own ``*_dseg.tsv`` comes first, then the only one of its folder or of one above.
    root : where the search ends.
    known : tables that were read before, by folder or file; gets those of this call.

    Raises
    ------
    DataError : a table that cannot be read, or several where one is looked for.
    """
    if "dseg" not in seg.name.lower():
        return None
    own = seg.with_name(seg.name.split(".nii")[0] + ".tsv")
    if own.is_file():
        return _read(own)
    for folder in seg.parents:
        if folder not in known:
            # A table of one subject says nothing of the others.
            tables = [p for p in sorted(folder.glob("*dseg.tsv")) if not p.name.startswith("sub-")]
            known[folder] = _read(tables[0]) if len(tables) == 1 else None
            if len(tables) > 1:
                listed = " and ".join(path.name for path in tables)
                raise DataError(f"{folder} has several tables of labels.", f"They are {listed}.", "Leave one of them.")
        if known[folder] is not None:
            return known[folder]
        if folder == root:
            break
    return None


def _read(path: Path) -> TableOfLabels:
    labels: dict[str, int] = {}
    try:
        table = read_table(path, _COLUMNS)
        if any(table.columns.count(name) != 1 for name in _COLUMNS):
            raise ValueError(f"a table whose first row is {table.first_line[:80]!r}")
        for number, row in table.rows:
            name, value = row["name"], row["index"]
            if not name or name in labels or not value.isdecimal():
                raise ValueError(f"a table whose row {number} has the index {value!r} and the name {name!r}")
            labels[name] = int(value)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} is not a table of labels.",
            f"It is {error}." if isinstance(error, ValueError) else f"{error.strerror or error}.",
            "It needs the columns index and name, separated by tabs, a label a row: a number, and a name of its own. "
            "Write it so, or give --labels, which wins over it.",
        ) from error
    return labels_named(labels, path)


def unknown_names(table: TableOfLabels, option: str = "--labels") -> DataError:
    """The error for a table with names that are no known labels."""
    own = f"or {option} {BY_TABLE} to take the names of the table as they are, for another anatomy"
    return DataError(
        f"The labels that {table.source} names are not all known.",
        f"{table.problem[:1].upper()}{table.problem[1:]}. It names {table.in_words}.",
        f"Give {option} NAME with the scheme that is true ({enumerated([*SCHEMES])}), {own}; "
        f"or name each value in {table.source.name} as what it is, such as edema, necrosis or enhancing tumor.",
    )
