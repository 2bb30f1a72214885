"""``report``, ``verify`` and ``lock``: results on a page, whether they come out again, and with what they were made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synthkit.cli import options as common
from synthkit.errors import GateFailedError, UsageError

if TYPE_CHECKING:
    from synthkit.cli.console import Console
    from synthkit.contract import Declaration
    from synthkit.reproduce import Comparison, Found, How, Outcome
    from synthkit.running.backends.following import OnEvent


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUNS...", help="Run folders, datasets, or folders that hold some.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The HTML file to write.")] = Path("report.html"),
    title: Annotated[str, typer.Option("--title", help="Heading of the report.")] = "synthkit report",
    dry_run: common.DryRun = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """One self-contained HTML file from runs."""
    from synthkit import api

    console = common.console_for(json, quiet)
    if dry_run:
        _plan_report(runs, out, console)
        return
    summary = api.report(runs, out, title=title, listener=console)
    console.document({"report": str(out), **summary})
    console.print(f"Report of {summary['n_runs']} runs: {out}")


def _plan_report(paths: list[Path], out: Path, console: Console) -> None:
    """What the report would be of, and what could not be found; the same is refused as when it is written."""
    from synthkit.report.gather import gather
    from synthkit.report.pages import check_replaceable

    check_replaceable(out)
    material = gather(paths)
    runs = [
        {"run": record.name, "verb": record.verb, "plugins": list(record.plugins), "status": record.status}
        for record in material.runs
    ]
    datasets = [
        {"dataset": record.name, "kind": record.dataset.kind, "n_samples": len(record.dataset)}
        for record in material.datasets
    ]
    utilities = [str(path) for path in material.utilities]
    document = {"runs": runs, "datasets": datasets, "utilities": utilities, "notes": material.notes}
    console.document({"report": str(out), "dry_run": True, **document})
    for title, rows in (("Runs", runs), ("Datasets", datasets)):
        if rows:
            cells = [[" ".join(cell) if isinstance(cell, list) else cell for cell in row.values()] for row in rows]
            console.table(title, list(rows[0]), cells)
    for path in utilities:
        console.print(f"Comparison of segmenters: {path}")
    for text in material.notes:
        console.note(text)
    console.print(f"The report would be written to {out}.")


def verify(
    run: Annotated[
        Path, typer.Argument(metavar="RUN_OR_STUDY", help="A finished run, or a folder with runs somewhere below it.")
    ],
    sample: Annotated[
        int, typer.Option("--sample", metavar="N", min=1, help="Of a folder of runs: how many are repeated.")
    ] = 3,
    seed: Annotated[int, typer.Option("--seed", metavar="SEED", help="Decides which ones.")] = 0,
    verb: Annotated[
        list[str] | None,
        typer.Option(
            "--verb", metavar="VERB", help="Draw from runs of this verb only; may be repeated.", show_default=False
        ),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option("--keep", metavar="DIR", help="Keep the repeated runs here.", show_default=False)
    ] = None,
    backend: Annotated[
        str | None, typer.Option("--backend", metavar="NAME", help="Default: the one it ran with.", show_default=False)
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option("--gpus", metavar="GPUS", help="Default: as many as it ran with.", show_default=False),
    ] = None,
    current_image: Annotated[
        bool,
        typer.Option(
            "--current-image", help="Use the container image that is there now, instead of the one that the run used."
        ),
    ] = False,
    input: Annotated[
        list[str] | None,
        typer.Option(
            "--input", metavar="ROLE=PATH", help="Where an input lies now; may be repeated.", show_default=False
        ),
    ] = None,
    dry_run: common.DryRun = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Repeat a run, or some runs of a study, and compare.

    Digests are compared where the method promises them, else pixels and scores. A container run is repeated in the
    image that it ran in. Exits with 10 on a difference.
    """
    from synthkit.reproduce import How
    from synthkit.running.run import JOB, count_gpus

    console = common.console_for(json, quiet)
    if gpus is not None:
        count_gpus(gpus)
    how = How(backend, current_image, _moved_inputs(input or ()), gpus)
    if (run / JOB).is_file() and not dry_run:
        _verify_one(run, keep, how, console)
    else:
        _verify_folder(run, sample, seed, verb or (), keep, how, dry_run, console)


def _moved_inputs(given: list[str] | tuple[()]) -> dict[str, Path]:
    moved = {}
    for item in given:
        role, equals, path = item.partition("=")
        if not (role and equals and path):
            raise UsageError(f"--input {item} is not understood.", fix="Write --input ROLE=PATH.")
        moved[role] = Path(path)
    return moved


def _verify_one(run: Path, keep: Path | None, how: How, console: Console) -> None:
    from synthkit.reproduce import verify_run

    with console.progress("verify") as view:
        comparison = verify_run(run, keep=keep, how=how, on_event=view.event)
    rows = [(d.what, d.kind, "same" if d.same else "DIFFERENT", d.detail) for d in comparison.differences]
    console.table(f"{run} again, with {comparison.backend}", ("output", "compared by", "outcome", "detail"), rows)
    console.document(comparison.to_dict())
    if not comparison.same:
        raise GateFailedError(
            f"The run {run} did not come out the same.",
            "; ".join(f"{d.what}: {d.detail}" for d in comparison.differences if not d.same) + ".",
            _advice(comparison.changed_code),
        )
    console.print("The run came out the same.")


def _verify_folder(
    folder: Path,
    sample: int,
    seed: int,
    verbs: list[str] | tuple[()],
    keep: Path | None,
    how: How,
    dry_run: bool,
    console: Console,
) -> None:
    from synthkit.reproduce import draw_runs, verify_runs
    from synthkit.running.listening import counted
    from synthkit.running.run import JOB

    if keep is not None and keep.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{keep} lies in {folder}.", "Repetitions would count as its runs.", "Keep them elsewhere.")
    drawn = draw_runs(folder, sample, seed, verbs)
    n_finished = len(drawn.runs) + len(drawn.others)
    console.note(
        f"{len(drawn.runs)} of {counted(n_finished, 'finished run')} by seed {seed}: a run of each verb"
        f"{' of ' + ', '.join(verbs) if verbs else ''} in turn, whatever it costs."
    )
    if drawn.unfinished:
        console.note(f"Without a successful result, and left out: {', '.join(drawn.unfinished)}.")
    document: dict[str, Any] = {
        "folder": str(folder),
        "sample": len(drawn.runs),
        "seed": seed,
        "verbs": list(verbs),
        "finished": n_finished,
        "unfinished": list(drawn.unfinished),
    }
    if dry_run:
        one = (folder / JOB).is_file()  # refused as when it is repeated
        planned = [_plan(found, how, refuse=one) for found in drawn.runs]
        console.document({**document, "runs": planned})
        console.table(f"Runs of {folder} to repeat", tuple(planned[0]), [tuple(row.values()) for row in planned])
        return
    outcomes = list(verify_runs(drawn, how, keep=keep, following=_following(console)))
    rows = [
        (o.name, o.verb, " ".join(o.plugins), o.comparison.backend if o.comparison else "", o.word, o.detail)
        for o in outcomes
    ]
    console.table(f"Runs of {folder} again", ("run", "verb", "plugin", "backend", "outcome", "detail"), rows)
    failed = [outcome for outcome in outcomes if outcome.word != "same"]
    console.document({**document, "runs": [outcome.to_dict() for outcome in outcomes], "same": not failed})
    if failed:
        _refuse(failed, folder)
    console.print(
        f"{counted(len(drawn.runs), 'run')} came out the same; the files of all {n_finished} are those that were made."
    )


def _plan(found: Found, how: How, *, refuse: bool) -> dict[str, Any]:
    result = found.result or {}
    image = how.image_of(result)
    return {
        "run": found.name,
        "verb": found.job.verb,
        "plugins": " ".join(found.job.plugins),
        "backend": how.backend_of(result) or "",
        "image": str(image["image_id"]) if image else "",
        "seconds": result.get("seconds"),
        "inputs": _inputs_now(found, how, refuse=refuse),
    }


def _inputs_now(found: Found, how: How, *, refuse: bool) -> str:
    """Whether the inputs of a run are there and, where their digest is known, as they were.

    Else what is wrong, or that error if it is to ``refuse``.
    """
    from synthkit.errors import SynthkitError
    from synthkit.reproduce import find_inputs

    try:
        find_inputs(found.run, found.job, how.inputs)
    except SynthkitError as error:
        if refuse:
            raise
        return error.what
    return "found"


def _following(console: Console) -> Any:
    @contextmanager
    def following(name: str) -> Iterator[OnEvent]:
        with console.progress(f"verify {name}") as view:
            yield view.event

    return following


def _refuse(failed: list[Outcome], folder: Path) -> None:
    different = [outcome.name for outcome in failed if outcome.comparison is not None]
    broken = [outcome.name for outcome in failed if outcome.comparison is None]
    parts = []
    if different:
        parts.append(f"Not the same: {', '.join(different)}.")
    if broken:
        parts.append(f"Could not be repeated: {', '.join(broken)}.")
    comparisons: list[Comparison] = [outcome.comparison for outcome in failed if outcome.comparison is not None]
    changed = sorted({name for comparison in comparisons for name in comparison.changed_code})
    raise GateFailedError(
        f"The runs of {folder} did not all come out the same.", " ".join(parts), _advice(changed) if different else ""
    )


def _advice(changed_code: list[str]) -> str:
    if changed_code:
        return f"The code of {', '.join(changed_code)} has changed since; make the run again."
    return "Compare the versions in the two result.json files (--keep DIR keeps the second)."


def lock(
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="Default: synthkit.lock here.", show_default=False),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; compare the lock that holds here with what is installed.")
    ] = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Pin versions and container images; later runs refuse others.

    Runs look for synthkit.lock in the working directory, and in a study up to its folder. SYNTHKIT_LOCK names another
    one, or is off. With --check, exits with 10 on a drift.
    """
    from synthkit.registry.registry import discover
    from synthkit.running.lock import LOCK_FILE, find_lock, make_lock, write_lock

    console = common.console_for(json, quiet)
    declarations = tuple(discover().declarations.values())
    if check:
        _check_lock(out or find_lock() or Path(LOCK_FILE), declarations, console)
        return
    made = make_lock(declarations)
    path = out or Path(LOCK_FILE)
    write_lock(path, made)
    console.document({"lock": str(path), **made})
    images = made.get("images")
    console.print(
        f"Locked {len(made['distributions'])} distributions, {len(made['libraries'])} libraries and "
        f"{'no images (no container engine answers)' if images is None else f'{len(images)} images'}: {path}"
    )


def _check_lock(path: Path, declarations: tuple[Declaration, ...], console: Console) -> None:
    from synthkit.running.lock import advice, compare_locks, make_lock, read_lock

    locked, now = read_lock(path), make_lock(declarations)
    found = compare_locks(locked, now, whole=True)
    console.document({"lock": str(path), "same": not found, "drifts": [drift.to_dict() for drift in found]})
    if "images" in locked and "images" not in now:
        console.note("No container engine answers: the images are not compared.")
    if found:
        console.table(
            f"Drift from {path}", ("what", "locked", "now"), [(drift.what, drift.locked, drift.now) for drift in found]
        )
        raise GateFailedError(
            f"What is installed has drifted from {path}.",
            f"{'; '.join(map(str, found))}.",
            f"{advice(found)} Or lock what is installed: synthkit lock -o {path}.",
        )
    console.print(f"What is installed is what {path} says.")


COMMANDS = {"report": report, "verify": verify, "lock": lock}
