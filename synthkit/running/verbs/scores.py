"""What ``evaluate`` and ``audit-memorization`` share in the run: data for a metric in, scores and tables out."""

from __future__ import annotations

import csv
import dataclasses
import math
import numbers
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from synthkit.contract import Declaration, Kept, MetricDeclaration, Row, Score
from synthkit.data.label_folders import LabelFolder
from synthkit.data.label_grids import OnOneGrid, check_same_grids
from synthkit.data.views import Joined
from synthkit.errors import DataError, PluginError, UsageError
from synthkit.registry.parameters import make_params
from synthkit.registry.registry import load_module
from synthkit.running.checkpoints import KEPT
from synthkit.running.run import Job, Run, file_digest
from synthkit.running.verbs.boundary import call, opened_dataset, opened_file, outputs_of, yielded
from synthkit.running.verbs.keeping import described, written


def metrics_of(declarations: Sequence[Declaration]) -> list[MetricDeclaration]:
    """The metrics of a run; :class:`UsageError` unless one call of their method gives the scores of all."""
    metrics = [d for d in declarations if isinstance(d, MetricDeclaration)]
    if len({(d.module, d.params) for d in metrics}) != 1:
        raise UsageError("Metrics of different packages cannot share a run.", fix="Evaluate them one by one.")
    return metrics


def opened_inputs(run: Run, job: Job) -> dict[str, Any]:
    """What a metric gets for each of its roles: samples, label volumes, or the path of a file."""
    datasets: dict[str, Any] = {}
    parts: dict[str, list[Any]] = {}
    for role, item in job.inputs.items():
        if item.kind == "dataset":
            dataset = opened_dataset(run, job, role)
            part = dataset.select(*item.splits) if item.splits else dataset.training_part()
            parts.setdefault(role.rstrip("0123456789"), []).append(part)  # train, train2, ... are searched together
        elif item.kind == "file":
            datasets[role] = opened_file(run, job, role)
        else:
            subjects = job.options.get("subjects")
            if subjects is not None and role == "reference":
                subjects = [*subjects, *job.options.get("references_without_prediction", ())]
            names = job.options.get("names", ()) if role == "reference" else ()
            schemes = job.options.get("labels", {})
            reference = None
            if role == "prediction" and "reference" in job.inputs:
                reference = LabelFolder(
                    run.input("reference"),
                    subjects=subjects,
                    names=job.options.get("names", ()),
                    decided=schemes.get("reference"),
                )
            datasets[role] = LabelFolder(
                run.input(role), subjects=subjects, names=names, reference=reference, decided=schemes.get(role)
            )
    datasets |= {role: found[0] if len(found) == 1 else Joined(found) for role, found in parts.items()}
    if "reference" in datasets and "prediction" in datasets:
        by_request = job.options.get("prediction_grid") == "reference"
        if not by_request:
            check_same_grids(datasets["reference"], datasets["prediction"])
        datasets["prediction"] = OnOneGrid(datasets["prediction"], datasets["reference"], by_request=by_request)
    return datasets


def scored(run: Run, job: Job, metrics: Sequence[MetricDeclaration], datasets: Mapping[str, Any]) -> dict[str, Any]:
    """Scores as ``result.json`` holds them, and the tables that were written; what the metric yields is checked."""
    first = metrics[0]
    params = make_params(first, job.params)
    module = load_module(first)
    known = {score.name for d in metrics for score in d.scores}
    scores: list[dict[str, Any]] = []
    kept: list[Kept] = []
    tables = _Tables(run.outputs)
    with tables:
        answers = call(first, module.score, metrics=[d.name for d in metrics], params=params, **datasets)
        for answer in yielded(first, answers):
            if isinstance(answer, Row):
                tables.write(answer)
            elif isinstance(answer, Kept) and not kept:
                kept.append(answer)
            elif isinstance(answer, Score) and answer.name in known:
                scores.append(_sound(answer, first).to_dict())
            else:
                raise PluginError(
                    f"{first.name} gave {getattr(answer, 'name', type(answer).__name__)!r}, which it does not declare.",
                    f"It declares the scores {', '.join(sorted(known))}.",
                    f"Report it to the authors of {first.distribution}.",
                )
    return {"scores": scores, "outputs": {**tables.described(), **(written(run, first, kept[0]) if kept else {})}}


def admitted_scores(run: Run, metrics: Sequence[MetricDeclaration], told: Mapping[str, Any]) -> dict[str, Any]:
    """On the host: the scores that a run told, which have to be declared ones, and its tables with their digests."""
    known = {score.name for d in metrics for score in d.scores}
    with outputs_of(run):
        if unknown := sorted({score["name"] for score in told["scores"]} - known):
            raise DataError(f"It gave the score {unknown[0]}.", f"Declared are {', '.join(sorted(known))}.")
        if wrong := [name for name in told["outputs"] if not name.isidentifier()]:
            raise DataError(f"{wrong[0]!r} is not a name for a table.")
        digests = {name: file_digest(run.outputs / f"{name}.csv") for name in told["outputs"] if name != KEPT}
        kept = described(run) if KEPT in told["outputs"] else {}
    tables = {name: {"kind": "table", "digest": digest} for name, digest in digests.items()}
    return {"scores": told["scores"], "outputs": {**tables, **kept}}


class _Tables:
    """Writes rows to ``outputs/<table>.csv`` as they come; complete tables only (temporary name until the end)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, tuple[IO[str], Any, list[str]]] = {}
        self._done: list[Path] = []

    def write(self, row: Row) -> None:
        if row.table not in self._open:
            if not row.table.isidentifier() or row.table == KEPT:
                raise PluginError(
                    f"{row.table!r} is not a name for a table.", fix="Use letters, digits and underscores."
                )
            file = (self.folder / f".{row.table}.csv.tmp").open("w", newline="", encoding="utf-8")
            writer = csv.DictWriter(file, list(row.values), lineterminator="\n")
            writer.writeheader()
            self._open[row.table] = (file, writer, list(row.values))
        _, writer, columns = self._open[row.table]
        if list(row.values) != columns:
            raise PluginError(
                f"Rows of the table {row.table} differ in their columns.", f"First {columns}, then {list(row.values)}."
            )
        writer.writerow(row.values)

    def described(self) -> dict[str, Any]:
        return {path.stem: {"kind": "table", "digest": file_digest(path)} for path in self._done}

    def __enter__(self) -> _Tables:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        for name, (file, _, _) in self._open.items():
            file.close()
            temporary = Path(file.name)
            if kind is None:
                self._done.append(temporary.replace(self.folder / f"{name}.csv"))
            else:
                temporary.unlink(missing_ok=True)


def _sound(score: Score, declaration: Declaration) -> Score:
    """The score in plain Python numbers, which JSON can hold."""
    plain: dict[str, Any] = {"of": {str(key): str(value) for key, value in score.of.items()}}
    for field in ("value", "low", "high", "n"):
        number = getattr(score, field)
        if number is None:
            continue
        if not isinstance(number, numbers.Real) or not math.isfinite(number):
            raise PluginError(
                f"{declaration.name} gave {score.name} with {field} = {number!r}.",
                "A score is a number; an undefined one is None with a note, never NaN or infinite.",
                f"Report it to the authors of {declaration.distribution}.",
            )
        plain[field] = int(number) if isinstance(number, numbers.Integral) else float(number)
    return dataclasses.replace(score, **plain)
