"""A sample of the runs of a study, repeated one after another.

The runs are put into an order that the seed alone decides: within a verb by the sha256 of seed and path, the verbs by
that of seed and verb. One run of each verb is taken in turn until there are enough, so that a study with hundreds of
segmentations does not give segmentations only. What a run cost plays no part: leaving out the expensive ones would
leave out the trainings.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthkit.errors import DataError, InterruptedRunError, SynthkitError
from synthkit.registry.registry import discover
from synthkit.reproduce.compare import Comparison, Difference, changed_files
from synthkit.reproduce.repeat import How, verify_run
from synthkit.running.backends.following import OnEvent
from synthkit.running.run import Job, Run, find_runs


@dataclass(frozen=True)
class Found:
    """A run below a folder: ``name`` is its path from there, ``result`` None where it has none that can be read."""

    name: str
    run: Run
    job: Job
    result: dict[str, Any] | None
    problem: SynthkitError | None = None

    @property
    def finished(self) -> bool:
        return self.result is not None and self.result.get("status") == "succeeded"


@dataclass(frozen=True)
class Drawn:
    """Which runs of a folder are repeated.

    Attributes
    ----------
    runs : those that were drawn, in the order of drawing.
    others : the finished ones that were not; their files are compared with their digests all the same.
    unfinished : names of runs without a successful result.
    damaged : runs whose result cannot be read.
    """

    runs: tuple[Found, ...]
    others: tuple[Found, ...]
    unfinished: tuple[str, ...]
    damaged: tuple[Found, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of one run: a comparison, or the error that kept it from being repeated."""

    name: str
    verb: str
    plugins: tuple[str, ...]
    comparison: Comparison | None = None
    error: SynthkitError | None = None

    @property
    def word(self) -> str:
        """ "same", "different" or "error"."""
        if self.comparison is None:
            return "error"
        return "same" if self.comparison.same else "different"

    @property
    def detail(self) -> str:
        """What differs, or why it could not be repeated, or what was equal; one line."""
        if self.comparison is None:
            return str(self.error)
        different = [f"{d.what}: {d.detail}" for d in self.comparison.differences if not d.same]
        return "; ".join(different) or ", ".join(d.what for d in self.comparison.differences)

    def to_dict(self) -> dict[str, Any]:
        compared = self.comparison.to_dict() if self.comparison is not None else {}
        return {
            **compared,
            "run": self.name,
            "verb": self.verb,
            "plugins": list(self.plugins),
            "outcome": self.word,
            "error": None if self.error is None else self.error.to_dict(),
        }


def draw_runs(folder: Path, n: int, seed: int, verbs: Sequence[str] = ()) -> Drawn:
    """``n`` of the finished runs at or below ``folder``; of ``verbs`` only, where some are given.

    Raises :class:`DataError` if there is none.
    """
    runs = [_look_at(run, folder) for run in find_runs([folder])]
    finished = [found for found in runs if found.finished]
    candidates = [found for found in finished if not verbs or found.job.verb in verbs]
    if not candidates:
        raise DataError(
            f"There is no finished run{' of ' + ', '.join(verbs) if verbs else ''} in {folder}.",
            f"It holds {len(runs)} runs, {len(finished)} of them finished.",
            "Give a run, or a folder that holds some.",
        )
    runs_of: dict[str, list[Found]] = {}
    for found in sorted(candidates, key=lambda found: _lot(seed, found.name)):
        runs_of.setdefault(found.job.verb, []).append(found)
    groups = [runs_of[verb] for verb in sorted(runs_of, key=lambda verb: _lot(seed, verb))]
    in_turn = [found for turn in itertools.zip_longest(*groups) for found in turn if found is not None]
    drawn = tuple(in_turn[:n])
    return Drawn(
        runs=drawn,
        others=tuple(found for found in finished if found not in drawn),
        unfinished=tuple(found.name for found in runs if not found.finished and found.problem is None),
        damaged=tuple(found for found in runs if found.problem is not None),
    )


def verify_runs(
    drawn: Drawn,
    how: How,
    *,
    keep: Path | None = None,
    following: Callable[[str], AbstractContextManager[OnEvent]],
) -> Iterator[Outcome]:
    """Repeat the runs that were drawn; of the others, those whose files have changed or whose result is damaged.

    ``following`` gives, for the name of a run, a context in which its events are followed. An error of one run is its
    outcome, and the rest go on; an interrupt ends all.
    """
    registry = discover()
    for found in drawn.runs:
        about = (found.name, found.job.verb, found.job.plugins)
        try:
            with following(found.name) as on_event:
                target = keep / found.name if keep is not None else None
                comparison = verify_run(found.run.path, keep=target, how=how, on_event=on_event, registry=registry)
            yield Outcome(*about, comparison=comparison)
        except InterruptedRunError:
            raise
        except SynthkitError as error:
            yield Outcome(*about, error=error)
    for found in drawn.damaged:
        yield Outcome(found.name, found.job.verb, found.job.plugins, error=found.problem)
    changed: list[tuple[Found, list[Difference]]] = []
    with following("the files of the other runs") as on_event:
        for number, found in enumerate(drawn.others, start=1):
            changed.append((found, changed_files(found.run, found.result or {})))
            on_event({"event": "progress", "step": number, "total": len(drawn.others), "unit": "run", "values": {}})
    for found, differences in changed:
        if differences:
            comparison = Comparison(str(found.run.path), "", differences=differences)
            yield Outcome(found.name, found.job.verb, found.job.plugins, comparison=comparison)


def _look_at(run: Run, folder: Path) -> Found:
    name = run.path.resolve().relative_to(folder.resolve()).as_posix()
    try:
        return Found(name, run, run.job(), run.result())
    except DataError as error:
        return Found(name, run, run.job(), None, error)


def _lot(seed: int, name: str) -> str:
    """A lot that the other runs of the folder have no say in, nor the version of a random number generator."""
    return hashlib.sha256(f"{seed} {name}".encode()).hexdigest()
