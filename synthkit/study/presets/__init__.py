"""Studies to begin with: ``demo``, ``week`` and ``akbar2024``."""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path

from synthkit.errors import UsageError
from synthkit.files import write_atomically
from synthkit.study import layout

PRESETS = ("demo", "week", "akbar2024")


def write_preset(name: str, folder: Path, subjects: Path | None = None) -> Path:
    """Write ``study.toml`` of the preset ``name`` into ``folder``, which is made if need be; returns its path.

    ``subjects`` is noted relative to the folder. Raises :class:`UsageError` for an unknown preset, a study that is
    there already, or subjects that are missing or of no use.
    """
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        raise UsageError(
            f"There is no preset {name}.",
            f"Did you mean {close[0]}?" if close else "",
            f"Choose from {', '.join(PRESETS)}.",
        )
    file = folder / layout.STUDY_FILE
    if file.exists():
        raise UsageError(f"{file} is there already.", "Nothing is overwritten unasked.", "Choose another folder.")
    text = (Path(__file__).parent / f"{name}.toml").read_text(encoding="utf-8")
    wants = "@SUBJECTS@" in text
    if wants != (subjects is not None):
        raise UsageError(
            f"The preset {name} needs subjects." if wants else f"The preset {name} makes its own subjects.",
            fix="Give --subjects DIR, a folder of BraTS-style subjects." if wants else "Leave --subjects out.",
        )
    if subjects is not None:
        if not subjects.is_dir():
            raise UsageError(f"There is no folder {subjects}.", fix="Check --subjects.")
        where = os.path.relpath(subjects.resolve(), folder.resolve())
        text = text.replace('"@SUBJECTS@"', json.dumps(where, ensure_ascii=False))
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(file, text.encode())
    return file
