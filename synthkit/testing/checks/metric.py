"""What a metric promises: a pure function of its inputs, with numbers that it declared."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from synthkit.contract import FILE_ROLES, VOLUME_ROLES, Kept, MetricDeclaration, Row, Score
from synthkit.errors import DataError
from synthkit.testing import data
from synthkit.testing.bench import (
    CheckSkippedError,
    PluginUnderTest,
    changed_random_states,
    disturb_random_states,
    random_states,
    require,
    require_iterable,
    stray,
    watched_writes,
)
from synthkit.testing.checks.registry import check
from synthkit.testing.memory import InMemoryVolumes

Answers = list[Score | Row | Kept]


def _declared(plugin: PluginUnderTest) -> MetricDeclaration:
    if not isinstance(plugin.declaration, MetricDeclaration):
        raise TypeError(f"{plugin.declaration.name} is not a metric")
    return plugin.declaration


def _ordinary(role: str) -> Any:
    """A usual input for a role: a prediction is the reference moved by a voxel, slices are real and trained on."""
    if role in VOLUME_ROLES:
        return data.label_volumes(shift=1 if role == "prediction" else 0)
    others: Mapping[str, Callable[[], Any]] = {
        "holdout": lambda: data.real_dataset(4, 32).select("holdout"),
        "synthetic": lambda: data.synthetic_dataset(4, 32).training_part(),
    }
    return others.get(role, lambda: data.real_dataset(4, 32).training_part())()


def _degenerate(role: str, n: int) -> Any:
    """``n`` volumes without labels, of subjects as in :func:`_ordinary`, or ``n`` black slices."""
    if role in VOLUME_ROLES:
        return data.empty_volumes(n)
    split = {"holdout": "holdout", "synthetic": "synthetic"}.get(role, "train")
    return data.constant_dataset(n, 4, 32, split).select(split)


def _score(plugin: PluginUnderTest, datasets: Mapping[str, Any]) -> Answers:
    made = plugin.module.score(metrics=[plugin.declaration.name], params=plugin.params, **datasets)
    return list(require_iterable(made, "score"))


def _score_usual(plugin: PluginUnderTest, *, optional: bool = True) -> Answers:
    declared = _declared(plugin)
    roles = (*declared.roles, *(_optional_datasets(declared) if optional else ()))
    return _score(plugin, {role: _ordinary(role) for role in roles})


def _usual(plugin: PluginUnderTest, *, optional: bool = True) -> Answers:
    """:func:`_score_usual`, once for all checks."""
    if optional not in plugin.answers:
        plugin.answers[optional] = _score_usual(plugin, optional=optional)
    return plugin.answers[optional]


def _optional_datasets(declared: MetricDeclaration) -> list[str]:
    """Optional roles that a check can fill: the suite has no weights of feature networks."""
    return [role for role in declared.optional_roles if role not in FILE_ROLES]


def _require_sound(plugin: PluginUnderTest, answers: Answers) -> None:
    for answer in answers:
        if not isinstance(answer, Score):
            continue
        for number in (answer.value, answer.low, answer.high):
            require(number is None or math.isfinite(number), f"{answer.name} of {dict(answer.of)} is {number}")
        require(
            answer.value is not None or answer.note.strip(),
            f"{answer.name} of {dict(answer.of)} is None, and no note says why",
        )


@check("metric")
def scores_are_those_declared(plugin: PluginUnderTest) -> None:
    """The metric, asked for alone, gives scores that it declares, each once, with or without the optional roles."""
    names = {score.name for score in _declared(plugin).scores}
    for optional in (True, False):
        answers = _usual(plugin, optional=optional)
        seen = set()
        for answer in answers:
            require(isinstance(answer, (Score, Row)), f"it gives a {type(answer).__name__}")
            if isinstance(answer, Score):
                require(answer.name in names, f"it gives {answer.name}, which it does not declare")
                key = (answer.name, tuple(sorted(answer.of.items())))
                require(key not in seen, f"it gives {answer.name} of {dict(answer.of)} twice")
                seen.add(key)
        require(seen, "it gives no score")


@check("metric")
def intervals_hold_their_value(plugin: PluginUnderTest) -> None:
    """Where a score has an interval, the value lies in it; ``n`` is a whole number."""
    for answer in _usual(plugin):
        if not isinstance(answer, Score):
            continue
        low, value, high = answer.low, answer.value, answer.high
        require((low is None) == (high is None), f"{answer.name} has one bound of its interval without the other")
        if low is not None and high is not None and value is not None:
            slack = 1e-9 * max(1.0, abs(value))
            require(low - slack <= value <= high + slack, f"{answer.name} = {value} lies outside of {low} to {high}")
        require(
            answer.n is None or (isinstance(answer.n, int) and answer.n >= 0), f"n of {answer.name} is {answer.n!r}"
        )


@check("metric")
def rows_fit_their_table(plugin: PluginUnderTest) -> None:
    """All rows of a table have the same columns, and values that a CSV file can hold."""
    columns: dict[str, list[str]] = {}
    for answer in _usual(plugin):
        if isinstance(answer, Row):
            require(answer.table.isidentifier(), f"{answer.table!r} is not a name for a table")
            first = columns.setdefault(answer.table, list(answer.values))
            require(list(answer.values) == first, f"rows of {answer.table} differ in their columns")
            for name, value in answer.values.items():
                require(
                    value is None or isinstance(value, (str, int, float, bool)),
                    f"{name} in {answer.table} holds a {type(value).__name__}",
                )


@check("metric")
def scoring_can_be_repeated(plugin: PluginUnderTest) -> None:
    """The same inputs give the same scores and rows, whatever the global random generators hold."""
    first = _usual(plugin)
    disturb_random_states(777)
    _require_equal(plugin, first, _score_usual(plugin), "in a second call")


def _require_equal(plugin: PluginUnderTest, first: Answers, second: Answers, when: str) -> None:
    require(len(first) == len(second), f"{len(first)} answers, then {len(second)} {when}")
    for a, b in zip(first, second, strict=True):
        if plugin.bitwise:
            require(a == b, f"{a} became {b} {when}")
        elif isinstance(a, Score) and isinstance(b, Score):
            same = a.name == b.name and (a.value is None) == (b.value is None)
            close = a.value is None or b.value is None or math.isclose(a.value, b.value, rel_tol=1e-4, abs_tol=1e-6)
            require(same and close, f"{a} became {b} {when}")


@check("metric")
def kept_changes_no_score(plugin: PluginUnderTest) -> None:
    """What it keeps for other runs gives the same scores, and is refused where the other data are another."""
    declared = _declared(plugin)
    if "kept" not in declared.optional_roles:
        raise CheckSkippedError("it keeps nothing for other runs")
    given = {role: _ordinary(role) for role in (*declared.roles, *_optional_datasets(declared))}
    others = {role: source for role, source in given.items() if role != "synthetic"}
    answers = _score(plugin, others)
    kept = [answer for answer in answers if isinstance(answer, Kept)]
    found = ", ".join(type(answer).__name__ for answer in answers) or "nothing"
    require(len(answers) == len(kept) == 1, f"without synthetic images it gives {found}, not one Kept")
    file = data.scratch() / f"kept-{declared.name}.npz"
    np.savez(file, **dict[str, Any](kept[0].arrays))
    _require_equal(plugin, _usual(plugin), _score(plugin, {**given, "kept": file}), "with what it kept")
    try:
        _score(plugin, {**given, "real": data.real_dataset(4, 32).select("holdout"), "kept": file})
    except DataError:
        return
    require(False, "it takes what it kept for that of other images")


@check("metric")
def scored_inputs_are_left_alone(plugin: PluginUnderTest) -> None:
    """Scoring changes neither the volumes nor the global random generators, and writes no file."""
    roles = (*_declared(plugin).roles, *_optional_datasets(_declared(plugin)))
    given = {role: _ordinary(role) for role in roles}
    disturb_random_states(778)
    before = random_states()
    with watched_writes() as paths:
        _score(plugin, given)
    changed = changed_random_states(before)
    require(not changed, f"it changes the global state of {', '.join(changed)}")
    for role, source in given.items():
        if isinstance(source, InMemoryVolumes):
            fresh = _ordinary(role)
            for subject in fresh.subjects:
                require(
                    np.array_equal(fresh.volumes[subject], source.volumes[subject]), f"it changed the labels of {role}"
                )
    found = stray(paths, None)
    require(not found, f"it wrote {', '.join(found[:3])}")


@check("metric")
def undefined_scores_are_none(plugin: PluginUnderTest) -> None:
    """Volumes without labels and black slices give finite numbers, or None with a note; never NaN.

    A metric that cannot do anything with them may say so by a :class:`DataError`.
    """
    declared = _declared(plugin)
    variants = [dict.fromkeys(declared.roles, True)]
    variants += [{r: r == role for r in declared.roles} for role in declared.roles if len(declared.roles) > 1]
    for variant in variants:
        given = {role: _degenerate(role, 4) if empty else _ordinary(role) for role, empty in variant.items()}
        try:
            answers = _score(plugin, given)
        except DataError:
            continue
        _require_sound(plugin, answers)


@check("metric")
def nothing_to_score_is_no_crash(plugin: PluginUnderTest) -> None:
    """No subjects or no samples give a :class:`DataError`, or scores that are sound; no other exception."""
    declared = _declared(plugin)
    try:
        answers = _score(plugin, {role: _degenerate(role, 0) for role in declared.roles})
    except DataError:
        return
    _require_sound(plugin, answers)


@check("metric")
def perfect_prediction_scores_best(plugin: PluginUnderTest) -> None:
    """Where a prediction is compared with a reference: no prediction beats the reference itself."""
    declared = _declared(plugin)
    if not set(declared.roles) >= VOLUME_ROLES:
        raise CheckSkippedError("it compares no prediction with a reference")
    better = {score.name: score.better for score in declared.scores}
    reference = data.label_volumes()

    def values(prediction: Any) -> dict[Any, float]:
        answers = _score(plugin, {"reference": reference, "prediction": prediction})
        scores = [a for a in answers if isinstance(a, Score) and a.value is not None]
        return {(a.name, tuple(sorted(a.of.items()))): float(a.value or 0.0) for a in scores}

    perfect = values(data.label_volumes())
    worse = [values(data.label_volumes(shift=shift)) for shift in (1, 3)]
    for key, best in perfect.items():
        for other in (w[key] for w in worse if key in w):
            direction = better.get(key[0], "neither")
            beaten = other > best if direction == "higher" else other < best if direction == "lower" else False
            require(
                not beaten, f"{key[0]} ({direction} is better) is {best} for the reference itself, {other} for less"
            )
