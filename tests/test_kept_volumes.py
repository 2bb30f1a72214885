"""What a pass keeps in memory for the next one."""

from pathlib import Path

import numpy as np

from synthkit.data.geometry import ArrangedVolumes
from synthkit.data.kept_volumes import KeptVolumes
from synthkit.data.subject_files import Subject


def volumes(name: str) -> ArrangedVolumes:
    labels = np.zeros((4, 4, 4), dtype=np.uint8)
    labels[0, 0, :2] = 3, 1
    image = np.ones((4, 4, 4), dtype=np.int16)
    return ArrangedVolumes(name, {"t1": image}, labels, np.eye(4), (1.0, 1.0, 1.0), None, (0, 1, 3))


def subject(name: str, tmp_path: Path, label_values: dict[int, int] | None = None) -> Subject:
    return Subject(name, tmp_path, {}, None, label_values=label_values)


def test_subjects_are_kept_once_as_long_as_there_is_room(tmp_path: Path) -> None:
    kept = KeptVolumes(400)  # each takes 64 voxels of three bytes
    for name in "abc":
        kept.keep(volumes(name))
    assert kept.take(subject("c", tmp_path)) is None
    found = kept.take(subject("a", tmp_path))
    assert found is not None and found.labels is not None and found.labels[0, 0].tolist() == [3, 1, 0, 0]
    assert kept.take(subject("a", tmp_path)) is None


def test_labels_are_read_by_the_scheme_that_was_found_since(tmp_path: Path) -> None:
    kept = KeptVolumes(400)
    kept.keep(volumes("a"))
    found = kept.take(subject("a", tmp_path, {0: 0, 1: 2, 3: 4}))
    assert found is not None and found.labels is not None and found.labels[0, 0].tolist() == [4, 2, 0, 0]
