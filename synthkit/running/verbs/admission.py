"""What a run has done, as the host takes it: reckoned again from its outputs and its job, and not as the run told it.

A method has the run folder to itself while it works, so what lies there afterwards may be anything. Files that lead
elsewhere or hold whoever opens them are gone by now (:mod:`synthkit.running.outputs`). Here every output is read once;
whatever the host knows itself (the plugin, its parameters, what it was trained on, digests, a verdict) is written as
the host knows it, and what remains the run's word are its samples, weights, labels and scores. Each verb has its own
``admit`` beside what it asks and does.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from synthkit.contract import NOTES, Declaration
from synthkit.data.writer import mark_incomplete
from synthkit.errors import DataError
from synthkit.files import discard
from synthkit.running.checkpoints import read_checkpoint_metadata
from synthkit.running.run import Job, Run

#: What a run may tell of itself, once its result is signed; all else in it is passed over.
_TOLD = ("outputs", "scores", "scheme", "protocol", "started", "seconds", "versions", "code", "machine")


def module_of(verb: str) -> Any:
    """The module of a verb: ``do`` in it is done in the run, ``admit`` on the host. No other verb is imported."""
    return importlib.import_module(f"synthkit.running.verbs.{verb.replace('-', '_')}")


def admitted(run: Run, job: Job, declarations: tuple[Declaration, ...], result: Mapping[str, Any]) -> dict[str, Any]:
    """The part of ``result.json`` that says what a run which succeeded has made.

    ``corrected`` in it names what the run had written otherwise than the host knows it. Raises
    :class:`ContainerFailedError` for outputs that are not what the job makes, and :class:`DataError` where an input has
    changed since.
    """
    told = {key: result[key] for key in _TOLD if key in result}
    made: dict[str, Any] = module_of(job.verb).admit(run, job, declarations, told)
    return {**told, **made}


def withdraw(run: Run) -> None:
    """Take the marks away by which outputs count as finished: those of a run that failed do not, but can be resumed."""
    with suppress(DataError, OSError):
        if not _says_unfinished(run):
            discard(run.checkpoint / NOTES)
        mark_incomplete(run.dataset)


def _says_unfinished(run: Run) -> bool:
    """Whether the notes on a checkpoint do not take it for finished: samples are drawn from such by name only."""
    try:
        return bool(read_checkpoint_metadata(run.checkpoint).get("unfinished"))
    except DataError:
        return False
