"""One memorization audit, ready for its template: on the report and on a page of its own.

With ``pictures`` a section shows patients and names them. Without, it holds no image, no id and no text about files,
so that it may be released with the synthetic images: such a section is built from numbers alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from synthkit.data.dataset import Dataset
from synthkit.data.lineage import whose_labels
from synthkit.judging.audit_tables import HOLDOUT_SUBJECTS, HOLDOUT_TWINS, MATCHES, NULL, PAIRS, SUBJECTS
from synthkit.report.audit import numbers as audit_numbers
from synthkit.report.audit import tables as audit_tables
from synthkit.report.audit.histograms import histograms
from synthkit.report.audit.power import power
from synthkit.report.audit.protection import data_protection
from synthkit.report.audit.tables import Column, Matches, Pair
from synthkit.report.gallery import MAXIMUM_BYTES, gallery, worst
from synthkit.report.gather import DAMAGE, Material, RunRecord, sentence
from synthkit.report.wording import words
from synthkit.running.seal import changes, datasets_at_hand

#: Training subjects shown.
N_SUBJECTS = 10


def sections(material: Material, notes: list[str]) -> list[dict[str, Any]]:
    """One section an audit run; what cannot be read is added to ``notes``."""
    found = []
    runs = material.of_verb("audit-memorization")
    for number, record in enumerate(runs, start=1):
        try:
            found.append(section(record, anchor=f"audit-{number}", budget=MAXIMUM_BYTES // len(runs)))
        except DAMAGE as error:
            notes.append(f"The audit {record.name} cannot be shown: {sentence(error)}")
    return found


def section(record: RunRecord, *, anchor: str, pictures: bool = True, budget: int = MAXIMUM_BYTES) -> dict[str, Any]:
    """What the template shows of one audit run; ``budget`` in bytes is for the pictures of its gallery.

    Raises what a damaged ``result.json`` raises; damaged tables become notes.
    """
    notes: list[str] = []
    scores = record.scores
    verdict = dict((record.result or {}).get("verdict") or {})
    options = record.job.options if record.job else {}
    thresholds = audit_numbers.thresholds(scores)
    matches = _matches(record, notes)
    columns = list(dict.fromkeys([*audit_numbers.columns(scores), *matches.r]))
    pairs = _pairs(record, matches, thresholds, notes)
    twins = _twins(record, notes) if pictures else []
    copied = {side: _subjects(record, side, notes) for side in ("train", "holdout")}
    protection = _protection(scores, verdict, _labels_of(record, notes), notes)
    figures = _histograms(record, matches, thresholds, notes)
    shown = gallery(record, pairs, budget, notes) if pictures else None
    return {
        "record": record,
        "anchor": anchor,
        "pictures": pictures,
        "outcome": str(verdict.get("outcome") or "no verdict"),
        "weaker": list(map(str, verdict.get("weaker") or ())),
        "changed": _changed(record, notes) if verdict else [],
        "seal": _seal(record),
        "reasons": list(map(str, verdict.get("reasons") or ())),
        "not_proven": list(map(str, verdict.get("not_proven") or ())),
        "policy": dict(options.get("policy") or {}),
        "remarks": [*twins, *_remarks(options)],
        "notes": notes if pictures else _counted(notes),
        "whole": audit_numbers.whole(scores),
        "searched": audit_numbers.searched(scores, columns),
        "searched_lines": audit_numbers.searched_lines(scores),
        "groups": audit_numbers.groups(scores),
        "families": audit_numbers.families(scores),
        "power": power(scores),
        "histograms": figures,
        "overview": audit_numbers.overview(scores),
        "tables": audit_numbers.tables(scores),
        "tails": audit_numbers.tails(scores),
        "subjects": [
            {"side": side, "rows": rows[:N_SUBJECTS], "n": len(rows)} for side, rows in copied.items() if rows
        ],
        "gallery": shown,
        "worst": _worst(pairs),
        "protection": protection,
        "others": [score for score in scores if not audit_numbers.is_shown(score)] if pictures else [],
    }


def _remarks(options: dict[str, Any]) -> list[str]:
    if options.get("lineage") != "unknown":
        return []
    return [
        "Where the synthetic images come from is not known, or not in full: the audit shows only what they copy from "
        "this training set."
    ]


def _changed(record: RunRecord, notes: list[str]) -> list[str]:
    """What is not as it was when the audit was made."""
    if record.job is None:
        return []
    try:
        return changes(record.job, datasets_at_hand(record.job, record.run.path), record.result or {})
    except DAMAGE as error:
        notes.append(f"Whether the audit is as it was made cannot be told: {sentence(error)}")
        return []


def _seal(record: RunRecord) -> str:
    seal = (record.result or {}).get("seal")
    return str(seal.get("digest", "")) if isinstance(seal, dict) else ""


def _counted(notes: Sequence[str]) -> list[str]:
    """Notes that may be released: texts about files hold paths and ids."""
    return [f"Parts of this audit that could not be read and are left out: {len(notes)}."] if notes else []


# ---------------------------------------------------------------------------------------------------- from the tables


def _matches(record: RunRecord, notes: list[str]) -> Matches:
    try:
        return audit_tables.read_matches(record.run.outputs / MATCHES.file)
    except DAMAGE as error:
        notes.append(f"The table matches cannot be shown: {sentence(error)}")
        return Matches()


def _pairs(record: RunRecord, matches: Matches, thresholds: dict[Column, float], notes: list[str]) -> list[Pair]:
    """Of ``pairs.csv``; of a run without one, the nearest matches of each view and rule."""
    table = record.run.outputs / PAIRS.file
    if not table.is_file():
        nearest = [pair for own in matches.nearest.values() for pair in own]
        return [replace(pair, threshold=thresholds.get(pair.column)) for pair in nearest]
    try:
        return audit_tables.read_pairs(table)
    except DAMAGE as error:
        notes.append(f"The most similar pairs cannot be shown: {sentence(error)}")
        return []


def _twins(record: RunRecord, notes: list[str]) -> list[str]:
    """Held-out people who were trained on under another id, by name."""
    table = record.run.outputs / HOLDOUT_TWINS.file
    try:
        twins = audit_tables.read_twins(table) if table.is_file() else []
    except DAMAGE as error:
        notes.append(f"The table {HOLDOUT_TWINS.name} cannot be shown: {sentence(error)}")
        return []
    if not twins:
        return []
    who = words([f"{held_out} is {trained}" for held_out, trained in twins])
    return [f"Held out and trained on under two ids, by what their images show: {who}. Left out of the held-out side."]


def _histograms(
    record: RunRecord, matches: Matches, thresholds: dict[Column, float], notes: list[str]
) -> list[dict[str, Any]]:
    null, table = {}, record.run.outputs / NULL.file
    if table.is_file():
        try:
            null = audit_tables.read_null(table)
        except DAMAGE as error:
            notes.append(f"The table null cannot be shown: {sentence(error)}")
    return histograms(matches.r, null, thresholds, audit_numbers.rules_of(list(matches.r)))


def _subjects(record: RunRecord, side: str, notes: list[str]) -> list[dict[str, Any]]:
    """Training or held-out subjects whom copies show."""
    declared = SUBJECTS if side == "train" else HOLDOUT_SUBJECTS
    table = record.run.outputs / declared.file
    if not table.is_file():
        return []
    try:
        return audit_tables.read_subjects(table, side)
    except DAMAGE as error:
        notes.append(f"The table {declared.name} cannot be shown: {sentence(error)}")
        return []


def _worst(pairs: Sequence[Pair]) -> list[Pair]:
    """The worst pair of each view, the joint image first."""
    views = sorted(dict.fromkeys(pair.contrast for pair in pairs), key=lambda view: view != "joint")
    return [worst([pair for pair in pairs if pair.contrast == view])[0][0] for view in views]


def _labels_of(record: RunRecord, notes: list[str]) -> str:
    """Whose label maps the samples were asked to have, as far as they are still where they were."""
    try:
        path = datasets_at_hand(record.job, record.run.path).get("synthetic") if record.job else None
        return whose_labels(Dataset(path).lineage) if path else ""
    except DAMAGE as error:
        notes.append(f"Whose label maps these are cannot be told: {sentence(error)}")
        return ""


def _protection(
    scores: Sequence[dict[str, Any]], verdict: dict[str, Any], labels_of: str, notes: list[str]
) -> list[dict[str, Any]]:
    """What the numbers say to the questions of data protection: singling out, linkability, inference."""
    try:
        return data_protection(scores, verdict, labels_of)
    except DAMAGE as error:
        notes.append(f"The questions of data protection cannot be answered: {sentence(error)}")
        return []
