"""``prepare``, ``import``, ``export``, ``phantom``: data in and out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthkit.cli import options as common
from synthkit.cli.options import AGAIN_OPTIONS, OUTPUT_OPTIONS, SLICING_OPTIONS, Given, Patients, shares

if TYPE_CHECKING:
    from synthkit.cli.console import Console
    from synthkit.data.importing import ImportSummary
    from synthkit.data.prepared import PreparedSummary

Holdout = Annotated[
    str,
    typer.Option(
        "--holdout",
        metavar="SPEC",
        help="Subjects never trained on: ID[,ID...], a number, a fraction, or akbar2024 (the study's test lists).",
    ),
]
TrainingPatients = Annotated[
    int | None,
    typer.Option(
        "--training-patients", metavar="N", help="Keep only so many patients to train on.", show_default=False
    ),
]
Channels = Annotated[
    str | None,
    typer.Option(
        "--channels",
        metavar="LIST",
        help="Channels in their order, where the layout does not say: t1ce,flair,labels; - skips one.",
        show_default=False,
    ),
]
Mosaic = Annotated[
    str | None,
    typer.Option(
        "--mosaic",
        metavar="RxC",
        help="Rows and columns of tiles in a picture. Default: the only grid of squares that fits.",
        show_default=False,
    ),
]
ChannelsLast = Annotated[
    bool | None,
    typer.Option("--channels-last/--channels-first", help="Of arrays that may be either.", show_default=False),
]
ValueRange = Annotated[
    str | None,
    typer.Option(
        "--range", metavar="LOW,HIGH", help="Values that become black and white; 8 bits need none.", show_default=False
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(
        "--labels",
        metavar="SCHEME",
        help="Label scheme: brats2018, gli2024, ped, ... or a TOML file. Default: what an export says, else brats2018.",
        show_default=False,
    ),
]
LabelLevels = Annotated[
    str | None,
    typer.Option(
        "--label-levels",
        metavar="LEVELS",
        help="raw, or label=grey: 0=0,1=85,2=170,4=255; nearest with them, or alone, allows others in between.",
        show_default=False,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        help="Subjects worked on side by side. Default: one per core, at most 8.",
        show_default=False,
    ),
]


@shares(*SLICING_OPTIONS, *AGAIN_OPTIONS, *OUTPUT_OPTIONS)
def prepare(
    given: Given,
    subjects: Annotated[
        Path, typer.Argument(metavar="SUBJECTS", help="Folder of subjects (NIfTI), in any known layout.")
    ],
    out: common.Out,
    holdout: Holdout = "0.2",
    names: common.Names = None,
    labels: common.Labels = None,
    seed: Annotated[
        int, typer.Option("--seed", help="Seed of the draw, where --holdout is a number or a fraction.")
    ] = 0,
    patients: Patients = None,
    training_patients: TrainingPatients = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Go on without subjects that cannot be used.")] = False,
    workers: Workers = None,
) -> None:
    """Turn subjects into a dataset, split by patient.

    The protocol of Akbar et al. (2024) is the default. Bad subjects are named before anything is written.
    """
    from synthkit import api

    console = given.console
    summary = api.prepare(
        subjects,
        out,
        holdout=holdout,
        labels=labels,
        seed=seed,
        patients=patients,
        training_patients=training_patients,
        names=names or (),
        skip_bad=skip_bad,
        workers=workers,
        resume=given.options.resume,
        overwrite=given.options.overwrite,
        dry_run=given.dry_run,
        listener=console,
        **given.slicing,
    )
    console.document({"dataset": str(out), **summary.to_dict()})
    _show_prepared(console, summary)
    if given.dry_run:
        console.note("Nothing was written (--dry-run).")
    else:
        console.print(f"Prepared {summary.n_samples:,} samples by {summary.protocol.name}: {out}")
        for path in summary.contact_sheets:
            console.print(f"Contact sheet, to look at before anything is trained: {path}")
        console.ending(f"synthkit train stylegan2 {out} -o runs/stylegan2")


@shares(*AGAIN_OPTIONS, *OUTPUT_OPTIONS)
def import_(
    given: Given,
    pictures: Annotated[
        Path, typer.Argument(metavar="PICTURES", help="Folders T1 T1CE T2 FLAIR Seg, or another layout; see the docs.")
    ],
    out: common.Out,
    as_: Annotated[
        str, typer.Option("--as", metavar="KIND", help="synthetic, or real (needs the samples.csv of an export).")
    ] = "synthetic",
    without_labels: Annotated[
        bool, typer.Option("--without-labels", help="Import images alone; all labels background.")
    ] = False,
    channels: Channels = None,
    mosaic: Mosaic = None,
    channels_last: ChannelsLast = None,
    value_range: ValueRange = None,
    labels: Labels = None,
    label_levels: LabelLevels = None,
) -> None:
    """Import images that were made elsewhere.

    Reads a folder a channel, mosaics, colour planes, arrays and NIfTI slices. What is ambiguous is refused.
    """
    from synthkit import api

    summary = api.import_images(
        pictures,
        out,
        kind=as_,
        without_labels=without_labels,
        channels=channels,
        mosaic=mosaic,
        channels_last=channels_last,
        value_range=value_range,
        labels=labels,
        label_levels=label_levels,
        resume=given.options.resume,
        overwrite=given.options.overwrite,
        dry_run=given.dry_run,
        listener=given.console,
    )
    given.console.document({"dataset": str(out), **summary.to_dict()})
    _show_imported(given.console, summary)
    verb = "Would import" if given.dry_run else "Imported"
    given.console.print(
        f"{verb} {summary.n_samples:,} samples of {'/'.join(summary.contrasts)}, "
        f"{summary.size[1]} x {summary.size[0]}: {out}"
    )
    follow = f"audit-memorization DATASET {out} -o runs/audit"
    if as_ == "real":
        follow = f"train stylegan2 {out} -o runs/stylegan2"
    given.console.ending("" if given.dry_run else f"synthkit {follow}")


def export(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A dataset, or a `generate` run.")],
    out: common.Out,
    format: Annotated[str, typer.Option("--format", metavar="FORMAT", help="png, nifti or nnunet.")] = "png",
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="SPLIT", help="train, holdout or synthetic; default all.", show_default=False),
    ] = None,
    dry_run: common.DryRun = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Write a dataset as PNG, NIfTI or nnU-Net raw."""
    from synthkit.data.exporting import export_dataset

    console = common.console_for(json, quiet)
    with console.progress("export") as view:
        n_samples = export_dataset(
            dataset,
            out,
            format=format,
            split=split,
            dry_run=dry_run,
            on_progress=lambda done, total: view.step(done, total, "sample"),
        )
    console.document({"out": str(out), "format": format, "n_samples": n_samples})
    console.print(f"{'Would export' if dry_run else 'Exported'} {n_samples:,} samples as {format}: {out}")


def phantom(
    out: common.Out,
    number: Annotated[int, typer.Option("-n", "--number", metavar="N", help="How many subjects.", min=1)] = 40,
    seed: Annotated[
        int, typer.Option("--seed", help="Seed of the subjects; the same seed and number make the same subject.")
    ] = 0,
    workers: Workers = None,
    dry_run: common.DryRun = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Make phantom subjects with exact labels.

    Real anatomy (MNI152), deformed for each subject, with planted tumours; BraTS-style NIfTI.
    """
    from synthkit import api
    from synthkit.data.phantom import subject_name

    console = common.console_for(json, quiet)
    if dry_run:
        names = [subject_name(index) for index in range(1, number + 1)]
        console.document({"out": str(out), "subjects": names})
        console.print(f"Would make {names[0]} to {names[-1]}, about {number * 9 / 1000:.2f} GB: {out}")
        return
    folders = api.phantom(out, number, seed, workers=workers, listener=console)
    console.document({"out": str(out), "subjects": [folder.name for folder in folders]})
    console.print(f"Made {len(folders)} phantom subjects: {out}")
    console.ending(f"synthkit prepare {out} -o data/phantom --holdout 0.2")


def _show_imported(console: Console, summary: ImportSummary) -> None:
    from synthkit.data.importing import left_out_lines

    console.print(f"Layout: {summary.layout}.")
    for note in summary.notes:
        console.print(note)
    for warning in [*left_out_lines(summary), *summary.warnings]:
        console.warning(warning)
    for finding in summary.contrast_findings:
        (console.note if finding.looks_like is None else console.warning)(finding.sentence)
    if summary.off_level_pixels:
        console.warning(
            f"{summary.off_level_pixels:,} label pixels in {summary.off_level_samples:,} samples lay between two grey "
            "levels and were decoded to the nearest: expect thin false rims."
        )
    rows = [(name, pixels, summary.label_samples[name]) for name, pixels in summary.label_pixels.items()]
    if rows:
        console.table("", ("label", "pixels", "samples"), rows)


def _show_prepared(console: Console, summary: PreparedSummary) -> None:
    rows = [
        (subject.id, subject.split, len(subject.kept), subject.n_dropped, *subject.label_voxels.values())
        for subject in summary.subjects
    ]
    label_names = list(summary.subjects[0].label_voxels)
    columns = ("subject", "split", "slices kept", "dropped", *(f"{name} voxels" for name in label_names))
    console.table("", columns, rows)
    console.print(f"Labels are {summary.labels.in_words}.")
    for subject in summary.subjects:
        notes = list(subject.notes)
        if subject.negative_voxels:
            notes.append(f"{sum(subject.negative_voxels.values()):,} negative voxels become 0")
        if notes:
            console.print(f"{subject.id}: {'; '.join(notes)}")
    for bad in summary.bad_subjects:
        console.warning(f"left out {bad}")
    for note in summary.notes:
        console.warning(note)


COMMANDS = {"prepare": prepare, "import": import_, "export": export, "phantom": phantom}
