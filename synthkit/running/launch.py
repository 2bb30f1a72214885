"""The one way a command or a program makes and follows a run."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthkit.errors import ContainerFailedError, GpuUnavailableError, PluginError, UsageError, error_from_dict
from synthkit.registry.parameters import resumable
from synthkit.running import backends
from synthkit.running.backends.outcome import log_tail
from synthkit.running.exclusive import locked
from synthkit.running.lock import check_lock, find_lock
from synthkit.running.run import LOG, Resources, Run, count_gpus, create_run, file_digest, replaced_in

if TYPE_CHECKING:
    from synthkit.contract import Declaration
    from synthkit.running.listening import Listener
    from synthkit.running.request import Request


@dataclass(frozen=True)
class RunOptions:
    """Where and with what a run is made, whatever it does.

    Attributes
    ----------
    backend : name of one; None for that of ``SYNTHKIT_BACKEND``, else docker.
    gpus : "all", "none", a number or "device=0,1"; None for all, if there are any and the method uses them.
    cpus : cores of a container, and threads of the libraries; None for all.
    memory : limit of a container, such as "8g"; None for none.
    disk : limit of what the run may add to its folder, such as "50g"; None for 90 % of what is free there.
    timeout : seconds after which the run is stopped; None for no limit.
    resume : go on with an interrupted run of the same job.
    overwrite : replace an earlier run, once there is something to put in its place.
    """

    backend: str | None = None
    gpus: str | None = None
    cpus: float | None = None
    memory: str | None = None
    disk: str | None = None
    timeout: float | None = None
    resume: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class Done:
    """A run that succeeded, and its ``result.json``. An audit whose verdict is not "pass" has succeeded, too."""

    run: Run
    result: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return {"run": str(self.run.path), "result": self.result}


@dataclass(frozen=True)
class DryRun:
    """What would be done: the job as ``job.json`` would hold it, and the shell command that does about the same."""

    out: Path
    job: dict[str, Any]
    backend: str
    command: str

    def to_dict(self) -> dict[str, Any]:
        return {"out": str(self.out), "job": self.job, "backend": self.backend, "command": self.command}

    def described(self) -> str:
        """The folder and the job, as JSON to read."""
        return json.dumps({"out": str(self.out), "job": self.job}, indent=1)


def carry_out(request: Request, out: Path, options: RunOptions, listener: Listener) -> Done:
    """Make the run folder of a request, at ``out`` or its folder below, execute it and follow it.

    Raises what the run failed with, as it would be raised here; :class:`UsageError` for a folder in the way or for
    options that cannot be, :class:`BackendUnavailableError`, and what :func:`synthkit.running.lock.check_lock` refuses.
    The run that ``overwrite`` replaces is put back where the new one fails before it has made anything.
    """
    job, declaration, folder = request.job, request.declarations[0], out / request.folder
    job.resources = _resources(request, options, listener)
    backend = backends.choose(options.backend, declaration, job)
    if lock := find_lock():
        check_lock(lock, request.declarations, backend.name)
        job.lock = file_digest(lock)
    with locked(folder):
        try:
            may_change = resumable(declaration) if job.verb == "train" else {}
            run = create_run(folder, job, resume=options.resume, overwrite=options.overwrite, may_change=may_change)
            with listener.progress(request.title) as follower:
                result = backend.run(run, declaration, follower.event)
        except BaseException:
            replaced_in(folder).settle(succeeded=False)
            raise
        tail = log_tail(run)
        is_as_before = replaced_in(folder).settle(succeeded=result["status"] == "succeeded")
    for text in result["warnings"]:  # the backend's own are not events of the run
        if text not in follower.warned:
            listener.warning(text)
    if result["status"] != "succeeded":
        error = error_from_dict(result["error"])
        if isinstance(error, (PluginError, ContainerFailedError)) and not error.details:
            # What the method printed last may tell more than we can; for our own errors it is only a traceback.
            error.details = tuple(f"| {line}" for line in tail)
        if is_as_before:
            error.details = (*error.details, f"nothing was made yet, and the earlier run is as it was: {folder}")
            if "--resume" in error.fix:  # there is nothing to go on from
                error.fix = "Give the same command again."
        else:
            error.details = (*error.details, f"log: {folder / LOG}")
        raise error
    return Done(run, result)


def dry_run(request: Request, out: Path, options: RunOptions, listener: Listener) -> DryRun:
    """What :func:`carry_out` would do. Looks for no engine and makes nothing."""
    job, declaration, folder = request.job, request.declarations[0], out / request.folder
    job.resources = _resources(request, options, listener)
    backend = backends.get(backends.asked(options.backend) or backends.DEFAULT)
    return DryRun(folder, job.to_dict(), backend.name, backend.command(Run(folder), declaration, job))


def _resources(request: Request, options: RunOptions, listener: Listener) -> Resources:
    wanted = options if request.uses_gpu else replace(options, gpus="none")
    return resources_for(wanted, request.declarations[0], listener)


def resources_for(options: RunOptions, declaration: Declaration, listener: Listener) -> Resources:
    """GPUs, cores, memory and time limit; says so when a method that could use a GPU will run on the CPU."""
    from synthkit.registry.provenance import gpu_visible

    gpus = options.gpus
    if gpus is None:
        has_gpu = gpu_visible()
        gpus = "all" if has_gpu and declaration.gpu != "none" else "none"
        if not has_gpu and declaration.gpu == "required":
            raise GpuUnavailableError(
                f"{declaration.name} needs a GPU.", "This machine shows no NVIDIA device.", "See `synthkit doctor`."
            )
        if not has_gpu and declaration.gpu == "optional":
            listener.note("No GPU here: running on the CPU (--gpus all insists on one).")
    count_gpus(gpus)  # refuses what is none of its forms
    if options.timeout is not None and options.timeout <= 0:
        raise UsageError("--timeout must be positive.", fix="Give seconds, or leave it out.")
    if options.cpus is not None and options.cpus <= 0:
        raise UsageError("--cpus must be positive.", fix="Give a number of cores, or leave it out.")
    memory = parse_size(options.memory, "--memory") if options.memory else None
    disk = parse_size(options.disk, "--disk") if options.disk else None
    return Resources(gpus, memory, disk, options.timeout, options.cpus)


def parse_size(text: str, option: str) -> int:
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
        raise UsageError(f"{option} {text} is not a size.", fix="Write it like 8g or 500m.")
    return size
