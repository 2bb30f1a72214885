"""``evaluate``, ``audit-memorization``, ``verify``: numbers, verdicts, and whether they come out again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synthkit.cli import common
from synthkit.errors import DataError, GateFailedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synthkit.console import Console
    from synthkit.contract import MetricDeclaration
    from synthkit.dataset import Dataset


def evaluate(
    metrics: Annotated[list[str], typer.Argument(metavar="METRIC...", help="`synthkit plugins` lists them.")],
    out: common.Out,
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference", metavar="SUBJECTS", help="Subjects with labels, or label volumes.", show_default=False
        ),
    ] = None,
    prediction: Annotated[
        Path | None,
        typer.Option("--prediction", metavar="RUN", help="A `segment` run, or label volumes.", show_default=False),
    ] = None,
    real: Annotated[
        Path | None, typer.Option("--real", metavar="DATASET", help="Real samples.", show_default=False)
    ] = None,
    synthetic: Annotated[
        Path | None, typer.Option("--synthetic", metavar="DATASET", help="Synthetic samples.", show_default=False)
    ] = None,
    include_training_subjects: Annotated[
        bool, typer.Option("--include-training-subjects", help="Score subjects that the segmenter was trained on, too.")
    ] = False,
    param: common.Params = None,
    params: common.ParamsFile = None,
    backend: common.BackendName = None,
    gpus: common.Gpus = None,
    memory: common.Memory = None,
    timeout: common.Timeout = None,
    resume: common.Resume = False,
    overwrite: common.Overwrite = False,
    dry_run: common.DryRun = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Score predictions, or synthetic samples.

    Predictions are compared with a --reference, --synthetic samples with --real ones.

    Metrics of one package share a run; those of several make one run each, in folders below -o.
    """
    from synthkit.contract import SLICE_ROLES, MetricDeclaration
    from synthkit.parameters import make_params, params_to_dict, parse_assignments
    from synthkit.plugins import discover
    from synthkit.runs import Input, Job, find_predictions

    console = common.console_for(json, quiet)
    registry = discover()
    declarations = [registry.get(name, "metric") for name in dict.fromkeys(metrics)]
    given_roles = {"reference": reference, "prediction": prediction, "real": real, "synthetic": synthetic}
    packages: dict[str, list[MetricDeclaration]] = {}
    for declaration in declarations:
        assert isinstance(declaration, MetricDeclaration)
        if "train" in declaration.roles:
            raise UsageError(f"{declaration.name} is an audit.", fix="Use `synthkit audit-memorization`.")
        for role in declaration.roles:
            if given_roles.get(role) is None:
                raise UsageError(
                    f"{declaration.name} compares {' and '.join(declaration.roles)}.", fix=f"Give --{role}."
                )
        packages.setdefault(declaration.module, []).append(declaration)

    options = common.RunOptions(backend, gpus, memory, timeout, resume, overwrite, dry_run)
    given = parse_assignments(param or (), params)
    documents = []
    for members in packages.values():
        first = members[0]
        inputs: dict[str, Input] = {}
        job_options: dict[str, Any] = {}
        for role in (*first.roles, *first.optional_roles):
            path = given_roles.get(role)
            if path is None:
                continue
            if role in SLICE_ROLES:
                inputs[role] = common.dataset_input(path)[1]
            else:
                inputs[role] = common.folder_input("labels", find_predictions(path))
        if "prediction" in inputs:
            scored, unpaired = _subjects_to_score(inputs, include_training_subjects, console)
            job_options |= {"subjects": scored, "references_without_prediction": unpaired}
        job = Job(
            verb="evaluate",
            plugins=tuple(d.name for d in members),
            params=params_to_dict(make_params(first, given)),
            inputs=inputs,
            options=job_options,
        )
        folder = out if len(packages) == 1 else out / first.distribution.removeprefix("synthkit-")
        run, result = common.run_job(folder, job, members, options, console, f"evaluate {' '.join(job.plugins)}")
        documents.append({"run": str(run.path), "result": result})
        _print_scores(console, result)
        console.print(f"Scored {', '.join(job.plugins)}: {run.path}")
    console.document(documents[0] if len(documents) == 1 else {"runs": documents})
    console.ending(f"synthkit report {out} -o report.html", common.citations_of(declarations))


def audit_memorization(
    real: Annotated[
        Path, typer.Argument(metavar="REAL", help="The dataset that the generator was trained on, with its holdout.")
    ],
    synthetic: Annotated[Path, typer.Argument(metavar="SYNTHETIC", help="The samples to audit.")],
    out: common.Out,
    holdout: Annotated[
        Path | None,
        typer.Option(
            "--holdout",
            metavar="DATASET",
            help="Real subjects never trained on, if REAL has no holdout.",
            show_default=False,
        ),
    ] = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", metavar="TOML", help="What passes and what fails.", show_default=False)
    ] = None,
    metric: Annotated[str, typer.Option("--metric", metavar="NAME", help="The audit's method.")] = "memorization",
    also_train: Annotated[
        list[Path] | None,
        typer.Option(
            "--also-train",
            metavar="DATASET",
            help="Another dataset that the generator was trained on; repeatable.",
            show_default=False,
        ),
    ] = None,
    accept_other_training_set: Annotated[
        bool,
        typer.Option(
            "--accept-other-training-set", help="Audit although the lineage names other training sets than those given."
        ),
    ] = False,
    param: common.Params = None,
    params: common.ParamsFile = None,
    backend: common.BackendName = None,
    gpus: common.Gpus = None,
    memory: common.Memory = None,
    timeout: common.Timeout = None,
    resume: common.Resume = False,
    overwrite: common.Overwrite = False,
    dry_run: common.DryRun = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Find copies of training images.

    Exits with 10 unless the verdict is pass.
    """
    from dataclasses import asdict

    from synthkit.audit import Policy, load_policy
    from synthkit.parameters import make_params, params_to_dict, parse_assignments
    from synthkit.plugins import discover
    from synthkit.runs import Job

    console = common.console_for(json, quiet)
    declaration = discover().get(metric, "metric")
    rules = load_policy(policy) if policy else Policy()
    train_set, train_input = common.dataset_input(real, ("train",))
    synthetic_set, synthetic_input = common.dataset_input(synthetic)
    train_sets, inputs = {real: train_set}, {"train": train_input, "synthetic": synthetic_input}
    for number, path in enumerate(also_train or (), start=2):
        dataset, inputs[f"train{number}"] = common.dataset_input(path)
        if dataset.digest in {other.digest for other in train_sets.values()}:
            raise UsageError(f"The training set {path} is given twice.", fix="Give each dataset once.")
        train_sets[path] = dataset
    for path, dataset in train_sets.items():
        if dataset.contrasts != synthetic_set.contrasts or dataset.size != synthetic_set.size:
            raise DataError(
                "The two datasets do not match.",
                f"{path} has {'/'.join(dataset.contrasts)} at {dataset.size}, {synthetic} has "
                f"{'/'.join(synthetic_set.contrasts)} at {synthetic_set.size}.",
                "Prepare the real subjects with the size and the contrasts of the synthetic images.",
            )
    lineage = synthetic_set.lineage.get("training_datasets", [])
    if lineage:
        _check_training_sets(synthetic, lineage, train_sets, accept_other_training_set, console)
    else:
        console.note("The synthetic images are of unknown origin: the audit shows only what they copy from REAL.")
    if holdout is not None:
        holdout_set, inputs["holdout"] = common.dataset_input(holdout)
        _check_never_trained_on(holdout, holdout_set.training_part().subjects, lineage)
    elif len(train_set.select("holdout")):
        inputs["holdout"] = common.dataset_input(real, ("holdout",))[1]
        _check_never_trained_on(real, train_set.select("holdout").subjects, lineage)
    job = Job(
        verb="audit-memorization",
        plugins=(declaration.name,),
        params=params_to_dict(make_params(declaration, parse_assignments(param or (), params))),
        inputs=inputs,
        options={"policy": asdict(rules), "lineage": "known" if lineage else "unknown"},
    )
    options = common.RunOptions(backend, gpus, memory, timeout, resume, overwrite, dry_run)
    title = f"audit {len(synthetic_set):,}"
    run, result = common.run_job(out, job, [declaration], options, console, title)
    verdict = result["verdict"]
    document = {"run": str(run.path), "result": result}
    _print_scores(console, result)
    console.print(f"Verdict: {verdict['outcome']}", style="bold green" if verdict["outcome"] == "pass" else "bold red")
    for reason in verdict["reasons"]:
        console.print(f"  {reason}")
    if verdict["not_proven"]:
        console.print("Not proven:")
        for line in verdict["not_proven"]:
            console.print(f"  {line}")
    console.ending(f"synthkit report {run.path} -o report.html", declaration.citations)
    console.document(document)
    if verdict["outcome"] != "pass":
        raise GateFailedError(
            f"The audit's verdict is {verdict['outcome']}.",
            verdict["reasons"][0] if verdict["reasons"] else "",
            f"See {run.path / 'outputs' / 'matches.csv'} and `synthkit report {run.path}`; do not release the images.",
        )


def verify(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run folder.")],
    keep: Annotated[
        Path | None, typer.Option("--keep", metavar="DIR", help="Keep the repeated run here.", show_default=False)
    ] = None,
    backend: Annotated[
        str | None, typer.Option("--backend", metavar="NAME", help="Default: the one it ran with.", show_default=False)
    ] = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Run a run again and compare.

    Digests are compared where the method promises them, else pixels and scores. Exits with 10 on a difference.
    """
    from synthkit.verify import verify_run

    console = common.console_for(json, quiet)
    with console.progress("verify") as view:
        comparison = verify_run(run, keep=keep, backend=backend, on_event=view.event)
    rows = [(d.what, d.kind, "same" if d.same else "DIFFERENT", d.detail) for d in comparison.differences]
    console.table(f"{run} again, with {comparison.backend}", ("output", "compared by", "outcome", "detail"), rows)
    console.document(comparison.to_dict())
    if not comparison.same:
        raise GateFailedError(
            f"The run {run} did not come out the same.",
            "; ".join(f"{d.what}: {d.detail}" for d in comparison.differences if not d.same) + ".",
            f"The code of {', '.join(comparison.changed_code)} has changed since; make the run again."
            if comparison.changed_code
            else "Compare the versions in the two result.json files (--keep DIR keeps the second).",
        )
    console.print("The run came out the same.")


def _check_training_sets(
    synthetic: Path, lineage: list[dict[str, Any]], given: dict[Path, Dataset], accept: bool, console: Console
) -> None:
    """Refuse to audit against other datasets than all those that the generator was trained on.

    An image that was copied from a dataset which is not searched would pass; one that is searched in vain raises the
    null, and with it the thresholds.
    """
    wanted = _original_digests(lineage)
    known = {*wanted, *(str(item["digest"]) for item in lineage)}
    found = {dataset.digest: path for path, dataset in given.items()}
    missing = [digest for digest in wanted if digest not in found]
    others = [str(path) for digest, path in found.items() if digest not in known]
    if not missing and not others:
        return
    if accept:
        console.warning(
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
    raise DataError(
        f"{synthetic} was made from {len(missing)} more training set{'s' if len(missing) > 1 else ''} than were given.",
        f"Copies of {', '.join(digest[:19] for digest in missing)} would not be found.",
        "Give each by --also-train, or --accept-other-training-set to search without them.",
        missing,
    )


def _original_digests(lineage: list[dict[str, Any]]) -> list[str]:
    """Digests of the datasets that may have been copied: behind a synthetic one, those that it was made from itself."""
    digests: list[str] = []
    for entry in lineage:
        digests += _original_digests(entry.get("training_datasets") or []) or [str(entry["digest"])]
    return list(dict.fromkeys(digests))


def _check_never_trained_on(path: Path, subjects: Sequence[str], lineage: list[dict[str, Any]]) -> None:
    """Refuse a holdout that the generator has seen: it would hide the copies of its own subjects."""
    from synthkit.dataset import was_trained_on

    seen = [subject for subject in subjects if was_trained_on(subject, lineage)]
    if seen:
        raise DataError(
            f"The generator was trained on {len(seen)} of the {len(subjects)} held-out subjects of {path}.",
            "Thresholds from subjects that it has seen would hide its copies.",
            "Give real subjects that it was never trained on, or leave --holdout out.",
            seen[:20],
        )


def _subjects_to_score(
    inputs: dict[str, Any], include_training_subjects: bool, console: Console
) -> tuple[list[str], list[str]]:
    """Which subjects are compared, and which references go without a prediction.

    Compared are the subjects of the prediction that have a reference and, unless asked for, were not trained on. A
    reference without prediction counts unless its subject was left out because it was trained on.
    """
    import json

    from synthkit.subjects import LabelFolder

    prediction_folder = inputs["prediction"].source
    predicted = LabelFolder(prediction_folder).subjects
    referenced = set(LabelFolder(inputs["reference"].source, usable_only=True).subjects)
    seen: set[str] = set()
    notes = prediction_folder / "predictions.json"
    if notes.is_file():
        seen = set(json.loads(notes.read_text(encoding="utf-8")).get("seen_in_training", ()))
    common_subjects = [name for name in predicted if name in referenced]
    if not common_subjects:
        raise DataError(
            "Reference and prediction have no subject in common.",
            f"{len(referenced)} references, {len(predicted)} predictions.",
            "Subjects are matched by name: a prediction is NAME.nii.gz.",
        )
    without = sorted(set(predicted) - referenced)
    if without:
        console.warning(
            f"{len(without)} predictions have no usable reference and are not scored: {', '.join(without[:5])}."
        )
    if seen & set(common_subjects) and not include_training_subjects:
        console.note(f"{len(seen & set(common_subjects))} subjects were trained on and are not scored.")
        common_subjects = [name for name in common_subjects if name not in seen]
        if not common_subjects:
            raise DataError(
                "All predicted subjects were trained on.",
                "Their scores would say nothing about new patients.",
                "Segment held-out subjects, or give --include-training-subjects.",
            )
    unpaired = _without_trained_on(sorted(referenced - set(predicted) - seen), prediction_folder)
    if unpaired:
        console.warning(
            f"{len(unpaired)} of {len(common_subjects) + len(unpaired)} references have no prediction and are not "
            f"scored: {', '.join(unpaired[:5])}{', ...' if len(unpaired) > 5 else ''}."
        )
    return common_subjects, unpaired


def _without_trained_on(subjects: list[str], predictions: Path) -> list[str]:
    """Those of ``subjects`` that the segmenter was not trained on, as far as the run of the predictions tells."""
    from synthkit.dataset import was_trained_on
    from synthkit.runs import Run, read_checkpoint_metadata

    try:
        lineage = read_checkpoint_metadata(Run(predictions.parent.parent).input("checkpoint"))["training_datasets"]
    except (DataError, KeyError):  # no run of `segment`, or moved away from its checkpoint
        return subjects
    return [subject for subject in subjects if not was_trained_on(subject, lineage)]


def _print_scores(console: Console, result: dict[str, Any]) -> None:
    """Scores of the whole dataset; those of single subjects are in the files.

    Scores that exist for several regions or contrasts make a table with one row for each of these.
    """
    whole = [score for score in result["scores"] if "subject" not in score["of"]]
    single = [score for score in whole if not score["of"]]
    if single:
        rows = [(s["name"], _value(s), _interval(s), s.get("n"), s.get("note", "")) for s in single]
        console.table("", ("score", "value", "95 % interval", "n", "note"), rows)
    for keys in dict.fromkeys(tuple(score["of"]) for score in whole if score["of"]):
        group = [score for score in whole if tuple(score["of"]) == keys]
        names = list(dict.fromkeys(score["name"] for score in group))
        cells: dict[tuple[str, ...], dict[str, str]] = {}
        for score in group:
            interval = _interval(score)
            text = _value(score) + (f" ({interval})" if interval else "")
            cells.setdefault(tuple(score["of"].values()), {})[score["name"]] = text
        console.table("", (*keys, *names), [(*of, *(row.get(name, "") for name in names)) for of, row in cells.items()])
        notes: dict[str, list[str]] = {}
        for score in group:
            for note in filter(None, score.get("note", "").split("; ")):
                notes.setdefault(note, []).append(" ".join([score["name"], *score["of"].values()]))
        for note, whose in notes.items():
            console.print(f"  {note}" + (f" ({', '.join(whose)})" if len(whose) < 4 else ""))


def _value(score: dict[str, Any]) -> str:
    value = score["value"]
    if value is None:
        return "-"
    if score["name"].startswith("n_") or isinstance(value, int):
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.1f}"


def _interval(score: dict[str, Any]) -> str:
    low, high = score.get("low"), score.get("high")
    if low is None and high is None:
        return ""
    return f"{'' if low is None else format(low, '.3g')} to {'' if high is None else format(high, '.3g')}".strip()


COMMANDS = {"evaluate": evaluate, "audit-memorization": audit_memorization, "verify": verify}
