"""The power test in numbers: copies are planted, searched for, and counted by kind and strength."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import synthkit
from synthkit import Row, Score
from synthkit_memorization.asked import ASKED
from synthkit_memorization.audit import Audit
from synthkit_memorization.investigation import Search
from synthkit_memorization.numbers.scores import NO_NULL, undefined
from synthkit_memorization.people import Part
from synthkit_memorization.power.planting import plants
from synthkit_memorization.power.recall import Recall, found_sentence, measure
from synthkit_memorization.search.pixels import Held, Images, Int64


def power(audit: Audit, search: Search) -> Iterator[Score | Row]:
    """What this audit finds of planted copies: scores and the table ``power``."""
    params = audit.params
    if not audit.has_null or params.plants == 0:
        yield from undefined(NO_NULL if not audit.has_null else "no copies were planted (plants = 0)", "power")
        return

    judgements = [each for each in audit.judgements if each.family.name != ASKED]  # nobody asks for planted copies
    columns = [(each, rule) for each in judgements for rule in each.family.rules]

    def find(images: Images, hidden: Int64, source: Int64) -> Int64:
        copied = np.full((len(images), len(audit.columns)), -1)
        for rows in _in_memory(images, params.memory_mb):
            held, start = Held.of(images, rows), 0
            left = np.arange(len(rows))  # a copy that one rule finds need not be searched for by the others
            for each, rule in columns:
                stop = start + len(each.family.views)
                found = search.copied(each, rule, Part(held, left), hidden[rows[left]])
                copied[rows[left], start:stop] = found
                again = (found >= 0) & (audit.train.person[found] == source[rows[left], None])
                left, start = left[~again.any(axis=1)], stop
        return copied

    records = measure(
        plants(audit.train.images, audit.train.person, params.plants, params.seed),
        find,
        patient=audit.train.person,
    )
    synthkit.message(found_sentence(records))
    for record in records:
        yield _recall_score(record)
    for record in records:
        values = {"planted" if name == "kind" else name: value for name, value in vars(record).items()}
        yield Row(table="power", values=values)


def _in_memory(images: Images, memory_mb: float) -> Iterator[Int64]:
    """Rows of the images in parts that fit a quarter of the memory: each is made once and seen by every family."""
    height, width = images.size
    step = max(1, int(memory_mb * 1e6 / 4 / ((len(images.contrasts) + 1) * height * width)))
    return (np.arange(first, min(first + step, len(images))) for first in range(0, len(images), step))


def _recall_score(record: Recall) -> Score:
    note = f"{record.n} copies of images of {record.n_patients} subjects"
    return Score(
        name="power",
        value=record.recall,
        of={"planted": record.kind, "strength": record.strength},
        low=record.low,
        high=record.high,
        n=record.n_patients,
        note=f"{note}; {record.note}" if record.note else note,
    )
