"""``utility``: segmenters trained on synthetic against those trained on real images, on the same held-out subjects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synthkit.cli.options import RUN_OPTIONS, Given, Labels, Names, Out, Patients, shares

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synthkit.cli.console import Console
    from synthkit.contract import Declaration
    from synthkit.running.run import Job
    from synthkit.running.verbs.utility import UtilityPlan


AllowDifferent = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-different",
        metavar="NAME",
        help="Setting in which the trainings may differ: learning_rate, contrasts, ...; repeatable.",
        show_default=False,
    ),
]

Resample = Annotated[
    bool,
    typer.Option("--resample", help="Resample subjects to the voxel size of the training images, and labels back."),
]


@shares(*RUN_OPTIONS)
def utility(
    given: Given,
    reference: Annotated[
        Path, typer.Option("--reference", metavar="SUBJECTS", help="Subjects with labels.", show_default=False)
    ],
    out: Out,
    real: Annotated[
        list[Path],
        typer.Option("--real", metavar="RUN", help="Trainings on real images, or a folder of some; repeatable."),
    ],
    synthetic: Annotated[
        list[Path] | None,
        typer.Option(
            "--synthetic", metavar="RUN", help="Trainings on synthetic images; repeatable.", show_default=False
        ),
    ] = None,
    both: Annotated[
        list[Path] | None,
        typer.Option(
            "--both", metavar="RUN", help="Trainings on real and synthetic images; repeatable.", show_default=False
        ),
    ] = None,
    allow_different: AllowDifferent = None,
    resample: Resample = False,
    labels: Labels = None,
    names: Names = None,
    patients: Patients = None,
    resamples: Annotated[
        int, typer.Option("--resamples", min=100, help="Random weights of the patients, for the intervals.")
    ] = 10_000,
    seed: Annotated[int, typer.Option("--seed", help="Seed of these weights.")] = 0,
) -> None:
    """Compare segmenters trained on synthetic and on real images.

    Every training segments the same subjects, none of which any of them has learned from. The ratio of the mean scores
    has an interval over patients and trainings from 30 patients and 2 trainings an arm on: give several seeds.
    """
    from synthkit.running.launch import carry_out
    from synthkit.running.request import Request
    from synthkit.running.verbs.utility import UtilityRequest, measure_utility, plan_utility

    console, options = given.console, given.options
    arms = {name: paths for name, paths in (("real", real), ("synthetic", synthetic), ("both", both)) if paths}
    request = UtilityRequest(reference, out, arms, allow_different or (), resamples, seed, options.resume, resample)
    request = replace(request, labels=labels, names=names or (), patients=patients)

    plan = plan_utility(request, console)
    if given.dry_run:
        console.document({"out": str(out), "dry_run": True, **plan.to_dict()})
        _print_plan(plan, console)
        return

    def start(folder: Path, job: Job, declarations: Sequence[Declaration], title: str) -> None:
        carry_out(Request(job, tuple(declarations), title), folder, options, console)

    document = measure_utility(plan, start, console)
    _print(document, console)
    console.document({"out": str(out), **document})
    console.ending(f"synthkit report {out} -o report.html")


def _print_plan(plan: UtilityPlan, console: Console) -> None:
    """What would be run and compared; doubts and warnings were said when they were found."""
    from synthkit.running.listening import counted

    states = {"new": "", "there": "there already", "finished": "taken as it is"}
    planned = plan.to_dict()
    rows = [
        (name, run, one.job.verb, one.folder, states[one.state])
        for name, pairs in plan.runs.items()
        for run, pair in zip(planned["arms"][name], pairs, strict=True)
        for one in pair
    ]
    console.table("", ("arm", "training", "run", "folder", ""), rows)
    people = f"{counted(len(plan.patients), 'subject')} of {counted(planned['n_patients'], 'patient')}"
    console.print(f"{people}: {', '.join(plan.patients)}")
    console.print(f"Regions: {', '.join(plan.regions)}")
    console.print(f"Scores: {', '.join(planned['scores'])}")


def _print(document: dict[str, Any], console: Console) -> None:
    """A table a score, then the sentences."""
    rows = document["comparisons"]
    for score in dict.fromkeys(row["score"] for row in rows):
        shown = [row for row in rows if row["score"] == score]
        columns = ["trained on", "region", "patients", "mean", "mean, real", "ratio (95 % interval)", "difference"]
        lines = [
            [
                row["arm"], row["region"], row["n_patients"], f"{row['synthetic']:.3f}", f"{row['real']:.3f}",
                _between(row, "ratio"), _between(row, "difference"),
            ]
            for row in shown
        ]  # fmt: skip
        if "n_false" in shown[0]:
            columns += ["missed", "false", "missed, real", "false, real"]
            for line, row in zip(lines, shown, strict=True):
                for arm in ("", "_real"):
                    line += [f"{row[f'n_missed{arm}']:.1f}", f"{row[f'n_false{arm}']:.1f} of {row['n_without']}"]
        console.table(score, columns, lines)
        if "n_false" in shown[0]:
            console.print("false: found where the reference has none, of so many; these count as Dice 0.")
    for text in document["sentences"]:
        console.print(text)


def _between(row: dict[str, Any], name: str) -> str:
    """A number with its interval, where it has these."""
    if row[name] is None:
        return "-"
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return f"{row[name]:.3f}" + (f" ({low:.3f} to {high:.3f})" if low is not None else "")


COMMANDS = {"utility": utility}
