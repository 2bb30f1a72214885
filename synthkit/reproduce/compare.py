"""How the outputs of a run compare with those of its repetition.

Digests are compared first. Where they differ and the declaration promises no bitwise equality, samples may differ by
one grey level (another thread count or processor rounds differently) and scores by one part in a million.
"""

from __future__ import annotations

import csv
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from synthkit.contract import Declaration
from synthkit.errors import DataError
from synthkit.files import open_table
from synthkit.running.checkpoints import ARRAYS, KEPT
from synthkit.running.run import Job, Run, file_digest, folder_digest
from synthkit.running.seal import changes

#: Largest difference of a grey level that counts as the same image, in grey levels.
GREY_TOLERANCE = 1
#: Largest relative difference that counts as the same score.
SCORE_TOLERANCE = 1e-6
#: Share of label pixels that may change where an image sits on a decision boundary.
LABEL_TOLERANCE = 1e-3
#: Largest difference of an array that is kept for other runs, as a share of its largest value.
KEPT_TOLERANCE = 1e-4
#: Largest difference of a probability.
PROBABILITY_TOLERANCE = 0.02


@dataclass(frozen=True)
class Difference:
    """How one output compares.

    ``kind`` is what was compared: "files" (those on disk with the digest that the run recorded), "seal" (what an audit
    was made of), "digest", "pixels", "labels", "probabilities", "arrays", "table", "scores" or "verdict".
    """

    what: str
    kind: str
    same: bool
    detail: str


@dataclass
class Comparison:
    """All outputs of a run beside those of its repetition; ``changed_code`` names the packages edited in between."""

    run: str
    backend: str
    image: str = ""
    differences: list[Difference] = field(default_factory=list)
    changed_code: list[str] = field(default_factory=list)

    @property
    def same(self) -> bool:
        return all(item.same for item in self.differences)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "same": self.same}


def changed_files(run: Run, result: dict[str, Any]) -> list[Difference]:
    """Outputs on disk that are not those that the run wrote: every file is read and its digest reckoned again."""
    found = []
    for name, output in sorted(result.get("outputs", {}).items()):
        try:
            now = _digest_on_disk(run, name, output["kind"])
        except (DataError, OSError) as error:
            found.append(Difference(name, "files", False, f"it cannot be read: {error}"))
            continue
        if now != output["digest"]:
            detail = f"it was {output['digest'][:19]} when the run ended, it is {now[:19]}"
            found.append(Difference(name, "files", False, detail))
    return found


def changed_seal(job: Job, result: dict[str, Any]) -> list[Difference]:
    """What an audit was made of and is another now: policy, parameters, lineage and so on; see ``running/seal.py``.

    The inputs of the job have their sources by now.
    """
    if job.verb != "audit-memorization":
        return []
    datasets = {role: item.source for role, item in job.inputs.items() if item.kind == "dataset" and item.source}
    return [Difference("seal", "seal", False, f"changed since: {what}") for what in changes(job, datasets, result)]


def _digest_on_disk(run: Run, name: str, kind: str) -> str:
    if kind == "table":
        return file_digest(run.outputs / f"{name}.csv")
    if kind == "dataset":
        return dataset_digest(run.dataset)
    folder = run.outputs / name
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.")
    return folder_digest(folder)


def dataset_digest(path: Path) -> str:
    """``sha256:...`` of a dataset as :attr:`Dataset.digest` has it, reckoned from the pixels instead of looked up."""
    from synthkit.data.dataset import Dataset
    from synthkit.data.format import content_digest
    from synthkit.data.receiving import pixel_digests

    dataset = Dataset(path)
    pixels = pixel_digests(dataset)
    rows = [replace(row, digest=digest) for row, digest in zip(dataset.samples, pixels, strict=True)]
    return content_digest(dataset.contrasts, dataset.scheme, dataset.size, rows)


def compare_outputs(
    run: Run, result: dict[str, Any], again: Run, second: dict[str, Any], declaration: Declaration
) -> list[Difference]:
    """Every output, the scores and the verdict of a run beside those of its repetition ``again``."""
    first_outputs, second_outputs = result.get("outputs", {}), second.get("outputs", {})
    found = [
        _compare(name, first_outputs.get(name), second_outputs.get(name), run, again, declaration)
        for name in sorted({*first_outputs, *second_outputs})
    ]
    if "scores" in result:
        found.append(_compare_scores(result["scores"], second.get("scores", [])))
    if "verdict" in result:
        one, two = result["verdict"]["outcome"], second["verdict"]["outcome"]
        found.append(Difference("verdict", "verdict", one == two, one if one == two else f"{one}, then {two}"))
    return found


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
    if first["kind"] == KEPT:
        return _compare_kept(name, run.outputs / KEPT / ARRAYS, again.outputs / KEPT / ARRAYS)
    if first["kind"] == "table":
        return _compare_tables(name, run.outputs / f"{name}.csv", again.outputs / f"{name}.csv")
    return Difference(name, "digest", False, f"{first['digest'][:19]}, then {second['digest'][:19]}")


def _compare_datasets(name: str, first: Path, second: Path) -> Difference:
    import numpy as np

    from synthkit.data.dataset import Dataset

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

    from synthkit.data.label_folders import LabelFolder

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

    from synthkit.data.nifti import read_volume

    files = sorted(path.name for path in first.iterdir())
    if files != sorted(path.name for path in second.iterdir()):
        return Difference(name, "probabilities", False, "the files are others")
    moved = max(float(np.abs(read_volume(first / f).data - read_volume(second / f).data).max()) for f in files)
    same = moved <= PROBABILITY_TOLERANCE
    return Difference(name, "probabilities", same, f"the largest difference is {moved:.3f}")


def _compare_kept(name: str, first: Path, second: Path) -> Difference:
    import numpy as np

    with np.load(first, allow_pickle=False) as one, np.load(second, allow_pickle=False) as two:
        if sorted(one.files) != sorted(two.files):
            return Difference(name, "arrays", False, "the arrays are others")
        moved = 0.0
        for key in one.files:
            a, b = one[key], two[key]
            if a.shape != b.shape or a.dtype != b.dtype or (a.dtype.kind != "f" and not np.array_equal(a, b)):
                return Difference(name, "arrays", False, f"{key} is another")
            if a.dtype.kind == "f" and a.size:
                moved = max(moved, float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-30)))
    return Difference(name, "arrays", moved <= KEPT_TOLERANCE, f"largest difference {moved:.1e} of the largest value")


def _compare_tables(name: str, first: Path, second: Path) -> Difference:
    with open_table(first) as a, open_table(second) as b:
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
