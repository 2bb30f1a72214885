"""The metrics ``label-realism`` and ``contrast-identity``: reading, comparing, and the words for what was found.

Slices count as they come, since that is what a generator is trained to imitate; uncertainty counts patients
(:func:`synthkit.data.patients.patient_behind`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import synthkit
from synthkit import Row, Score
from synthkit.contract import Samples
from synthkit.data.naming import NAMES, NameFinding, Signatures, can_judge, check_names, signatures
from synthkit.judging.intervals import FEW_SUBJECTS
from synthkit.schemes import Scheme
from synthkit_realism import Params
from synthkit_realism.identity import MAX_CONTRASTS, Identity, identify_against
from synthkit_realism.placement import DISTANCES
from synthkit_realism.properties import OFFSET, Property, measure
from synthkit_realism.regions import check_comparable, patient_numbers, translation_to
from synthkit_realism.statistics import Comparison, Draws, compare, ks_distance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64 = NDArray[np.float64]

#: Quantiles in the table ``distributions``, in per cent.
PER_CENT = tuple(range(0, 101, 5))
_BATCH = 32
_N_WORST = 3
_N_NAMED = 10
# Misplaced labels are a fault if so many more synthetic slices have them than real ones, and ideal generators are so
# far from the real ones at most so often.
_FAULT, _BY_CHANCE = 0.15, 0.05


def score(
    *, metrics: Sequence[str], params: Params, real: Samples, synthetic: Samples, holdout: Samples | None = None
) -> Iterator[Score | Row]:
    """Scores as declared; tables ``label_realism``, ``distributions`` and ``contrast_identity``.

    ``holdout``, real images of other patients, is a yardstick for label-realism alone.

    Raises
    ------
    DataError : an empty dataset, or contrasts, sizes or names of labels that differ.
    """
    if holdout is not None and len(holdout) == 0:
        holdout = None
    check_comparable({"real": real, "synthetic": synthetic, **({} if holdout is None else {"holdout": holdout})})
    patients = patient_numbers(real)
    n_patients = int(patients.max()) + 1
    if n_patients < FEW_SUBJECTS:
        synthkit.message(
            f"The real dataset has {n_patients} patients, fewer than {FEW_SUBJECTS}: intervals and floors are rough.",
            level="warning",
        )
    if "label-realism" in metrics:
        yield from _label_realism(params, real, synthetic, holdout, patients)
    if "contrast-identity" in metrics:
        yield from _contrast_identity(params, real, synthetic, patients)


# ----------------------------------------------------------------------------------------------- label-realism


def _label_realism(
    params: Params, real: Samples, synthetic: Samples, holdout: Samples | None, patients: NDArray[np.intp]
) -> Iterator[Score | Row]:
    sources = [data for data in (real, synthetic, holdout) if data is not None]
    starts = np.cumsum([0, *map(len, sources)]).tolist()
    measured = [
        _measure_all(data, real.scheme, start, starts[-1]) for data, start in zip(sources, starts, strict=False)
    ]
    draws = Draws.of(int(patients.max()) + 1, n_draws=params.resamples, seed=params.seed)
    rng = np.random.default_rng([params.seed, 1])
    compared = {item: compare(values, patients, measured[1][item], draws, rng) for item, values in measured[0].items()}
    for item, comparison in compared.items():
        of_holdout = None if holdout is None else ks_distance(measured[0][item], measured[2][item])
        yield from _scores(item, comparison)
        note = "" if of_holdout is not None else "no held-out images" if holdout is None else "no slice has it"
        yield Score(name="holdout_ks", value=of_holdout, of=item.of, n=comparison.n_patients, note=note)
        yield _row(item, comparison, of_holdout, measured[0][item], measured[1][item])
        for side, values in zip(("real", "synthetic", "holdout"), measured, strict=False):
            yield _quantile_row(item, side, values[item])
    _say_worst(compared)
    offset = next(item for item in compared if item.name == OFFSET)
    yield _misplaced(compared[offset], measured[0][offset], measured[1][offset])


def _misplaced(found: Comparison, real: Float64, synthetic: Float64) -> Score:
    """How many synthetic slices have labels that lie beside what they label; said aloud if real patients do not."""
    share, of_real = (_mean((values[~np.isnan(values)] > 0).astype(np.float64)) for values in (synthetic, real))
    if share is None:
        return Score(name="misplaced", value=None, n=0, note="no synthetic slice has labels that could be told")
    yardstick = "no real slice could be told" if of_real is None else f"of the real slices {of_real:.0%}"
    # Ideal generators are what the distance is compared with, where there are patients enough.
    beyond_chance = found.floor_share is None or found.floor_share <= _BY_CHANCE
    if share - (of_real or 0.0) >= _FAULT and beyond_chance:
        synthkit.message(
            f"Labels of {share:.0%} of the synthetic slices do not lie on their image: they would fit it better "
            f"{min(DISTANCES)} pixels away or more ({yardstick}).",
            level="warning",
        )
    return Score(name="misplaced", value=share, n=found.n_synthetic, note=yardstick)


def _measure_all(data: Samples, scheme: Scheme, start: int, total: int) -> dict[Property, Float64]:
    """Every property of every slice, read in batches; labels by name as in ``scheme``."""
    table = translation_to(scheme, data.scheme)
    parts: list[dict[Property, Float64]] = []
    done = start
    for images, labels in data.batches(_BATCH):
        parts.append(measure(images, table[labels], data.contrasts, scheme))
        done += len(images)
        synthkit.progress(done, total, unit="image")
    return {item: np.concatenate([part[item] for part in parts]) for item in parts[0]}


def _scores(item: Property, found: Comparison) -> Iterator[Score]:
    of, n, note = item.of, found.n_patients, found.note
    yield Score(name="ks", value=found.ks, of=of, n=n, note=note if found.ks is None else "")
    middle, low, high = found.floor or (None, None, None)
    yield Score(name="floor_ks", value=middle, of=of, low=low, high=high, n=n, note=note if middle is None else "")
    for name in ("excess", "floor_share"):
        value = getattr(found, name)
        yield Score(name=name, value=value, of=of, n=n, note=note if value is None else "")
    yield Score(name="effect", value=found.effect, of=of, low=found.effect_low, high=found.effect_high, n=n, note=note)
    unit = f"in {item.unit}" if item.unit else ""
    yield Score(
        name="wasserstein", value=found.wasserstein, of=of, n=n, note=note if found.wasserstein is None else unit
    )
    yield Score(
        name="wasserstein_sd",
        value=found.wasserstein_sd,
        of=of,
        n=n,
        note=note if found.wasserstein_sd is None else "",
    )


def _columns(item: Property) -> dict[str, Any]:
    return {"property": item.name, "region": item.region, "contrast": item.contrast, "unit": item.unit}


def _row(item: Property, found: Comparison, of_holdout: float | None, real: Float64, synthetic: Float64) -> Row:
    values = _columns(item) | {
        "n_real": found.n_real,
        "n_synthetic": found.n_synthetic,
        "n_patients": found.n_patients,
        "real_mean": _mean(real),
        "synthetic_mean": _mean(synthetic),
        "ks": found.ks,
        "floor_ks": None if found.floor is None else found.floor[0],
        "floor_ks_high": None if found.floor is None else found.floor[2],
        "excess": found.excess,
        "floor_share": found.floor_share,
        "holdout_ks": of_holdout,
        "effect": found.effect,
        "effect_low": found.effect_low,
        "effect_high": found.effect_high,
        "wasserstein": found.wasserstein,
        "wasserstein_sd": found.wasserstein_sd,
        "note": found.note,
    }
    return Row(table="label_realism", values=values)


def _mean(values: Float64) -> float | None:
    counted = values[~np.isnan(values)]
    return float(counted.mean()) if len(counted) else None


def _quantile_row(item: Property, side: str, values: Float64) -> Row:
    """Quantiles of one property on one side; all empty if no slice has it."""
    counted = values[~np.isnan(values)]
    quantiles = np.percentile(counted, PER_CENT).tolist() if len(counted) else [None] * len(PER_CENT)
    columns = dict(zip((f"q{k:03d}" for k in PER_CENT), quantiles, strict=True))
    return Row(table="distributions", values={**_columns(item), "side": side, "n": len(counted), **columns})


def _say_worst(compared: Mapping[Property, Comparison]) -> None:
    """Name the properties that are farthest from real, beyond the floor where there is one."""
    ranks = {
        item: found.ks if found.excess is None else found.excess
        for item, found in compared.items()
        if found.ks is not None
    }
    worst = sorted(ranks, key=lambda item: -(ranks[item] or 0.0))[:_N_WORST]
    if not worst:
        synthkit.message("No property of labels can be compared: one of the datasets has none.", level="warning")
        return
    words = "; ".join(_in_words(item, compared[item]) for item in worst)
    if (ranks[worst[0]] or 0.0) > 0:
        synthkit.message(f"Farthest from real labels: {words}.")
    else:
        synthkit.message(f"No property is farther from real labels than images of new people would be; first {words}.")


def _in_words(item: Property, found: Comparison) -> str:
    floor = "no floor" if found.floor is None else f"new people {found.floor[0]:.2f}"
    effect = found.effect or 0.0
    direction = "higher" if effect > 0 else "lower" if effect < 0 else "differently spread"
    return f"{item} (KS {found.ks:.2f}, {floor}; synthetic {direction})"


# ------------------------------------------------------------------------------------------- contrast-identity


def _contrast_identity(
    params: Params, real: Samples, synthetic: Samples, patients: NDArray[np.intp]
) -> Iterator[Score | Row]:
    rows = [_evenly(len(data), params.identity_images) for data in (real, synthetic)]
    found = [_signatures_of(data, chosen) for data, chosen in zip((real, synthetic), rows, strict=True)]
    numbers = np.unique(patients[rows[0]], return_inverse=True)[1]
    identity = identify_against(found[0], numbers, found[1], resamples=params.resamples, seed=params.seed)
    findings = [check_names(part, real.contrasts) for part in found]
    physics = _by_physics(findings[0], findings[1], real.contrasts)
    yield from _identity_scores(identity, real.contrasts, int(numbers.max()) + 1, physics)
    for name, part, of_part in zip(("real", "synthetic"), found, findings, strict=True):
        if can_judge(real.contrasts):
            yield _misnamed(name, of_part, len(part))
            if name == "real":
                _say_misnamed_subjects([real.samples[row].subject for row in rows[0]], part, real.contrasts)
        else:
            note = f"fewer than two of {', '.join(NAMES)}: how other contrasts look is not known"
            yield Score(name="n_misnamed", value=None, of={"dataset": name}, n=len(part), note=note)


def _evenly(n: int, at_most: int) -> NDArray[np.intp]:
    return np.linspace(0, n - 1, min(n, at_most)).round().astype(np.intp)


def _signatures_of(data: Samples, rows: NDArray[np.intp]) -> Signatures:
    parts = [signatures(*data.read(rows[start : start + _BATCH]), data.scheme) for start in range(0, len(rows), _BATCH)]
    return Signatures.join(parts)


def _by_physics(
    real: Sequence[NameFinding], synthetic: Sequence[NameFinding], contrasts: Sequence[str]
) -> dict[str, str]:
    """The contrast that each synthetic channel shows by physics alone, if that names the real channels rightly."""
    if not can_judge(contrasts) or real:
        return {}
    said = {finding.contrasts[0]: finding.looks_like for finding in synthetic if finding.looks_like}
    doubted = {name for finding in synthetic for name in finding.contrasts}
    return {**{name: name for name in contrasts if name in NAMES and name not in doubted}, **said}


def _identity_scores(
    found: Identity | None, contrasts: Sequence[str], n_patients: int, physics: Mapping[str, str]
) -> Iterator[Score | Row]:
    if found is None:
        why = "one of the datasets shows no brain"
        if not 2 <= len(contrasts) <= MAX_CONTRASTS:
            why = "fewer than two contrasts" if len(contrasts) < 2 else f"more than {MAX_CONTRASTS} contrasts"
        yield Score(name="n_mismatched", value=None, note=why)
        return
    # What most resamples agree on decides. Their ends are no interval: medians of few patients jump.
    ends = np.percentile(found.margin_resampled, [2.5, 97.5], axis=0)
    mismatched = []
    for j, contrast in enumerate(contrasts):
        margin = float(found.margin[j])
        low, high = min(float(ends[0, j]), margin), max(float(ends[1, j]), margin)
        other = contrasts[int(found.best[j])]
        if high < 0 and physics.get(contrast) == contrast:
            note = f"nearer to {other}, but physics confirms its name: it was changed in another way"
        elif high < 0 and not (found.explains(j) or physics.get(contrast) == other):
            note = f"nearer to {other}, but far from both: cannot be told"
        elif high < 0:
            note = f"looks like {other}"
            mismatched.append(f"{contrast} looks like {other}")
        else:
            note = "" if low > 0 else "cannot be told from another contrast"
        yield Score(name="margin", value=margin, of={"contrast": contrast}, n=n_patients, note=note)
        yield Score(name="keeps_name", value=float(found.keeps_name[j]), of={"contrast": contrast}, n=n_patients)
        yield Score(name="distance", value=float(found.distance[j, j]), of={"contrast": contrast}, n=n_patients)
        for k, name in enumerate(contrasts):
            distance = float(found.distance[j, k])
            yield Row(
                table="contrast_identity", values={"channel": contrast, "real_contrast": name, "distance": distance}
            )
    yield Score(name="n_mismatched", value=len(mismatched), n=n_patients, note="; ".join(mismatched))
    if mismatched:
        synthkit.message(f"Synthetic channels carry the wrong names: {'; '.join(mismatched)}.", level="warning")


def _say_misnamed_subjects(subjects: Sequence[str | None], found: Signatures, contrasts: Sequence[str]) -> None:
    """A warning that names the subjects whose own images contradict the names of their channels."""
    rows: dict[str, list[int]] = {}
    for row, subject in enumerate(subjects):
        if subject is not None:
            rows.setdefault(subject, []).append(row)
    wrong = []
    for subject, of_subject in rows.items():
        odd = [f for f in check_names(found.take(of_subject), contrasts) if f.looks_like is not None]
        if odd:
            wrong.append(f"{subject} ({', '.join(f'{f.contrasts[0]} like {f.looks_like}' for f in odd)})")
    if wrong and len(wrong) < len(rows):
        more = f" and {len(wrong) - _N_NAMED} more" if len(wrong) > _N_NAMED else ""
        synthkit.message(
            f"In the real dataset channels of single subjects look like others: {', '.join(wrong[:_N_NAMED])}{more}. "
            "See that their files carry the right names, and prepare again.",
            level="warning",
        )


def _misnamed(dataset: str, findings: Sequence[NameFinding], n: int) -> Score:
    """How many channels contradict their names by physics alone; a warning for each."""
    wrong = [finding for finding in findings if finding.looks_like is not None]
    for finding in wrong:
        synthkit.message(f"In the {dataset} dataset: {finding.sentence}", level="warning")
    note = " ".join(finding.sentence for finding in findings)
    return Score(name="n_misnamed", value=len(wrong), of={"dataset": dataset}, n=n, note=note)
