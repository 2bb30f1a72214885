"""Tables of a study as CSV and LaTeX (booktabs)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from synthkit.files import write_atomically
from synthkit.judging.arms import PairedComparison, interval_warnings
from synthkit.study import layout
from synthkit.study.fidelity import FidelityNumber
from synthkit.study.results import AUDIT_SCORES, Cell, StudyResults

_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table as text, ready for print; ``raw`` holds the same rows with full precision for CSV."""

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    raw_columns: tuple[str, ...]
    raw: tuple[tuple[object, ...], ...]


def utility_table(results: StudyResults) -> Table:
    """The study's table: a row a segmenter, augmentation, arm and region."""
    rows, raw = [], []
    for cell in results.cells:
        ratio, interval = ratio_of(cell)
        low, high = interval or (None, None)
        compared = comparison_of(cell)
        where = (cell.segmenter, cell.augmentation, cell.arm, cell.region)
        rows.append(
            (
                *where, mean_and_sd(cell.dice, cell.dice_sd), _number(ratio), _interval(low, high),
                _number(cell.hd95_mm, 1), _number(cell.surface_dice), f"{cell.cases.n_missed:.1f}", false_of(cell),
                f"{cell.n_done} of {cell.n_planned}",
            )
        )  # fmt: skip
        raw.append(
            (
                *where, cell.dice, cell.dice_sd, ratio, low, high, compared.interval_over if compared else "",
                compared.n_patients if compared else None, cell.hd95_mm, cell.surface_dice, cell.cases.n_missed,
                cell.cases.n_false, cell.cases.n_without, cell.n_done, cell.n_planned,
            )
        )  # fmt: skip
    head = ("segmenter", "augmentation", "trained on", "region")
    protocol = [f"Scored by the protocol {results.protocol['name']} alone."] if results.protocol else []
    return Table(
        "utility",
        " ".join(
            [
                "Segmenters on held-out real subjects, by what they were trained on: Dice (mean and standard deviation "
                "over trainings), its ratio to training on real images with a 95 % interval, HD95, surface Dice. A "
                "missed region has Dice 0, and so has a false one, which the reference lacks; both are counted, "
                "means over trainings, false ones of so many that the reference lacks.",
                *protocol, *interval_warnings(comparisons_of(results.cells)),
            ]
        ),
        (*head, "Dice", "ratio", "95 % interval", "HD95 (mm)", "surface Dice", "missed", "false", "trainings"),
        tuple(rows),
        ("segmenter", "augmentation", "arm", "region", "dice", "dice_sd", "ratio", "ratio_low", "ratio_high",
         "interval_over", "n_patients", "hd95_mm", "surface_dice", "n_missed", "n_false", "n_without", "n_trainings",
         "n_trainings_planned"),
        tuple(raw),
    )  # fmt: skip


def ratio_table(results: StudyResults) -> Table:
    """A row a segmenter, augmentation, arm, region and score: its ratio to the real arm."""
    rows, raw = [], []
    for cell in results.cells:
        for item in cell.comparisons:
            found = item.comparison
            low, high = found.ratio_interval or (None, None)
            where = (cell.segmenter, cell.augmentation, cell.arm, cell.region, item.score)
            numbers = _number(found.synthetic), _number(found.real), _number(found.ratio), _interval(low, high)
            rows.append((*where, *numbers))
            raw.append((*where, found.synthetic, found.real, found.ratio, low, high))
    return Table(
        "ratios",
        "Every score of segmenters, its mean on real images, and the ratio with a 95 % interval.",
        ("segmenter", "augmentation", "trained on", "region", "score", "mean", "on real", "ratio", "95 % interval"),
        tuple(rows),
        ("segmenter", "augmentation", "arm", "region", "score", "mean", "real", "ratio", "ratio_low", "ratio_high"),
        tuple(raw),
    )


def fidelity_table(results: StudyResults) -> Table:
    """A row a generator: the scores of its samples beside real images, each with its floor if it has one."""
    names = list(dict.fromkeys(name for generator in results.generators for name in generator.fidelity))
    rows, raw = [], []
    for generator in results.generators:
        found = [generator.fidelity.get(name) for name in names]
        rows.append((generator.name, *("-" if one is None else _with_interval(one) for one in found)))
        raw.append((generator.name, *(end for one in found for end in _ends(one))))
    return Table(
        "fidelity",
        " ".join(
            [
                "Samples of each generator beside real images: means over contrasts, in brackets 95 % intervals, as "
                "wide as if the contrasts erred together.",
                *["A floor is what images of new people would have: as matched score, or as kid and kd."]
                * any("_floor" in name for name in names),
            ]
        ),
        ("generator", *(name.replace("_", " ") for name in names)), tuple(rows),
        ("generator", *(f"{name}{end}" for name in names for end in ("", "_low", "_high"))), tuple(raw),
    )  # fmt: skip


def _ends(number: FidelityNumber | None) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if number is None else (number.value, number.low, number.high)


def _with_interval(number: FidelityNumber) -> str:
    interval = _interval(number.low, number.high)
    return _number(number.value) + (f" ({interval})" if interval else "")


def audit_table(results: StudyResults) -> Table:
    """A row a generator and number of training patients: what its audit found."""
    rows, raw = [], []
    for generator in results.generators:
        every = {**generator.sizes}
        if generator.audit is not None:
            every[results.n_training_patients or 0] = generator.audit
        for n, audit in sorted(every.items()):
            copied, low, high = audit.scores.get("copied_rate", (None, None, None))
            counts = [audit.scores.get(name, (None,))[0] for name in AUDIT_SCORES[1:]]
            share = [None if v is None else 100 * v for v in (copied, low, high)]
            rows.append(
                (
                    generator.name, str(n) if n else "-", audit.outcome, _number(share[0], 1),
                    _interval(share[1], share[2], 1), *(_number(v, 0) for v in counts),
                )
            )  # fmt: skip
            raw.append((generator.name, n or None, audit.outcome, copied, low, high, *counts))
    return Table(
        "memorization",
        "Audit of each generator's samples: share that is nearer to a training patient than chance allows (copies).",
        ("generator", "training patients", "verdict", "copies (%)", "95 % interval", "copies", "patients copied",
         "copies of held-out patients"),
        tuple(rows),
        ("generator", "n_training_patients", "verdict", "copied_rate", "copied_low", "copied_high", *AUDIT_SCORES[1:]),
        tuple(raw),
    )  # fmt: skip


def cost_table(results: StudyResults) -> Table:
    """A row a kind of run: how many, hours, GPU-hours."""
    rows = [(c.what, f"{c.n_runs:,}", f"{c.hours:,.2f}", f"{c.gpu_hours:,.2f}") for c in results.costs]
    raw = [(c.what, c.n_runs, c.hours, c.gpu_hours) for c in results.costs]
    columns = ("", "runs", "hours", "GPU-hours")
    return Table("cost", "Time that the runs took.", columns, tuple(rows), ("what", "n_runs", "hours", "gpu_hours"),
                 tuple(raw))  # fmt: skip


def write_tables(folder: Path, tables: Sequence[Table]) -> None:
    """``tables/NAME.csv`` and ``tables/NAME.tex`` below ``folder``."""
    (folder / layout.TABLES).mkdir(parents=True, exist_ok=True)
    for table in tables:
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table.raw_columns)
        writer.writerows(("" if value is None else value for value in row) for row in table.raw)
        write_atomically(folder / layout.TABLES / f"{table.name}.csv", file.getvalue().encode())
        write_atomically(folder / layout.TABLES / f"{table.name}.tex", latex(table).encode())


def latex(table: Table) -> str:
    """The table for a paper; needs the package booktabs."""
    lines = [" & ".join(text.translate(_ESCAPES) for text in row) + r" \\" for row in (table.columns, *table.rows)]
    return "\n".join(
        [
            r"\begin{table}", r"\centering", rf"\caption{{{table.caption.translate(_ESCAPES)}}}",
            rf"\begin{{tabular}}{{{'l' * len(table.columns)}}}", r"\toprule", lines[0], r"\midrule", *lines[1:],
            r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
        ]
    )  # fmt: skip


def ratio_of(cell: Cell) -> tuple[float | None, tuple[float, float] | None]:
    """Ratio of the mean Dice to that of the real arm, with its interval."""
    compared = comparison_of(cell)
    return (None, None) if compared is None else (compared.ratio, compared.ratio_interval)


def comparison_of(cell: Cell) -> PairedComparison | None:
    """Its Dice beside that of the real arm."""
    return next((item.comparison for item in cell.comparisons if item.score == "Dice"), None)


def comparisons_of(cells: Iterable[Cell]) -> list[PairedComparison]:
    """Those of all cells that have one."""
    return [compared for cell in cells if (compared := comparison_of(cell)) is not None]


def false_of(cell: Cell) -> str:
    """ "2.0 of 3": regions that were found, of those that the reference lacks."""
    return f"{cell.cases.n_false:.1f} of {cell.cases.n_without}"


def mean_and_sd(mean: float, sd: float | None) -> str:
    return f"{mean:.3f}" + (f" ± {sd:.3f}" if sd is not None else "")


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _interval(low: float | None, high: float | None, digits: int = 3) -> str:
    return "" if low is None or high is None else f"{low:.{digits}f} to {high:.{digits}f}"
