"""What lies where a volume is expected and is none: placeholders of clouds, shortcuts, folders with its name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from synthkit.data.file_names import Names, base_name, named_file

# The name of a volume in front of another ending, or with a dot in front, as clouds leave it.
_WITHIN = re.compile(r"\.?(.+?\.(?:nii\.gz|nii|mha))(\.\w+)", re.IGNORECASE)
_CLOUDS = {
    ".icloud": "a placeholder of iCloud, its content was not fetched (open it in the Finder, or `brctl download`)",
    ".cloud": "a placeholder of a cloud, its content was not fetched",
    ".cloudf": "a placeholder of a cloud, its content was not fetched",
    ".url": "a link to a page and not its content: download the file itself",
    ".webloc": "a link to a page and not its content: download the file itself",
    ".lnk": "a shortcut and not the file: copy the file itself",
    ".txt": "a text and not a volume: the download may have failed",
}


def stand_in(
    folder: Path, content: str, stems: Collection[str], names: Names, holding: Collection[Path] = ()
) -> str | None:
    """What a subject has instead of a volume of ``content``, in words; None for nothing.

    Parameters
    ----------
    stems : what its files begin with, in lower case.
    holding : folders that hold files of subjects, and are nothing's stand-in.
    """
    for path in sorted(folder.iterdir()):
        is_folder = path.is_dir()
        within = _WITHIN.fullmatch(path.name)
        if (not is_folder and within is None) or path in holding:
            continue
        called = within[1] if within else path.name if base_name(path.name) else f"{path.name}.nii"
        said = named_file(Path(called), names)
        if said is None or said.content != content or (said.stem and said.stem.lower() not in stems):
            continue
        if is_folder:
            return f"{path.name} is {_folder_in_words(path)}, where a volume is expected"
        if within and not within[2].lower().endswith((".json", ".gz")):
            what = _CLOUDS.get(within[2].lower(), f"not a volume by its ending ({within[2]})")
            return f"{path.name} is {what}"
    return None


def _folder_in_words(folder: Path) -> str:
    files = [path for path in folder.rglob("*") if path.is_file()]
    if not files:
        return "a folder without a file"
    endings = Counter(".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower() for path in files)
    ending, n = endings.most_common(1)[0]
    way = " (convert them to NIfTI, for example with dcm2niix)" if ending in (".dcm", ".ima") else ""
    return f"a folder of {n}{f' {ending}' if ending else ''} file{'s' if n > 1 else ''}{way}"
