"""Dice, HD95 and surface Dice of the labelled regions of each subject, and their means over subjects.

What is decided here, and written into the notes of the scores:

* Regions are those that the label schemes of reference and prediction both have, by name, each side with its own
  values; without nested ones unless ``nested_regions``. ``mean`` is over the regions that the reference's scheme
  averages: for BraTS the labels NCR, ED and ET, as in the study (Akbar et al., Sci Data 11:259, 2024).
* A region in the reference that was not predicted is *missed*, one predicted without a reference is *false*:
  Dice and surface Dice 0, and the distance is the diagonal of the volume in mm, more than any inside it. So a
  missed region never improves a mean. (Left out, as NaN usually is, it would.)
* A region in neither is not counted, unless ``both_empty="perfect"`` says so.
* Labels that lie in each other's places, or on others than their names say, are named: scores of a prediction whose
  file numbers labels in another way say nothing.
* Intervals, 95 %, are over patients (:func:`synthkit.judging.intervals.mean_interval`); none with few of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np

import synthkit
from synthkit import Row, Score
from synthkit.contract import Volumes
from synthkit.errors import DataError
from synthkit.schemes import MEAN, enumerated
from synthkit_overlap import Params
from synthkit_overlap.comparison import RegionResult, compare, diagonal_mm
from synthkit_overlap.crosswise import Crosswise
from synthkit_overlap.lesion_metrics import LesionsOfSubjects
from synthkit_overlap.pairing import LabelPair, pair_subjects, read_pair
from synthkit_overlap.regions import Regions, shared_regions
from synthkit_overlap.summaries import summary

# What a number is, by `borders` and `hausdorff_rule`: definitions differ by millimetres, so each note names its own.
_HD95_NOTES = {
    ("voxels", "pooled"): "HD95 of border voxels, pooled over both directions (MedPy, BraTS)",
    ("voxels", "directed-max"): "larger of the two directed 95th percentiles of border voxels (MONAI)",
    ("surfels", "pooled"): "HD95 of surface elements by area, pooled over both directions (surface-distance takes the "
    "larger of the two: hausdorff_rule=directed-max)",
    ("surfels", "directed-max"): "larger of the two directed 95th percentiles of surface elements by area "
    "(surface-distance)",
}
_BORDERS = {
    "voxels": "between border voxels (MedPy, MONAI)",
    "surfels": "between surface elements (surface-distance)",
}
_NEAR = {
    "voxels": "border voxels within {tolerance:g} mm, each counting the same (MONAI)",
    "surfels": "surface elements within {tolerance:g} mm, by their area (surface-distance)",
}

_DISTANCES = ("hd95", "hausdorff")


def score_names(metrics: Sequence[str], params: Params) -> list[str]:
    """Names of the scores of the metrics asked for, without those by lesion."""
    distance = "hausdorff" if params.hausdorff_percentile == 100 else "hd95"
    names = {"dice": "dice", "hausdorff": distance, "surface-dice": "surface_dice"}
    return [names[metric] for metric in metrics if metric in names]


# -------------------------------------------------------------------------------------------------- the metric


def score(*, metrics: Sequence[str], params: Params, reference: Volumes, prediction: Volumes) -> Iterator[Score | Row]:
    """Scores of the subjects that both sets have, then their means; one row a subject and region.

    Raises
    ------
    synthkit.errors.DataError : no subject or region in common; a subject whose shapes, spacing or labels do not fit.
    """
    regions = shared_regions(reference.scheme, prediction.scheme, params)
    for note in regions.notes:
        synthkit.message(f"{note[0].upper()}{note[1:]}.", level="warning")
    crosswise = Crosswise(reference.scheme, prediction.scheme)
    subjects, unpaired = pair_subjects(reference, prediction)
    names = score_names(metrics, params)
    distances = bool(set(names) - {"dice"})
    lesions = LesionsOfSubjects(metrics, regions, params)
    results: list[dict[str, RegionResult]] = []
    widest_mm = 0.0
    for step, subject in enumerate(subjects, start=1):
        pair = read_pair(reference, prediction, subject)
        found = _compare_subject(subject, pair, regions, params, distances=distances, crosswise=crosswise)
        results.append(found)
        by_lesion = list(lesions.add(subject, pair))
        voxel_ml = float(np.prod(pair.spacing_mm)) / 1000
        penalty_mm = diagonal_mm(pair.reference.shape, pair.spacing_mm)
        widest_mm = max(widest_mm, penalty_mm)
        for region, result in found.items():
            row = _row(subject, region, result, voxel_ml, penalty_mm, in_mean=region in regions.mean_of)
            yield Row(table=row.table, values={**row.values, "borders": params.borders, **lesions.columns(region)})
            for name in names:
                yield _subject_score(name, subject, region, result, params)
        yield from by_lesion
        synthkit.progress(step, len(subjects), unit="subject")
    notes = [*regions.notes, *_exchanged(crosswise)]
    for name in names:
        most = widest_mm if name in _DISTANCES else 1.0
        yield from _means(name, subjects, results, regions, notes, params, most)
    yield from lesions.over_subjects(notes)
    yield from _counts(results, regions)
    yield Score(name="n_unpaired", value=len(unpaired), n=len(subjects), note="; ".join(unpaired))


def _exchanged(crosswise: Crosswise) -> list[str]:
    """Notes on labels that do not lie where their names say; said aloud as well, since all scores rest on them."""
    notes = []
    for found in crosswise.found():
        what, remedy = (f"{text[0].upper()}{text[1:]}" for text in (found.what, found.remedy))
        synthkit.message(f"{what}: {found.sentence}. {remedy}.", level="warning")
        notes.append(f"{found.what}: {found.sentence}; {found.remedy}")
    return notes


def _compare_subject(
    subject: str, pair: LabelPair, regions: Regions, params: Params, *, distances: bool, crosswise: Crosswise
) -> dict[str, RegionResult]:
    try:
        return compare(*pair, regions, params, distances=distances, crosswise=partial(crosswise.add, subject))
    except ValueError as error:
        raise DataError(
            f"{subject} cannot be scored.",
            f"{str(error)[0].upper()}{str(error)[1:]}.",
            "Name the label scheme of the files that hold it, or correct them.",
        ) from error


def _row(subject: str, region: str, result: RegionResult, voxel_ml: float, diagonal_mm: float, *, in_mean: bool) -> Row:
    return Row(
        table="overlap",
        values={
            "subject": subject,
            "region": region,
            "case": result.case,
            "dice": result.dice,
            "hd95_pooled_mm": result.hd95_pooled_mm,
            "hd95_directed_mm": result.hd95_directed_mm,
            "hausdorff_mm": result.maximum_mm,
            "surface_dice": result.surface_dice,
            "reference_voxels": result.reference_voxels,
            "prediction_voxels": result.prediction_voxels,
            "reference_volume_ml": result.reference_voxels * voxel_ml,
            "prediction_volume_ml": result.prediction_voxels * voxel_ml,
            "in_mean": int(in_mean),
            "diagonal_mm": diagonal_mm,
        },
    )


def _value(name: str, result: RegionResult, params: Params) -> float | None:
    """The number that counts, by the rule asked for."""
    if name not in _DISTANCES:
        return result.dice if name == "dice" else result.surface_dice
    if name == "hausdorff":
        return result.maximum_mm
    return result.hd95_pooled_mm if params.hausdorff_rule == "pooled" else result.hd95_directed_mm


def _subject_score(name: str, subject: str, region: str, result: RegionResult, params: Params) -> Score:
    value = _value(name, result, params)
    if result.case == "both":
        note = ""
    elif result.case == "empty":
        note = "both empty: " + ("not counted" if value is None else "counted as perfect")
    else:
        what = "missed: the prediction is empty" if result.case == "missed" else "false: the reference is empty"
        if name not in _DISTANCES:
            note = f"{what}, Dice 0"
        else:
            note = f"{what}, " + ("not counted" if value is None else "penalty, the diagonal of the volume")
    return Score(name=name, value=value, of={"subject": subject, "region": region}, note=note)


# -------------------------------------------------------------------------------------------------- over subjects


def _means(
    name: str,
    subjects: Sequence[str],
    results: Sequence[Mapping[str, RegionResult]],
    regions: Regions,
    notes: Sequence[str],
    params: Params,
    most: float,
) -> Iterator[Score]:
    """Mean with interval, and standard deviation, of each region and of the regions that the scheme averages."""
    columns = {
        region: np.array([_number(_value(name, result[region], params)) for result in results])
        for region in regions.names
    }
    for region in columns:
        cases = [result[region].case for result in results]
        note = "; ".join(part for part in (_convention(name, cases, params), *notes) if part)
        yield from summary(name, region, columns[region][:, None], note, params, subjects=subjects, most=most)
    if not regions.mean_of:
        why = f"none of {enumerated(regions.reference.mean_of)} is scored"
        yield Score(name=f"{name}_mean", value=None, of={"region": MEAN}, n=0, note="; ".join((why, *notes)))
        yield Score(name=f"{name}_std", value=None, of={"region": MEAN}, n=0, note=why)
        return
    cases = [result[region].case for result in results for region in regions.mean_of]
    counted = [region for region in regions.mean_of if not np.isnan(columns[region]).all()]
    parts = [f"mean of the means of {', '.join(counted)}"] if counted else []
    parts += [f"no subject counts for {region}" for region in regions.mean_of if region not in counted]
    note = "; ".join(part for part in (*parts, _convention(name, cases, params), *notes) if part)
    members = np.stack([columns[region] for region in regions.mean_of], axis=1)
    yield from summary(name, MEAN, members, note, params, subjects=subjects, most=most)


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _convention(name: str, cases: Sequence[str], params: Params) -> str:
    """The conventions that a mean rests on, and how many regions each of them touched."""
    definitions = {
        "hd95": _HD95_NOTES[params.borders, params.hausdorff_rule],
        "hausdorff": f"maximum Hausdorff distance {_BORDERS[params.borders]}, which one stray voxel decides",
        "surface_dice": _NEAR[params.borders].format(tolerance=params.surface_tolerance_mm),
    }
    parts = [definitions[name]] if name in definitions else []
    one_empty = sum(case in ("missed", "false") for case in cases)
    both_empty = sum(case == "empty" for case in cases)
    if one_empty and name not in _DISTANCES:
        parts.append(f"{one_empty} missed or false counted as 0")
    elif one_empty and params.hausdorff_one_empty == "penalty":
        parts.append(f"{one_empty} missed or false counted as the diagonal of the volume")
    elif one_empty:
        parts.append(f"{one_empty} missed or false EXCLUDED: a mean that improves with every region missed")
    if both_empty:
        parts.append(f"{both_empty} empty in both {'not counted' if params.both_empty == 'exclude' else 'perfect'}")
    return "; ".join(parts)


def _counts(results: Sequence[Mapping[str, RegionResult]], regions: Regions) -> Iterator[Score]:
    """How many subjects missed each region, predicted it falsely, or have it in neither."""
    for region in regions.names:
        cases = [result[region].case for result in results]
        for case in ("missed", "false", "empty"):
            yield Score(name=f"n_{case}", value=cases.count(case), of={"region": region}, n=len(cases))
    labels = [result[region].case for result in results for region in regions.mean_of]
    for case in ("missed", "false", "empty"):
        note = f"summed over {', '.join(regions.mean_of)}" if regions.mean_of else "no region of the mean is scored"
        yield Score(name=f"n_{case}", value=labels.count(case), of={"region": MEAN}, n=len(results), note=note)
