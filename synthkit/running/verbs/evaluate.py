"""``evaluate``: scores of predictions, or of synthetic samples."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synthkit.contract import FILE_ROLES, SLICE_ROLES, Declaration, MetricDeclaration
from synthkit.data.dataset import Dataset
from synthkit.data.label_folders import LabelFolder
from synthkit.data.label_pairs import check_prediction, no_subject_in_common
from synthkit.data.lineage import datasets_behind, was_trained_on
from synthkit.data.patients import by_names
from synthkit.errors import DataError, UsageError
from synthkit.files import read_inside
from synthkit.judging.protocols import KeptSlices, SliceRule, evaluation_protocol
from synthkit.registry.parameters import make_params, params_to_dict
from synthkit.registry.registry import discover
from synthkit.running.checkpoints import find_predictions, read_checkpoint_metadata
from synthkit.running.listening import Listener
from synthkit.running.request import Request
from synthkit.running.run import MAX_JSON_BYTES, Input, Job, Run
from synthkit.running.verbs.boundary import outputs_of
from synthkit.running.verbs.inputs import check_axes, dataset_input, features_named, file_input, folder_input
from synthkit.running.verbs.keeping import kept_by
from synthkit.running.verbs.people import datasets_of_training, patients_said, unlike_names
from synthkit.running.verbs.scores import admitted_scores, metrics_of, opened_inputs, scored
from synthkit.schemes import Scheme

#: Where the voxels of a prediction are: where its own affine says, or where those of the reference are.
PREDICTION_GRIDS = ("own", "reference")

# ------------------------------------------------------------------------------------------------ asked on the host


def ask(
    metrics: Sequence[str],
    given: Mapping[str, Path | None],
    *,
    protocol: str | None = None,
    include_training_subjects: bool = False,
    prediction_grid: str = "own",
    names: Sequence[str] = (),
    labels: str | None = None,
    prediction_labels: str | None = None,
    keep: bool = False,
    params: Mapping[str, Any] | None = None,
    listener: Listener,
) -> list[Request]:
    """The runs that score: one for all metrics of a package.

    Parameters
    ----------
    metrics : names of at least one.
    given : role -> what takes it, None for nothing: a dataset for slices, for volumes subjects with labels, a `segment`
        run or label volumes, for a file its path, for ``features`` also ``NAME=FILE``, for ``kept`` a run that kept.
    protocol : name of an evaluation protocol for segmentations.
    include_training_subjects : also score subjects that the segmenter was trained on.
    prediction_grid : "own", or "reference": arrays of predictions are on the grid of the reference, whatever their
        affine says.
    names : what files of the reference are by their endings, ``seg=_segm``.
    labels, prediction_labels : the label scheme of the reference and of the prediction: a name, a TOML file or "table".
    keep : score nothing, and keep what the scores of all synthetic datasets need of the real one.
    params : parameters of the metrics.

    Raises :class:`UsageError` for data that a metric needs and does not get, :class:`DataError` where there is nothing
    to compare.
    """
    if prediction_grid not in PREDICTION_GRIDS:
        raise UsageError(f"--prediction-grid {prediction_grid} is not understood.", fix="Write own or reference.")
    packages = _by_package(metrics, given, keep)
    if given.get("features") and not any("features" in d[0].optional_roles for d in packages.values()):
        raise UsageError(f"{metrics[0]} uses no feature network.", fix="Leave --features out.")
    if given.get("kept") and not any("kept" in d[0].optional_roles for d in packages.values()):
        raise UsageError(f"{metrics[0]} takes nothing that other runs kept.", fix="Leave --kept out.")
    reference, prediction = given.get("reference"), given.get("prediction")
    if (labels or prediction_labels) and (reference is None or prediction is None):
        raise UsageError("--labels is about a reference and a prediction.", fix="Leave it out; datasets say theirs.")
    compared: dict[str, Any] = {}
    if reference is not None and prediction is not None and any("prediction" in d[0].roles for d in packages.values()):
        places = (find_predictions(reference), find_predictions(prediction))
        subjects, unpaired = _subjects_to_score(
            *places, include_training_subjects, names, listener, labels, prediction_labels
        )
        schemes = _label_schemes(*places, [*subjects, *unpaired], subjects, names, labels, prediction_labels)
        compared = {"subjects": subjects, "references_without_prediction": unpaired, "labels": schemes}
        patients = unlike_names({**by_names(subjects), **patients_said(subjects, _datasets_behind(places[1]))})
        compared |= {"patients": patients} if patients else {}
    _doubt_kinds(given, listener)
    _check_alike(given)
    requests = []
    for members in packages.values():
        first = members[0]
        weights, named = None, dict[str, str]()
        if "features" in first.optional_roles:
            weights, named = features_named(given.get("features"), first)
        kept = given.get("kept") if "kept" in first.optional_roles else None
        inputs = _inputs(first, {**given, "features": weights, "kept": kept_by(kept, first) if kept else None})
        check_axes(inputs, listener)
        options: dict[str, Any] = {}
        if compared and "prediction" in inputs:
            options |= compared
            options |= {"names": list(names)} if names else {}
            options |= {"prediction_grid": prediction_grid} if prediction_grid != "own" else {}
        fixed: dict[str, Any] = {}
        if protocol is not None:
            fixed = _fixed_by(protocol, first, params or {}, listener)
            options["protocol"] = protocol
        job = Job(
            verb="evaluate",
            plugins=tuple(d.name for d in members),
            params=params_to_dict(make_params(first, {**(params or {}), **named, **fixed})),
            inputs=inputs,
            options=options,
        )
        folder = "" if len(packages) == 1 else first.distribution.removeprefix("synthkit-")
        requests.append(Request(job, tuple(members), f"evaluate {' '.join(job.plugins)}", folder))
    return requests


def _doubt_kinds(given: Mapping[str, Path | None], listener: Listener) -> None:
    """Say of a dataset that it is not what it was given as: exchanged, or meant as a control."""
    for role in ("real", "synthetic"):
        path = given.get(role)
        if path is not None and (kind := Dataset(path).kind) != role:
            listener.warning(f"{path} was given as --{role} and holds {kind} images: scores are of these.")


def _check_alike(given: Mapping[str, Path | None]) -> None:
    """:class:`DataError` for real and synthetic images of other contrasts or sizes, before a run is made."""
    if (real := given.get("real")) is None or (synthetic := given.get("synthetic")) is None:
        return
    found = {path: Dataset(path) for path in (real, synthetic)}
    forms = [f"{'/'.join(data.contrasts)} of {data.size[1]} x {data.size[0]} pixels" for data in found.values()]
    if len(set(forms)) > 1:
        raise DataError(
            f"{real} and {synthetic} cannot be compared.",
            f"They hold {forms[0]} and {forms[1]}.",
            "Prepare the real subjects with the contrasts and the size of the synthetic images.",
        )


def _by_package(
    names: Sequence[str], given: Mapping[str, Path | None], keep: bool
) -> dict[str, list[MetricDeclaration]]:
    """The metrics by the module that scores them; refused where data are missing that one of them compares."""
    registry = discover()
    if not names:
        raise UsageError("There is nothing to score.", fix="Name a metric; `synthkit plugins` lists them.")
    packages: dict[str, list[MetricDeclaration]] = {}
    for declaration in [registry.get(name, "metric") for name in dict.fromkeys(names)]:
        assert isinstance(declaration, MetricDeclaration)
        if declaration.audit:
            raise UsageError(f"{declaration.name} is an audit.", fix="Use `synthkit audit-memorization`.")
        if keep:
            _check_keeps(declaration, given)
        for role in declaration.roles:
            if given.get(role) is None and not (keep and role == "synthetic"):
                raise UsageError(
                    f"{declaration.name} compares {' and '.join(declaration.roles)}.", fix=f"Give --{role}."
                )
        packages.setdefault(declaration.module, []).append(declaration)
    return packages


def _check_keeps(metric: MetricDeclaration, given: Mapping[str, Path | None]) -> None:
    if "kept" not in metric.optional_roles:
        raise UsageError(f"{metric.name} keeps nothing for other runs.", fix="Leave --keep out.")
    if both := [role for role in ("synthetic", "kept") if given.get(role) is not None]:
        raise UsageError(
            f"--keep and --{both[0]} do not go together.",
            "A run with --keep scores nothing: it makes what later runs are given.",
            f"Leave --{both[0]} out, and give --kept with the run that this makes to those that score.",
        )


def _inputs(metric: MetricDeclaration, given: Mapping[str, Path | None]) -> dict[str, Input]:
    """What the metric compares, and of what it can use besides whatever is there."""
    inputs: dict[str, Input] = {}
    for role in (*metric.roles, *metric.optional_roles):
        path, real = given.get(role), given.get("real")
        if role == "holdout" and real is not None:
            dataset, held_out = dataset_input(real, ("holdout",))
            if len(dataset.select("holdout")):
                inputs[role] = held_out
        elif path is None:
            continue
        elif role in FILE_ROLES:
            inputs[role] = file_input(path)
        elif role in SLICE_ROLES:
            inputs[role] = dataset_input(path)[1]
        else:
            inputs[role] = folder_input("labels", find_predictions(path))
    return inputs


def _fixed_by(protocol: str, metric: MetricDeclaration, given: Mapping[str, Any], listener: Listener) -> dict[str, Any]:
    """Parameters that an evaluation protocol sets; its rules are said."""
    chosen = evaluation_protocol(protocol)
    if not {"reference", "prediction"} <= set(metric.roles):
        raise UsageError(
            f"--protocol {protocol} is about segmentations.", f"{metric.name} scores none.", "Leave it out."
        )
    if both := sorted(set(chosen.params) & set(given)):
        raise UsageError(f"--protocol {protocol} sets {both[0]}.", fix=f"Leave -p {both[0]} out, or the protocol.")
    for rule in chosen.policy:
        listener.note(rule)
    own = {item.name for item in dataclasses.fields(metric.params)}
    return {name: value for name, value in chosen.params.items() if name in own}


def _subjects_to_score(
    reference: Path,
    prediction: Path,
    include_training_subjects: bool,
    names: Sequence[str],
    listener: Listener,
    labels: str | None,
    prediction_labels: str | None,
) -> tuple[list[str], list[str]]:
    """Which subjects are compared, and which references go without a prediction.

    Compared are the subjects of the prediction that have a reference and, unless asked for, were not trained on. A
    reference without prediction counts unless its subject was left out because it was trained on.
    """
    found = LabelFolder(reference, usable_only=True, names=names, labels=labels)
    predictions = LabelFolder(prediction, labels=prediction_labels, reference=found)
    predicted = predictions.subjects
    referenced = set(found.subjects)
    seen: set[str] = set()
    if (prediction / "predictions.json").is_file():
        notes = json.loads(read_inside(prediction, "predictions.json", max_bytes=MAX_JSON_BYTES))
        seen = set(notes.get("seen_in_training", ()))
    common_subjects = [name for name in predicted if name in referenced]
    if not common_subjects:
        raise no_subject_in_common(found, predictions)
    without = sorted(set(predicted) - referenced)
    if without:
        listener.warning(
            f"{len(without)} predictions have no usable reference and are not scored: {', '.join(without[:5])}."
        )
    if seen & set(common_subjects) and not include_training_subjects:
        listener.note(f"{len(seen & set(common_subjects))} subjects were trained on and are not scored.")
        common_subjects = [name for name in common_subjects if name not in seen]
        if not common_subjects:
            raise DataError(
                "All predicted subjects were trained on.",
                "Their scores would say nothing about new patients.",
                "Segment held-out subjects, or give --include-training-subjects.",
            )
    unpaired = _without_trained_on(sorted(referenced - set(predicted) - seen), prediction)
    if unpaired:
        listener.warning(
            f"{len(unpaired)} of {len(common_subjects) + len(unpaired)} references have no prediction and are not "
            f"scored: {', '.join(unpaired[:5])}{', ...' if len(unpaired) > 5 else ''}."
        )
    return common_subjects, unpaired


def _label_schemes(
    reference: Path,
    prediction: Path,
    referenced: Sequence[str],
    subjects: Sequence[str],
    names: Sequence[str],
    labels: str | None,
    prediction_labels: str | None,
) -> dict[str, Any]:
    """By role the label scheme that the run uses; asked for where it is not known or does not fit."""
    true = LabelFolder(reference, referenced, names=names, labels=labels)
    found = LabelFolder(prediction, subjects, labels=prediction_labels, reference=true)
    check_prediction(true, found, subjects)
    return {"reference": true.decision(), "prediction": found.decision()}


def _without_trained_on(subjects: list[str], predictions: Path) -> list[str]:
    """Those of ``subjects`` that the segmenter was not trained on, as far as the run of the predictions tells."""
    try:
        lineage = datasets_behind(read_checkpoint_metadata(Run(predictions.parent.parent).input("checkpoint")))
    except (DataError, KeyError):  # no run of `segment`, or moved away from its checkpoint
        return subjects
    return [subject for subject in subjects if not was_trained_on(subject, lineage)]


def _datasets_behind(predictions: Path) -> list[Dataset]:
    """The datasets of the training behind predictions of `segment`, as far as they are still where they were."""
    return datasets_of_training(Run(predictions.parent.parent).input("checkpoint").resolve().parent.parent)


# -------------------------------------------------------------------------------------------------- done in the run


def do(run: Run, job: Job, declarations: tuple[Declaration, ...]) -> dict[str, Any]:
    """Score; what ``result.json`` gets of it."""
    metrics = metrics_of(declarations)
    datasets = opened_inputs(run, job)
    protocol = job.options.get("protocol")
    # What regions mean that are scored, for whoever shows the scores.
    described = {"scheme": datasets["reference"].scheme.to_dict()} if "reference" in datasets else {}
    if protocol is None:
        return {**scored(run, job, metrics, datasets), **described}
    rule = SliceRule(run.input("reference"), job.options.get("names", ()), datasets["reference"].scheme)
    datasets |= {role: KeptSlices(datasets[role], rule) for role in ("reference", "prediction")}
    return {**scored(run, job, metrics, datasets), **described, **_protocol(job)}


def _protocol(job: Job) -> dict[str, Any]:
    """What ``result.json`` says of the rules that scores were made by; nothing where there are none."""
    name = job.options.get("protocol")
    return {"protocol": {"name": name, "policy": list(evaluation_protocol(name).policy)}} if name else {}


# ----------------------------------------------------------------------------------------------- taken on the host


def admit(run: Run, job: Job, declarations: tuple[Declaration, ...], told: dict[str, Any]) -> dict[str, Any]:
    """The scores of declared names and the tables with their digests."""
    with outputs_of(run):
        described = {"scheme": Scheme.from_dict(told["scheme"]).to_dict()} if "scheme" in told else {}
    told.pop("protocol", None)
    return {**admitted_scores(run, metrics_of(declarations), told), **described, **_protocol(job)}
