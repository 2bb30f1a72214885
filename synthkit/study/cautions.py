"""What the interval of a ratio leaves open: chance between trainings where there are few, and few patients."""

from __future__ import annotations

from collections.abc import Iterable

from synthkit.judging.arms import FEW_PATIENTS, FEW_TRAININGS, Comparison
from synthkit.report.wording import count
from synthkit.study.results import Cell


def interval_over(cell: Cell) -> str:
    """The sources of chance in the interval of a cell's ratio; empty where there is no interval.

    Resampling a single training gives that training: chance between trainings is then no part of the interval.
    """
    found = _comparison(cell)
    if found is None or found.ratio_interval is None:
        return ""
    several = [n > 1 for n in (found.n_real, found.n_synthetic)]
    if all(several):
        return "patients and trainings"
    return "patients and trainings of one arm" if any(several) else "patients alone"


def cautions(cells: Iterable[Cell]) -> list[str]:
    """Sentences on the intervals of these cells; none where no cell has a ratio."""
    compared = [comparison for cell in cells if (comparison := _comparison(cell)) is not None]
    found = [comparison for comparison in compared if comparison.ratio is not None]
    if not found:
        return []
    said = []
    numbers = {n for comparison in found for n in (comparison.n_real, comparison.n_synthetic)}
    if numbers == {1}:
        said.append(
            "One training an arm: intervals are over patients alone, and how much trainings differ by chance is not in "
            "them."
        )
    elif 1 in numbers:
        said.append("Some arms have one training: how much theirs differ by chance is not in the intervals.")
    elif min(numbers) < FEW_TRAININGS:
        said.append(
            f"Some arms have fewer than {FEW_TRAININGS} trainings: how much these differ by chance is hardly in the "
            "intervals."
        )
    n_patients = max(comparison.n_patients for comparison in found)
    if n_patients == 1:
        said.append("One patient: there is no interval.")
    elif n_patients < FEW_PATIENTS:
        said.append(f"{count(n_patients, 'patient')}: the intervals are too uncertain to rest a claim on.")
    return said


def _comparison(cell: Cell) -> Comparison | None:
    return None if cell.comparison is None else cell.comparison.comparison
