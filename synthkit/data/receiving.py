"""A dataset that somebody else's code has left: every sample read once, and described by who knows what it is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from synthkit.contract import Sample
from synthkit.data.dataset import Dataset
from synthkit.data.format import DESCRIPTION, read_description, sample_digest
from synthkit.data.label_reading import counts_of
from synthkit.data.writer import Described, write_description
from synthkit.errors import DataError

_BATCH = 32


def receive(path: Path, described: Described, samples: Sequence[Sample]) -> tuple[str, list[str]]:
    """Check a complete dataset sample by sample, and write its description as ``described`` has it.

    Parameters
    ----------
    samples : those that it has to hold, in any order; of each id, split, subject, slice, seed, patient and ``asked``
        count.

    Returns
    -------
    Its digest, and the keys of its description that said something else.

    Raises
    ------
    DataError : other contrasts, labels, pixels or samples than it has to have, a label value that it may not have, or a
        table that does not belong to the images.
    """
    dataset = Dataset(path)
    for what, found, wanted in (
        ("contrasts", dataset.contrasts, described.contrasts),
        ("labels", dataset.scheme, described.scheme),
        ("size", dataset.size, described.size),
    ):
        if found != wanted:
            raise DataError(f"The dataset {path} has other {what} than were asked for.", f"{found}, not {wanted}.")
    _check_samples(path, dataset.samples, samples)
    for row, (digest, values) in zip(dataset.samples, _read(dataset), strict=True):
        if digest != row.digest:
            raise DataError(
                f"The sample {row.id} of {path} is not the one that its table names.", "Its digest differs."
            )
        if unknown := values - set(described.scheme.values):
            raise DataError(f"The sample {row.id} of {path} has the label {min(unknown)}.", "Its scheme has none such.")
    told = read_description(path)
    known = write_description(path, described, dataset.samples, complete=True)
    plain = json.loads(json.dumps(known))
    return str(known["digest"]), sorted(key for key in {*told, *plain} if told.get(key) != plain.get(key))


def pixel_digests(dataset: Dataset) -> Iterator[str]:
    """Digests of all samples, reckoned from their pixels instead of looked up."""
    return (digest for digest, _ in _read(dataset))


def _read(dataset: Dataset) -> Iterator[tuple[str, set[int]]]:
    """Of each sample the digest and the label values."""
    batches = (zip(images, labels, strict=True) for images, labels in dataset.batches(_BATCH))
    for image, label_map in chain.from_iterable(batches):
        yield sample_digest(image, label_map), set(counts_of(label_map))


def _check_samples(path: Path, found: Sequence[Sample], wanted: Sequence[Sample]) -> None:
    one, other = ({row.id: _without_digest(row) for row in rows} for rows in (found, wanted))
    if len(one) != len(found) or one != other:
        wrong = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
        raise DataError(
            f"{path / DESCRIPTION} describes other samples than were asked for.",
            f"{len(found)} samples, {len(wanted)} were asked for; "
            + (f"first {wrong[0]}." if wrong else "ids repeat."),
        )


def _without_digest(row: Sample) -> tuple[Any, ...]:
    return (row.id, row.split, row.subject, row.slice, row.seed, row.patient, row.asked)
