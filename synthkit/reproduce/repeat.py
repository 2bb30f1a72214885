"""One run, done again."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synthkit.contract import Declaration
from synthkit.errors import DataError, GateFailedError, error_from_dict
from synthkit.registry.registry import Registry, discover
from synthkit.reproduce.compare import Comparison, changed_files, changed_seal, compare_outputs
from synthkit.running import backends
from synthkit.running.backends import Backend
from synthkit.running.backends.following import OnEvent
from synthkit.running.backends.outcome import result_left_by
from synthkit.running.run import Job, Run, count_gpus, create_run, file_digest, folder_digest


@dataclass(frozen=True)
class How:
    """How runs are repeated.

    Attributes
    ----------
    backend : its name; None for the one that the run ran with.
    current_image : in a container, the image that the plugin has now instead of the one that the run ran in.
    inputs : role -> where this input lies now, for links that a move has broken.
    gpus : as of a run, "none", "all", "2" or "device=0,1"; None for as many as it had, whichever these were.
    """

    backend: str | None = None
    current_image: bool = False
    inputs: Mapping[str, Path] = field(default_factory=dict)
    gpus: str | None = None

    def backend_of(self, result: Mapping[str, Any]) -> str | None:
        return self.backend or result.get("backend")

    def gpus_of(self, job: Job) -> str:
        """The request for GPUs. Numbers of devices are those of the machine then, so that their count is kept alone."""
        asked = job.resources.gpus
        return self.gpus or (str(count_gpus(asked)) if asked.startswith("device=") else asked)

    def image_of(self, result: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The container that the repetition has to run in; None where the run recorded none, or it is not asked for."""
        container = result.get("container") or {}
        # A SIF file is made of an image and has a digest of its own: what one backend recorded tells another nothing.
        wanted = self.backend_of(result) == result.get("backend") and not self.current_image
        return container if wanted and container.get("image_id") else None


def verify_run(
    path: Path, *, keep: Path | None = None, how: How | None = None, on_event: OnEvent, registry: Registry | None = None
) -> Comparison:
    """Repeat the run at ``path`` (into ``keep``, or a temporary folder) and compare.

    Raises :class:`DataError` for a run that did not succeed or whose inputs are gone, :class:`GateFailedError` for
    inputs that have changed, :class:`BackendUnavailableError` where the image that it ran in is not there, and
    whatever the repetition failed with.
    """
    how = how or How()
    run = Run(path)
    job, result = run.job(), result_left_by(run)
    if result is None or result.get("status") != "succeeded":
        raise DataError(
            f"{path} has no successful result.", "There is nothing to compare with.", "Finish it with --resume."
        )
    find_inputs(run, job, how.inputs)
    declaration = (registry or discover()).get(job.plugins[0])
    name = how.backend_of(result)
    if name and not backends.get(name).limits_memory():
        job.resources.memory_bytes = None  # it refuses a limit, which decides whether a run ends and not how
    sealed = changed_seal(job, result)
    # As many threads as then, whatever this machine has: another number rounds differently.
    job.resources.cpus = job.resources.cpus or (result.get("machine") or {}).get("torch_threads")
    job.resources.gpus = how.gpus_of(job)
    job.created = ""
    chosen = _backend(how, result, declaration, job)
    image = how.image_of(result)
    comparison = Comparison(str(path), chosen.name, str(image["image_id"]) if image else "")
    comparison.differences += [*changed_files(run, result), *sealed]
    with tempfile.TemporaryDirectory(prefix="synthkit-verify-") as temporary:
        again = create_run(keep or Path(temporary) / "run", job)
        second = chosen.run(again, declaration, on_event)
        if second["status"] != "succeeded":
            raise error_from_dict(second["error"])
        old_code, new_code = result.get("code") or {}, second.get("code") or {}
        comparison.changed_code = sorted(name for name in old_code if old_code[name] != new_code.get(name))
        comparison.differences += compare_outputs(run, result, again, second, declaration)
    return comparison


def find_inputs(run: Run, job: Job, moved: Mapping[str, Path]) -> None:
    """Set the source of every input: what its link leads to, or where ``moved`` says that it lies now.

    Raises :class:`DataError` for an input that is gone, :class:`GateFailedError` for one that has changed.
    """
    for role, item in job.inputs.items():
        source = moved.get(role, run.input(role))
        if not source.exists():
            there = run.input(role).readlink() if run.input(role).is_symlink() else "nothing"
            raise DataError(
                f"The input {role} of {run.path} is gone.",
                f"{source} leads nowhere (to {there})." if role not in moved else f"There is no {source}.",
                f"Put it back, or say where it lies now: --input {role}=PATH.",
            )
        item.source = source.resolve()
        now = _digest(item.kind, item.source)
        if item.digest and now != item.digest:
            raise GateFailedError(
                f"The input {role} of {run.path} has changed.",
                f"It was {item.digest[:23]}, it is {now[:23]}.",
                "Restore it.",
            )


def _digest(kind: str, source: Path) -> str:
    from synthkit.data.dataset import Dataset

    if kind == "dataset":
        return Dataset(source).digest
    reckon = {"checkpoint": folder_digest, "masks": folder_digest, "file": file_digest}.get(kind)
    return reckon(source) if reckon else ""


def _backend(how: How, result: Mapping[str, Any], declaration: Declaration, job: Job) -> Backend:
    container = how.image_of(result)
    name = how.backend_of(result)
    if container is None or name is None:
        return backends.choose(name, declaration, job)
    backend = backends.get(name)
    backend.pin(container, declaration)
    backend.check(declaration, job)
    return backend
