"""Distances between real and synthetic images: one pass through a network, then every score asked for.

Each score is of one contrast, and of ``joint``, the features of all contrasts side by side. Beside it stands its floor:
what an ideal generator would have, one that draws images of new people (:mod:`synthkit_fidelity.floors`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from synthkit_features import Extractor, extractor

import synthkit
from synthkit import Score
from synthkit.contract import Kept, Samples
from synthkit.errors import DataError
from synthkit.judging.intervals import FEW_SUBJECTS, no_interval
from synthkit.judging.spreads import MIN_UNITS, Spread, spread_interval
from synthkit_fidelity import Params, floors, frechet, kernel, manifold
from synthkit_fidelity.classifier import classifier_score, classifier_spread
from synthkit_fidelity.extraction import feature_sets, to_keep
from synthkit_fidelity.floors import Compared, Floor, Influences, make_floor
from synthkit_fidelity.sets import Estimate, FeatureSet, joined

#: Fewer patients than this and a warning says so.
FEW_PATIENTS = 10
#: From so many patients on the limit of a distance has an interval; with 10, held apart by patients, it held in 65 %.
MIN_PATIENTS_OF_LIMIT = 30
#: From so many images or patients on a classifier score has an interval: with 10, it is up to seven times too wide.
MIN_UNITS_OF_CLASSES = 30
#: Why scores of neighbours have no interval: that with their radii held fixed holds in 36 to 98 %.
_MOVING = "no interval: neighbourhoods move with each image"


@dataclass(frozen=True)
class View:
    """One contrast, or all: its sets, its floor or why there is none, and what its scores are scores of."""

    of: Mapping[str, str]
    inception: bool
    real: FeatureSet
    synthetic: FeatureSet
    holdout: FeatureSet | None
    floor: Floor | str
    params: Params

    def against_people(self, fix: floors.Fix) -> dict[str, Compared] | str:
        """Floor and matched score by name, or why there are none."""
        if isinstance(self.floor, str):
            return self.floor
        others = self.holdout if self.floor.from_holdout and self.holdout is not None else self.real
        return floors.compare(self.floor, self.real, others, self.synthetic, fix)

    def name(self, inception: str, other: str) -> str:
        return inception if self.inception else other

    def score(
        self,
        name: str,
        estimate: Estimate | str,
        n: int,
        *notes: str,
        least: float = -np.inf,
        most: float = np.inf,
        min_units: int = MIN_UNITS,
        unit: str = "patient",
    ) -> Score:
        """A score with its interval, from so many units of its first spread on; or without a value, for a reason."""
        if isinstance(estimate, str):
            return Score(name=name, value=None, of=self.of, n=n, note=estimate)
        too_few = no_interval(estimate.spreads[0].n_units, min_units, unit)
        low, high = _ends(estimate.value, *estimate.spreads, limits=(least, most)) if not too_few else (None, None)
        note = "; ".join(filter(None, (*notes, too_few)))
        return Score(name=name, value=estimate.value, of=self.of, low=low, high=high, n=n, note=note)

    def alone(self, name: str, value: float, n: int, *notes: str) -> Score:
        """A score without an interval, since none was found that covers; ``notes`` say why."""
        return Score(name=name, value=value, of=self.of, n=n, note="; ".join(filter(None, notes)))


def score(
    *,
    metrics: Sequence[str],
    params: Params,
    real: Samples,
    synthetic: Samples | None = None,
    holdout: Samples | None = None,
    features: Path | None = None,
    kept: Path | None = None,
) -> Iterator[Score | Kept]:
    """Scores of every contrast and of all together, in the order of the metrics.

    Parameters
    ----------
    synthetic : None keeps the features of the other images, for later calls.
    holdout : real images of patients that nothing was trained on: what the floor is made with, if there are enough.
    features : weights of the network; None is the one that :mod:`synthkit_features` brings.
    kept : arrays of an earlier call without ``synthetic``.

    Raises
    ------
    synthkit.errors.DataError : a set is empty, contrasts or size differ, the weights cannot be used, or what was kept
        is of something else.
    """
    network = extractor(features, "cuda" if torch.cuda.is_available() else "cpu", params.network)
    given = {
        "real": real,
        **({} if synthetic is None else {"synthetic": synthetic}),
        **({} if holdout is None or not len(holdout) else {"holdout": holdout}),
    }
    _check(given)
    sets = feature_sets(given, network, params, with_logits="inception-score" in metrics, kept=kept)
    if synthetic is None:
        yield Kept(arrays=to_keep(sets, given, network, params))
        return
    first = {role: contrasts[real.contrasts[0]] for role, contrasts in sets.items()}
    _warn(first, network)
    floor = make_floor(
        first["real"].group,
        first["holdout"].group if "holdout" in first else None,
        len(first["synthetic"]),
        params.seed,
    )
    for contrast in (*real.contrasts, *(("joint",) if len(real.contrasts) > 1 else ())):
        one = {
            role: contrasts[contrast] if contrast in contrasts else joined(list(contrasts.values()))
            for role, contrasts in sets.items()
        }
        of = {"contrast": contrast, "features": network.name}
        view = View(of, network.is_inception, one["real"], one["synthetic"], one.get("holdout"), floor, params)
        for metric in dict.fromkeys(metrics):
            for place, found in enumerate(_SCORES[metric](view)):
                named = features is not None and place == 0  # the digest in full, once a metric and contrast
                yield replace(found, note="; ".join(filter(None, (found.note, network.origin)))) if named else found


# ------------------------------------------------------------------------------------------------------ features


def _check(given: Mapping[str, Samples]) -> None:
    real = given["real"]
    for role, samples in given.items():
        if not len(samples):
            raise DataError(f"The {role} dataset is empty.", "There is nothing to compare.", "Give images.")
        if samples.contrasts != real.contrasts or samples.size != real.size:
            raise DataError(
                f"The real and the {role} dataset cannot be compared.",
                f"Contrasts and size are {real.contrasts}, {real.size} and {samples.contrasts}, {samples.size}.",
                "Prepare the real images with the contrasts and the size of the generator.",
            )


def _warn(sets: Mapping[str, FeatureSet], network: Extractor) -> None:
    patients, images = sets["real"].n_groups, min(len(sets["real"]), len(sets["synthetic"]))
    if patients < FEW_PATIENTS:
        synthkit.message(f"Few patients ({patients}): scores depend much on who they are.", level="warning")
    if images < network.dimension:
        synthkit.message(
            f"Fewer images ({images}) than features ({network.dimension}): Frechet distances are biased upwards, much "
            "more for few images. Compare them with their floor and at equal numbers, or use the kernel distance.",
            level="warning",
        )


# -------------------------------------------------------------------------------------------------------- scores


def _ends(value: float, *spreads: Spread, limits: tuple[float, float]) -> tuple[float | None, float | None]:
    return spread_interval(value, *spreads, limits=limits) or (None, None)


def _frechet(view: View) -> Iterator[Score]:
    real, synthetic = view.real, view.synthetic
    name = view.name("fid", "fd")
    patients = real.n_groups
    if min(len(real), len(synthetic)) < 2:
        for suffix in ("", "_infinity", "_floor", "_matched"):
            yield view.score(name + suffix, "fewer than 2 images", patients)
        return
    value = frechet.estimate(real, synthetic)
    sizes = f"{len(real)} real and {len(synthetic)} synthetic images, {real.dimension} features"
    biased = "biased: fewer images than features" if min(len(real), len(synthetic)) < real.dimension else ""
    yield view.score(name, value, patients, sizes, biased, least=0.0)
    reason = frechet.why_not_extrapolated(real, synthetic)
    if reason:
        yield view.score(f"{name}_infinity", reason, patients)
    else:
        limit, variance = frechet.extrapolate(real, synthetic, view.params.seed)
        # The bias that is taken off adds the uncertainty of the fit, known from its points.
        found = Estimate(limit, (*value.spreads, Spread(variance, frechet.N_SIZES - 1)))
        yield view.score(f"{name}_infinity", found, patients, least=0.0, min_units=MIN_PATIENTS_OF_LIMIT)
    yield from _floor_and_matched(view, name, _fix_frechet)


def _fix_frechet(base: FeatureSet) -> Callable[[FeatureSet], Influences]:
    gaussian = frechet.gaussian_of(base.values)
    return lambda images: {"": frechet.with_influence(gaussian, images.values)}


def _kernel_patients(real: FeatureSet) -> int:
    """From how many patients on a distance over all pairs has an interval.

    Pairs of slices of one patient lift it, with few patients by more than its interval is wide.
    """
    return FEW_SUBJECTS if len(real) > real.n_groups else MIN_UNITS


def _kernel(view: View) -> Iterator[Score]:
    name = view.name("kid", "kd")
    names = (name, f"{name}_between_patients")
    patients = view.real.n_groups
    if min(len(view.real), len(view.synthetic)) < 2:
        for each in (*names, f"{name}_floor"):
            yield view.score(each, "fewer than 2 images", patients)
        return
    found = kernel.kernel_distance(view.real, view.synthetic)
    relation = ""
    if patients < floors.MIN_PATIENTS:
        reason = f"a floor needs the images of {floors.MIN_PATIENTS} patients, there are {patients}"
        floor = view.score(f"{name}_floor", reason, patients)
    else:
        value, low, high = kernel.ideal(view.real, len(view.synthetic), view.params.seed)
        note = f"of same-patient pairs; 95 % of ideal generators with {len(view.synthetic)} images"
        floor = Score(name=f"{name}_floor", value=value, of=view.of, low=low, high=high, n=patients, note=note)
        relation = floors.where(found.all_pairs.value, low, high)
    yield view.score(names[0], found.all_pairs, patients, relation, min_units=_kernel_patients(view.real))
    yield view.score(names[1], found.between_patients or "a single patient", patients)
    yield floor


def _prdc(view: View) -> Iterator[Score]:
    k = view.params.neighbours
    patients = view.real.n_groups
    if min(len(view.real), len(view.synthetic)) <= k:
        for name in manifold.NAMES:
            yield view.score(name, f"no more than k = {k} images", patients)
    else:
        for name, value in manifold.prdc(view.real, view.synthetic, k).items():
            yield view.alone(name, value, patients, f"k = {k}", _MOVING)
    if isinstance(view.floor, Floor) and min(view.floor.size, *(len(side.base) for side in view.floor.sides)) <= k:
        reason = f"no more than k = {k} images on a side of the floor, which has one of each patient"
        view = replace(view, floor=reason)
    yield from _floor_and_matched(view, "", partial(_fix_prdc, k=k), names=manifold.NAMES)


def _fix_prdc(base: FeatureSet, k: int) -> Callable[[FeatureSet], Influences]:
    neighbourhoods = manifold.Neighbourhoods.of(base, k)

    def against(images: FeatureSet) -> Influences:
        left_out = neighbourhoods.compare(images.values)
        return {name: (left.value, (len(images) - 1) * (left.value - left.images)) for name, left in left_out.items()}

    return against


def _floor_and_matched(view: View, prefix: str, fix: floors.Fix, names: Sequence[str] = ("",)) -> Iterator[Score]:
    """What an ideal generator would have, and the same of the synthetic images; ``fix`` gives a score for each name."""
    found = view.against_people(fix)
    if isinstance(found, str) or isinstance(view.floor, str):
        for name in names:
            for suffix in ("_floor", "_matched"):
                yield view.score(prefix + name + suffix, str(found), view.real.n_groups)
        return
    floor, n = view.floor, view.real.n_groups
    for name, compared in found.items():
        most = 1.0 if name in ("precision", "recall", "coverage") else np.inf
        (low, high), note = _ends(compared.floor, *compared.floor_spreads, limits=(0.0, most)), floor.note
        if name == "recall":  # held fixed, 80 % of ideal generators would be inside
            low, high, note = None, None, f"{note}; {_MOVING}"
        yield Score(name=f"{prefix}{name}_floor", value=compared.floor, of=view.of, low=low, high=high, n=n, note=note)
        relation = compared.relation(low, high)
        if compared.matched is None:
            yield view.score(f"{prefix}{name}_matched", floor.too_few, n)
        else:  # its chance is in the interval of the floor
            yield view.alone(f"{prefix}{name}_matched", compared.matched, n, floor.matched_note, relation)


def _classifier(view: View) -> Iterator[Score]:
    name = view.name("inception_score", "classifier_score")
    if view.of["contrast"] == "joint":  # a classifier sees one contrast at a time
        return
    for suffix, images, unit in (("", view.synthetic, "image"), ("_real", view.real, "patient")):
        splits = view.params.splits
        if images.logits is None:
            yield view.score(name + suffix, "this network has no classes", len(images))
        elif len(images) < 2 * splits:
            yield view.score(name + suffix, f"fewer than 2 images in each of {splits} parts", len(images))
        else:
            value = classifier_score(images.logits, splits)
            found, note = Estimate(value, (classifier_spread(images, value),)), f"mean of {splits} consecutive parts"
            yield view.score(
                name + suffix, found, len(images), note, least=1.0, min_units=MIN_UNITS_OF_CLASSES, unit=unit
            )


_SCORES: Mapping[str, Callable[[View], Iterator[Score]]] = {
    "fid": _frechet,
    "inception-score": _classifier,
    "kid": _kernel,
    "prdc": _prdc,
}
