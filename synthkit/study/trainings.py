"""What the finished trainings of a segmenter's arms tell: unequal settings, and learning that had not ended."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from synthkit.errors import SynthkitError
from synthkit.judging.comparable import Training, find_differences
from synthkit.judging.learning import still_learning
from synthkit.running.checkpoints import find_checkpoint, read_checkpoint_metadata
from synthkit.running.run import EVENTS

#: Arm, seed and run folder of each finished training of one segmenter and augmentation.
Trainings = Sequence[tuple[str, int, Path]]


def unequal(name: str, trainings: Trainings) -> list[str]:
    """In what the trainings of the segmenter ``name`` differ besides their data, in sentences."""
    found = []
    for arm, _, run in trainings:
        try:
            metadata = read_checkpoint_metadata(find_checkpoint(run))
        except SynthkitError:
            continue
        found.append(Training(f"{name} on {arm}", metadata))
    return [text for _, text in find_differences(found)] if found else []


def unfinished(name: str, trainings: Trainings) -> list[str]:
    """Which of them had not ended learning, in sentences."""
    return still_learning({f"{name} on {arm}, seed {seed}": run / EVENTS for arm, seed, run in trainings})
