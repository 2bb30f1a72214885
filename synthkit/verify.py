"""Run a run again from its ``job.json`` and compare what comes out.

Digests are compared first. Where they differ and the declaration promises no bitwise equality, samples may differ by
one grey level (another thread count or processor rounds differently) and scores by one part in a million.
"""

from __future__ import annotations

import csv
import math
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from synthkit import backends
from synthkit.backends import OnEvent
from synthkit.contract import Declaration
from synthkit.errors import DataError, GateFailedError, error_from_dict
from synthkit.plugins import discover
from synthkit.runs import Run, create_run, file_digest, folder_digest

#: Largest difference of a grey level that counts as the same image, in grey levels.
GREY_TOLERANCE = 1
#: Largest relative difference that counts as the same score.
SCORE_TOLERANCE = 1e-6
#: Share of label pixels that may change where an image sits on a decision boundary.
LABEL_TOLERANCE = 1e-3
#: Largest difference of a probability.
PROBABILITY_TOLERANCE = 0.02


@dataclass(frozen=True)
class Difference:
    """How one output compares. ``kind`` is what was compared: "digest", "pixels", "scores", "table"."""

    what: str
    kind: str
    same: bool
    detail: str


@dataclass
class Comparison:
    """All outputs of a run beside those of its repetition; ``changed_code`` names the packages edited in between."""

    run: str
    backend: str
    differences: list[Difference] = field(default_factory=list)
    changed_code: list[str] = field(default_factory=list)

    @property
    def same(self) -> bool:
        return all(item.same for item in self.differences)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "same": self.same}


def verify_run(path: Path, *, keep: Path | None, backend: str | None, on_event: OnEvent) -> Comparison:
    """Repeat the run at ``path`` (into ``keep``, or a temporary folder) and compare.

    Raises :class:`DataError` for a run that did not succeed or whose inputs are gone, :class:`GateFailedError` for
    inputs that have changed.
    """
    run = Run(path)
    job, result = run.job(), run.result()
    if result is None or result.get("status") != "succeeded":
        raise DataError(
            f"{path} has no successful result.", "There is nothing to compare with.", "Finish it with --resume."
        )
    for role, item in job.inputs.items():
        source = run.input(role)
        if not source.exists():
            raise DataError(f"The input {role} of {path} is gone.", f"{source} leads nowhere.", "Put it back.")
        item.source = source.resolve()
        now = _digest(item.kind, item.source)
        if item.digest and now != item.digest:
            raise GateFailedError(
                f"The input {role} of {path} has changed.",
                f"It was {item.digest[:23]}, it is {now[:23]}.",
                "Restore it.",
            )
    declaration = discover().get(job.plugins[0])
    chosen = backends.choose(backend or result.get("backend"), declaration, job)
    comparison = Comparison(str(path), chosen.name)
    with tempfile.TemporaryDirectory(prefix="synthkit-verify-") as temporary:
        again = create_run(keep or Path(temporary) / "run", job)
        second = chosen.run(again, declaration, on_event)
        if second["status"] != "succeeded":
            raise error_from_dict(second["error"])
        old_code, new_code = result.get("code") or {}, second.get("code") or {}
        comparison.changed_code = sorted(name for name in old_code if old_code[name] != new_code.get(name))
        for name in sorted({*result.get("outputs", {}), *second.get("outputs", {})}):
            first_output, second_output = result["outputs"].get(name), second["outputs"].get(name)
            comparison.differences.append(_compare(name, first_output, second_output, run, again, declaration))
        if "scores" in result:
            comparison.differences.append(_compare_scores(result["scores"], second.get("scores", [])))
        if "verdict" in result:
            first, other = result["verdict"]["outcome"], second["verdict"]["outcome"]
            comparison.differences.append(
                Difference("verdict", "verdict", first == other, first if first == other else f"{first}, then {other}")
            )
    return comparison


def _digest(kind: str, source: Path) -> str:
    from synthkit.dataset import Dataset

    if kind == "dataset":
        return Dataset(source).digest
    reckon = {"checkpoint": folder_digest, "file": file_digest}.get(kind)
    return reckon(source) if reckon else ""


def _compare(name: str, first: Any, second: Any, run: Run, again: Run, declaration: Declaration) -> Difference:
    if first is None or second is None:
        return Difference(name, "digest", False, "only one of the runs made it")
    if first["digest"] == second["digest"]:
        return Difference(name, "digest", True, first["digest"][:19])
    if declaration.reproducible == "bitwise":
        return Difference(name, "digest", False, f"{first['digest'][:19]}, then {second['digest'][:19]}")
    if first["kind"] == "dataset":
        return _compare_datasets(name, run.dataset, again.dataset)
    if first["kind"] == "labels":
        return _compare_labels(name, run.predictions, again.predictions)
    if first["kind"] == "probabilities":
        return _compare_probabilities(name, run.probabilities, again.probabilities)
    if first["kind"] == "table":
        return _compare_tables(name, run.outputs / f"{name}.csv", again.outputs / f"{name}.csv")
    return Difference(name, "digest", False, f"{first['digest'][:19]}, then {second['digest'][:19]}")


def _compare_datasets(name: str, first: Path, second: Path) -> Difference:
    import numpy as np

    from synthkit.dataset import Dataset

    one, two = Dataset(first), Dataset(second)
    if [row.id for row in one.samples] != [row.id for row in two.samples]:
        return Difference(name, "pixels", False, "the samples are others")
    largest, moved, pixels = 0, 0, 0
    for (images, labels), (other_images, other_labels) in zip(one.batches(32), two.batches(32), strict=True):
        largest = max(largest, int(np.abs(images.astype(np.int16) - other_images).max()))
        moved += int((labels != other_labels).sum())
        pixels += labels.size
    share = moved / max(pixels, 1)
    same = largest <= GREY_TOLERANCE and share <= LABEL_TOLERANCE
    return Difference(name, "pixels", same, f"largest difference {largest} grey levels, {share:.2e} of label pixels")


def _compare_labels(name: str, first: Path, second: Path) -> Difference:
    import numpy as np

    from synthkit.subjects import LabelFolder

    one, two = LabelFolder(first), LabelFolder(second)
    if list(one.subjects) != list(two.subjects):
        return Difference(name, "labels", False, "the subjects are others")
    worst = 0.0
    for subject in one.subjects:
        labels, other = one.labels(subject)[0], two.labels(subject)[0]
        foreground = max(int(np.count_nonzero(labels | other)), 1)
        worst = max(worst, float(np.count_nonzero(labels != other)) / foreground)
    return Difference(
        name, "labels", worst <= LABEL_TOLERANCE, f"at most {worst:.2e} of a subject's label voxels differ"
    )


def _compare_probabilities(name: str, first: Path, second: Path) -> Difference:
    import numpy as np

    from synthkit.nifti import read_volume

    files = sorted(path.name for path in first.iterdir())
    if files != sorted(path.name for path in second.iterdir()):
        return Difference(name, "probabilities", False, "the files are others")
    moved = max(float(np.abs(read_volume(first / f).data - read_volume(second / f).data).max()) for f in files)
    same = moved <= PROBABILITY_TOLERANCE
    return Difference(name, "probabilities", same, f"the largest difference is {moved:.3f}")


def _compare_tables(name: str, first: Path, second: Path) -> Difference:
    with first.open(newline="", encoding="utf-8") as a, second.open(newline="", encoding="utf-8") as b:
        rows, others = list(csv.reader(a)), list(csv.reader(b))
    if len(rows) != len(others):
        return Difference(name, "table", False, f"{len(rows)} rows, then {len(others)}")
    for number, (row, other) in enumerate(zip(rows, others, strict=True)):
        if len(row) != len(other) or not all(_same_text(x, y) for x, y in zip(row, other, strict=True)):
            return Difference(name, "table", False, f"row {number} differs")
    return Difference(name, "table", True, f"{len(rows)} rows")


def _compare_scores(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> Difference:
    def keyed(scores: list[dict[str, Any]]) -> dict[tuple[Any, ...], Any]:
        return {(s["name"], *sorted(s["of"].items())): s["value"] for s in scores}

    one, two = keyed(first), keyed(second)
    if one.keys() != two.keys():
        return Difference("scores", "scores", False, "they are not the same scores")
    for key, value in one.items():
        if not _same_number(value, two[key]):
            return Difference("scores", "scores", False, f"{key[0]} was {value}, is {two[key]}")
    return Difference("scores", "scores", True, f"{len(one)} scores")


def _same_text(one: str, two: str) -> bool:
    if one == two:
        return True
    try:
        return _same_number(float(one), float(two))
    except ValueError:
        return False


def _same_number(one: float | None, two: float | None) -> bool:
    if one is None or two is None:
        return one is two
    return math.isclose(one, two, rel_tol=SCORE_TOLERANCE, abs_tol=1e-12)
