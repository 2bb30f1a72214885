"""``evaluate``: numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synthkit.cli import options as common
from synthkit.errors import DataError, UsageError

if TYPE_CHECKING:
    from synthkit.cli.console import Console
    from synthkit.contract import MetricDeclaration


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
    features: common.FeaturesFile = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            metavar="NAME",
            help="akbar2024: predictions are scored as in the study, on its slices and by its rules.",
            show_default=False,
        ),
    ] = None,
    include_training_subjects: Annotated[
        bool, typer.Option("--include-training-subjects", help="Score subjects that the segmenter was trained on, too.")
    ] = False,
    param: common.Params = None,
    params: common.ParamsFile = None,
    backend: common.BackendName = None,
    gpus: common.Gpus = None,
    cpus: common.Cpus = None,
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
    from synthkit.contract import FILE_ROLES, SLICE_ROLES, MetricDeclaration
    from synthkit.registry.parameters import make_params, params_to_dict, parse_assignments
    from synthkit.registry.registry import discover
    from synthkit.running.run import Input, Job, find_predictions

    console = common.console_for(json, quiet)
    registry = discover()
    declarations = [registry.get(name, "metric") for name in dict.fromkeys(metrics)]
    given_roles = {"reference": reference, "prediction": prediction, "real": real, "synthetic": synthetic}
    given_roles["features"] = features
    packages: dict[str, list[MetricDeclaration]] = {}
    for declaration in declarations:
        assert isinstance(declaration, MetricDeclaration)
        if declaration.audit:
            raise UsageError(f"{declaration.name} is an audit.", fix="Use `synthkit audit-memorization`.")
        for role in declaration.roles:
            if given_roles.get(role) is None:
                raise UsageError(
                    f"{declaration.name} compares {' and '.join(declaration.roles)}.", fix=f"Give --{role}."
                )
        packages.setdefault(declaration.module, []).append(declaration)

    options = common.RunOptions(backend, gpus, cpus, memory, timeout, resume, overwrite, dry_run)
    given = parse_assignments(param or (), params)
    documents = []
    for members in packages.values():
        first = members[0]
        inputs: dict[str, Input] = {}
        job_options: dict[str, Any] = {}
        for role in (*first.roles, *first.optional_roles):
            path = given_roles.get(role)
            if role == "holdout" and real is not None:
                dataset, held_out = common.dataset_input(real, ("holdout",))
                if len(dataset.select("holdout")):
                    inputs[role] = held_out
            elif path is None:
                continue
            elif role in FILE_ROLES:
                inputs[role] = common.file_input(path)
            elif role in SLICE_ROLES:
                inputs[role] = common.dataset_input(path)[1]
            else:
                inputs[role] = common.folder_input("labels", find_predictions(path))
        if "prediction" in inputs:
            scored, unpaired = _subjects_to_score(inputs, include_training_subjects, console)
            job_options |= {"subjects": scored, "references_without_prediction": unpaired}
        fixed = _fixed_by(protocol, first, given, console) if protocol is not None else {}
        if protocol is not None:
            job_options["protocol"] = protocol
        job = Job(
            verb="evaluate",
            plugins=tuple(d.name for d in members),
            params=params_to_dict(make_params(first, {**given, **fixed})),
            inputs=inputs,
            options=job_options,
        )
        folder = out if len(packages) == 1 else out / first.distribution.removeprefix("synthkit-")
        run, result = common.run_job(folder, job, members, options, console, f"evaluate {' '.join(job.plugins)}")
        documents.append({"run": str(run.path), "result": result})
        common.print_scores(console, result)
        console.print(f"Scored {', '.join(job.plugins)}: {run.path}")
    console.document(documents[0] if len(documents) == 1 else {"runs": documents})
    console.ending(f"synthkit report {out} -o report.html", common.citations_of(declarations))


def _fixed_by(protocol: str, declaration: MetricDeclaration, given: dict[str, Any], console: Console) -> dict[str, Any]:
    """Parameters that an evaluation protocol sets; its rules are printed."""
    import dataclasses

    from synthkit.judging.protocols import evaluation_protocol

    chosen = evaluation_protocol(protocol)
    if not {"reference", "prediction"} <= set(declaration.roles):
        raise UsageError(
            f"--protocol {protocol} is about segmentations.", f"{declaration.name} scores none.", "Leave it out."
        )
    if both := sorted(set(chosen.params) & set(given)):
        raise UsageError(f"--protocol {protocol} sets {both[0]}.", fix=f"Leave -p {both[0]} out, or the protocol.")
    for rule in chosen.policy:
        console.note(rule)
    own = {item.name for item in dataclasses.fields(declaration.params)}
    return {name: value for name, value in chosen.params.items() if name in own}


def _subjects_to_score(
    inputs: dict[str, Any], include_training_subjects: bool, console: Console
) -> tuple[list[str], list[str]]:
    """Which subjects are compared, and which references go without a prediction.

    Compared are the subjects of the prediction that have a reference and, unless asked for, were not trained on. A
    reference without prediction counts unless its subject was left out because it was trained on.
    """
    import json

    from synthkit.data.label_folders import LabelFolder

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
    from synthkit.data.lineage import datasets_behind, was_trained_on
    from synthkit.running.run import Run, read_checkpoint_metadata

    try:
        lineage = datasets_behind(read_checkpoint_metadata(Run(predictions.parent.parent).input("checkpoint")))
    except (DataError, KeyError):  # no run of `segment`, or moved away from its checkpoint
        return subjects
    return [subject for subject in subjects if not was_trained_on(subject, lineage)]


COMMANDS = {"evaluate": evaluate}
