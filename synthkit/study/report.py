"""The report of a study: one self-contained page, its tables as CSV and LaTeX, its figures as SVG.

Only samples that an audit has passed are shown, and slices of phantoms (:mod:`synthkit.study.gallery`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from synthkit.files import write_atomically
from synthkit.judging.arms import interval_warnings, partings
from synthkit.report.pages import check_replaceable, render, write_page
from synthkit.report.wording import count, words
from synthkit.schemes import MEAN, enumerated
from synthkit.study import layout
from synthkit.study.config import Study
from synthkit.study.figures import Mark, colour, forest, scatter, standalone
from synthkit.study.gallery import grids, legend
from synthkit.study.progress import State
from synthkit.study.results import Cell, GeneratorNumbers, StudyResults, gather
from synthkit.study.tables import (
    audit_table,
    comparisons_of,
    cost_table,
    false_of,
    fidelity_table,
    ratio_of,
    ratio_table,
    utility_table,
    write_tables,
)

#: Fewer generators than this say nothing about a correlation.
FEW_GENERATORS = 5
_MAIN = MEAN
#: What is said of steps that are not done; of one, of several.
_LEFT: dict[State, tuple[str, str]] = {
    "failed": ("failed", "failed"),
    "interrupted": ("was interrupted", "were interrupted"),
    "running": ("is running", "are running"),
    "changed": ("is out of date and left out", "are out of date and left out"),
    "waiting": ("has not run", "have not run"),
}
_NAMED = 5
#: Of the files in ``figures/``, those that a report makes.
_FIGURE_NAMES = ("ratio.svg", "memorization.svg", "fidelity-*.svg")


def write_report(folder: Path, study: Study) -> Path:
    """Write ``report.html``, ``tables/`` and ``figures/`` of the study in ``folder``; returns the page's path.

    Steps that are not done are counted at the top, and what they have left is not read. Raises :class:`UsageError`
    where ``report.html`` is something else, :class:`NotWritableError` where nothing can be written.
    """
    out = folder / layout.REPORT
    check_replaceable(out)
    results = gather(folder, study)
    figures = _figures(study, results)
    makers = (utility_table, ratio_table, fidelity_table, audit_table, cost_table)
    tables = [make(results) for make in makers]
    write_tables(folder, tables)
    _write_figures(folder / layout.FIGURES, figures)
    page = _page(folder, study, results, figures)
    page["tables"] = {table.name: table for table in tables}
    write_page(out, render("study.html.j2", page))
    return out


def _write_figures(folder: Path, figures: list[dict[str, Any]]) -> None:
    """Write them in place of those of an earlier report."""
    folder.mkdir(exist_ok=True)
    kept = {f"{figure['name']}.svg" for figure in figures}
    for path in (path for pattern in _FIGURE_NAMES for path in folder.glob(pattern)):
        if path.name not in kept:
            path.unlink()
    for figure in figures:
        write_atomically(folder / f"{figure['name']}.svg", standalone(str(figure["svg"])).encode())


def _page(folder: Path, study: Study, results: StudyResults, figures: list[dict[str, Any]]) -> dict[str, Any]:
    shown = grids(folder, study, results)
    contents = [
        ("table", "Synthetic against real", results.cells),
        ("fidelity", "Does fidelity predict usefulness?", any(g.fidelity for g in results.generators)),
        ("memorization", "Copies of training images", any(g.audit for g in results.generators)),
        ("samples", "Samples", shown),
        ("cost", "What it took", results.costs),
        ("provenance", "Provenance", True),
        ("cite", "What to cite", results.citations),
    ]
    return {
        "title": f"Study {study.name}",
        "phantom": "all" if study.data.phantom else "no",
        "notes": study.notes,
        "contents": [{"id": name, "title": title} for name, title, there in contents if there],
        "summary": _summary(study, results),
        "incomplete": _incomplete(study, results),
        "groups": _groups(results),
        "results": results,
        "study": study,
        "figures": {part: [f for f in figures if f["part"] == part] for part in ("table", "fidelity", "memorization")},
        "correlations": _correlations(results),
        "few": FEW_GENERATORS,
        "grids": shown,
        "legend": legend(shown),
        "mean_meaning": f"mean of {enumerated(results.mean_of)}",
        "toml": (folder / layout.STUDY_FILE).read_text(encoding="utf-8"),
    }


# ------------------------------------------------------------------------------------------------------------- in words


def _summary(study: Study, results: StudyResults) -> list[str]:
    """What was compared, and what came out."""
    data = study.data
    subjects = "phantom subjects" if data.phantom else "patients"
    said = [
        f"{count(len(study.generators), 'generator')} ({words(list(study.generators))}) learned from "
        + (f"{results.n_training_patients:,} {subjects}" if results.n_training_patients else subjects)
        + f" at {data.size} x {data.size} pixels and drew {count(study.n_samples, 'sample')} each."
    ]
    if study.segmenters and results.n_holdout_patients:
        said.append(
            f"{count(len(study.segmenters), 'segmenter')} ({words(list(study.segmenters))}) trained on real, synthetic "
            f"or both were tested on {results.n_holdout_patients:,} {subjects} that nothing was trained on."
        )
    said += _best(results)
    audited = [g for g in results.generators if g.audit is not None]
    failed = [g.name for g in audited if g.audit is not None and g.audit.outcome == "fail"]
    passed = [g.name for g in audited if g.audit is not None and g.audit.outcome == "pass"]
    if audited:
        said.append(
            "The memorization audit "
            + (f"fails for {words(failed)}" if failed else "fails for none")
            + (f" and passes for {words(passed)}" if passed else " and passes for none")
            + (
                f"; for {words([g.name for g in audited if g.name not in (*failed, *passed)])} it cannot tell."
                if len(failed) + len(passed) < len(audited)
                else "."
            )
        )
    return said


def _best(results: StudyResults) -> list[str]:
    """The arm without real images that came nearest to them, and what its interval leaves open."""
    synthetic = [
        cell for cell in results.cells
        if cell.region == _MAIN and cell.arm == layout.generator_of(cell.arm) and ratio_of(cell)[0] is not None
    ]  # fmt: skip
    if not synthetic:
        return []
    best = max(synthetic, key=lambda cell: ratio_of(cell)[0] or 0.0)
    ratio, interval = ratio_of(best)
    with_interval = f" (95 % interval {interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
    said = [
        f"Of the arms without real images, the best reached {ratio:.3f} of the Dice of real images{with_interval}: "
        f"{best.segmenter} on samples of {best.arm}, {_way(best.augmentation)}."
    ]
    if len(synthetic) > 1:
        optimistic = "its ratio and interval are" if interval else "its ratio is"
        said.append(f"It was chosen afterwards, of {len(synthetic)} such arms: {optimistic} optimistic.")
    return said + partings(best.comparisons) + interval_warnings(comparisons_of([best]))


def _incomplete(study: Study, results: StudyResults) -> list[str]:
    said = []
    if results.missing:
        n_arms = len(study.segmenters) * len(study.augmentation) * len(study.arms)
        said.append(f"{results.missing} of {n_arms} arms have no finished training.")
    partial = {(c.segmenter, c.augmentation, c.arm) for c in results.cells if c.n_done < c.n_planned}
    if partial:
        said.append(f"{count(len(partial), 'arm')} {'lacks' if len(partial) == 1 else 'lack'} some trainings.")
    without = [g.name for g in results.generators if g.audit is None]
    if study.audit.enabled and without:
        said.append(f"{words(without)} {'is' if len(without) == 1 else 'are'} not audited.")
    for state, (of_one, of_several) in _LEFT.items():
        if names := results.left.get(state):
            more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
            said.append(
                f"{count(len(names), 'step')} {of_one if len(names) == 1 else of_several}: "
                f"{words([*names[:_NAMED], *more])}."
            )
    said += results.problems
    without = [g.name for g in results.generators if study.metrics.fidelity and not g.fidelity]
    if without:
        said.append(f"The samples of {words(without)} are not compared with real images.")
    lacking = [g.name for g in results.generators if len(g.sizes) < len(study.generators[g.name].training_patients)]
    if study.audit.enabled and lacking:
        said.append(f"Audits with fewer training patients are lacking for {words(lacking)}.")
    return said


def _way(augmentation: str) -> str:
    return "with augmentation" if augmentation == layout.AUGMENTED else "without augmentation"


# ---------------------------------------------------------------------------------------------------- table and figures


def _groups(results: StudyResults) -> list[dict[str, Any]]:
    """The table for reading: a group a segmenter and augmentation, a row an arm, a column a region."""
    groups = []
    for segmenter, augmentation in dict.fromkeys((c.segmenter, c.augmentation) for c in results.cells):
        own = [c for c in results.cells if (c.segmenter, c.augmentation) == (segmenter, augmentation)]
        regions = list(dict.fromkeys(c.region for c in own))
        rows = []
        for arm in dict.fromkeys(c.arm for c in own):
            cells = {c.region: c for c in own if c.arm == arm}
            ratio, interval = ratio_of(cells[_MAIN]) if _MAIN in cells else (None, None)
            kind = "real" if arm == layout.REAL else "both" if layout.has_real(arm) else "synthetic"
            any_cell = next(iter(cells.values()))
            rows.append(
                {
                    "arm": {"label": arm, "css": kind},
                    "dice": [(cells[r].dice, cells[r].dice_sd) if r in cells else (None, None) for r in regions],
                    "ratio": ratio,
                    "low": interval[0] if interval else None,
                    "high": interval[1] if interval else None,
                    "hd95": cells[_MAIN].hd95_mm if _MAIN in cells else None,
                    "missed": cells[_MAIN].cases.n_missed if _MAIN in cells else None,
                    "false": false_of(cells[_MAIN]) if _MAIN in cells else None,
                    "n": _trainings(any_cell),
                }
            )  # fmt: skip
        compared = comparisons_of(own)
        over = {comparison.interval_over for comparison in compared} - {""} or {""}
        groups.append(
            {
                "segmenter": segmenter, "way": _way(augmentation), "regions": regions, "rows": rows,
                "over": over.pop() if len(over) == 1 else "patients, and trainings where an arm has several",
                "warnings": interval_warnings(compared),
            }
        )  # fmt: skip
    return groups


def _trainings(cell: Cell) -> str:
    return f"{cell.n_done}" + ("" if cell.n_done == cell.n_planned else f" of {cell.n_planned}")


def _figures(study: Study, results: StudyResults) -> list[dict[str, Any]]:
    figures = []
    names = list(study.generators)
    marks = []
    for cell in results.cells:
        ratio, interval = ratio_of(cell)
        if cell.region == _MAIN and ratio is not None:
            low, high = interval or (None, None)
            shade = colour(names.index(layout.generator_of(cell.arm) or names[0]))
            group = f"{cell.segmenter}, {_way(cell.augmentation)}"
            marks.append(Mark(cell.arm, ratio, low, high, colour=shade, group=group))
    if marks:
        svg = forest(
            marks, title="Dice in relation to real images", axis="mean Dice / mean Dice on real", reference=1.0
        )
        figures.append({"part": "table", "name": "ratio", "svg": Markup(svg)})
    figures += _scatters(results, names)
    points = [
        Mark(g.name, *_share(audit.scores["copied_rate"]), x=float(n), colour=colour(i), group=g.name)
        for i, g in enumerate(results.generators)
        for n, audit in _by_size(g, results)
        if audit.scores.get("copied_rate", (None,))[0] is not None
    ]
    if len({point.x for point in points}) > 1:
        svg = scatter(
            points, title="Memorization against the number of training patients", x_axis="training patients",
            y_axis="copies (%)", joined=True,
        )  # fmt: skip
        figures.append({"part": "memorization", "name": "memorization", "svg": Markup(svg)})
    return figures


def _by_size(generator: GeneratorNumbers, results: StudyResults) -> list[tuple[int, Any]]:
    every = dict(generator.sizes)
    if generator.audit is not None and results.n_training_patients:
        every[results.n_training_patients] = generator.audit
    return sorted(every.items())


def _share(rate: tuple[float | None, float | None, float | None]) -> tuple[float, float | None, float | None]:
    value, low, high = (None if number is None else 100 * number for number in rate)
    return value or 0.0, low, high


def _pairs(results: StudyResults) -> dict[tuple[str, str, str], list[tuple[str, float, float]]]:
    """(score, segmenter, augmentation) -> (generator, its score, mean Dice of the arm of its samples alone)."""
    found: dict[tuple[str, str, str], list[tuple[str, float, float]]] = {}
    score = _main_fidelity(results)
    if score is None:
        return {}
    fidelity = {g.name: g.fidelity[score].value for g in results.generators if score in g.fidelity}
    for cell in results.cells:
        if cell.region == _MAIN and cell.arm in fidelity:
            found.setdefault((score, cell.segmenter, cell.augmentation), []).append(
                (cell.arm, fidelity[cell.arm], cell.dice)
            )
    return found


def _main_fidelity(results: StudyResults) -> str | None:
    """The distance that the scatter shows: FID where there is one, else the next best known."""
    there = {name for g in results.generators for name in g.fidelity}
    return next((name for name in ("fid", "fd", "kid", "kd", "precision", "excess") if name in there), None)


def _scatters(results: StudyResults, names: list[str]) -> list[dict[str, Any]]:
    figures = []
    for (score, segmenter, augmentation), pairs in _pairs(results).items():
        marks = [Mark(name, dice, x=value, colour=colour(names.index(name))) for name, value, dice in pairs]
        title = f"{score} of the samples and Dice of {segmenter} trained on them"
        y_axis = f"mean Dice of {segmenter}, {_way(augmentation)}"
        svg = scatter(marks, title=title, x_axis=f"{score} (mean over contrasts)", y_axis=y_axis)
        figures.append({"part": "fidelity", "name": f"fidelity-{segmenter}-{augmentation}", "svg": Markup(svg)})
    return figures


def _correlations(results: StudyResults) -> list[dict[str, Any]]:
    """Spearman's rank correlation of the score with Dice, over generators."""
    from scipy.stats import spearmanr

    found = []
    for (score, segmenter, augmentation), pairs in _pairs(results).items():
        varied = len({p[1] for p in pairs}) > 1 and len({p[2] for p in pairs}) > 1
        rho = float(spearmanr([p[1] for p in pairs], [p[2] for p in pairs]).statistic) if varied else None
        found.append({"score": score, "segmenter": segmenter, "way": _way(augmentation), "rho": rho, "n": len(pairs)})
    return found
