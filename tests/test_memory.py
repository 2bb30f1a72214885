"""Data in memory are what the contract says, and what a dataset on disk gives."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

import synthkit.testing.memory as memory
from synthkit.contract import Samples, Volumes
from synthkit.testing import InMemorySamples, InMemoryVolumes, data


def test_samples_in_memory_are_those_of_a_dataset() -> None:
    """Everything that the contract names, but for ids and digests, which hold the ids."""
    whole: Samples = data.real_dataset(2, 32)
    images, labels = whole.read(range(len(whole)))
    subjects = [row.subject for row in whole.samples]
    made: Samples = InMemorySamples(images, labels, subjects=subjects, label_values=whole.label_values)
    assert (made.contrasts, made.label_values, made.size) == (whole.contrasts, whole.label_values, whole.size)
    assert len(made) == len(whole) == len(made.samples)
    for mine, theirs in zip(made.samples, whole.samples, strict=True):
        assert (mine.subject, mine.slice, mine.seed) == (theirs.subject, theirs.slice, theirs.seed)
        assert mine.digest == theirs.digest and mine.split == "train"
    for rows in ([3, 0, 3], np.array([5]), range(2, 4), []):
        for mine, theirs in zip(made.read(rows), whole.read(rows), strict=True):
            assert mine.dtype == np.uint8 and np.array_equal(mine, theirs) and mine.shape == theirs.shape
    for mine, theirs in zip(made.batches(25), whole.batches(25), strict=True):
        assert all(np.array_equal(one, other) for one, other in zip(mine, theirs, strict=True))


def test_synthetic_images_have_seeds_and_no_subject() -> None:
    made = InMemorySamples(np.zeros((2, 1, 8, 8), np.uint8), subjects=[None, "a"], prefix="x")
    assert [(row.id, row.split, row.subject, row.slice, row.seed) for row in made.samples] == [
        ("x0", "synthetic", None, None, 0),
        ("x1", "train", "a", 0, None),
    ]
    assert {row.split for row in InMemorySamples(made.images, split="holdout").samples} == {"holdout"}


def test_the_digest_is_of_the_content() -> None:
    images = np.zeros((2, 1, 8, 8), np.uint8)
    digests = {InMemorySamples(images + value).digest for value in (0, 0, 1)}
    assert len(digests) == 2
    assert InMemorySamples(images, label_values=(0, 4)).digest not in digests


def test_reads_are_counted_and_leave_the_arrays_alone() -> None:
    made = InMemorySamples(np.zeros((3, 1, 8, 8), np.uint8))
    images, labels = made.read([0, 1])
    images += 1
    labels += 1
    assert not made.images.any() and not made.labels.any()
    next(made.batches(1))
    assert made.reads == [2, 1]
    with pytest.raises(IndexError):
        made.read([3])
    with pytest.raises(IndexError, match="sample -1 of 3"):
        made.read([-1])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"images": np.zeros((2, 8, 8), np.uint8)}, "images are uint8"),
        ({"images": np.zeros((2, 1, 8, 8))}, "images are uint8"),
        ({"labels": np.zeros((2, 8, 9), np.uint8)}, "labels are uint8"),
        ({"labels": np.zeros((2, 8, 8), np.int64)}, "labels are uint8"),
        ({"contrasts": ("t1", "t2")}, "1 contrasts"),
        ({"subjects": ["a"]}, "2 images are of 1 subjects"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        InMemorySamples(**{"images": np.zeros((2, 1, 8, 8), np.uint8), **given})  # type: ignore[arg-type]


def test_volumes_in_memory() -> None:
    volume = np.zeros((4, 5, 6), np.uint8)
    made: Volumes = InMemoryVolumes({"b": volume, "a": volume}, (1.0, 2.0, 3.0))
    assert made.subjects == ("b", "a")
    labels, spacing_mm = made.labels("a")
    assert labels is volume and spacing_mm == (1.0, 2.0, 3.0)


def test_the_examples_work() -> None:
    assert doctest.testmod(memory, extraglobs={"np": np}) == doctest.TestResults(failed=0, attempted=6)
