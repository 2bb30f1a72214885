"""Trainings that had not ended learning, told from what they reported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from synthkit.judging.learning import late_rise, still_learning


def events(path: Path, curve: Sequence[float | None], total: int = 1000) -> Path:
    """A training that reported a validation Dice, or none yet, at equal distances."""
    lines: list[dict[str, object]] = [{"event": "message", "level": "info", "text": "begun"}]
    for k, dice in enumerate(curve, start=1):
        values = {"loss": 1.0} if dice is None else {"loss": 1.0, "val_dice": dice}
        step = k * total // len(curve)
        lines.append({"event": "progress", "step": step, "total": total, "unit": "sample", "values": values})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("curve", "rise"),
    [
        ([None, 0.2, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8], 0.1),
        ([0.5, 0.7, 0.79, 0.8, 0.8, 0.8, 0.79, 0.8], 0.0),
        ([0.5, 0.8, 0.8, 0.6], -0.2),
        ([None, None, None, 0.7], None),  # one validation, at the end
        ([None] * 8, None),
        ([], None),
    ],
)
def test_the_last_quarter_is_held_against_what_was_before(
    tmp_path: Path, curve: list[float | None], rise: float | None
) -> None:
    found = late_rise(events(tmp_path / "events.jsonl", curve))
    assert found == (None if rise is None else pytest.approx(rise))


def test_what_cannot_be_read_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken").write_text('{"event": "progress"', encoding="utf-8")
    assert late_rise(tmp_path / "broken") is None and late_rise(tmp_path / "missing") is None


def test_trainings_are_named_and_longer_ones_are_not(tmp_path: Path) -> None:
    rising = [0.1, 0.3, 0.5, 0.6, 0.65, 0.7, 0.74, 0.78]
    short, long = (events(tmp_path / name, curve) for name, curve in (("a", rising), ("b", [*rising, *[0.79] * 24])))
    first, second = still_learning({"real 1": short, "synthetic 1": long, "synthetic 2": tmp_path / "none"})
    assert "not ended learning: real 1 (+0.08)." in first and "synthetic" not in first and "samples" in first
    assert "not known of synthetic 2" in second
    assert still_learning({"real 1": long}) == []  # the remedy
