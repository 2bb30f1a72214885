"""``train``, ``import-checkpoint``, ``generate``, ``segment``: commands that make runs of generators and segmenters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synthkit.cli import options as common
from synthkit.data.conventions import BRATS
from synthkit.errors import DataError, UsageError


def train(
    plugin: Annotated[
        str, typer.Argument(metavar="NAME", help="A generator or segmenter; `synthkit plugins` lists them.")
    ],
    datasets: Annotated[
        list[Path], typer.Argument(metavar="DATASET...", help="One or more datasets; their holdout is never used.")
    ],
    out: common.Out,
    validate_on: Annotated[
        Path | None,
        typer.Option(
            "--validate-on",
            metavar="DATASET",
            help="Real samples; a segmenter validates on a part of their subjects instead of on a part of its data.",
            show_default=False,
        ),
    ] = None,
    pretrained: Annotated[
        Path | None,
        typer.Option("--pretrained", metavar="FILE", help="Weights to begin with.", show_default=False),
    ] = None,
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
    """Train a generator or a segmenter."""
    from synthkit.cli.console import counted
    from synthkit.registry.parameters import make_params, params_to_dict, parse_assignments
    from synthkit.registry.registry import discover
    from synthkit.running.run import Job

    console = common.console_for(json, quiet)
    declaration = discover().get(plugin)
    if declaration.kind == "metric":
        raise UsageError(f"{plugin} is a metric, it is not trained.", fix="Use `synthkit evaluate`.")
    chosen = make_params(declaration, parse_assignments(param or (), params))
    inputs = {}
    n_train = 0
    for number, path in enumerate(datasets, start=1):
        dataset, item = common.dataset_input(path)
        inputs["data" if number == 1 else f"data{number}"] = item
        n_train += len(dataset.training_part())
        if declaration.kind == "generator" and dataset.kind == "synthetic":
            console.warning(f"{path} is synthetic: a generator trained on generated images drifts.")
    takes = getattr(declaration, "optional_roles", ())
    for role, option, given in (
        ("validation", "--validate-on", validate_on),
        ("pretrained", "--pretrained", pretrained),
    ):
        if given is not None and role not in takes:
            raise UsageError(f"{plugin} takes no {option}.", fix="Leave it out.")
    if validate_on is not None:
        dataset, inputs["validation"] = common.dataset_input(validate_on)
        if dataset.kind != "real":
            raise UsageError(
                f"{validate_on} is synthetic.", fix="Validate on real samples, or leave --validate-on out."
            )
    if pretrained is not None:
        inputs["pretrained"] = common.file_input(pretrained)
    job = Job(verb="train", plugins=(declaration.name,), params=params_to_dict(chosen), inputs=inputs)
    options = common.RunOptions(backend, gpus, cpus, memory, timeout, resume, overwrite, dry_run)
    console.note(f"Training {declaration.name} on {counted(n_train, 'sample')}.")
    run, result = common.run_job(out, job, [declaration], options, console, f"train {declaration.name}")
    console.document({"run": str(run.path), "result": result})
    console.print(f"Trained {declaration.name} in {result['seconds']:.0f} s: {run.path}")
    if declaration.kind == "generator":
        follow = f"synthkit generate {run.path} --seeds 0-999 -o data/synthetic"
    else:
        follow = f"synthkit segment {run.path} SUBJECTS -o predictions"
    console.ending(follow, declaration.citations)


def import_checkpoint(
    plugin: Annotated[str, typer.Argument(metavar="NAME", help="The generator that the file is of.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that another project's training left.")],
    out: common.Out,
    contrasts: Annotated[
        str,
        typer.Option("--contrasts", metavar="LIST", help="Image channels, in the network's order.", show_default=False),
    ],
    labels: Annotated[
        str, typer.Option("--labels", metavar="LIST", help="Label values in the last channel, background 0 first.")
    ] = ",".join(map(str, BRATS.values)),
    backend: common.BackendName = None,
    cpus: common.Cpus = None,
    memory: common.Memory = None,
    timeout: common.Timeout = None,
    resume: common.Resume = False,
    overwrite: common.Overwrite = False,
    dry_run: common.DryRun = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Bring in a generator that was trained elsewhere.

    Code in the file is never executed. The file does not tell the order of its channels, nor what it was trained on.
    """
    from synthkit.registry.registry import discover
    from synthkit.running.run import Job

    console = common.console_for(json, quiet)
    declaration = discover().get(plugin, "generator")
    if not getattr(declaration, "imports", ()):
        raise UsageError(f"{plugin} imports no files of other projects.", fix="Train it with `synthkit train`.")
    job = Job(
        verb="import-checkpoint",
        plugins=(declaration.name,),
        inputs={"file": common.file_input(file)},
        options={"contrasts": _names(contrasts), "labels": _label_values(labels), "name": file.name},
    )
    options = common.RunOptions(backend, "none", cpus, memory, timeout, resume, overwrite, dry_run)
    run, result = common.run_job(out, job, [declaration], options, console, f"import {file.name}")
    console.document({"run": str(run.path), "result": result})
    console.print(f"Imported {file.name}: {run.path}")
    console.note("What it was trained on is not known: an audit shows only what it copies from the data given to it.")
    console.ending(f"synthkit generate {run.path} --seeds 0-999 -o data/synthetic", declaration.citations)


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) != len(names):
        raise UsageError(
            f"--contrasts {text} is not a list of contrasts.", fix=f"Name each once: {','.join(BRATS.contrast_names)}."
        )
    return names


def _label_values(text: str) -> dict[str, int]:
    """Label values by name, those of BraTS where they have one."""
    try:
        values = [int(value) for value in text.split(",")]
    except ValueError:
        values = []
    if not values or values[0] != 0 or values != sorted(set(values)) or values[-1] > 254:
        raise UsageError(
            f"--labels {text} is not a list of label values.",
            fix=f"Give them in ascending order from 0: {','.join(map(str, BRATS.values))}.",
        )
    known = {value: name for name, value in BRATS.label_values.items()}
    return {known.get(value, f"label{value}"): value for value in values}


def generate(
    model: Annotated[Path, typer.Argument(metavar="RUN", help="A `train` run of a generator.")],
    seeds: Annotated[
        str, typer.Option("--seeds", metavar="LIST", help="Seeds, one sample each: 0-999,2000.", show_default=False)
    ],
    out: common.Out,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard", metavar="I/N", help="Only part I of N of the seeds, for jobs side by side.", show_default=False
        ),
    ] = None,
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
    """Draw synthetic samples, one a seed."""
    from synthkit.cli.console import counted
    from synthkit.registry.parameters import parse_assignments
    from synthkit.registry.registry import discover
    from synthkit.running.run import Job
    from synthkit.running.verbs.seeds import count_seeds, format_seeds, parse_seeds, take_shard

    console = common.console_for(json, quiet)
    ranges = parse_seeds(seeds)
    if shard is not None:
        ranges = take_shard(ranges, shard)
        seeds = format_seeds(ranges)
    n_samples = count_seeds(ranges)
    metadata, item = common.checkpoint_input(model)
    declaration = discover().get(metadata["plugin"], "generator")
    given = parse_assignments(param or (), params)
    job = Job(
        verb="generate",
        plugins=(declaration.name,),
        params=common.resolved_params(declaration, metadata, given),
        inputs={"checkpoint": item},
        options={"seeds": seeds},
    )
    options = common.RunOptions(backend, gpus, cpus, memory, timeout, resume, overwrite, dry_run)
    run, result = common.run_job(out, job, [declaration], options, console, f"generate {n_samples:,}")
    console.document({"run": str(run.path), "result": result})
    console.print(f"Generated {counted(n_samples, 'sample')} in {result['seconds']:.0f} s: {run.path}")
    console.ending(f"synthkit audit-memorization DATASET {run.path} -o runs/audit", declaration.citations)


def segment(
    model: Annotated[Path, typer.Argument(metavar="RUN", help="A `train` run of a segmenter.")],
    subjects: Annotated[Path, typer.Argument(metavar="SUBJECTS", help="Folder of BraTS-style subjects (NIfTI).")],
    out: common.Out,
    only: Annotated[
        str | None,
        typer.Option("--only", metavar="ID[,ID...]", help="Segment these subjects only.", show_default=False),
    ] = None,
    include_training_subjects: Annotated[
        bool,
        typer.Option("--include-training-subjects", help="Also those that the model was trained on, directly or not."),
    ] = False,
    keep_probabilities: Annotated[
        bool,
        typer.Option("--keep-probabilities", help="Also write each label's probability, in outputs/probabilities."),
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
    """Segment subjects into NIfTI labels.

    Labels are written in each subject's own grid and affine. Subjects that the model was trained on, directly or
    through synthetic images, are left out.
    """
    from synthkit.cli.console import counted
    from synthkit.data.lineage import datasets_behind, has_unknown_origin, was_trained_on
    from synthkit.data.slices import SliceProtocol
    from synthkit.data.subjects import bad_subjects_error, scan_subjects
    from synthkit.registry.parameters import parse_assignments
    from synthkit.registry.registry import discover
    from synthkit.running.run import Job

    console = common.console_for(json, quiet)
    metadata, item = common.checkpoint_input(model)
    declaration = discover().get(metadata["plugin"], "segmenter")
    if keep_probabilities and not getattr(declaration, "probabilities", False):
        raise UsageError(f"{declaration.name} gives no probabilities.", fix="Leave --keep-probabilities out.")
    resolved = common.resolved_params(declaration, metadata, parse_assignments(param or (), params))
    protocol = SliceProtocol.from_dict(metadata["protocol"])
    folder = common.folder_input("subjects", subjects)
    good, bad = scan_subjects(subjects, contrasts=protocol.contrasts, need_labels=False)
    everybody = sorted([*(s.id for s in good), *(s.id for s in bad)])
    wanted = [name for name in dict.fromkeys(only.split(",")) if name] if only else everybody
    if missing := sorted(set(wanted) - set(everybody)):
        raise UsageError(f"No subject {', '.join(missing)} in {subjects}.", fix="Check the names.")
    # The patient counts: a second scan of somebody who was trained on is not a new patient.
    seen = [name for name in wanted if was_trained_on(name, datasets_behind(metadata))]
    if seen and not include_training_subjects:
        n_asked = len(wanted)
        wanted = [name for name in wanted if name not in set(seen)]
        console.note(
            f"{len(seen)} of {n_asked} subjects are left out: the model has learned from these patients "
            "(--include-training-subjects segments them too)."
        )
    if has_unknown_origin(datasets_behind(metadata)):
        console.warning(
            "The model has learned from synthetic images whose own training data are not known: subjects "
            "behind them cannot be left out."
        )
    if unusable := [subject for subject in bad if subject.id in set(wanted)]:
        raise bad_subjects_error(unusable, len(wanted), fix="Repair or remove them, or name the others by --only.")
    if bad:
        console.note(f"{counted(len(bad), 'subject')} cannot be used, and none of them was asked for.")
    if not wanted:
        raise DataError(
            "There is no subject left to segment.",
            f"The model was trained on all {len(seen)} of them, directly or through synthetic images.",
            "Prepare with a --holdout, or give --include-training-subjects.",
        )
    job = Job(
        verb="segment",
        plugins=(declaration.name,),
        params=resolved,
        inputs={"checkpoint": item, "subjects": folder},
        options={"subjects": wanted, **({"keep_probabilities": True} if keep_probabilities else {})},
    )
    options = common.RunOptions(backend, gpus, cpus, memory, timeout, resume, overwrite, dry_run)
    run, result = common.run_job(out, job, [declaration], options, console, f"segment {len(wanted)}")
    console.document({"run": str(run.path), "result": result})
    console.print(f"Segmented {counted(len(wanted), 'subject')} in {result['seconds']:.0f} s: {run.predictions}")
    console.ending(
        f"synthkit evaluate dice hausdorff surface-dice --reference {subjects} --prediction {run.path} -o runs/eval",
        declaration.citations,
    )


COMMANDS = {"train": train, "import-checkpoint": import_checkpoint, "generate": generate, "segment": segment}
