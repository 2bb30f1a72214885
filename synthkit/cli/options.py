"""Options that many commands share, declared once, and what a command makes of them."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synthkit.errors import UsageError

if TYPE_CHECKING:
    from synthkit.cli.console import Console
    from synthkit.running.launch import Done, RunOptions
    from synthkit.running.request import Request

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds_of(text: str) -> float:
    """Seconds of ``90``, ``45s``, ``90m``, ``12h`` or ``3d``; UsageError for anything else, and for none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", str(text).strip().lower())
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not seconds:
        raise UsageError(
            f"--timeout {text} is not a time.", fix="Write it like 90m, 12h or 3d; plain numbers are seconds."
        )
    return seconds


Out = Annotated[
    Path,
    typer.Option("-o", "--out", metavar="FOLDER", help="Folder to write; must be new or empty.", show_default=False),
]
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
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="Parameters that the plugin brings: small, cpu, study ... `synthkit plugins show` lists them. --params "
        "and -p win over it.",
        show_default=False,
    ),
]
Patients = Annotated[
    str | None,
    typer.Option(
        "--patients",
        metavar="TABLE",
        help="Who each subject is: a CSV file (columns subject, patient), or one-per-subject; else their names say.",
        show_default=False,
    ),
]
Names = Annotated[
    list[str] | None,
    typer.Option(
        "--names",
        metavar="CONTENT=ENDING,...",
        help="How names of files end: t1ce=_T1GD,seg=_segm. Wins over known endings; may be repeated.",
        show_default=False,
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(
        "--labels",
        metavar="SCHEME",
        help="What label values mean: gli2024, ped, msd ... (docs/datasets.md), FILE.toml, or table. Default: files "
        "say it.",
        show_default=False,
    ),
]
AskedLabels = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="DATASET",
        help="Ask for label maps: those of a dataset, without its holdout, or a folder of masks. Which seed "
        "gets which does not depend on the other seeds.",
        show_default=False,
    ),
]
Conditions = Annotated[
    list[str] | None,
    typer.Option(
        "--condition",
        metavar="NAME=VALUE",
        help="Ask for something else, as in volume_ml=20; may be repeated. `synthkit plugins show` lists what a "
        "generator offers.",
        show_default=False,
    ),
]
FeaturesFile = Annotated[
    Path | None,
    typer.Option(
        "--features",
        metavar="[NAME=]FILE",
        help="Weights of the feature network. NAME, e.g. radimagenet, refuses any other file than the published. "
        "Default: the one that the metric brings.",
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
        help="Cores of the container, and threads of its libraries. Default: all. Results may differ by rounding with "
        "another number.",
        show_default=False,
    ),
]
Memory = Annotated[
    str | None,
    typer.Option("--memory", metavar="SIZE", help="Memory limit of the container: 8g, 500m.", show_default=False),
]
Disk = Annotated[
    str | None,
    typer.Option(
        "--disk",
        metavar="SIZE",
        help="Stop the run when it has written this much: 50g. Default: 90 % of what is free.",
        show_default=False,
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="TIME",
        help="Stop the run after this time: 90m, 12h, 3d, or seconds.",
        show_default=False,
        parser=seconds_of,
    ),
]

# How volumes become slices.
Size = Annotated[int, typer.Option("--size", metavar="PIXELS", help="Side of a slice: 256, 128, 64 or 32.")]
Contrasts = Annotated[
    str | None,
    typer.Option(
        "--contrasts",
        metavar="LIST",
        help="Channels, in order. Default: those of --labels, else all four of BraTS.",
        show_default=False,
    ),
]
Intensity = Annotated[
    str,
    typer.Option(
        "--intensity",
        metavar="RULE",
        help="What becomes 255: max, a percentile such as p99.9, or p0.5-p99.5 of the brain.",
    ),
]
BrainThreshold = Annotated[
    float, typer.Option("--brain-threshold", metavar="GREY", help="A T1 pixel above this counts as brain.")
]
BrainFraction = Annotated[
    float,
    typer.Option("--brain-fraction", metavar="SHARE", help="A slice is kept with more than this share of brain."),
]
Orientation = Annotated[
    str,
    typer.Option(
        "--orientation",
        metavar="ORDER",
        help="LPS, or another such order: all arrays in it, by their affines; or as-stored, as in the study.",
    ),
]
StoredAxes = Annotated[
    str,
    typer.Option(
        "--stored-axes",
        metavar="CODE",
        help="Where the axes of arrays lead whose affine does not say it: LPS, RAS, ...",
        show_default=False,
    ),
]
VoxelSpacing = Annotated[
    str | None,
    typer.Option(
        "--spacing",
        metavar="MM",
        help="Resample to voxels of this size: 1, or 1,1,5 for x, y and z. Default: nothing is resampled.",
        show_default=False,
    ),
]

#: The options that :func:`shares` attaches, by name: type with its help, and default.
_SHARED: dict[str, tuple[Any, Any]] = {
    "size": (Size, 256),
    "contrasts": (Contrasts, None),
    "intensity": (Intensity, "max"),
    "brain_threshold": (BrainThreshold, 50.0),
    "brain_fraction": (BrainFraction, 0.15),
    "orientation": (Orientation, "LPS"),
    "stored_axes": (StoredAxes, ""),
    "spacing": (VoxelSpacing, None),
    "param": (Params, None),
    "params": (ParamsFile, None),
    "backend": (BackendName, None),
    "gpus": (Gpus, None),
    "cpus": (Cpus, None),
    "memory": (Memory, None),
    "disk": (Disk, None),
    "timeout": (Timeout, None),
    "resume": (Resume, False),
    "overwrite": (Overwrite, False),
    "dry_run": (DryRun, False),
    "json": (Json, False),
    "quiet": (Quiet, False),
}

# Those that go together, in the order of the help.
SLICING_OPTIONS = (
    *("size", "contrasts", "intensity", "brain_threshold", "brain_fraction"),
    *("orientation", "stored_axes", "spacing"),
)
PLUGIN_OPTIONS = ("param", "params")
PLACE_OPTIONS = ("backend", "gpus", "cpus", "memory", "disk", "timeout")
AGAIN_OPTIONS = ("resume", "overwrite", "dry_run")
OUTPUT_OPTIONS = ("json", "quiet")
RUN_OPTIONS = (*PLACE_OPTIONS, *AGAIN_OPTIONS, *OUTPUT_OPTIONS)


@dataclass(frozen=True)
class Given:
    """What a command was given of the shared options.

    Attributes
    ----------
    console : where it prints; the listener of what it calls.
    options : where and with what its runs are made.
    params : parameters of its plugin, those of ``-p`` over those of the file.
    slicing : how volumes become slices, as keywords of :func:`synthkit.api.prepare`.
    dry_run : to show what would be done, and to do nothing.
    """

    console: Console
    options: RunOptions
    params: dict[str, Any]
    slicing: dict[str, Any]
    dry_run: bool

    def run(self, request: Request, out: Path) -> Done:
        """Make the run; with ``--dry-run`` show it instead, and end the command."""
        return next(self.run_all([request], out))

    def run_all(self, requests: Sequence[Request], out: Path) -> Iterator[Done]:
        """The same for several runs, each made when the one before it has been taken."""
        from synthkit.running.launch import carry_out, dry_run

        if self.dry_run:
            plans = [dry_run(request, out, self.options, self.console) for request in requests]
            documents = [plan.to_dict() for plan in plans]
            self.console.document(documents[0] if len(documents) == 1 else {"runs": documents})
            for plan in plans:
                self.console.print(plan.described())
                self.console.print(plan.command)
            raise typer.Exit
        for request in requests:
            yield carry_out(request, out, self.options, self.console)


def shares(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command these options after its own; its first parameter gets them as :class:`Given`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def wrapper(*args: Any, **kwargs: Any) -> None:
            command(_given({name: kwargs.pop(name, _SHARED[name][1]) for name in names}), *args, **kwargs)

        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        shared = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)
            for name, (kind, default) in ((name, _SHARED[name]) for name in names)
        ]
        # What typer builds the command line from.
        wrapper.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
        wrapper.__annotations__ = {item.name: item.annotation for item in (*own, *shared)}
        return wrapper

    return decorate


def _given(values: dict[str, Any]) -> Given:
    from synthkit.registry.parameters import parse_assignments
    from synthkit.running.launch import RunOptions

    if values.get("contrasts") is not None:
        values["contrasts"] = [name.strip().lower() for name in values["contrasts"].split(",")]
    options = {name: values[name] for name in (*PLACE_OPTIONS, "resume", "overwrite") if name in values}
    return Given(
        console=console_for(values["json"], values["quiet"]),
        options=RunOptions(**options),
        params=parse_assignments(values.get("param") or (), values.get("params")),
        slicing={name: values[name] for name in SLICING_OPTIONS if name in values},
        dry_run=values.get("dry_run", False),
    )


def console_for(json_output: bool, quiet: bool = False) -> Console:
    """The console of a command."""
    from synthkit.cli.console import Console

    return Console(json_output=json_output, quiet=quiet)
