"""Hands a plan to Snakemake, which schedules it: on this machine, on a Slurm cluster, or by any executor plugin."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path

from synthkit.errors import BackendUnavailableError, UsageError
from synthkit.registry.provenance import gpu_indices
from synthkit.running.lock import VARIABLE, find_lock
from synthkit.running.run import Resources, write_json
from synthkit.running.signals import termination_as_interrupt
from synthkit.study import layout
from synthkit.study.config import Study
from synthkit.study.plan import Plan, Step, make_plan
from synthkit.study.step import PLAN

SNAKEFILE = Path(__file__).parent / "Snakefile"
_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_OF_GRACE = 60.0


def run_workflow(
    study: Study,
    *,
    executor: str,
    cores: int | None,
    gpus: int | None,
    jobs: int | None,
    extra: Sequence[str] = (),
    on_tick: Callable[[], None] = lambda: None,
) -> int:
    """Do what is left of ``study``; returns Snakemake's exit code.

    Parameters
    ----------
    executor : "local", or an executor plugin of Snakemake such as "slurm".
    cores, gpus : of this machine, for the local executor; all by default.
    jobs : most jobs of a cluster at a time.
    extra : further arguments of Snakemake.
    on_tick : called every second or so while it works.

    Raises :class:`BackendUnavailableError` where Snakemake, or its plugin of that name, is not installed.
    """
    if missing := missing_scheduler(executor):
        raise missing
    local = executor == "local"
    devices = gpu_indices()[:gpus] if local else ()
    if local and len(devices) < study.machine.gpus:
        study = replace(study, machine=replace(study.machine, gpus=len(devices)))
    command = [
        sys.executable, "-m", "synthkit.study.scheduler", str(os.getpid()),
        "--snakefile", str(SNAKEFILE), "--directory", ".", "--executor", executor,
        # A step's notes of its own say what it was made by; only these make it run again.
        "--rerun-triggers", "params", "input", "mtime",
        "--rerun-incomplete", "--keep-going", "--nolock", "--retries", str(study.machine.retries),
        "--quiet", "rules", "host",
    ]  # fmt: skip
    if local:
        command += ["--cores", str(cores or os.cpu_count() or 1), "--resources", f"gpu={len(devices)}"]
    else:
        command += ["--jobs", str(jobs or 100), "--latency-wait", "60"]
    if executor == "slurm":
        command += _slurm_options(study)
    lock_file = lock_for(study)
    environment = {**os.environ, **({VARIABLE: str(lock_file)} if lock_file else {})}
    with _alone(study.folder) as lock:
        write_plan(study, make_plan(study), devices)
        return _follow([*command, *extra], study.folder, environment, on_tick, lock)


def lock_for(study: Study) -> Path | None:
    """``synthkit.lock`` of the study's folder, else that of the folder that the command was typed in; None for none."""
    found = find_lock(study.folder) or find_lock()
    return found.absolute() if found else None


def write_plan(study: Study, plan: Plan, devices: Sequence[str] = ()) -> Path:
    """``.study/plan.json``, from which Snakemake and every step read."""
    path = study.folder / PLAN
    path.parent.mkdir(parents=True, exist_ok=True)
    steps = [step.to_dict() for step in plan.steps]
    resources = {step.name: _resources(step, study) for step in plan.steps}
    machine = {**asdict(study.machine), "local_gpus": list(devices)}
    # Several steps share the machine: each keeps to its own cores. Libraries look when they are imported.
    environment = Resources(cpus=study.machine.cpus).threads
    head = {"study": study.name, "python": sys.executable, "environment": environment, "machine": machine}
    write_json(path, {**head, "resources": resources, "steps": steps})
    return path


def _resources(step: Step, study: Study) -> dict[str, int]:
    """What Snakemake reserves, by the names that its executors know."""
    found = {}
    if step.gpus:
        found["gpu"] = step.gpus
    if study.machine.memory_gb:
        found["mem_mb"] = round(study.machine.memory_gb * 1000)
    if study.machine.hours:
        found["runtime"] = round(study.machine.hours * 60) + 5  # the run's own limit comes first
    return found


def _slurm_options(study: Study) -> list[str]:
    """The jobs are called after the study; a cluster without accounting is asked by squeue."""
    name = re.sub(r"[^A-Za-z0-9_-]", "-", study.name)[:30]
    options = ["--slurm-jobname-prefix", f"synthkit-{name}"]
    try:
        accounting = subprocess.run(["sacct", "-nX", "-S", "now"], capture_output=True, check=False).returncode == 0
    except OSError:
        accounting = False
    return options if accounting else [*options, "--slurm-status-command", "squeue", "--slurm-no-account"]


@contextmanager
def _alone(folder: Path) -> Iterator[int]:
    """No other command schedules this study: a lock, for which the end of one that was killed is waited for."""
    path = folder / layout.STATE / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + _SECONDS_OF_GRACE
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise UsageError(
                        f"Another `study run` is at work in {folder}.",
                        "Two at once would do the same steps.",
                        "Wait for it, or interrupt it.",
                    ) from error
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            except OSError:  # a file system without locks
                break
        yield file.fileno()


def missing_scheduler(executor: str = "local") -> BackendUnavailableError | None:
    """What `study run` would end with because Snakemake, or its executor, is not installed; None where both are."""
    if find_spec("snakemake") is None:
        return BackendUnavailableError(
            "Snakemake is not installed.", "It schedules the runs of a study.", "pip install 'synthkit-core[study]'"
        )
    module = f"snakemake_executor_plugin_{executor.replace('-', '_')}"
    if executor != "local" and find_spec(module) is None:
        return BackendUnavailableError(
            f"Snakemake has no executor {executor}.",
            f"The module {module} is not installed.",
            f"pip install snakemake-executor-plugin-{executor}",
        )
    return None


def _follow(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], on_tick: Callable[[], None], lock: int
) -> int:
    """Run Snakemake to its end. An interrupt is passed on once; it then waits for the steps to end with grace."""
    with (folder / layout.STATE / "snakemake.txt").open("a", encoding="utf-8") as log, termination_as_interrupt():
        # A line that begins a run of Snakemake's: the log keeps those before.
        print(f"\n$ {shlex.join(command)}", file=log, flush=True)
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(lock,),  # held as long as Snakemake is at work, whatever becomes of this process
        )  # fmt: skip
        try:
            while True:
                try:
                    return process.wait(timeout=_SECONDS_BETWEEN_LOOKS)
                except subprocess.TimeoutExpired:
                    on_tick()
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGINT)  # Snakemake and its steps, as a terminal would
            process.wait()
            raise
