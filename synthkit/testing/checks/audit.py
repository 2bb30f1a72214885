"""What an audit promises beside other metrics: the scores and tables that verdict, pages and release read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from synthkit.contract import Row, Score
from synthkit.judging.audit_scores import SCORES, AuditScores
from synthkit.judging.audit_tables import MATCHES, TABLES
from synthkit.judging.verdict import verdict
from synthkit.testing import data
from synthkit.testing.bench import PluginUnderTest, require, require_iterable
from synthkit.testing.checks.registry import check

#: Training images whose copies are planted among the synthetic images.
_COPIED = (0, 5, 10)


class _Planted:
    """What an audit yields of synthetic images some of which are exact copies, with a holdout or without.

    ``split`` of the real images is whose copies they are.
    """

    def __init__(self, plugin: PluginUnderTest, *, holdout: bool, split: str = "train") -> None:
        real = data.real_dataset(4, 32)
        self.source = {f"copy{i}": real.select(split).samples[i] for i in _COPIED}
        self.synthetic = data.dataset_with_copies(4, 32, _COPIED, split).training_part()
        given = {"train": real.training_part(), "synthetic": self.synthetic}
        if holdout:
            given["holdout"] = real.select("holdout")
        made = plugin.module.score(metrics=[plugin.declaration.name], params=plugin.params, **given)
        answers = list(require_iterable(made, "score"))
        self.scores = [answer.to_dict() for answer in answers if isinstance(answer, Score)]
        self.rows: dict[str, list[Mapping[str, Any]]] = {}
        for answer in answers:
            if isinstance(answer, Row):
                self.rows.setdefault(answer.table, []).append(answer.values)
        self.read = AuditScores(self.scores)

    @property
    def copies(self) -> dict[str, set[str]]:
        """The synthetic images that are copies, with the training images that they copy."""
        found: dict[str, set[str]] = {}
        for row in self.rows.get(MATCHES.name, ()):
            if row.get("copy"):
                found.setdefault(str(row["synthetic_id"]), set()).add(str(row["train_id"]))
        return found


@check("metric", audits=True)
def audit_yields_what_is_read(plugin: PluginUnderTest) -> None:
    """An audit yields every score and table that a verdict, a page and a release read, and they agree.

    With a holdout or without, its scores are of what :mod:`synthkit.judging.audit_scores` says.
    """
    for holdout in (True, False):
        found = _Planted(plugin, holdout=holdout)
        for name in (score.name for score in SCORES.values() if score.required):
            require(found.read.get(name) is not None, f"it gives no value of {name} for the whole dataset")
        for score in found.scores:
            _require_form(score)
        for table in TABLES.values():
            rows = found.rows.get(table.name)
            require(rows or not table.required, f"it gives no table {table.name}")
            lacking = set(table.columns) - set(rows[0] if rows else table.columns)
            require(not lacking, f"its table {table.name} lacks {', '.join(sorted(lacking))}")
        n = found.read.count("n_synthetic")
        require(n == len(found.synthetic), f"of {len(found.synthetic)} synthetic images it counts {n}")
        held_out = found.read.count("n_holdout") or 0
        require(
            bool(held_out) == holdout, f"it counts {held_out} held-out images, given {'some' if holdout else 'none'}"
        )
        counted, listed = found.read.count("n_copies"), len(found.copies)
        require(counted == listed, f"its scores count {counted} copies, its table of {MATCHES.name} {listed}")
        _require_margins(found.rows[MATCHES.name])


def _require_margins(rows: Sequence[Mapping[str, Any]]) -> None:
    """In each view and rule the copies are the images of smallest margin."""
    columns: dict[tuple[Any, Any], tuple[list[float], list[float]]] = {}
    for row in rows:
        require(row["margin"] is not None, "it gives a match no margin although there is a null")
        columns.setdefault((row["contrast"], row["rule"]), ([], []))[not row["copy"]].append(float(row["margin"]))
    for (view, rule), (copies, others) in columns.items():
        most, least = max(copies, default=0.0), min(others, default=float("inf"))
        require(most <= least, f"by {view} and {rule} a copy has the margin {most:g}, and another image {least:g}")


def _require_form(score: Mapping[str, Any]) -> None:
    declared = SCORES.get(score["name"])
    if declared is None or (score["value"] is None and not score["of"]):
        return
    keys = set(score["of"])
    require(
        any(keys == set(form) for form in declared.forms),
        f"its {score['name']} is of {sorted(keys) or 'the whole dataset'}, and not of "
        f"{' or of '.join(', '.join(form) or 'the whole dataset' for form in declared.forms)}",
    )


@check("metric", audits=True)
def audit_finds_planted_copies(plugin: PluginUnderTest) -> None:
    """Exact copies among the images that an audit is given are copies of their sources, and the verdict is fail."""
    found = _Planted(plugin, holdout=True)
    copies = found.copies
    for name, source in found.source.items():
        require(name in copies, f"an exact copy of {source.id} is none")
        require(source.id in copies[name], f"an exact copy of {source.id} is matched with {', '.join(copies[name])}")
    outcome = verdict(found.scores).outcome
    require(outcome == "fail", f"the verdict from its scores is {outcome}")


@check("metric", audits=True)
def audit_finds_copies_of_held_out_people(plugin: PluginUnderTest) -> None:
    """An audit that counts copies of held-out people counts exact ones, and the verdict is fail."""
    found = _Planted(plugin, holdout=True, split="holdout")
    counted = found.read.count("n_holdout_copies")
    if counted is None:
        return
    require(counted >= len(found.source), f"of {len(found.source)} exact copies of held-out images it counts {counted}")
    outcome = verdict(found.scores).outcome
    require(outcome == "fail", f"the verdict from its scores is {outcome}")
