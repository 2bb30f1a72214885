"""Runs in an Apptainer (or Singularity) container, for clusters without Docker. Needs no rights beyond the caller's.

The run sees what it sees in a container of an engine: the run folder at ``/job`` (``job.json`` read-only), each input
read-only at ``/job/inputs/ROLE``, a ``/tmp`` of its own (a folder on disk, removed at the end), and none of this
machine's environment. What more is in force depends on the rights that the machine gives its users; so a probe is run
first behind the same walls, and ``result.json`` states what the probe found, not what was asked for.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthkit.contract import Declaration
from synthkit.errors import BackendUnavailableError, ContainerFailedError, UsageError
from synthkit.running.backends.following import EventFollower, OnEvent
from synthkit.running.backends.gpus import check_gpus, visible_devices
from synthkit.running.backends.isolation import FOLDER, PIDS, environment, memory_limit, mounts, this_machine, wants_gpu
from synthkit.running.backends.outcome import Attempt
from synthkit.running.backends.recorded import check_sif
from synthkit.running.backends.supervision import died, supervise
from synthkit.running.containers import images as containers
from synthkit.running.containers import sif
from synthkit.running.run import JOB, Job, Run, file_digest
from synthkit.running.signals import termination_as_interrupt

_PROGRAMS = ("apptainer", "singularity")
_START_SECONDS = 120.0  # a first start may have to fetch gigabytes over the cluster's file system
# Of the many variables that steer Apptainer, these say where it may write; others would open the walls.
_KEPT = ("TMPDIR", "CACHEDIR", "CONFIGDIR")
_SCHEDULERS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")
_PROBE = "cat /proc/self/status; echo ---; cat /proc/net/dev; echo ---; cat /proc/self/mountinfo"


@dataclass(frozen=True)
class Walls:
    """What not every machine lets its users have: a network of one's own (with nothing in it), limits by cgroups."""

    network: bool
    limits: bool


class ApptainerBackend:
    """A container of Apptainer's from a SIF file (see :mod:`synthkit.running.containers.sif`).

    Outside of a scheduler's job a run may use ``--memory``, else 90 % of the machine's memory, where cgroups can be
    had. Inside of one it is the scheduler that limits: Apptainer would move the run out of the job's cgroup.
    """

    name = "apptainer"
    lock_section = "sif"

    def __init__(self) -> None:
        self._images: dict[Path, containers.Image] = {}

    def check(self, declaration: Declaration, job: Job) -> None:
        self._image(declaration)
        check_gpus(declaration, job)
        if job.resources.memory_bytes is not None and in_scheduler():
            raise UsageError(
                "--memory cannot be enforced inside of a scheduler's job.",
                "The job has a limit of its own, and Apptainer would leave it for another.",
                "Ask the scheduler for memory (sbatch --mem), and leave --memory out.",
            )

    def run(self, run: Run, declaration: Declaration, on_event: OnEvent) -> dict[str, Any]:
        job = run.job()
        image = self._image(declaration)
        path = sif.path_of(declaration)
        follower = EventFollower(run, on_event)
        outdated = containers.outdated_warning(image, declaration)
        if outdated is not None:
            follower.warnings.append(outdated)
        with termination_as_interrupt(), _stage(run, job) as stage, ThreadPoolExecutor(1) as pool:
            digest = pool.submit(file_digest, path)
            options = [*_binds(run, job, stage), "--workdir", str(stage / "work")]
            walls, found = self._probe(path, declaration, job, options)
            command = [*self._start(declaration, job, walls, options), str(path), *_inside(declaration, job)]
            attempt = Attempt(run, declaration)
            code, error = supervise(attempt, command, _own_environment(), follower)
            container = {
                "image": path.name,
                "image_id": digest.result(),
                "repo_digests": [],
                "engine": version(),
            }
        if error is None and attempt.result() is None:
            # Apptainer hands the status of a shell on: 128 + the signal that ended the run.
            error = died(128 - code if 128 < code < 160 else code, run)
        isolation = describe(found, job, walls)
        warnings = [*follower.warnings, *_warnings(isolation)]
        return attempt.finish(self.name, isolation, warnings, error=error, container=container, code=image.code)

    def command(self, run: Run, declaration: Declaration, job: Job) -> str:
        binds = [f"type=bind,source={run.path.resolve()},destination={FOLDER}"]
        binds.append(f"type=bind,source={run.path.resolve() / JOB},destination={FOLDER}/{JOB},ro")
        for role, item in job.inputs.items():
            source = item.source.resolve() if item.source is not None else run.input(role).resolve()
            binds.append(f"type=bind,source={source},destination={FOLDER}/inputs/{role},ro")
        options = [word for bind in binds for word in ("--mount", bind)]
        words = self._start(declaration, job, Walls(network=True, limits=not in_scheduler()), options)
        image = sif.folder() / sif.file_name(containers.image_name(declaration), ".sif")
        return shlex.join([Path(words[0]).name, *words[1:], str(image), *_inside(declaration, job)])

    def limits_memory(self) -> bool:
        return not in_scheduler()

    def pin(self, container: Mapping[str, Any], declaration: Declaration) -> None:
        check_sif(container, declaration)

    def _image(self, declaration: Declaration) -> containers.Image:
        path = sif.path_of(declaration) if program() else None
        if path is None:
            raise BackendUnavailableError(
                "Apptainer is not there.",
                f"There is neither {' nor '.join(_PROGRAMS)} on PATH.",
                "Load it (often: module load apptainer), or install it.",
            )
        if path not in self._images:
            self._images[path] = _inspect(path)
        containers.check_image(self._images[path], declaration)
        return self._images[path]

    def _probe(self, image: Path, declaration: Declaration, job: Job, options: Sequence[str]) -> tuple[Walls, str]:
        """The highest walls that can be had here, and what is seen behind them."""
        reason = ""
        for walls in _candidates():
            command = [*self._start(declaration, job, walls, options), str(image), "sh", "-c", _PROBE]
            status, found, reason = _call(command)
            if status == 0:
                if job.resources.memory_bytes is not None and not walls.limits:
                    raise UsageError(
                        "--memory cannot be enforced by Apptainer here.",
                        "This machine does not let its users have cgroups.",
                        "Leave --memory out, or run in a scheduler's job, which has a limit of its own.",
                    )
                return walls, found
        raise ContainerFailedError(
            "The container could not be started.",
            f"{(reason.strip().splitlines() or ['Apptainer gave no reason.'])[-1]}",
            f"Try it by hand: {shlex.join(['apptainer', 'exec', str(image), 'true'])}.",
            reason.strip().splitlines()[-8:],
        )

    def _start(self, declaration: Declaration, job: Job, walls: Walls, options: Sequence[str]) -> list[str]:
        """``apptainer exec`` with all its options, up to the image."""
        words = [_program(), "--quiet", "exec", "--containall", "--cleanenv", "--no-home", "--no-privs"]
        words += ["--no-mount", "bind-paths,hostfs", "--pwd", "/tmp"]
        if walls.network:
            words += ["--net", "--network", "none"]
        if walls.limits:
            memory = f"{memory_limit(job, this_machine())}"
            words += ["--memory", memory, "--memory-swap", memory, "--pids-limit", f"{PIDS}"]
            if job.resources.cpus:
                words += ["--cpus", f"{job.resources.cpus:g}"]
        if wants_gpu(declaration, job):
            words.append("--nv")
        return [*words, *options]


def program() -> str | None:
    """Where ``apptainer``, else ``singularity``, is; None if there is neither."""
    return next(filter(None, map(shutil.which, _PROGRAMS)), None)


def version() -> str:
    """``apptainer version 1.4.5``; "" if it does not say."""
    return _call([_program(), "--version"])[1].strip()


def describe(found: str, job: Job, walls: Walls) -> dict[str, Any]:
    """What is in force, in the words of ``result.json``, from what the probe saw and which limits were accepted."""
    status_text, interfaces, mounted = found.split("---\n")
    status = dict(line.split(":\t", 1) for line in status_text.splitlines() if ":\t" in line)
    names = {line.partition(":")[0].strip() for line in interfaces.splitlines() if ":" in line}
    read_only = {fields[4]: _is_read_only(fields) for fields in map(str.split, mounted.splitlines())}
    no_new = status.get("NoNewPrivs", "0").strip() == "1"
    held = [int(status.get(kind, "1"), 16) for kind in ("CapPrm", "CapEff")]
    bounding = int(status.get("CapBnd", "1"), 16)
    memory = memory_limit(job, this_machine()) if walls.limits else None
    return {
        "network": "none" if names <= {"lo"} else "host",
        "root_filesystem": "read-only" if read_only.get("/") else "writable",
        "inputs": "read-only"
        if all(read_only.get(f"{FOLDER}/inputs/{role}") for role in job.inputs)
        else "not protected",
        "capabilities": "none" if not any(held) and (no_new or not bounding) else "some",
        "no_new_privileges": no_new,
        "memory_limit_bytes": memory,
        "swap": "none" if memory else "not limited",
        "pids_limit": PIDS if walls.limits else None,
        "cpus": job.resources.cpus if walls.limits else None,
        "limits": "of the scheduler's job" if in_scheduler() else "of the container" if walls.limits else "none",
        "user": ":".join(status[kind].split()[1] for kind in ("Uid", "Gid")),
        "rootless": os.getuid() != 0,
        "seccomp": status.get("Seccomp", "0").strip() == "2",
        "tmpfs": [],
    }


def _is_read_only(fields: Sequence[str]) -> bool:
    """Of a line of mountinfo, see proc(5): the options of the mount, or those of the file system after the dash."""
    return "ro" in fields[5].split(",") or "ro" in fields[-1].split(",")


def _warnings(isolation: Mapping[str, Any]) -> Iterator[str]:
    if isolation["network"] != "none":
        yield "Apptainer cannot take the network away here: the run could reach it."
    if isolation["root_filesystem"] != "read-only" or isolation["inputs"] != "read-only":
        yield "Apptainer could not protect all files here: see isolation in result.json."
    if isolation["limits"] == "none":
        yield "Apptainer cannot limit memory and processes here: the run could take all that this machine has."


def _program() -> str:
    return program() or _PROGRAMS[0]


def in_scheduler() -> bool:
    """Whether this process is part of a scheduler's job, which has limits of its own."""
    return any(os.environ.get(name) for name in _SCHEDULERS)


def _candidates() -> list[Walls]:
    limits = (False,) if in_scheduler() else (True, False)
    return [Walls(network, limit) for network in (True, False) for limit in limits]


def _inside(declaration: Declaration, job: Job) -> list[str]:
    """What runs in the container. ``env``, as Apptainer refuses to be told another ``HOME``."""
    variables = environment(declaration, job)
    devices = visible_devices(job.resources.gpus if wants_gpu(declaration, job) else "none")
    if devices is not None:
        variables["CUDA_VISIBLE_DEVICES"] = devices
    return ["env", *(f"{name}={value}" for name, value in variables.items()), "synthkit-run", FOLDER]


def _own_environment() -> dict[str, str]:
    """This machine's environment for Apptainer itself, without what would bind more or set more inside."""
    prefixes = ("APPTAINER", "SINGULARITY")
    kept = {f"{prefix}_{name}" for prefix in prefixes for name in _KEPT}
    return {name: value for name, value in os.environ.items() if name in kept or not name.startswith(prefixes)}


@contextmanager
def _stage(run: Run, job: Job) -> Iterator[Path]:
    """A folder with ``work`` for the run's ``/tmp`` and ``inputs`` with something to mount each input on.

    In the run folder inputs are links, which a mount would follow.
    """
    with tempfile.TemporaryDirectory(prefix="synthkit-", ignore_cleanup_errors=True) as folder:
        stage = Path(folder)
        (stage / "work").mkdir()
        (stage / "inputs").mkdir()
        for role in job.inputs:
            target = stage / "inputs" / role
            if run.input(role).is_dir():
                target.mkdir()
            else:
                target.touch()
        yield stage


def _binds(run: Run, job: Job, stage: Path) -> list[str]:
    found = [
        (mount["Source"], mount["Target"], bool(mount.get("ReadOnly")))
        for mount in mounts(run, job, f"{os.getuid()}:{os.getgid()}")
    ]
    inputs = (str(stage / "inputs"), f"{FOLDER}/inputs", True)
    first = [item for item in found if not item[1].startswith(f"{FOLDER}/inputs/")]
    words = []
    for source, target, read_only in [*first, inputs, *(item for item in found if item not in first)]:
        fields = ["type=bind", f"source={source}", f"destination={target}", *(["ro"] if read_only else [])]
        line = io.StringIO()  # Apptainer reads it as CSV, so that paths may hold commas and colons
        csv.writer(line, lineterminator="").writerow(fields)
        words += ["--mount", line.getvalue()]
    return words


def _inspect(path: Path) -> containers.Image:
    status, found, reason = _call([_program(), "inspect", "--json", "--labels", str(path)])
    try:
        labels = json.loads(found)["data"]["attributes"]["labels"] if status == 0 else None
    except (ValueError, KeyError, TypeError):
        labels = None
    if not isinstance(labels, dict):
        raise BackendUnavailableError(
            f"{path} is not an image that Apptainer can read.",
            f"{(reason.strip().splitlines() or ['It has no labels.'])[-1]}",
            "Build it again: see `synthkit containers export --help`.",
        )
    stat = path.stat()
    return containers.labelled_image(
        path.name, labels, id=str(path), bytes=stat.st_size, created=f"{stat.st_mtime:.0f}", repo_digests=()
    )


def _call(command: Sequence[str]) -> tuple[int, str, str]:
    """Status, output and errors of a short command; status -1 and the reason if it could not be run."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=_own_environment(),
            timeout=_START_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return -1, "", str(error)
    return done.returncode, done.stdout, done.stderr
