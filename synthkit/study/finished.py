"""Runs of a study whose steps are done: the only ones that its report reads.

A step that ran by another ``study.toml``, or before something that it reads was made anew, is not done: what it left is
no result of this study. Neither is a folder that the plan does not name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthkit.errors import SynthkitError
from synthkit.running.run import RESULT, Run
from synthkit.study.progress import StepState


@dataclass(frozen=True)
class Finished:
    """``outs``: what the steps that are done have written, relative to ``folder``, that of the study."""

    folder: Path
    outs: frozenset[Path]

    @classmethod
    def of(cls, folder: Path, states: Iterable[StepState]) -> Finished:
        return cls(folder, frozenset(item.step.out for item in states if item.state == "done"))

    def result(self, out: Path) -> dict[str, Any] | None:
        """The result of the run ``out``, if its step is done."""
        return succeeded(self.folder / out) if out in self.outs else None

    def scores(self, out: Path, table: str) -> Path | None:
        """The run of the step that made ``out`` which has this table: itself or, of several packages, one below it.

        A run without the table if none has it: what reads it then says so.
        """
        if out not in self.outs:
            return None
        here = self.folder / out
        runs = [run for run in (here, *sorted(here.iterdir())) if succeeded(run)]
        return next((run for run in runs if (run / "outputs" / table).is_file()), runs[0] if runs else None)


def succeeded(run: Path) -> dict[str, Any] | None:
    """The result of a run that succeeded."""
    if not (run / RESULT).is_file():
        return None
    try:
        result = Run(run).result()
    except SynthkitError:
        return None
    return result if result is not None and result.get("status") == "succeeded" else None
