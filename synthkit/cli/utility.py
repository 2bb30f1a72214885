"""``utility``: segmenters trained on synthetic against those trained on real images, on the same held-out subjects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synthkit.cli import options as common
from synthkit.errors import DataError, UsageError

if TYPE_CHECKING:
    from synthkit.cli.console import Console
    from synthkit.judging.arms import OverlapTable, Training
    from synthkit.running.run import Job


def utility(
    reference: Annotated[
        Path, typer.Option("--reference", metavar="SUBJECTS", help="Subjects with labels.", show_default=False)
    ],
    out: common.Out,
    real: Annotated[
        list[Path],
        typer.Option("--real", metavar="RUN", help="Trainings on real images, or a folder of some; repeatable."),
    ],
    synthetic: Annotated[
        list[Path], typer.Option("--synthetic", metavar="RUN", help="Trainings on synthetic images; repeatable.")
    ],
    both: Annotated[
        list[Path] | None,
        typer.Option("--both", metavar="RUN", help="Trainings on real and synthetic images.", show_default=False),
    ] = None,
    allow_different: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-different",
            metavar="NAME",
            help="Setting in which the trainings may differ: learning_rate, contrasts, ...; repeatable.",
            show_default=False,
        ),
    ] = None,
    resamples: Annotated[int, typer.Option("--resamples", min=100, help="Bootstrap resamples.")] = 10_000,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the bootstrap.")] = 0,
    backend: common.BackendName = None,
    gpus: common.Gpus = None,
    cpus: common.Cpus = None,
    memory: common.Memory = None,
    timeout: common.Timeout = None,
    resume: common.Resume = False,
    overwrite: common.Overwrite = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """How useful synthetic images are, beside real ones.

    Every training segments the same subjects, none of which any of them has learned from. The ratio of the mean scores
    has an interval over patients and trainings, so give several trainings an arm, with different seeds.
    """
    from synthkit.judging.arms import FEW_PATIENTS, FEW_TRAININGS, check_comparable, compared_arms, sentence
    from synthkit.running.run import write_json

    console = common.console_for(json, quiet)
    arms = {
        name: [training for path in paths or () for training in _trainings(path)]
        for name, paths in (("real", real), ("synthetic", synthetic), ("both", both))
        if paths
    }
    everything = [training for trainings in arms.values() for training in trainings]
    for text in check_comparable([training for _, training in everything], allow_different or ()):
        console.warning(f"The trainings differ, as allowed: {text}")
    subjects = _test_subjects(reference, [training for _, training in everything], console)
    options = common.RunOptions(backend, gpus, cpus, memory, timeout, resume, overwrite)
    tables: dict[str, list[OverlapTable]] = {}
    for name, trainings in arms.items():
        for number, (path, training) in enumerate(trainings, start=1):
            console.note(f"{name} {number} of {len(trainings)}: {training.name}")
            tables.setdefault(name, []).append(
                _scored(out / f"{name}-{number}", path, training, reference, subjects, options, console)
            )
    few = [f"{len(found)} training{'s' * (len(found) > 1)} on {name}" for name, found in tables.items()]
    if min(len(found) for found in tables.values()) < FEW_TRAININGS:
        console.warning(f"{' and '.join(few)}: how much trainings differ by chance is hardly in the interval.")
    rows: list[dict[str, Any]] = []
    sentences: list[str] = []
    for other in (name for name in arms if name != "real"):
        for item in compared_arms(tables["real"], tables[other], resamples=resamples, seed=seed):
            rows.append({"arm": other, **item.to_dict()})
            if item.score == "Dice" and other == "synthetic":
                sentences.append(sentence(item.region, item.score, item.comparison))
    if not rows:
        raise DataError("No region can be compared.", "No reference has a tumour.", "Give other subjects.")
    if max(row["n_patients"] for row in rows) < FEW_PATIENTS:
        console.warning(f"Fewer than {FEW_PATIENTS} patients: the intervals are too uncertain to rest a claim on.")
    document = {"reference": reference.name, "subjects": subjects, "comparisons": rows, "sentences": sentences}
    write_json(out / "utility.json", document)
    _print(rows, console)
    for text in sentences:
        console.print(text)
    console.document({"out": str(out), **document})
    console.ending(f"synthkit report {out} -o report.html")


def _trainings(path: Path) -> list[tuple[Path, Training]]:
    """The trainings of a segmenter at or below a path: run folder and what must be comparable."""
    from synthkit.judging.arms import Training
    from synthkit.running.run import find_checkpoint, find_runs, read_checkpoint_metadata

    folders = [run.path for run in find_runs([path]) if run.job().verb == "train"] or [path]
    found = []
    for folder in folders:
        metadata = read_checkpoint_metadata(find_checkpoint(folder))
        if metadata["kind"] == "segmenter":
            found.append((folder, Training(folder.name, metadata)))
    if not found:
        raise UsageError(f"{path} holds no training of a segmenter.", fix="Give `train` runs, or a folder of some.")
    return found


def _test_subjects(reference: Path, trainings: list[Training], console: Console) -> list[str]:
    """Subjects with labels that none of the trainings has learned from, be it through synthetic images."""
    from synthkit.data.lineage import datasets_behind, has_unknown_origin, was_trained_on
    from synthkit.data.slices import SliceProtocol
    from synthkit.data.subjects import bad_subjects_error, scan_subjects

    protocol = SliceProtocol.from_dict(trainings[0].metadata["protocol"])
    good, bad = scan_subjects(reference, contrasts=protocol.contrasts, need_labels=True)
    if bad:
        raise bad_subjects_error(bad, len(good) + len(bad), fix="Repair or remove them.")
    lineage = [entry for training in trainings for entry in datasets_behind(training.metadata)]
    unseen = sorted(subject.id for subject in good if not was_trained_on(subject.id, lineage))
    if not unseen:
        raise DataError(
            "There is no subject to compare on.",
            f"The trainings have learned from all {len(good)} of them, directly or through synthetic images.",
            "Prepare with a --holdout, or give other subjects.",
        )
    if len(unseen) < len(good):
        console.note(
            f"{len(good) - len(unseen)} of {len(good)} subjects are left out: a training has learned from them."
        )
    if has_unknown_origin(lineage):
        console.warning(
            "A training has learned from synthetic images whose own training data are not known: subjects "
            "behind them cannot be left out."
        )
    return unseen


def _scored(
    folder: Path,
    run: Path,
    training: Training,
    reference: Path,
    subjects: list[str],
    options: common.RunOptions,
    console: Console,
) -> OverlapTable:
    """Segment and score the subjects with one training, in two runs."""
    from synthkit.judging.arms import read_overlap
    from synthkit.registry.parameters import make_params, params_to_dict
    from synthkit.registry.registry import discover
    from synthkit.running.run import Job

    registry = discover()
    segmenter = registry.get(training.metadata["plugin"], "segmenter")
    metrics = [registry.get(name, "metric") for name in ("dice", "hausdorff")]
    metadata, checkpoint = common.checkpoint_input(run)
    segment = Job(
        verb="segment",
        plugins=(segmenter.name,),
        params=common.resolved_params(segmenter, metadata, {}),
        inputs={"checkpoint": checkpoint, "subjects": common.folder_input("subjects", reference)},
        options={"subjects": subjects},
    )
    segmented = _finished(folder / "segment", segment, [segmenter], options, console)
    evaluate = Job(
        verb="evaluate",
        plugins=tuple(metric.name for metric in metrics),
        params=params_to_dict(make_params(metrics[0], {})),
        inputs={
            "reference": common.folder_input("labels", reference),
            "prediction": common.folder_input("labels", segmented / "outputs" / "predictions"),
        },
        options={"subjects": subjects, "references_without_prediction": []},
    )
    scored = _finished(folder / "evaluate", evaluate, metrics, options, console)
    return read_overlap(scored)


def _finished(folder: Path, job: Job, declarations: Any, options: common.RunOptions, console: Console) -> Path:
    """A run of this job: the one that is there, with ``--resume``, if it has finished."""
    from synthkit.running.run import JOB, Run

    if options.resume and (folder / JOB).is_file():
        before, result = Run(folder).job(), Run(folder).result()
        same = all(
            before.to_dict()[key] == job.to_dict()[key] for key in ("verb", "plugins", "params", "inputs", "options")
        )
        if same and result is not None and result.get("status") == "succeeded":
            return folder
    common.run_job(folder, job, declarations, options, console, f"{job.verb} {folder.parent.name}")
    return folder


def _print(rows: list[dict[str, Any]], console: Console) -> None:
    def between(row: dict[str, Any], name: str) -> str:
        if row[name] is None:
            return "-"
        low, high = row[f"{name}_low"], row[f"{name}_high"]
        return f"{row[name]:.3f}" + (f" ({low:.3f} to {high:.3f})" if low is not None else "")

    for score in dict.fromkeys(row["score"] for row in rows):
        shown = [row for row in rows if row["score"] == score]
        counts = [name for name in ("n_missed", "n_false") if name in shown[0]]
        columns = ("trained on", "region", "patients", "mean", "mean, real", "ratio (95 % interval)", "difference")
        lines = [
            (
                row["arm"], row["region"], row["n_patients"], f"{row['synthetic']:.3f}", f"{row['real']:.3f}",
                between(row, "ratio"), between(row, "difference"), *(f"{row[name]:.1f}" for name in counts),
            )
            for row in shown
        ]  # fmt: skip
        console.table(score, (*columns, *counts), lines)


COMMANDS = {"utility": utility}
