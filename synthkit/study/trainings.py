"""What the finished trainings of a segmenter's arms tell: unequal settings, and learning that had not ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from synthkit.errors import SynthkitError
from synthkit.judging.comparable import Training, find_differences
from synthkit.judging.learning import still_learning
from synthkit.running.checkpoints import find_checkpoint, read_checkpoint_metadata
from synthkit.running.run import EVENTS
from synthkit.study import layout
from synthkit.study.config import Study

if TYPE_CHECKING:
    from synthkit.study.results import DoneSteps


def _finished(done: DoneSteps, study: Study, name: str, augmentation: str) -> Iterator[tuple[str, int, Path]]:
    """Arm, seed and run folder."""
    for arm in study.arms:
        for seed in study.segmenters[name].seeds:
            run = layout.segmenter_run(name, arm, augmentation, seed, "train")
            if done.result(run) is not None:
                yield arm, seed, done.folder / run


def unequal(done: DoneSteps, study: Study, name: str, augmentation: str) -> list[str]:
    """In what the finished trainings of all arms differ besides their data."""
    found = []
    for arm, _, run in _finished(done, study, name, augmentation):
        try:
            metadata = read_checkpoint_metadata(find_checkpoint(run))
        except SynthkitError:
            continue
        found.append(Training(f"{name} on {arm}", metadata))
    return [text for _, text in find_differences(found)] if found else []


def unfinished(done: DoneSteps, study: Study, name: str, augmentation: str) -> list[str]:
    """Which of them had not ended learning, in sentences."""
    found = _finished(done, study, name, augmentation)
    return still_learning({f"{name} on {arm}, seed {seed}": run / EVENTS for arm, seed, run in found})
