"""The run folder: one job in, one result out.

::

    job.json       what to do; relative paths only, so the folder can be moved and run elsewhere
    inputs/ROLE    read-only (a symbolic link here, a bind mount in a container)
    outputs/       what the run makes; the only place a method writes
    events.jsonl   progress and messages, followed live
    log.txt        what the method printed
    result.json    written last, atomically, whether the run succeeded or failed
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from synthkit.contract import CONTRACT_VERSION, NOTES
from synthkit.errors import DataError, UsageError
from synthkit.files import (
    LINKED,
    Replacement,
    discard,
    open_descriptor,
    open_inside,
    read_untrusted,
    write_atomically,
)
from synthkit.running.exclusive import LOCK_NAME
from synthkit.running.resuming import check_goes_on
from synthkit.running.timing import seconds_of_attempt

Verb = Literal["train", "import-checkpoint", "generate", "segment", "evaluate", "audit-memorization"]

JOB, RESULT, EVENTS, LOG = "job.json", "result.json", "events.jsonl", "log.txt"

#: Far more than any result has; a method could fill the disk with one.
MAX_JSON_BYTES = 256 * 2**20


@dataclass
class Input:
    """One input of a job.

    Attributes
    ----------
    kind : "subjects" are NIfTI folders with contrasts, "labels" NIfTI label volumes, "masks" pictures of label maps.
    source : absolute path on this machine; not part of ``job.json``.
    splits : for a dataset, the splits that the role sees; empty means all that may be trained on.
    digest : of the content when the job was made; empty for folders of NIfTI files, which are not hashed.
    """

    kind: Literal["dataset", "checkpoint", "subjects", "labels", "masks", "file"]
    source: Path | None = None
    splits: tuple[str, ...] = ()
    digest: str = ""


@dataclass
class Resources:
    """What a run may use.

    Attributes
    ----------
    gpus : in Docker's syntax: "none", "all", "2" (a count) or "device=0,1".
    disk_bytes : that it may add to its folder; None for 90 % of what is free there.
    cpus : cores of a container, and on every backend but inline threads of the libraries inside (:attr:`threads`).
        None for all: results on a CPU then depend on the machine, as sums over several threads round differently.
    """

    gpus: str = "none"
    memory_bytes: int | None = None
    disk_bytes: int | None = None
    timeout_seconds: float | None = None
    cpus: float | None = None

    @property
    def threads(self) -> dict[str, str]:
        """Variables of the environment that keep OpenMP, OpenBLAS and MKL to ``cpus``; none where it is not given."""
        if not self.cpus:
            return {}
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        return dict.fromkeys(names, str(max(1, math.ceil(self.cpus))))


def count_gpus(asked: str) -> int | None:
    """How many GPUs :attr:`Resources.gpus` asks for, None for all; :class:`UsageError` if it is none of its forms."""
    if asked in ("none", "all"):
        return 0 if asked == "none" else None
    if asked.startswith("device="):
        n = len([device for device in asked.removeprefix("device=").split(",") if device])
    else:
        n = int(asked) if asked.isdecimal() else 0
    if not n:
        raise UsageError(f"--gpus {asked} is not understood.", fix="Write all, none, a number, or device=0,1.")
    return n


@dataclass
class Job:
    """What a run is to do, as ``job.json`` holds it.

    ``plugins`` are the nouns (several only for metrics of one package); ``options`` belong to the verb: contrasts of
    ``import-checkpoint``, seeds and conditions of ``generate``, subjects of ``segment``, the policy of
    ``audit-memorization``. ``spent_seconds`` is what earlier attempts took, which this one goes on from.
    """

    verb: Verb
    plugins: tuple[str, ...]
    params: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Input] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)
    command: tuple[str, ...] = ()
    created: str = ""
    spent_seconds: float = 0.0
    synthkit: str = ""
    lock: str = ""
    contract: int = CONTRACT_VERSION

    def to_dict(self) -> dict[str, Any]:
        inputs = {
            role: {"path": f"inputs/{role}", "kind": item.kind, "splits": list(item.splits), "digest": item.digest}
            for role, item in self.inputs.items()
        }
        return {**asdict(self), "plugins": list(self.plugins), "command": list(self.command), "inputs": inputs}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Job:
        inputs = {
            role: Input(kind=item["kind"], splits=tuple(item.get("splits", ())), digest=item.get("digest", ""))
            for role, item in data.get("inputs", {}).items()
        }
        if data["verb"] not in get_args(Verb):
            raise ValueError(f"the verb {data['verb']!r} is unknown")
        return cls(
            verb=data["verb"],
            plugins=tuple(data["plugins"]),
            params=dict(data.get("params", {})),
            inputs=inputs,
            options=dict(data.get("options", {})),
            resources=Resources(**data.get("resources", {})),
            command=tuple(data.get("command", ())),
            created=data.get("created", ""),
            spent_seconds=float(data.get("spent_seconds", 0.0)),
            synthkit=data.get("synthkit", ""),
            lock=data.get("lock", ""),
            contract=int(data["contract"]),
        )


@dataclass(frozen=True)
class Run:
    """A run folder."""

    path: Path

    @property
    def outputs(self) -> Path:
        return self.path / "outputs"

    @property
    def checkpoint(self) -> Path:
        return self.outputs / "checkpoint"

    @property
    def dataset(self) -> Path:
        return self.outputs / "dataset"

    @property
    def predictions(self) -> Path:
        return self.outputs / "predictions"

    @property
    def probabilities(self) -> Path:
        return self.outputs / "probabilities"

    def input(self, role: str) -> Path:
        return self.path / "inputs" / role

    def job(self) -> Job:
        """Read ``job.json``; :class:`DataError` if it is missing, damaged or of a newer contract."""
        data = self._read(JOB)
        try:
            if int(data.get("contract", 0)) > CONTRACT_VERSION:
                raise DataError(
                    f"{self.path / JOB} was written for contract {data['contract']}.",
                    f"This synthkit has contract {CONTRACT_VERSION}.",
                    "Update synthkit-core, here or in the container image.",
                )
            return Job.from_dict(data)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{self.path / JOB} is not a job.", f"{error!r}.", "Make the run again.") from error

    def result(self) -> dict[str, Any] | None:
        """``result.json``, or None while there is none."""
        return self._read(RESULT) if os.path.lexists(self.path / RESULT) else None

    def seconds_spent(self) -> float:
        """Seconds that the attempts at this run took so far, all together; see :mod:`synthkit.running.timing`."""
        job = self.job()
        try:
            result = self.result()
        except DataError:  # damaged: as if there were none
            result = None
        return job.spent_seconds + seconds_of_attempt(job.created, result, self.path / EVENTS)

    def write_result(self, result: Mapping[str, Any]) -> None:
        write_json(self.path / RESULT, result)

    def _read(self, name: str) -> dict[str, Any]:
        try:
            data = json.loads(read_untrusted(self.path / name, MAX_JSON_BYTES))
        except FileNotFoundError as error:
            raise DataError(
                f"{self.path} is not a run folder.", f"It has no {name}.", "Give the folder that -o named."
            ) from error
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{self.path / name} cannot be read.", f"{error}.", "Make the run again.") from error
        if not isinstance(data, dict):
            raise DataError(f"{self.path / name} cannot be read.", "It is not a JSON object.", "Make the run again.")
        return data


_UNASKED = "Nothing is overwritten unasked."
_NOTHING: Mapping[str, str] = MappingProxyType({})


def create_run(
    path: Path, job: Job, *, resume: bool = False, overwrite: bool = False, may_change: Mapping[str, str] = _NOTHING
) -> Run:
    """Make the run folder of ``job``: job.json, links to the inputs, an empty outputs folder.

    With ``resume`` a folder of the same job is taken up, its outputs kept; for ``may_change`` see
    :func:`synthkit.running.resuming.check_goes_on`. With ``overwrite`` the run of a folder is set aside in
    :func:`replaced_in`, which forgets it or puts it back. A run that failed before it made anything makes room.
    Anything else that is not empty is refused with :class:`UsageError`.
    """
    run = Run(path)
    job.spent_seconds = 0.0
    job.created = job.created or datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    job.command = tuple(map(_without_folders, job.command or ("synthkit", *sys.argv[1:])))
    if not job.synthkit:
        from synthkit import __version__

        job.synthkit = __version__
    sources = {role: item.source.resolve() for role, item in job.inputs.items() if item.source is not None}
    if missing := sorted(set(job.inputs) - set(sources)):
        raise UsageError(f"The input {missing[0]} has no source.")
    if path.is_dir():
        replaced_in(path).recover()
    if path.is_dir() and not (overwrite or resume) and _made_nothing(run):
        for item in (item for item in path.iterdir() if item.name != LOCK_NAME):
            discard(item)
    if path.exists() and (not path.is_dir() or any(item.name != LOCK_NAME for item in path.iterdir())):
        _clear_the_way(run, job, sources, resume, overwrite, may_change)
    path.mkdir(parents=True, exist_ok=True)
    # First of all: what has a job is a run folder, which --resume and --overwrite accept however this ends.
    write_json(path / JOB, job.to_dict())
    for folder in (path / "inputs", run.outputs):
        if folder.is_symlink():  # laid by an earlier attempt: what follows would be done wherever it leads
            raise DataError(f"{folder} is a link.", "No run makes one there.", "Give --overwrite, or another folder.")
        folder.mkdir(exist_ok=True)
    for role, source in sources.items():
        link = run.input(role)
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(source, link.parent.resolve()))
    return run


def replaced_in(folder: Path) -> Replacement:
    """The run that another one replaces in a folder."""
    return Replacement(folder, JOB, _has_outputs, stays=(LOCK_NAME,))


def _has_outputs(folder: Path) -> bool:
    """Whether a run has made anything; what is noted of a training before its first step is nothing."""
    return any(
        name != NOTES and Path(place, name).lstat().st_size
        for place, _, names in os.walk(folder / "outputs")
        for name in names
    )


def _made_nothing(run: Run) -> bool:
    """Whether a folder holds a run that failed before it made anything, and nothing besides."""
    own = {JOB, RESULT, EVENTS, LOG, "inputs", "outputs", LOCK_NAME}
    if not (run.path / JOB).is_file() or any(item.name not in own for item in run.path.iterdir()):
        return False
    try:
        return (run.result() or {}).get("status") == "failed" and not _has_outputs(run.path)
    except DataError:  # damaged: what it was is not known
        return False


def _without_folders(argument: str) -> str:
    """An argument of the command line as it is recorded: of an absolute path the last name, here and after ``=``."""
    option, equals, value = argument.partition("=")
    if equals and os.path.isabs(value):  # noqa: PTH117
        return f"{option}={Path(value).name}"
    return Path(argument).name if os.path.isabs(argument) else argument  # noqa: PTH117


def _why_it_stays(run: Run, is_run: bool, overwrite: bool) -> str:
    if not is_run:
        return "It is not a run folder, so --overwrite does not remove it." if overwrite else _UNASKED
    try:
        error = (run.result() or {}).get("error")
    except DataError:  # damaged: what it was is not known
        error = None
    if error:
        return f"It holds a run that failed: {error.get('what', '')} --overwrite makes room for another command."
    return _UNASKED


def _clear_the_way(
    run: Run, job: Job, sources: Mapping[str, Path], resume: bool, overwrite: bool, may_change: Mapping[str, str]
) -> None:
    is_run = (run.path / JOB).is_file()
    if overwrite and is_run:
        target = run.path.resolve()
        for role, source in sources.items():
            if source.is_relative_to(target) or target.is_relative_to(source):
                raise UsageError(
                    f"--overwrite would remove the run's own input {role}.",
                    f"{source} and {target} lie in one another.",
                    "Choose another folder for the output.",
                )
        replaced_in(run.path).set_aside()
        return
    if not is_run or not resume:
        raise UsageError(
            f"The output folder {run.path} is not empty.",
            _why_it_stays(run, is_run, overwrite),
            "Choose another folder" + (", or give --overwrite or --resume." if is_run else "."),
        )
    try:
        has_ended = (run.result() or {}).get("status") == "succeeded"
    except DataError:  # damaged: what it was is not known
        has_ended = False
    check_goes_on(run.path, run.job().to_dict(), job.to_dict(), may_change, has_ended=has_ended)
    job.spent_seconds = round(run.seconds_spent(), 3)
    discard(run.path / RESULT)


def find_runs(paths: Sequence[Path]) -> list[Run]:
    """All run folders at or below ``paths``, in the order of their creation; runs inside runs are not searched."""
    found: dict[Path, Run] = {}
    for path in paths:
        if not path.exists():
            raise DataError(f"There is no folder {path}.", fix="Give a run folder, or a folder that holds some.")
        for folder, children, files in os.walk(path):
            if JOB in files:
                found[Path(folder).resolve()] = Run(Path(folder))
                children.clear()
            else:
                children.sort()
    return sorted(found.values(), key=lambda run: (run.job().created, str(run.path)))


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a JSON file that is either the old one or the whole new one. NaN is refused: it is not JSON."""
    write_atomically(path, (json.dumps(data, indent=1, allow_nan=False) + "\n").encode())


def file_digest(path: Path) -> str:
    """``sha256:...`` of a file."""
    with os.fdopen(open_descriptor(path), "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def folder_digest(path: Path, exclude: Sequence[str] = ()) -> str:
    """``sha256:...`` over the relative names and contents of all files below ``path``; :class:`DataError` for links.

    Names that begin with a dot are left out: they are what a killed write leaves behind, and what desktops add.
    """
    digest = hashlib.sha256()
    for file, name in sorted((p, p.relative_to(path)) for p in path.rglob("*")):
        if name.as_posix() in exclude or any(part.startswith(".") for part in name.parts) or _is_folder(file):
            continue
        try:
            with os.fdopen(open_inside(path, *name.parts), "rb") as opened:
                found = f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}"
        except OSError as error:
            raise DataError(f"{file} cannot be read.", f"{error.strerror or error}.", LINKED) from error
        digest.update(json.dumps([name.as_posix(), found]).encode())
    return f"sha256:{digest.hexdigest()}"


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
