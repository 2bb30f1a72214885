"""Where a run executes. A backend makes the run folder appear somewhere and starts ``synthkit-run`` on it there.

``inline`` is this process (tests, debugging), ``local`` a fresh process with this Python, ``docker`` a hardened
container, ``apptainer`` a container without an engine. They share what happens around: following events, the time
limit, the interrupt, the final result.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol

from synthkit.contract import Declaration
from synthkit.errors import BackendUnavailableError, UsageError
from synthkit.running.backends.following import OnEvent
from synthkit.running.run import Job, Run

#: Backends that come with synthkit, by name: the module and class of each. Others join by an entry point in the group
#: ``synthkit.backends``; none of them can take one of these names.
BUILT_IN = {
    "docker": "synthkit.running.backends.docker:DockerBackend",
    "apptainer": "synthkit.running.backends.apptainer:ApptainerBackend",
    "local": "synthkit.running.backends.local:LocalBackend",
    "inline": "synthkit.running.backends.local:InlineBackend",
}
ENTRY_POINT_GROUP = "synthkit.backends"
#: The one that a job runs on if none is asked for, and the one that is this process.
DEFAULT, IN_PROCESS = "docker", "inline"
VARIABLE = "SYNTHKIT_BACKEND"


class Backend(Protocol):
    """One way of executing a run folder. A class that is called without arguments.

    Attributes
    ----------
    name : what ``--backend`` calls it.
    lock_section : the section of ``synthkit.lock`` that holds what it runs plugins from: "images" of the engine, "sif"
        files; empty for this Python and its packages.
    """

    name: str
    lock_section: str

    def check(self, declaration: Declaration, job: Job) -> None:
        """Raise the error that a run would end with if it is plain beforehand: no engine, no image, no GPU."""
        ...

    def run(self, run: Run, declaration: Declaration, on_event: OnEvent) -> dict[str, Any]:
        """Execute the job, calling ``on_event`` for each event as it comes. Returns the final ``result.json``.

        Makes an :class:`synthkit.running.backends.outcome.Attempt` before it starts, and returns what its ``finish``
        does: the result is written whatever happens, and holds what the host has found. An interrupt of the user ends
        the run with grace first; a second one kills it.
        """
        ...

    def command(self, run: Run, declaration: Declaration, job: Job) -> str:
        """The shell command that does about the same; shown by ``--dry-run``."""
        ...

    def limits_memory(self) -> bool:
        """Whether it can hold a run to ``--memory`` here; where not, it refuses one."""
        ...

    def pin(self, container: Mapping[str, Any], declaration: Declaration) -> None:
        """From now on run in the container image that a result recorded as ``container``.

        Raises :class:`BackendUnavailableError`, here or when it is used, if that image is not there.
        """
        ...


def names() -> tuple[str, ...]:
    """All backends, those of synthkit first."""
    others = {point.name for point in entry_points(group=ENTRY_POINT_GROUP)}
    return (*BUILT_IN, *sorted(others - set(BUILT_IN)))


def get(name: str) -> Backend:
    """The backend called ``name``; :class:`UsageError` if there is none, or if it cannot be imported."""
    where = BUILT_IN.get(name)
    points = entry_points(group=ENTRY_POINT_GROUP, name=name)
    point = EntryPoint(name, where, ENTRY_POINT_GROUP) if where else next(iter(points), None)
    if point is None:
        raise UsageError(
            f"There is no backend {name!r}.", f"There are: {', '.join(names())}.", "Choose one with --backend."
        )
    try:
        backend: Backend = point.load()()
    except Exception as error:  # somebody else's package: anything may go wrong there
        if where:
            raise
        raise UsageError(
            f"The backend {name} cannot be used.", f"{type(error).__name__}: {error}.", "Repair or uninstall it."
        ) from error
    return backend


def asked(name: str | None = None) -> str | None:
    """The backend that ``--backend``, given as ``name``, or else ``SYNTHKIT_BACKEND`` asks for; None for neither."""
    return name or os.environ.get(VARIABLE) or None


def choose(name: str | None, declaration: Declaration, job: Job) -> Backend:
    """The backend asked for by ``--backend`` or ``SYNTHKIT_BACKEND``, else docker if it can run this job.

    Without a choice and without docker, the ways out are named: nothing falls back to running code unisolated.
    """
    wanted = asked(name)
    backend = get(wanted or DEFAULT)
    try:
        backend.check(declaration, job)
    except BackendUnavailableError as error:
        if wanted is not None:
            raise
        raise BackendUnavailableError(
            error.what,
            error.why,
            f"{error.fix} On a cluster with Apptainer: --backend apptainer. Or run without isolation, in this Python: "
            "--backend local (or SYNTHKIT_BACKEND=local).",
        ) from error
    return backend
