"""``train``, ``generate``, ``segment``: commands that make runs of generators and segmenters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synthkit.cli import common
from synthkit.errors import DataError, UsageError


def train(
    plugin: Annotated[
        str, typer.Argument(metavar="NAME", help="A generator or segmenter; `synthkit plugins` lists them.")
    ],
    datasets: Annotated[
        list[Path], typer.Argument(metavar="DATASET...", help="One or more datasets; their holdout is never used.")
    ],
    out: common.Out,
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
    """Train a generator or a segmenter."""
    from synthkit.console import counted
    from synthkit.parameters import make_params, params_to_dict, parse_assignments
    from synthkit.plugins import discover
    from synthkit.runs import Job

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
    job = Job(verb="train", plugins=(declaration.name,), params=params_to_dict(chosen), inputs=inputs)
    options = common.RunOptions(backend, gpus, memory, timeout, resume, overwrite, dry_run)
    console.note(f"Training {declaration.name} on {counted(n_train, 'sample')}.")
    run, result = common.run_job(out, job, [declaration], options, console, f"train {declaration.name}")
    console.document({"run": str(run.path), "result": result})
    console.print(f"Trained {declaration.name} in {result['seconds']:.0f} s: {run.path}")
    if declaration.kind == "generator":
        follow = f"synthkit generate {run.path} --seeds 0-999 -o data/synthetic"
    else:
        follow = f"synthkit segment {run.path} SUBJECTS -o predictions"
    console.ending(follow, declaration.citations)


def generate(
    model: Annotated[Path, typer.Argument(metavar="RUN", help="A `train` run of a generator.")],
    seeds: Annotated[
        str, typer.Option("--seeds", metavar="LIST", help="Seeds, one sample each: 0-999,2000.", show_default=False)
    ],
    out: common.Out,
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
    """Draw synthetic samples, one a seed."""
    from synthkit.console import counted
    from synthkit.parameters import parse_assignments
    from synthkit.plugins import discover
    from synthkit.runs import Job
    from synthkit.seeds import count_seeds, parse_seeds

    console = common.console_for(json, quiet)
    n_samples = count_seeds(parse_seeds(seeds))
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
    options = common.RunOptions(backend, gpus, memory, timeout, resume, overwrite, dry_run)
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
    """Segment subjects into NIfTI labels.

    Labels are written in each subject's own grid and affine. Subjects that the model was trained on, directly or
    through synthetic images, are left out.
    """
    from synthkit.console import counted
    from synthkit.dataset import was_trained_on
    from synthkit.parameters import parse_assignments
    from synthkit.plugins import discover
    from synthkit.runs import Job
    from synthkit.slices import SliceProtocol
    from synthkit.subjects import bad_subjects_error, scan_subjects

    console = common.console_for(json, quiet)
    metadata, item = common.checkpoint_input(model)
    declaration = discover().get(metadata["plugin"], "segmenter")
    resolved = common.resolved_params(declaration, metadata, parse_assignments(param or (), params))
    protocol = SliceProtocol.from_dict(metadata["protocol"])
    folder = common.folder_input("subjects", subjects)
    good, bad = scan_subjects(subjects, contrasts=protocol.contrasts, need_labels=False)
    everybody = sorted([*(s.id for s in good), *(s.id for s in bad)])
    wanted = [name for name in dict.fromkeys(only.split(",")) if name] if only else everybody
    if missing := sorted(set(wanted) - set(everybody)):
        raise UsageError(f"No subject {', '.join(missing)} in {subjects}.", fix="Check the names.")
    # The patient counts: a second scan of somebody who was trained on is no new patient.
    seen = [name for name in wanted if was_trained_on(name, metadata["training_datasets"])]
    if seen and not include_training_subjects:
        n_asked = len(wanted)
        wanted = [name for name in wanted if name not in set(seen)]
        console.note(
            f"{len(seen)} of {n_asked} subjects are left out: the model has learned from these patients "
            "(--include-training-subjects segments them too)."
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
        options={"subjects": wanted},
    )
    options = common.RunOptions(backend, gpus, memory, timeout, resume, overwrite, dry_run)
    run, result = common.run_job(out, job, [declaration], options, console, f"segment {len(wanted)}")
    console.document({"run": str(run.path), "result": result})
    console.print(f"Segmented {counted(len(wanted), 'subject')} in {result['seconds']:.0f} s: {run.predictions}")
    console.ending(
        f"synthkit evaluate dice hausdorff surface-dice --reference {subjects} --prediction {run.path} -o runs/eval",
        declaration.citations,
    )


COMMANDS = {"train": train, "generate": generate, "segment": segment}
