"""Wrong metrics."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from synthkit.contract import Row, Score
from synthkit.testing.toys import (
    KEEPING_METRIC,
    SLICE_AUDIT,
    SLICE_METRIC,
    VOLUME_METRIC,
    keeping_metric,
    slice_audit,
    slice_metric,
    volume_metric,
)
from synthkit.testing.toys.wrong.wrong import Wrong, declared, method


def _undeclared(**given: Any) -> Iterator[Any]:
    yield from volume_metric.score(**given)
    yield Score(name="jaccard", value=0.5)


def _twice(**given: Any) -> Iterator[Any]:
    yield from slice_metric.score(**given)
    yield from slice_metric.score(**given)


def _optional_needed(**given: Any) -> Iterator[Any]:
    if not len(given["holdout"]):
        raise ValueError("no holdout")
    yield from slice_metric.score(**given)


def _beside_its_interval(**given: Any) -> Iterator[Any]:
    for answer in volume_metric.score(**given):
        if isinstance(answer, Score) and answer.low is not None and answer.high is not None:
            answer = replace(answer, low=answer.high + 0.1, high=answer.high + 0.2)
        yield answer


def _other_columns(**given: Any) -> Iterator[Any]:
    for number, answer in enumerate(volume_metric.score(**given)):
        if isinstance(answer, Row):
            answer = replace(answer, values={**answer.values, f"column{number}": 1})
        yield answer


_calls = itertools.count()


def _other_every_time(**given: Any) -> Iterator[Any]:
    for answer in slice_metric.score(**given):
        yield answer if answer.value is None else replace(answer, value=answer.value + next(_calls))


def _relabelling(**given: Any) -> Iterator[Any]:
    yield from volume_metric.score(**given)
    for subject in given["prediction"].subjects:
        labels, _ = given["prediction"].labels(subject)
        labels[labels == 4] = 3


def _drawing(**given: Any) -> Iterator[Any]:
    np.random.random()  # noqa: NPY002
    yield from slice_metric.score(**given)


def _plotting(**given: Any) -> Iterator[Any]:
    Path("plot.svg").write_text("<svg/>", encoding="utf-8")
    yield from slice_metric.score(**given)


def _not_a_number(**given: Any) -> Iterator[Any]:
    for answer in volume_metric.score(**given):
        if isinstance(answer, Score) and answer.value is None and answer.n is None:
            answer = replace(answer, value=float("nan"))
        yield answer


def _without_a_word(**given: Any) -> Iterator[Any]:
    for answer in volume_metric.score(**given):
        if isinstance(answer, Score) and answer.value is None and answer.n is None:
            answer = replace(answer, note="")
        yield answer


def _mean_of_nothing(**given: Any) -> Iterator[Any]:
    n = sum(len(source) for source in given.values() if hasattr(source, "samples"))
    if 1 / n > 0:
        yield from slice_metric.score(**given)


def _without_identical(**given: Any) -> Iterator[Any]:
    for answer in slice_audit.score(**given):
        if not (isinstance(answer, Score) and answer.name == "n_identical"):
            yield answer


def _copies_miscounted(**given: Any) -> Iterator[Any]:
    for answer in slice_audit.score(**given):
        if isinstance(answer, Score) and answer.name == "n_copies" and answer.value is not None and not answer.of:
            answer = replace(answer, value=answer.value + 1)
        yield answer


def _margins_turned_round(**given: Any) -> Iterator[Any]:
    for answer in slice_audit.score(**given):
        if isinstance(answer, Row) and answer.values["margin"] is not None:
            answer = replace(answer, values={**answer.values, "margin": -float(answer.values["margin"])})
        yield answer


def _without_quantiles(**given: Any) -> Iterator[Any]:
    for answer in slice_audit.score(**given):
        if isinstance(answer, Row):
            answer = replace(answer, values={k: v for k, v in answer.values.items() if k != "r_null_quantile"})
        yield answer


def _power_of_anything(**given: Any) -> Iterator[Any]:
    for answer in slice_audit.score(**given):
        if isinstance(answer, Score) and answer.name == "power":
            answer = replace(answer, of={"copies": "exact"})
        yield answer


def _blind(**given: Any) -> Iterator[Any]:
    """Whatever is close is called innocent, in scores and table alike."""
    nothing = {"n_copies", "copied_rate", "n_identical"}
    for answer in slice_audit.score(**given):
        if isinstance(answer, Score) and answer.name in nothing and answer.value is not None:
            answer = replace(answer, value=0, low=None, high=None)
        elif isinstance(answer, Row):
            answer = replace(answer, values={**answer.values, "copy": False})
        yield answer


def _one_sided(**given: Any) -> Iterator[Any]:
    """Held-out people may be copied."""
    for answer in slice_audit.score(**given):
        if isinstance(answer, Score) and answer.name == "n_holdout_copies":
            answer = replace(answer, value=0)
        yield answer


def _kept_unread(**given: Any) -> Iterator[Any]:
    """Whatever it is given of other images, nobody learns of it."""
    given.pop("kept", None)
    yield from keeping_metric.score(**given)


WRONG: tuple[Wrong, ...] = (
    method("scores_are_those_declared", "gives a score that it does not declare", VOLUME_METRIC, score=_undeclared),
    method("scores_are_those_declared", "gives every score twice", SLICE_METRIC, score=_twice),
    method("intervals_hold_their_value", "lies beside its interval", VOLUME_METRIC, score=_beside_its_interval),
    method("rows_fit_their_table", "rows with columns of their own", VOLUME_METRIC, score=_other_columns),
    method("scoring_can_be_repeated", "scores otherwise every time", SLICE_METRIC, score=_other_every_time),
    method("kept_changes_no_score", "does not look at what is kept", KEEPING_METRIC, score=_kept_unread),
    method("scored_inputs_are_left_alone", "changes labels that it is given", VOLUME_METRIC, score=_relabelling),
    method("scored_inputs_are_left_alone", "draws from numpy's generator", SLICE_METRIC, score=_drawing),
    method("scored_inputs_are_left_alone", "writes a plot where it stands", SLICE_METRIC, score=_plotting),
    method("undefined_scores_are_none", "gives NaN", VOLUME_METRIC, score=_not_a_number),
    method("undefined_scores_are_none", "gives None without a note", VOLUME_METRIC, score=_without_a_word),
    method("nothing_to_score_is_no_crash", "divides by no samples", SLICE_METRIC, score=_mean_of_nothing),
    method("audit_yields_what_is_read", "counts no identical images", SLICE_AUDIT, score=_without_identical),
    method("audit_yields_what_is_read", "counts other copies than it lists", SLICE_AUDIT, score=_copies_miscounted),
    method("audit_yields_what_is_read", "gives copies large margins", SLICE_AUDIT, score=_margins_turned_round),
    method("audit_yields_what_is_read", "lists no quantile of the null", SLICE_AUDIT, score=_without_quantiles),
    method("audit_yields_what_is_read", "names planted copies otherwise", SLICE_AUDIT, score=_power_of_anything),
    method("audit_finds_planted_copies", "finds nothing", SLICE_AUDIT, score=_blind),
    method("audit_finds_copies_of_held_out_people", "looks at training people alone", SLICE_AUDIT, score=_one_sided),
    declared(
        "perfect_prediction_scores_best",
        "the wrong direction",
        VOLUME_METRIC,
        scores=tuple(replace(score, better="lower") for score in VOLUME_METRIC.scores),
    ),
)
