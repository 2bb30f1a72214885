"""``study``: the whole comparison in one file and one command."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synthkit.cli import options as common
from synthkit.errors import UsageError

if TYPE_CHECKING:
    from synthkit.cli.console import Console, ProgressView
    from synthkit.study.config import Study
    from synthkit.study.plan import Kind, Plan
    from synthkit.study.progress import StepState

study = typer.Typer(
    help="The whole comparison: generators, segmenters, arms and seeds, in one file and one command.",
    no_args_is_help=True,
)

Folder = Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of the study.")]

#: What a kind of step is called on the terminal, in the order of the work.
_KINDS: tuple[tuple[Kind, str], ...] = (
    ("phantom", "phantom subjects"),
    ("prepare", "datasets of real slices"),
    ("keep", "looks at real slices, for all comparisons"),
    ("train generator", "generators trained"),
    ("generate", "sets of samples drawn"),
    ("fidelity", "sets compared with real images"),
    ("audit", "sets audited for copies"),
    ("train segmenter", "segmenters trained"),
    ("segment", "sets of predictions"),
    ("evaluate", "sets scored"),
)


@study.command("init")
def init(
    folder: Folder,
    preset: Annotated[
        str, typer.Option("--preset", metavar="NAME", help="demo (a phantom, minutes on a CPU), week or akbar2024.")
    ] = "demo",
    subjects: Annotated[
        Path | None,
        typer.Option("--subjects", metavar="DIR", help="Your subjects, for week and akbar2024.", show_default=False),
    ] = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Write a study.toml to begin with."""
    from synthkit.study.presets import write_preset

    console = common.console_for(json, quiet)
    file = write_preset(preset, folder, subjects)
    console.document({"study": str(folder), "file": str(file)})
    console.print(f"Wrote {file}: edit it as you like.")
    console.ending(f"synthkit study plan {folder}")


@study.command("plan")
def plan(folder: Folder, json: common.Json = False, quiet: common.Quiet = False) -> None:
    """What would be run: how many runs, GPU-hours, disk. Runs nothing."""
    from synthkit.study.plan import make_plan
    from synthkit.study.progress import states_of

    console = common.console_for(json, quiet)
    wanted = _load(folder, console)
    planned = make_plan(wanted)
    states = states_of(wanted.folder, planned)
    _tell_plan(wanted, planned, states, console)
    console.ending(f"synthkit study run {folder}")


@study.command("run", context_settings={"allow_extra_args": True})
def run(
    context: typer.Context,
    folder: Folder,
    executor: Annotated[
        str, typer.Option("--executor", metavar="NAME", help="local, slurm, or another executor of Snakemake.")
    ] = "local",
    profile: Annotated[
        str | None,
        typer.Option("--profile", metavar="DIR", help="Snakemake profile of your cluster.", show_default=False),
    ] = None,
    cores: Annotated[
        int | None,
        typer.Option("--cores", min=1, metavar="N", help="Cores of this machine. Default: all.", show_default=False),
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option("--gpus", min=0, metavar="N", help="GPUs of this machine. Default: all.", show_default=False),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, metavar="N", help="Most jobs of a cluster at a time.", show_default=False),
    ] = None,
    dry_run: common.DryRun = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Do what is left of a study, then write its report.

    Run it again after an interruption, a failure or a change of study.toml: what is done stays, what depends on a
    change is done again, unfinished trainings go on. Arguments after -- go to Snakemake.
    """
    from synthkit.study.plan import make_plan
    from synthkit.study.progress import states_of
    from synthkit.study.report import write_report
    from synthkit.study.workflow import lock_for, run_workflow

    console = common.console_for(json, quiet)
    wanted = _load(folder, console)
    planned = make_plan(wanted)
    if dry_run:
        _tell_plan(wanted, planned, states_of(wanted.folder, planned), console, executor)
        raise typer.Exit
    if lock := lock_for(wanted):
        console.note(f"Every step is held to {lock}.")
    extra = [*(["--profile", profile] if profile else []), *context.args]
    with console.progress(f"study {wanted.name}") as view:

        def tick() -> None:
            _show_progress(states_of(wanted.folder, planned), view)

        code = run_workflow(wanted, executor=executor, cores=cores, gpus=gpus, jobs=jobs, extra=extra, on_tick=tick)
    states = states_of(wanted.folder, planned)
    report = write_report(wanted.folder, wanted)
    _check_done(wanted, states, code)
    console.document({"study": wanted.name, "report": str(report), **_totals(planned, states)})
    console.print(f"All {len(states)} steps are done. Open {report}")
    console.ending(f"synthkit verify {folder} --sample 3")


@study.command("status")
def status(folder: Folder, json: common.Json = False, quiet: common.Quiet = False) -> None:
    """What is done, running, failed."""
    from synthkit.study.plan import make_plan
    from synthkit.study.progress import STATES, states_of

    console = common.console_for(json, quiet)
    wanted = _load(folder, console)
    planned = make_plan(wanted)
    states = states_of(wanted.folder, planned)
    console.document({"study": wanted.name, **_totals(planned, states), "steps": [_described(item) for item in states]})
    shown = [state for state in STATES if any(item.state == state for item in states)]
    rows = []
    for kind, words in _KINDS:
        own = [item for item in states if item.step.kind == kind]
        if own:
            rows.append((words, len(own), *(sum(item.state == state for item in own) or "" for state in shown)))
    console.table(f"study {wanted.name}", ("", "all", *shown), rows)
    for item in states:
        if item.state == "running":
            console.print(f"running: {item.step.name} on {item.host}")
    for item in states:
        if item.state == "failed":
            console.print(f"failed with {item.exit_code}: {item.step.name}")
            console.print(f"  {item.error}")
            console.print(f"  log: {_log(wanted, item)}")
    if any(item.state in ("failed", "interrupted", "changed", "waiting") for item in states):
        console.ending(f"synthkit study run {folder}")


@study.command("report")
def report(folder: Folder, json: common.Json = False, quiet: common.Quiet = False) -> None:
    """Write report.html, tables and figures from the runs that are there."""
    from synthkit.study.report import write_report

    console = common.console_for(json, quiet)
    wanted = _load(folder, console)
    written = write_report(wanted.folder, wanted)
    console.document({"report": str(written)})
    console.print(f"Wrote {written}")


@study.command("export")
def export(
    folder: Folder,
    out: common.Out,
    subject_names: Annotated[
        bool, typer.Option("--subject-names", help="Keep the names of subjects; by default they are numbered.")
    ] = False,
    licence: Annotated[
        str,
        typer.Option(
            "--licence",
            metavar="LICENCE",
            help="Licence of the description: its SPDX identifier, such as CC-BY-4.0, or a URL.",
            show_default=False,
        ),
    ] = "",
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Describe a study as an RO-Crate.

    What was run, by which versions, from what, with which result. No image, label volume or checkpoint goes into it.
    """
    from synthkit.study.crate import write_crate

    console = common.console_for(json, quiet)
    wanted = _load(folder, console)
    written = write_crate(wanted.folder, out, subject_names=subject_names, licence=licence)
    console.document({"crate": str(written)})
    console.print(f"Wrote {written}")


# ------------------------------------------------------------------------------------------------------------ helpers


def _load(folder: Path, console: Console) -> Study:
    from synthkit.study.config import Study
    from synthkit.study.plan import check_sizes

    wanted = Study.load(folder)
    if problems := check_sizes(wanted):
        raise UsageError(f"The study's images have {wanted.data.size} pixels.", f"{problems[0]}.", "Change the size.")
    if wanted.data.subjects and not (wanted.folder / wanted.data.subjects).is_dir():
        console.warning(f"There is no folder {wanted.folder / wanted.data.subjects} of subjects yet.")
    return wanted


def _totals(planned: Plan, states: list[StepState]) -> dict[str, Any]:
    """Numbers of steps by kind and by state, and what all is estimated to take."""
    from synthkit.study.progress import STATES

    hours = [step.gpu_hours for step in planned.steps]
    return {
        "n_steps": len(planned.steps),
        "kinds": {kind: len(steps) for kind, steps in planned.of_kind().items()},
        "states": {state: sum(item.state == state for item in states) for state in STATES},
        "gpu_hours": None if None in hours else sum(hour or 0 for hour in hours),
        "disk_bytes": sum(step.disk_bytes or 0 for step in planned.steps),
    }


def _tell_plan(
    wanted: Study, planned: Plan, states: list[StepState], console: Console, executor: str = "local"
) -> None:
    """The plan as a document and as tables, and a warning where it cannot be run for want of Snakemake."""
    from synthkit.study.workflow import missing_scheduler

    steps = [step.to_dict() for step in planned.steps]
    console.document({"study": wanted.name, "steps": steps, **_totals(planned, states)})
    _show_plan(wanted, planned, states, console)
    if missing := missing_scheduler(executor):
        console.warning(f"It cannot be run yet: {missing}")


def _show_plan(wanted: Study, planned: Plan, states: list[StepState], console: Console) -> None:
    kinds = planned.of_kind()
    done = {item.step.name for item in states if item.state == "done"}
    rows = []
    for kind, words in _KINDS:
        steps = kinds.get(kind, [])
        if steps:
            hours = [step.gpu_hours for step in steps]
            known = "?" if None in hours else f"{sum(hour or 0 for hour in hours):,.1f}"
            rows.append((words, len(steps), sum(step.name in done for step in steps), known))
    console.table(f"study {wanted.name}", ("", "runs", "done", "GPU-hours"), rows)
    n_arms, n_ways = len(wanted.arms), len(wanted.augmentation)
    for segmenter in wanted.segmenters.values():
        n_seeds = len(segmenter.seeds)
        console.print(
            f"{segmenter.name}: {n_arms} arms x {n_ways} ways of augmentation x {n_seeds} seeds = "
            f"{n_arms * n_ways * n_seeds} trainings"
        )
    totals = _totals(planned, states)
    unknown = sum(step.gpu_hours is None for step in planned.steps)
    if unknown == 0:
        console.print(f"{totals['n_steps']:,} runs, about {totals['gpu_hours']:,.0f} GPU-hours")
    else:
        console.print(f"{totals['n_steps']:,} runs; GPU-hours unknown for {unknown} (gpu_hours in study.toml)")
    uncounted = sum(step.disk_bytes is None and step.kind.startswith("train") for step in planned.steps)
    without = f", not counting {uncounted} trainings (disk_gb in study.toml)" if uncounted else ""
    console.print(f"samples and models: about {totals['disk_bytes'] / 1e9:,.2f} GB{without}")


def _described(item: StepState) -> dict[str, Any]:
    return {
        "name": item.step.name, "kind": item.step.kind, "state": item.state, "out": str(item.step.out),
        "seconds": item.seconds, "exit_code": item.exit_code, "host": item.host, "error": item.error,
    }  # fmt: skip


def _log(wanted: Study, item: StepState) -> Path:
    from synthkit.study.step import log_of

    return wanted.folder / log_of(item.step.name)


def _show_progress(states: list[StepState], view: ProgressView) -> None:
    from synthkit.study.progress import share_done

    running = [item.step.name for item in states if item.state == "running"]
    n_done = sum(item.state == "done" for item in states)
    unit = f"step done; now {', '.join(running[:3])}" if running else "step done"
    view.step(n_done, len(states), unit, share=share_done(states))


def _check_done(wanted: Study, states: list[StepState], code: int) -> None:
    """Raise an error unless every step is done and Snakemake ended well."""
    from synthkit.errors import DataError

    failed = [item for item in states if item.state == "failed"]
    left = [item for item in states if item.state != "done"]
    if failed:
        raise _steps_failed(failed, left, wanted)
    if left or code:
        log = wanted.folder / ".study" / "snakemake.txt"
        how = _ended_by_force(log)
        killed = [item for item in left if item.step.name in how]
        if killed:
            why = f"{killed[0].step.name} could not write why: its process {how[killed[0].step.name]}."
            fix = f"Read {_log(wanted, killed[0])}, then run the same command again: what is done stays."
        else:
            why = "Snakemake gave up before they began." if left else "Snakemake ended with an error."
            fix = f"Its log says why: {log}"
        ends = [f"{item.step.name} {how[item.step.name]} ({item.state}) {item.error}".rstrip() for item in killed[:10]]
        raise DataError(f"{len(left)} of {len(states)} steps were not done.", why, fix, details=ends + _last_lines(log))


def _ended_by_force(log: Path) -> dict[str, str]:
    """How the processes of steps ended that Snakemake calls failed in its last run: by signal or exit status."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace").rpartition("\n$ ")[2]
    except OSError:
        return {}
    found = re.findall(r"synthkit\.study\.step (\S+)' (died with <\S+ \d+>|returned non-zero exit status \d+)", text)
    return dict(found)


def _steps_failed(failed: list[StepState], left: list[StepState], wanted: Study) -> Exception:
    """One error for all steps that failed, with the exit code of the first."""
    from synthkit.errors import ExitCode, PluginError

    error = PluginError(
        f"{len(failed)} step{'s' * (len(failed) > 1)} of the study failed, {len(left) - len(failed)} could not begin.",
        f"{failed[0].step.name}: {failed[0].error}",
        f"Read {_log(wanted, failed[0])}, then run the same command again: what is done stays.",
        details=[f"{item.step.name}: exit code {item.exit_code}" for item in failed[:10]],
    )
    if failed[0].exit_code in list(ExitCode):
        error.exit_code = ExitCode(failed[0].exit_code)
    return error


def _last_lines(log: Path) -> list[str]:
    try:
        return [f"| {line}" for line in log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:]]
    except OSError:
        return []


COMMANDS: dict[str, Any] = {}
GROUPS = {"study": study}
