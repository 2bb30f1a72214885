"""Options that many commands share, and the one way a command makes and follows a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synthkit.errors import ContainerFailedError, DataError, PluginError, UsageError, error_from_dict

if TYPE_CHECKING:
    from synthkit.cli.console import Console
    from synthkit.contract import Declaration
    from synthkit.data.dataset import Dataset
    from synthkit.running.run import Input, Job, Resources, Run

Out = Annotated[Path, typer.Option("-o", "--out", help="Folder to write; must be new or empty.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no hints.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, do nothing.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted command in the same folder.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier command wrote there.")]
Params = Annotated[
    list[str] | None,
    typer.Option(
        "-p", "--param", metavar="NAME=VALUE", help="Parameter of the plugin; may be repeated.", show_default=False
    ),
]
ParamsFile = Annotated[
    Path | None,
    typer.Option("--params", metavar="TOML", help="File of parameters; -p wins over it.", show_default=False),
]
FeaturesFile = Annotated[
    Path | None,
    typer.Option(
        "--features",
        metavar="FILE",
        help="Weights of the feature network, e.g. Inception-v3. Default: the one that the metric brings.",
        show_default=False,
    ),
]
BackendName = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="NAME",
        help="docker, apptainer, local or inline.  [env: SYNTHKIT_BACKEND]",
        show_default=False,
    ),
]
Gpus = Annotated[
    str | None,
    typer.Option(
        "--gpus",
        metavar="GPUS",
        help="all, none, a number, or device=0,1. Default: all if there are any.",
        show_default=False,
    ),
]
Cpus = Annotated[
    float | None,
    typer.Option(
        "--cpus",
        metavar="N",
        help="Cores of the container, and threads of its libraries. Default: all. Another number rounds differently.",
        show_default=False,
    ),
]
Memory = Annotated[
    str | None,
    typer.Option("--memory", metavar="SIZE", help="Memory limit of the container: 8g, 500m.", show_default=False),
]
Timeout = Annotated[
    float | None, typer.Option("--timeout", metavar="SECONDS", help="Stop the run after this time.", show_default=False)
]


@dataclass
class RunOptions:
    """What a command that makes runs was given besides its own arguments."""

    backend: str | None = None
    gpus: str | None = None
    cpus: float | None = None
    memory: str | None = None
    timeout: float | None = None
    resume: bool = False
    overwrite: bool = False
    dry_run: bool = False


def console_for(json_output: bool, quiet: bool = False) -> Console:
    """The console of a command."""
    from synthkit.cli.console import Console

    return Console(json_output=json_output, quiet=quiet)


def resources_for(options: RunOptions, declaration: Declaration, console: Console) -> Resources:
    """GPUs, cores, memory and time limit; says so when a method that could use a GPU will run on the CPU."""
    from synthkit.errors import GpuUnavailableError
    from synthkit.registry.provenance import gpu_visible
    from synthkit.running.run import Resources, count_gpus

    gpus = options.gpus
    if gpus is None:
        has_gpu = gpu_visible()
        gpus = "all" if has_gpu and declaration.gpu != "none" else "none"
        if not has_gpu and declaration.gpu == "required":
            raise GpuUnavailableError(
                f"{declaration.name} needs a GPU.", "This machine shows no NVIDIA device.", "See `synthkit doctor`."
            )
        if not has_gpu and declaration.gpu == "optional":
            console.note("No GPU here: running on the CPU (--gpus all insists on one).")
    count_gpus(gpus)  # refuses what is none of its forms
    if options.timeout is not None and options.timeout <= 0:
        raise UsageError("--timeout must be positive.", fix="Give seconds, or leave it out.")
    if options.cpus is not None and options.cpus <= 0:
        raise UsageError("--cpus must be positive.", fix="Give a number of cores, or leave it out.")
    memory = parse_size(options.memory) if options.memory else None
    return Resources(gpus=gpus, memory_bytes=memory, timeout_seconds=options.timeout, cpus=options.cpus)


def parse_size(text: str) -> int:
    """``"8g"``, ``"500m"`` or a number of bytes."""
    units = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
    number, unit = text.strip().lower().removesuffix("b").removesuffix("i"), 1
    if number[-1:] in units:
        number, unit = number[:-1], units[number[-1]]
    try:
        size = int(float(number) * unit)
    except ValueError:
        size = 0
    if size <= 0:
        raise UsageError(f"--memory {text} is not a size.", fix="Write it like 8g or 500m.")
    return size


def dataset_input(path: Path, splits: Sequence[str] = ()) -> tuple[Dataset, Input]:
    """Open a dataset and describe it as an input."""
    from synthkit.data.dataset import Dataset
    from synthkit.running.run import Input

    dataset = Dataset(path)
    return dataset, Input("dataset", source=dataset.path, splits=tuple(splits), digest=dataset.digest)


def checkpoint_input(path: Path) -> tuple[dict[str, Any], Input]:
    """Find the checkpoint of a run and describe it as an input; returns synthkit's notes on it as well."""
    from synthkit.running.run import Input, find_checkpoint, folder_digest, read_checkpoint_metadata

    checkpoint = find_checkpoint(path)
    return read_checkpoint_metadata(checkpoint), Input(
        "checkpoint", source=checkpoint, digest=folder_digest(checkpoint)
    )


def resolved_params(declaration: Declaration, metadata: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Parameters of a run that uses a checkpoint: those of its training, changed by what is given now."""
    from synthkit.registry.parameters import make_params, params_to_dict

    return params_to_dict(make_params(declaration, {**metadata["params"], **given}))


def folder_input(kind: Any, path: Path) -> Input:
    """A folder of NIfTI files as an input."""
    from synthkit.running.run import Input

    if not path.is_dir():
        raise DataError(f"There is no folder {path}.", fix="Check the path.")
    return Input(kind, source=path)


def file_input(path: Path) -> Input:
    """A file as an input, with its digest."""
    from synthkit.running.run import Input, file_digest

    if not path.is_file():
        raise DataError(f"There is no file {path}.", fix="Check the path.")
    return Input("file", source=path, digest=file_digest(path))


def run_job(
    out: Path, job: Job, declarations: Sequence[Declaration], options: RunOptions, console: Console, title: str
) -> tuple[Run, dict[str, Any]]:
    """Make the run folder, execute it, follow it. Returns the run and its result; raises the error it failed with.

    With ``--dry-run`` prints the resolved job and the equivalent command instead, and ends the command.
    """
    from synthkit.running import backends
    from synthkit.running.backends.outcome import log_tail
    from synthkit.running.lock import check_lock, find_lock
    from synthkit.running.run import Run, create_run, file_digest, locked

    declaration = declarations[0]
    job.resources = resources_for(options, declaration, console)
    if options.dry_run:
        backend = backends.get(backends.asked(options.backend) or backends.DEFAULT)
        command = backend.command(Run(out), declaration, job)
        console.document({"out": str(out), "job": job.to_dict(), "backend": backend.name, "command": command})
        import json

        console.print(json.dumps({"out": str(out), "job": job.to_dict()}, indent=1))
        console.print(command)
        raise typer.Exit
    backend = backends.choose(options.backend, declaration, job)
    if lock := find_lock():
        check_lock(lock, declarations, backend.name)
        job.lock = file_digest(lock)
    with locked(out):
        run = create_run(out, job, resume=options.resume, overwrite=options.overwrite)
        with console.progress(title) as view:
            result = backend.run(run, declaration, view.event)
    for text in result["warnings"]:  # the backend's own are not events of the run
        if text not in view.warned:
            console.warning(text)
    if result["status"] != "succeeded":
        error = error_from_dict(result["error"])
        if isinstance(error, (PluginError, ContainerFailedError)) and not error.details:
            # What the method printed last may tell more than we can; for our own errors it is only a traceback.
            error.details = tuple(f"| {line}" for line in log_tail(run))
        error.details = (*error.details, f"log: {run.path / 'log.txt'}")
        raise error
    return run, result


def citations_of(declarations: Iterable[Declaration]) -> list[Any]:
    """What to cite for these plugins, once each."""
    seen: dict[str, Any] = {}
    for declaration in declarations:
        for citation in declaration.citations:
            seen.setdefault(citation.text, citation)
    return list(seen.values())


#: Rows of a table on the terminal.
_MOST_ROWS = 30
#: A table with more scores than this and fewer columns otherwise is turned about.
_MOST_COLUMNS = 7


def print_scores(console: Console, result: dict[str, Any]) -> None:
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
        # What all have in common is said once, above the table.
        common = {key: group[0]["of"][key] for key in keys if len({score["of"][key] for score in group}) == 1}
        common = {} if len(common) == len(keys) else common
        varying = [key for key in keys if key not in common]
        names = list(dict.fromkeys(score["name"] for score in group))
        cells: dict[tuple[str, ...], dict[str, str]] = {}
        for score in group:
            interval = _interval(score)
            text = _value(score) + (f" ({interval})" if interval else "")
            cells.setdefault(tuple(score["of"][key] for key in varying), {})[score["name"]] = text
        for key, value in common.items():
            console.print(f"{key}: {value}")
        _print_grid(console, varying, names, cells)
        notes: dict[str, list[str]] = {}
        for score in group:
            for note in filter(None, score.get("note", "").split("; ")):
                notes.setdefault(note, []).append(" ".join([score["name"], *score["of"].values()]))
        for note, whose in notes.items():
            console.print(f"  {note}" + (f" ({', '.join(whose)})" if len(whose) < 4 else ""))


def _print_grid(
    console: Console, keys: list[str], names: list[str], cells: dict[tuple[str, ...], dict[str, str]]
) -> None:
    """What scores are of by their names, or turned about where that is narrower."""
    if len(cells) < min(len(names), _MOST_COLUMNS):
        columns = ("score", *(" ".join(of) for of in cells))
        console.table("", columns, [(name, *(row.get(name, "") for row in cells.values())) for name in names])
        return
    lines = [(*of, *(row.get(name, "") for name in names)) for of, row in cells.items()]
    console.table("", (*keys, *names), lines[:_MOST_ROWS])
    if len(lines) > _MOST_ROWS:
        console.print(f"  and {len(lines) - _MOST_ROWS} more rows: see result.json")


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
