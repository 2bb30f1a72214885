"""The rule that says what a copy is: by hand, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthkit_memorization.null.margins import CAP, Distances, Rule, distance


def _one_column(near: list[float], other: list[float]) -> Distances:
    return Distances(np.array(near)[:, None], np.array(other)[:, None])


def test_a_rule_by_hand() -> None:
    # Three people of two images each: smallest near .4, .6, .5; smallest ratios .5, .6, .625.
    null = _one_column([0.4, 0.8, 0.6, 0.9, 0.5, 0.7], [0.8, 1.0, 1.0, 1.0, 0.8, 1.0])
    rule = Rule.of(null, np.array([0, 0, 1, 1, 2, 2]))
    assert rule is not None
    assert (rule.near[0], rule.ratio[0], rule.per_person) == (0.5, 0.6, 2.0)
    # near 0.2 / A = 0.4, ratio 0.25 / B = 0.4167: the larger counts.
    assert rule.margins(_one_column([0.2], [0.8]))[0, 0] == pytest.approx(0.25 / 0.6)
    assert rule.people == pytest.approx([0.5 / 0.6, 1.2, 0.625 / 0.6])
    assert rule.units(100) == 150


def test_what_has_no_match_is_no_copy_and_what_has_nobody_beside_it_is_judged_by_its_distance() -> None:
    rule = Rule.of(_one_column([0.5, 0.6], [1, 1]), np.array([0, 1]))
    assert rule is not None
    margins = rule.margins(_one_column([np.inf, 0.0, 0.11, 0.11], [np.inf, 0.0, np.inf, 0.0]))[:, 0]
    assert margins == pytest.approx([np.inf, 0.0, 0.2, np.inf])
    assert Rule.of(_one_column([np.inf], [np.inf]), np.array([0])) is None


def test_a_column_in_which_usual_people_are_equal_shows_no_copy() -> None:
    rule = Rule.of(Distances(np.array([[0.0, 0.5], [0.0, 0.6]]), np.ones((2, 2))), np.array([0, 1]))
    assert rule is not None
    assert np.isinf(rule.margins(Distances(np.zeros((1, 2)), np.ones((1, 2))))).tolist() == [[True, False]]


def test_distances() -> None:
    assert distance(np.array([1.0, 0.75, -1.0, np.nan])) == pytest.approx([0.0, 0.5, np.sqrt(2), np.inf])


def _rule_of_people(w: np.ndarray) -> Rule:
    rule = Rule.of(_one_column(list(np.sqrt(w)), [np.inf] * len(w)), np.arange(len(w)))
    assert rule is not None
    return rule


@pytest.mark.parametrize("n", [6, 12, 40])
def test_innocent_sets_fail_at_most_at_the_rate(n: int) -> None:
    """People whose squared margins are normal, as spread as the widest that were seen; sets of 20 more people."""
    rng = np.random.default_rng(n)
    fails, sets = 0, 800
    for _ in range(sets):
        w = np.clip(rng.normal(1.0, 0.18, n + 20), 0.01, None)
        rule = _rule_of_people(w[:n])
        fails += bool((np.sqrt(w[n:]) / rule.near[0] < rule.cut(20, 0.05)).any())
    assert fails / sets < 0.07


def test_twins_among_the_null_people_do_not_hide_themselves() -> None:
    alone = _rule_of_people(np.linspace(0.9, 1.1, 20))
    with_twins = _rule_of_people(np.concatenate([np.linspace(0.9, 1.1, 20), [0.0004, 0.01]]))
    assert with_twins.cut(50, 0.05) == pytest.approx(alone.cut(50, 0.05), abs=0.02)


@given(st.integers(2, 40), st.floats(1, 1e6), st.floats(1, 1e6), st.floats(1e-6, 0.5))
def test_more_images_never_raise_a_cut(n: int, units: float, more: float, rate: float) -> None:
    rule = _rule_of_people(np.linspace(0.7, 1.3, n))
    assert 0 <= rule.cut(units + more, rate) <= rule.cut(units, rate) <= CAP


def test_images_near_to_everybody_lower_the_cut_and_copies_do_not() -> None:
    rule = _rule_of_people(np.linspace(0.8, 1.2, 30))
    usual = rule.images
    assert rule.likeness(usual, 0.7) == pytest.approx(1.0)
    assert rule.likeness(0.9 * usual, 0.7) == pytest.approx(0.9)
    with_copies = np.concatenate([0.9 * usual, np.full(30, 0.1)])
    assert rule.likeness(with_copies, 0.7) == pytest.approx(0.9)
    assert rule.likeness(np.full(3, 0.1), 0.7) == 1.0
