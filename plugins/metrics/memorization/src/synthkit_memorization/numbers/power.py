"""The power test in numbers: copies are planted, searched for, and counted by kind and strength."""

from __future__ import annotations

from collections.abc import Iterator

import synthkit
from synthkit import Row, Score
from synthkit_memorization.audit import Audit
from synthkit_memorization.investigation import Search
from synthkit_memorization.numbers.scores import NO_NULL, undefined
from synthkit_memorization.power.planting import plants
from synthkit_memorization.power.recall import Recall, found_sentence, measure
from synthkit_memorization.search.matches import Groups
from synthkit_memorization.search.pixels import Float64, Images, Int64


def power(audit: Audit, search: Search) -> Iterator[Score | Row]:
    """What this audit finds of planted copies: scores and the table ``power``."""
    params, thresholds = audit.params, audit.thresholds
    if thresholds is None or params.plants == 0:
        yield from undefined(NO_NULL if thresholds is None else "no copies were planted (plants = 0)", "power")
        return
    above = dict(zip(audit.columns, map(float, thresholds), strict=True))

    def find(images: Images, groups: Groups) -> tuple[Float64, Int64]:
        found = search.columns(images, exclude=groups, above=above)
        return found.r, found.index

    records = measure(
        plants(audit.train, audit.train_patient, params.plants, params.seed),
        find,
        patient=audit.train_patient,
        thresholds=thresholds,
        copy_columns=audit.whole,
        copy_r=params.copy_r,
        resamples=params.resamples,
        seed=params.seed,
    )
    synthkit.message(found_sentence(records))
    for record in records:
        yield _recall_score(record)
    for record in records:
        values = {"planted" if name == "kind" else name: value for name, value in vars(record).items()}
        yield Row(table="power", values=values)


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
