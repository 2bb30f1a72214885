"""The page of the demo, for who has never heard of any of this: do synthetic images train, and do they copy anyone?

It is one self-contained file like the report and shows little of what that shows: of each question the answer, what it
rests on, and pictures. No number and no rule is its own: ratios are those of :mod:`synthkit.judging.arms`, verdicts and
pairs those of the audit's run. So it says what the runs say, whatever was to be expected of them.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from synthkit.data.dataset import Dataset
from synthkit.data.label_reading import load_labels
from synthkit.data.lineage import training_keys
from synthkit.data.slices import SliceProtocol, slice_volume
from synthkit.data.subjects import find_subjects, load_subject
from synthkit.errors import DataError
from synthkit.judging.arms import compared_arms, interval_warnings
from synthkit.judging.audit_scores import AuditScores
from synthkit.judging.audit_tables import PAIRS
from synthkit.judging.overlap_tables import OverlapTable, read_overlap
from synthkit.report import pictures
from synthkit.report.audit.section import section
from synthkit.report.audit.tables import RULES, Pair, read_pairs
from synthkit.report.gallery import gallery
from synthkit.report.gather import DAMAGE, Material, RunRecord, gather, phantoms_among, sentence
from synthkit.report.pages import check_replaceable, render, write_page
from synthkit.running.run import Run
from synthkit.schemes import MEAN

__all__ = ["Exhibit", "compared_dice", "write_story"]

TITLE = "Can synthetic brain images stand in for those of patients?"
#: Slices in a row, pairs of copies, and the side of the pictures of a held-out subject in pixels.
N_SLICES, N_PAIRS, SIDE = 6, 4, 128
#: Bytes of the pictures of one audit.
BUDGET = 1_000_000
_VIEW = "joint"


@dataclass(frozen=True)
class Exhibit:
    """A generator on the page.

    Attributes
    ----------
    name : as in "the faithful generator".
    trained : how it was trained, a sentence that says nothing of the outcome.
    samples, audit : run folders of ``generate`` and of ``audit-memorization``.
    """

    name: str
    trained: str
    samples: Path
    audit: Path


def compared_dice(real: Path, synthetic: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of Dice, a region each, of two runs of ``evaluate`` on the same subjects; and what to beware of."""
    return _compared(read_overlap(real), read_overlap(synthetic))


def _compared(real: OverlapTable, synthetic: OverlapTable) -> tuple[list[dict[str, Any]], list[str]]:
    found = [item for item in compared_arms([real], [synthetic]) if item.score == "Dice"]
    return [item.to_dict() for item in found], interval_warnings(item.comparison for item in found)


def write_story(
    out: Path,
    *,
    real: Path,
    subjects: Path,
    predictions: Mapping[str, Path],
    scores: Mapping[str, Path],
    exhibits: Sequence[Exhibit],
    details: Path,
) -> dict[str, Any]:
    """Write the page; an earlier one at ``out`` is replaced.

    Parameters
    ----------
    real : the dataset of real images, with its held-out part.
    subjects : the folder of the subjects that it was prepared from.
    predictions, scores : run folders of ``segment`` and of ``evaluate``, each of the arms "real" and "synthetic".
    exhibits : the generators. The arm "synthetic" was trained on the samples of the first.
    details : the full report, to be linked to.

    Returns
    -------
    JSON-ready summary: ``outcomes`` (by name of the generator), ``phantom``, ``notes``, ``bytes``.

    Raises
    ------
    DataError : a run or a dataset is missing or damaged.
    UsageError : ``out`` is there and is not a page of ours.
    NotWritableError : ``out`` cannot be written.
    """
    check_replaceable(out)
    notes: list[str] = []
    try:
        dataset = Dataset(real)
        material = gather([real, *(folder for item in exhibits for folder in (item.samples, item.audit))])
        tables = [read_overlap(scores[arm]) for arm in ("real", "synthetic")]
        dice, warnings = _compared(*tables)
        shown = [_exhibited(item, material, dataset, notes) for item in exhibits]
        samples = Dataset(Run(exhibits[0].samples).dataset)
        rows = [_row(dataset, "train"), _row(samples, "synthetic")]
        example = _example(dataset, subjects, predictions, tables)
    except DAMAGE as error:
        raise DataError(
            f"The page {out} cannot be written.",
            sentence(error),
            "Run the demo again: a run that it shows is damaged or not there.",
        ) from error
    phantom = phantoms_among(material)
    page = {
        "title": TITLE,
        "phantom": phantom,
        "contents": [
            {"id": "made", "title": "What was made here"},
            {"id": "train", "title": "Do they train a segmenter?"},
            {"id": "copy", "title": "Do they copy anyone?"},
            {"id": "yours", "title": "With your own images"},
        ],
        "rows": rows,
        "legend": [
            {"name": label.name, "colour": label.colour, "meaning": label.meaning} for label in dataset.scheme.labels
        ],
        "n_train": len(dataset.training_part().subjects),
        "n_holdout": len(dataset.select("holdout").subjects),
        "n_samples": len(samples),
        "dice": dice,
        "mean": next((row for row in dice if row["region"] == MEAN), None),
        "meanings": dataset.scheme.meanings,
        "warnings": warnings,
        "example": example,
        "exhibits": shown,
        "notes": list(dict.fromkeys(notes)),
        "details": Path(os.path.relpath(details, out.parent)).as_posix(),
    }
    html = render("story.html.j2", page)
    write_page(out, html)
    outcomes = {item["name"]: item["audit"]["outcome"] for item in shown}
    return {"outcomes": outcomes, "phantom": phantom == "all", "notes": page["notes"], "bytes": len(html)}


# ------------------------------------------------------------------------------------------------------ pictures


def _row(dataset: Dataset, split: str) -> list[dict[str, Any]]:
    """Slices chosen by their position alone, among those that hold a label."""
    among = [number for number, sample in enumerate(dataset.samples) if sample.split == split]
    chosen, _, _ = pictures.representative(dataset, among, N_SLICES)
    return [pictures.sample_row(dataset, number) for number in chosen]


def _example(
    dataset: Dataset, folder: Path, predictions: Mapping[str, Path], tables: Sequence[OverlapTable]
) -> dict[str, Any]:
    """A held-out subject, the slice with most in its reference: that, and what each arm predicted.

    It is the subject in the middle: of all, the one with the median Dice over regions and arms.
    """
    name, middle = _median_subject(tables)
    subject = next((each for each in find_subjects(folder) if each.id == name), None)
    if subject is None:
        raise DataError(f"There is no subject {name} in {folder}.")
    recorded = SliceProtocol.from_dict(dataset.description["protocol"])
    protocol = replace(recorded, size=max(SIDE, recorded.size))
    volumes = load_subject(subject)
    reference = slice_volume(volumes, protocol)
    assert reference.labels is not None
    place = int(np.argmax(np.count_nonzero(reference.labels, axis=(1, 2))))
    maps = {"reference": reference.labels[place]}
    for arm, run in predictions.items():
        predicted, _ = load_labels(Run(run).predictions / f"{name}.nii.gz")
        cut = slice_volume(replace(volumes, labels=predicted.labels), protocol)
        assert cut.labels is not None
        maps[arm] = cut.labels[place]
    image = reference.images[place]
    return {
        "subject": name,
        "dice": middle,
        "panels": [
            {"of": of, "sample": pictures.slice_row(dataset, image, labels, f"{name}, {of}")}
            for of, labels in maps.items()
        ],
    }


def _median_subject(tables: Sequence[OverlapTable]) -> tuple[str, float]:
    """Name, and its Dice over all regions and arms; of an even number the lower one in the middle."""
    found: dict[str, list[float]] = {}
    for table in tables:
        for (name, _), row in table.items():
            if row["dice"]:
                found.setdefault(name, []).append(float(row["dice"]))
    means = {name: statistics.fmean(values) for name, values in sorted(found.items())}
    if not means:
        raise DataError("No held-out subject has a Dice.")
    middle = statistics.median_low(means.values())
    return next((name, value) for name, value in means.items() if value == middle)


# ------------------------------------------------------------------------------------------------------ the audits


def _exhibited(item: Exhibit, material: Material, real: Dataset, notes: list[str]) -> dict[str, Any]:
    """What the page shows of one generator; texts of the verdict are the audit's."""
    record = _record(item.audit, material)
    audit = section(record, anchor=item.name, budget=0)
    samples = Dataset(Run(item.samples).dataset)
    scores = AuditScores(record.scores)
    pairs = _pairs(record, real)
    shown = gallery(record, pairs, BUDGET, notes)
    return {
        "name": item.name,
        "trained": item.trained,
        "n_people": len(training_keys(samples.training_datasets)),
        "samples": _row(samples, "synthetic")[:3],
        "audit": audit,
        "n_samples": scores.count("n_synthetic"),
        "n_copies": scores.count("n_copies"),
        "n_copied": scores.count("n_copied_subjects"),
        "n_holdout_copies": scores.count("n_holdout_copies"),
        "searched": list(dict.fromkeys([*audit["searched"][:1], *audit["searched"][-1:]])),
        "pairs": [card for view in shown["views"] for card in view["cards"]] if shown else [],
    }


def _record(run: Path, material: Material) -> RunRecord:
    for record in material.of_verb("audit-memorization"):
        if record.run.path.resolve() == run.resolve():
            return record
    raise DataError(f"{run} is not a finished memorization audit.")


def _pairs(record: RunRecord, real: Dataset) -> list[Pair]:
    """The pairs to be looked at: copies, of as many people as there are places; without any, the nearest pair.

    Whole images, as these can be judged by eye; copies that only a part shows where there are no others.
    """
    table = record.run.outputs / PAIRS.file
    found = read_pairs(table) if table.is_file() else []
    copies = [pair for pair in found if pair.copy] or [pair for pair in found if pair.holdout_copy]
    whole = [pair for pair in copies or found if pair.contrast == _VIEW] or copies or found
    rank = {rule: place for place, rule in enumerate(RULES)}
    if not copies:
        return [max(whole, key=lambda pair: pair.nearness)] if whole else []
    people = {sample.id: sample.subject for sample in real.samples}
    # As they lie before turned ones: the first are seen to be alike without being told how.
    ordered = sorted(whole, key=lambda pair: (rank.get(pair.rule, len(rank)), -pair.nearness))
    chosen: dict[str, Pair] = {}
    for again in (False, True):
        shown = {people.get(pair.train_id) for pair in chosen.values()}
        for pair in ordered:
            who = people.get(pair.train_id)
            if len(chosen) < N_PAIRS and pair.synthetic_id not in chosen and (again or who not in shown):
                chosen[pair.synthetic_id] = pair
                shown.add(who)
    return list(chosen.values())
