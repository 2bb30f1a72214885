"""Folders that are called as what is in them, one a contrast and one of labels: names of files need not say it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from synthkit.data.channel_names import content_called, names_of_channels
from synthkit.data.file_names import Names, base_name, content_named, named_file
from synthkit.schemes import BRATS

_OF_FOLDERS = names_of_channels(BRATS, ())


def kinds_of_folders(root: Path, walked: Sequence[tuple[Path, list[Path], bool]], names: Names) -> dict[Path, str]:
    """Folder -> the content of all its volumes, where it is called so, their names say nothing else, and begin as those
    of a folder of another content: ``T1/a01.nii.gz``, ``masks/a01.nii.gz``.
    """
    stems: dict[Path, set[str]] = {}
    kinds: dict[Path, str] = {}
    for folder, files, _ in walked:
        content = content_named(folder.name, names) or content_called(folder.name, _OF_FOLDERS)
        said = {base: named_file(path, names) for path in files if (base := base_name(path.name))}
        alone = all(found is None or found.content == content for found in said.values())
        if content and content not in names.contents and said and alone and folder != root:
            kinds[folder] = content
            stems[folder] = {found.stem if found else stem_in(base, content) for base, found in said.items()}
    return {
        folder: content
        for folder, content in kinds.items()
        if any(kinds[other] != content and stems[other] & stems[folder] for other in kinds)
    }


def stem_in(base: str, content: str) -> str:
    """What a name begins with in a folder of one content: ``a01`` of ``a01_mask`` in ``masks``."""
    parts = re.fullmatch(r"(.+?)[-_. ]([^-_. ]+)", base)
    return parts[1] if parts and content_called(parts[2], _OF_FOLDERS) == content else base
