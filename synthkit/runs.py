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
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from synthkit.contract import CONTRACT_VERSION
from synthkit.errors import DataError, UsageError

Verb = Literal["train", "generate", "segment", "evaluate", "audit-memorization"]

JOB, RESULT, EVENTS, LOG = "job.json", "result.json", "events.jsonl", "log.txt"


@dataclass
class Input:
    """One input of a job.

    Attributes
    ----------
    kind : "dataset", "checkpoint", "subjects" (NIfTI folders with contrasts) or "labels" (NIfTI label volumes).
    source : absolute path on this machine; not part of ``job.json``.
    splits : for a dataset, the splits that the role sees; empty means all that may be trained on.
    digest : of the content when the job was made; empty for folders of NIfTI files, which are not hashed.
    """

    kind: Literal["dataset", "checkpoint", "subjects", "labels"]
    source: Path | None = None
    splits: tuple[str, ...] = ()
    digest: str = ""


@dataclass
class Resources:
    """What a run may use. ``gpus`` in Docker's syntax: "none", "all", "2" (a count) or "device=0,1"."""

    gpus: str = "none"
    memory_bytes: int | None = None
    timeout_seconds: float | None = None
    cpus: float | None = None


@dataclass
class Job:
    """What a run is to do, as ``job.json`` holds it.

    ``plugins`` are the nouns (several only for metrics of one package); ``options`` belong to the verb: seeds of
    ``generate``, subjects of ``segment``, the policy of ``audit-memorization``.
    """

    verb: Verb
    plugins: tuple[str, ...]
    params: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Input] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)
    command: tuple[str, ...] = ()
    created: str = ""
    synthkit: str = ""
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
            synthkit=data.get("synthkit", ""),
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
            raise DataError(f"{self.path / JOB} is no job.", f"{error!r}.", "Make the run again.") from error

    def result(self) -> dict[str, Any] | None:
        """``result.json``, or None while there is none."""
        return self._read(RESULT) if (self.path / RESULT).is_file() else None

    def write_result(self, result: Mapping[str, Any]) -> None:
        write_json(self.path / RESULT, result)

    def _read(self, name: str) -> dict[str, Any]:
        try:
            data = json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DataError(
                f"{self.path} is not a run folder.", f"It has no {name}.", "Give the folder that -o named."
            ) from error
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path / name} cannot be read.", f"{error}.", "Make the run again.") from error
        if not isinstance(data, dict):
            raise DataError(f"{self.path / name} cannot be read.", "It is not a JSON object.", "Make the run again.")
        return data


def create_run(path: Path, job: Job, *, resume: bool = False, overwrite: bool = False) -> Run:
    """Make the run folder of ``job``: job.json, links to the inputs, an empty outputs folder.

    With ``resume`` a folder of the same job is taken up, its outputs kept; with ``overwrite`` a run folder is
    replaced. Anything else that is not empty is refused with :class:`UsageError`.
    """
    run = Run(path)
    job.created = job.created or datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    job.command = job.command or ("synthkit", *sys.argv[1:])
    if not job.synthkit:
        from synthkit import __version__

        job.synthkit = __version__
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        _clear_the_way(run, job, resume=resume, overwrite=overwrite)
    for folder in (path, path / "inputs", run.outputs):
        folder.mkdir(parents=True, exist_ok=True)
    for role, item in job.inputs.items():
        link = run.input(role)
        if item.source is None:
            raise UsageError(f"The input {role} has no source.")
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(item.source.resolve(), link.parent.resolve()))
    write_json(path / JOB, job.to_dict())
    return run


def _clear_the_way(run: Run, job: Job, *, resume: bool, overwrite: bool) -> None:
    is_run = (run.path / JOB).is_file()
    if overwrite and is_run:
        shutil.rmtree(run.path)
        return
    if not is_run or not resume:
        raise UsageError(
            f"The output folder {run.path} is not empty.",
            "Nothing is overwritten unasked."
            if is_run or not overwrite
            else "It is not a run folder, so --overwrite does not remove it.",
            "Choose another folder" + (", or give --overwrite or --resume." if is_run else "."),
        )
    before = run.job()
    for what in ("verb", "plugins", "params", "options"):
        old, new = json.loads(json.dumps([before.to_dict()[what], job.to_dict()[what]]))
        if old != new:
            raise UsageError(
                f"The run {run.path} cannot be resumed with this command.",
                f"Its {what}: {old}; this command's: {new}.",
                "Give the command it was begun with, or another folder.",
            )
    for role in sorted({*before.inputs, *job.inputs}):
        old_input, new_input = before.inputs.get(role), job.inputs.get(role)
        if old_input is None or new_input is None or replace(new_input, source=None) != old_input:
            raise UsageError(
                f"The run {run.path} cannot be resumed with this command.",
                f"Its input {role} was another one.",
                "Give the command it was begun with, or another folder.",
            )
    (run.path / RESULT).unlink(missing_ok=True)


def find_checkpoint(path: Path) -> Path:
    """The checkpoint of a run folder, or ``path`` if it is a checkpoint folder itself."""
    for candidate in (path / "outputs" / "checkpoint", path):
        if (candidate / CHECKPOINT_METADATA).is_file():
            return candidate
    why = "It does not exist."
    if path.exists():
        result = Run(path).result() if (path / JOB).is_file() else None
        if result is not None and result.get("status") != "succeeded":
            why = "Its training did not succeed."
        elif (path / JOB).is_file():
            why = "Its training has not finished; run the same command with --resume."
        else:
            why = "It is not a run folder of `synthkit train`."
    raise DataError(f"There is no trained model at {path}.", why, "Train one with `synthkit train`.")


CHECKPOINT_METADATA = "synthkit.json"


def read_checkpoint_metadata(checkpoint: Path) -> dict[str, Any]:
    """What synthkit notes beside a method's files: plugin, contrasts, labels, size, protocol, training lineage."""
    try:
        metadata = json.loads((checkpoint / CHECKPOINT_METADATA).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"The checkpoint {checkpoint} cannot be read.", f"{error}.", "Train it again.") from error
    if not isinstance(metadata, dict) or "plugin" not in metadata:
        raise DataError(
            f"The checkpoint {checkpoint} cannot be read.", "Its description is no object.", "Train it again."
        )
    return metadata


def find_predictions(path: Path) -> Path:
    """The label volumes of a ``segment`` run, or ``path`` if it is a folder of label volumes."""
    inside = path / "outputs" / "predictions"
    return inside if inside.is_dir() else path


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
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(data, file, indent=1, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def file_digest(path: Path) -> str:
    """``sha256:...`` of a file."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def folder_digest(path: Path, exclude: Sequence[str] = ()) -> str:
    """``sha256:...`` over the relative names and contents of all files below ``path``."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file() and p.relative_to(path).as_posix() not in exclude):
        digest.update(json.dumps([file.relative_to(path).as_posix(), file_digest(file)]).encode())
    return f"sha256:{digest.hexdigest()}"
