"""``audit-memorization``: are there copies of training images, and would this audit have found them?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from synthkit.contract import Declaration, MetricDeclaration
from synthkit.data.dataset import Dataset
from synthkit.data.lineage import every_entry, has_unknown_masks, lent_label_maps, original_digests, was_trained_on
from synthkit.data.twins import find_twins, signatures_of
from synthkit.data.views import View
from synthkit.errors import DataError, UsageError
from synthkit.judging.policy import Policy, load_policy, policy_of
from synthkit.judging.verdict import verdict
from synthkit.registry.parameters import make_params, params_to_dict, weakened
from synthkit.registry.registry import discover
from synthkit.running.listening import Listener, counted
from synthkit.running.request import Request
from synthkit.running.run import Input, Job, Run
from synthkit.running.seal import datasets_at_hand, seal
from synthkit.running.verbs.boundary import outputs_of
from synthkit.running.verbs.inputs import check_axes, dataset_input, features_named, file_input
from synthkit.running.verbs.people import datasets_given
from synthkit.running.verbs.scores import admitted_scores, metrics_of, opened_inputs, scored

DEFAULT_METRIC = "memorization"

# ------------------------------------------------------------------------------------------------ asked on the host


def ask(
    real: Path,
    synthetic: Path,
    *,
    holdout: Path | None = None,
    control: Path | None = None,
    policy: Path | None = None,
    features: Path | None = None,
    metric: str = DEFAULT_METRIC,
    also_train: Sequence[Path] = (),
    accept_other_training_set: bool = False,
    params: Mapping[str, Any] | None = None,
    listener: Listener,
) -> Request:
    """The run that looks for copies of training images among synthetic ones.

    Parameters
    ----------
    real : the dataset that the generator was trained on, with its holdout.
    synthetic : the samples.
    holdout : real subjects that were never trained on, instead of the holdout of ``real``.
    control : samples of the same model that were asked to have the label maps of ``holdout``.
    policy : TOML file that says what passes and what fails; the default policy without one.
    features : weights of the feature network, where the metric uses one; ``NAME=FILE`` holds them to a name.
    metric : name of the audit's method.
    also_train : further datasets that the generator was trained on.
    accept_other_training_set : audit although the lineage names other training sets than those given.
    params : parameters of the metric.

    Raises :class:`DataError` for datasets that do not belong together, and for a holdout that was trained on, by its
    ids or by what its images show. :class:`UsageError` for a control without these people.
    """
    declaration = discover().audit(metric)
    rules = load_policy(policy) if policy else Policy()
    train_set, train_input = dataset_input(real, ("train",))
    synthetic_set, synthetic_input = dataset_input(synthetic)
    _check_is_generated(real, train_set, synthetic, synthetic_set)
    rules.check_number(len(synthetic_set))
    train_sets, inputs = {real: train_set}, {"train": train_input, "synthetic": synthetic_input}
    for number, path in enumerate(also_train, start=2):
        dataset, inputs[f"train{number}"] = dataset_input(path)
        if dataset.digest in {other.digest for other in train_sets.values()}:
            raise UsageError(f"The training set {path} is given twice.", fix="Give each dataset once.")
        train_sets[path] = dataset
    _check_same_images(train_sets, synthetic, synthetic_set)
    lineage = synthetic_set.training_datasets
    if lineage:
        _check_training_sets(synthetic, lineage, train_sets, accept_other_training_set, listener)
    imported, masks = synthetic_set.lineage.get("imported"), has_unknown_masks(synthetic_set.lineage)
    if imported:
        listener.note(
            f"Their generator was imported ({imported['file']}), what it was trained on before that is unknown: the "
            "audit shows only what they copy from the datasets given."
        )
    elif masks:
        listener.note(
            "They were asked for by masks of nobody knows whom: the audit shows only what they copy from the datasets "
            "given."
        )
    elif not lineage:
        listener.note("The synthetic images are of unknown origin: the audit shows only what they copy from REAL.")
    if holdout is not None:
        holdout_set, inputs["holdout"] = dataset_input(holdout)
        _check_never_trained_on(holdout, holdout_set.training_part().subjects, lineage)
        _check_nobody_twice(train_sets, holdout, holdout_set.training_part(), listener)
    elif len(train_set.select("holdout")):
        inputs["holdout"] = dataset_input(real, ("holdout",))[1]
        _check_never_trained_on(real, train_set.select("holdout").subjects, lineage)
        _check_nobody_twice(train_sets, real, train_set.select("holdout"), listener)
    if control is not None:
        inputs["control"] = _control_input(control, holdout, train_sets, synthetic_set, declaration)
    check_axes(inputs, listener)
    named: dict[str, str] = {}
    if features is not None:
        if "features" not in declaration.optional_roles:
            raise UsageError(f"{declaration.name} uses no feature network.", fix="Leave --features out.")
        weights, named = features_named(features, declaration)
        inputs["features"] = file_input(weights or features)
    job = Job(
        verb="audit-memorization",
        plugins=(declaration.name,),
        params=params_to_dict(make_params(declaration, {**(params or {}), **named})),
        inputs=inputs,
        options={
            "policy": asdict(rules),
            "lineage": "known" if lineage and not (imported or masks) else "unknown",
            **({"lent_label_maps": lent} if (lent := lent_label_maps(synthetic_set.lineage)) else {}),
        },
    )
    return Request(job, (declaration,), f"audit {len(synthetic_set):,}")


def _check_is_generated(real: Path, train_set: Dataset, synthetic: Path, synthetic_set: Dataset) -> None:
    """Refuse real images in the place of a generator's: the audit would pass, and say nothing of any generator."""
    if synthetic_set.kind == "real":
        raise DataError(
            f"{synthetic} holds real images, where those of a generator are audited.",
            "The dataset that the generator was trained on comes first, its images second.",
            f"Exchange the two: `synthkit audit-memorization {synthetic} {real}`."
            if train_set.kind == "synthetic"
            else "Give the dataset that `synthkit generate` made, or that images from elsewhere became by `import`.",
        )


def _control_input(
    path: Path,
    holdout: Path | None,
    train_sets: Mapping[Path, Dataset],
    synthetic_set: Dataset,
    declaration: MetricDeclaration,
) -> Input:
    """A control; refused where it tells nothing of these images.

    Raises :class:`UsageError` where the audit takes none, nobody is held out or nothing was asked for, and
    :class:`DataError` for samples of another model, or that were asked for something else.
    """
    if "control" not in declaration.optional_roles:
        raise UsageError(f"{declaration.name} takes no control.", fix="Leave --control out.")
    if holdout is None:
        raise UsageError(
            "A control says nothing without the people whose label maps it has.",
            f"{path} is compared with the people whom it was asked for.",
            "Give the dataset whose label maps it was asked for: --holdout DATASET.",
        )
    if not _asked_labels(synthetic_set):
        raise UsageError(
            "The images under audit were not asked for with label maps.",
            "A control is compared with images that were, and there are none.",
            "Leave --control out, or audit what `synthkit generate RUN --labels DATASET` made.",
        )
    dataset, found = dataset_input(path)
    _check_same_images(train_sets, path, dataset)
    made = [(one.lineage.get("checkpoint_digest"), _drawn_with(one)) for one in (dataset, synthetic_set)]
    if dataset.kind == "real" or made[0][0] is None or made[0] != made[1]:
        other = "with other parameters than" if made[0][0] == made[1][0] else "by another model than"
        raise DataError(
            f"The control {path} was drawn {other} the images under audit.",
            "How near it comes to people whom it has never seen says nothing of these images then.",
            f"Make it as these were made: `synthkit generate RUN --labels {holdout} -o CONTROL`.",
        )
    if _asked_labels(dataset).get("digest") != Dataset(holdout).digest:
        raise DataError(
            f"The control {path} was not asked for with the label maps of {holdout}.",
            "It shows how near the model comes to people whom it has never seen, when asked for their label maps.",
            f"Make it with these label maps: `synthkit generate RUN --labels {holdout} -o CONTROL`.",
        )
    return found


def _asked_labels(dataset: Dataset) -> dict[str, Any]:
    return (dataset.lineage.get("asked") or {}).get("labels") or {}


def _drawn_with(dataset: Dataset) -> Any:
    return (dataset.description.get("provenance") or {}).get("params")


def _check_same_images(train_sets: Mapping[Path, Dataset], synthetic: Path, synthetic_set: Dataset) -> None:
    for path, dataset in train_sets.items():
        if dataset.contrasts != synthetic_set.contrasts or dataset.size != synthetic_set.size:
            raise DataError(
                "The two datasets do not match.",
                f"{path} has {'/'.join(dataset.contrasts)} at {dataset.size}, {synthetic} has "
                f"{'/'.join(synthetic_set.contrasts)} at {synthetic_set.size}.",
                "Prepare the real subjects with the size and the contrasts of the synthetic images.",
            )


def _check_training_sets(
    synthetic: Path, lineage: list[dict[str, Any]], given: dict[Path, Dataset], accept: bool, listener: Listener
) -> None:
    """Refuse to audit against other datasets than all those that the generator was trained on.

    An image that was copied from a dataset which is not searched would pass; one that is searched in vain raises the
    null, and with it the thresholds.
    """
    wanted = original_digests(lineage)
    known = {*wanted, *(str(item["digest"]) for item in lineage)}
    found = {dataset.digest: path for path, dataset in given.items()}
    missing = [digest for digest in wanted if digest not in found]
    others = [str(path) for digest, path in found.items() if digest not in known]
    if not missing and not others:
        return
    if accept:
        listener.warning(
            f"The lineage names other training sets ({len(missing)} of {len(wanted)} not searched, {len(others)} "
            "searched besides); audited all the same, as asked."
        )
        return
    if others:
        digests = ", ".join(digest[:19] for digest in wanted)
        raise DataError(
            f"{synthetic} was not made from {' and '.join(others)}.",
            f"Its lineage names {'the training set' if len(wanted) == 1 else 'the training sets'} {digests}.",
            "Give the datasets that its generator was trained on, or --accept-other-training-set.",
        )
    _refuse_missing(synthetic, lineage, missing)


def _refuse_missing(synthetic: Path, lineage: list[dict[str, Any]], missing: list[str]) -> NoReturn:
    """:class:`DataError` for datasets that are not given; whether images were learned from them, or labels taken."""
    uses = [(entry["digest"], entry.get("used")) for entry in every_entry(lineage)]
    lent = [digest for digest in missing if {use for other, use in uses if other == digest} == {"labels"}]
    short = ", ".join(digest[:19] for digest in missing)
    if len(lent) == len(missing):
        run = Dataset(synthetic).path.parents[1]  # of which the samples are outputs/dataset
        found = {dataset.digest: str(dataset.path.resolve()) for dataset in datasets_given(run)}
        more = " ".join(f"--also-train {found.get(digest, 'DATASET')}" for digest in lent)
        raise DataError(
            f"{synthetic} was asked for with the label maps of {counted(len(lent), 'dataset')} more than were given.",
            f"Nothing was trained on {short}, but its label maps are in these samples: copies of it would not be "
            "found.",
            f"Give the dataset of these label maps as well: `synthkit audit-memorization REAL {synthetic} {more} -o "
            "RUN`.",
            missing,
        )
    of_labels = f" Of these, {', '.join(digest[:19] for digest in lent)} lent label maps alone." if lent else ""
    raise DataError(
        f"{synthetic} was made from {len(missing)} more training set{'s' if len(missing) > 1 else ''} than were given.",
        f"Copies of {short} would not be found.{of_labels}",
        "Give each by --also-train, or --accept-other-training-set to search without them.",
        missing,
    )


def _check_never_trained_on(path: Path, subjects: Sequence[str], lineage: list[dict[str, Any]]) -> None:
    """Refuse a holdout that the generator has seen: it would hide the copies of its own subjects."""
    seen = [subject for subject in subjects if was_trained_on(subject, lineage)]
    if seen:
        raise DataError(
            f"The generator was trained on {len(seen)} of the {len(subjects)} held-out subjects of {path}.",
            "Thresholds from subjects that it has seen would hide its copies.",
            "Give real subjects that it was never trained on, or leave --holdout out.",
            seen[:20],
        )


def _check_nobody_twice(train_sets: Mapping[Path, Dataset], path: Path, held: View, listener: Listener) -> None:
    """Refuse a holdout with a person who was trained on under another id: it would hide that person's copies."""
    if held.contrasts != next(iter(train_sets.values())).contrasts:
        return  # the run says so, for every input
    with listener.progress("compare people") as view:
        seen = partial(view.step, unit="subject")
        held_out = signatures_of(held, seen)
        pairs = [
            f"{pair.one} of {source}, {pair.other} of {path} (correlation {pair.alike:.2f})"
            for source, dataset in train_sets.items()
            for pair in find_twins(signatures_of(dataset.training_part(), seen), held_out)
        ]
    if pairs:
        people = "people who were" if len(pairs) > 1 else "a person who was"
        raise DataError(
            f"The holdout of {path} shows {people} trained on: {'; '.join(pairs[:3])}.",
            "Their brains agree in detail, whatever their ids are. Thresholds from whom the generator has seen would "
            "hide its copies.",
            "Prepare the subjects again together, with a table --patients that makes the two of a pair one patient, "
            "and train again; or give real subjects that it was never trained on by --holdout.",
            pairs,
        )
    unseen = [subject for subject, signature in held_out.items() if signature is None]
    if unseen:
        listener.note(
            f"{len(unseen)} of {len(held_out)} held-out subjects have too few slices, or too little in them, to be "
            "compared with those that were trained on."
        )


# -------------------------------------------------------------------------------------------------- done in the run


def do(run: Run, job: Job, declarations: tuple[Declaration, ...]) -> dict[str, Any]:
    """Score, judge the scores, and bind the verdict to what it was made of; what ``result.json`` gets of it."""
    metrics = metrics_of(declarations)
    return _judged(run, job, metrics, scored(run, job, metrics, opened_inputs(run, job)))


def _judged(run: Run, job: Job, metrics: Sequence[MetricDeclaration], result: Mapping[str, Any]) -> dict[str, Any]:
    """Scores and tables with the verdict on them, and the seal that binds it to what it was made of."""
    weaker = weakened(metrics[0], make_params(metrics[0], job.params))
    judged = verdict(result["scores"], policy_of(job.options), weaker, lent=job.options.get("lent_label_maps"))
    whole = {**result, "verdict": judged.to_dict()}
    return {**whole, "seal": seal(job, datasets_at_hand(job, run.path), whole), "exit_code": int(judged.exit_code)}


# ----------------------------------------------------------------------------------------------- taken on the host


def admit(run: Run, job: Job, declarations: tuple[Declaration, ...], told: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of declared names and the tables with their digests; the verdict is reached here, and sealed."""
    metrics = metrics_of(declarations)
    with outputs_of(run):
        return _judged(run, job, metrics, admitted_scores(run, metrics, told))
