"""Samples that the report of a study may show: those that an audit has passed, for others may be copies of patients.

A study on the phantom has no patients: all its samples are shown, and real slices beside them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synthkit.errors import SynthkitError
from synthkit.running.run import Run
from synthkit.study import layout
from synthkit.study.config import Study
from synthkit.study.results import GeneratorNumbers, StudyResults

#: Samples of each generator, of the first that show tumour.
N_SAMPLES = 4


def grids(folder: Path, study: Study, results: StudyResults) -> list[dict[str, Any]]:
    """For every source its name and pictures, or why these are withheld and where the samples lie in the study."""
    found = []
    if study.data.phantom and results.n_real_samples:
        found.append(_pictures("phantom", folder / layout.real_dataset()))
    for generator in results.generators:
        if generator.samples is None:
            continue
        dataset = Run(generator.samples).dataset
        why = "" if study.data.phantom else _reason_to_withhold(study, generator)
        found.append(
            {"name": generator.name, "withheld": why, "place": dataset.as_posix(), "samples": []}
            if why
            else _pictures(generator.name, folder / dataset)
        )
    return [grid for grid in found if grid is not None]


def legend(shown: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Label names and their colours."""
    colours = {path["name"]: path["colour"] for grid in shown for sample in grid["samples"] for path in sample["paths"]}
    return [{"name": name, "colour": colour} for name, colour in colours.items()]


def _reason_to_withhold(study: Study, generator: GeneratorNumbers) -> str:
    """Empty if the audit has passed."""
    if not study.audit.enabled:
        return "the audit is off in study.toml"
    if generator.audit is None:
        return "not audited"
    return "" if generator.audit.outcome == "pass" else f"the verdict of the audit is {generator.audit.outcome}"


def _pictures(name: str, path: Path) -> dict[str, Any] | None:
    from synthkit.data.dataset import Dataset
    from synthkit.report import pictures

    try:
        data = Dataset(path)
        rows = [i for i, sample in enumerate(data.samples) if sample.split != "holdout"]
        chosen, examined, with_tumour = pictures.representative(data, rows, N_SAMPLES)
        samples = [pictures.sample_row(data, row) for row in chosen]
    except (SynthkitError, OSError, ValueError):
        return None
    if not samples:
        return None
    return {"name": name, "withheld": "", "samples": samples, "examined": examined, "with_tumour": with_tumour}
