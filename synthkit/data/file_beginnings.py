"""Files whose names begin with what they hold: ``t1_P001.nii.gz``, where others write ``P001_t1.nii.gz``."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from synthkit.data.file_names import NamedFile, Names, base_name, named_file
from synthkit.data.folder_kinds import has_digit

_MARK = re.compile(r"[-_. ]")
# What makes another image of a contrast: T1_map, T2_star, T1_to_T2.
_ANOTHER = re.compile(r"(?:maps?|mapping|star|masks?|rois?|to|in|reg|diff|ratio|perf|rho|only)(?![a-z])", re.IGNORECASE)


def files_by_beginnings(
    walked: Sequence[tuple[Path, list[Path], bool]], names: Names
) -> dict[Path, tuple[Path, NamedFile]]:
    """File -> its folder and what it is, where its name begins with that.

    Only where nothing else is known of it, a number stands behind, and files of another content begin otherwise and end
    alike: ``t1_brain`` may be of anybody, and ``T1_P001`` alone a time.
    """
    by_stem: dict[str, dict[Path, NamedFile]] = defaultdict(dict)
    for _, files, _ in walked:
        for path in files:
            file = begun(path, names) if named_file(path, names) is None else None
            if file and has_digit(file.stem):
                by_stem[file.stem.lower()][path] = file
    return {
        path: (path.parent, file)
        for files_of_one in by_stem.values()
        if len({file.content for file in files_of_one.values()}) > 1
        for path, file in files_of_one.items()
    }


def begun(path: Path, names: Names | None = None) -> NamedFile | None:
    """What a name begins with, and as its stem what stands behind; the longest beginning counts."""
    base = base_name(path.name) or ""
    for mark in reversed(list(_MARK.finditer(base))):
        said = named_file(Path(f"{base[: mark.start()]}.nii"), names)
        if said and not said.stem and (rest := base[mark.end() :]) and not _ANOTHER.match(rest):
            return NamedFile(path, rest, said.content, said.rank)
    return None


def other_way_round(path: Path) -> str | None:
    """The name of a file that begins with what it holds, with that behind, if others beside it do; else None."""
    file = begun(path)
    beside = filter(None, map(begun, path.parent.iterdir())) if file else ()
    if file is None or all(other.content == file.content or other.stem != file.stem for other in beside):
        return None
    base = base_name(path.name) or ""
    beginning = base[: len(base) - len(file.stem) - 1]
    return f"{file.stem}_{beginning}{path.name[len(base) :]}"
