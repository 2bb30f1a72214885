"""Lesion-wise scores beside the published code of the BraTS challenges: same numbers, ratio of processor time.

    python benchmarks/lesion_scores.py --official-2023 FOLDER --official-2024 FOLDER [--data FOLDER] [--trials 3]
                                       [--answers FILE]

The folders are checkouts of the challenges' own code, github.com/rachitsaluja/BraTS-2023-Metrics and -2024-Metrics,
which need ``pip install connected-components-3d MedPy nibabel pandas`` beside synthkit; nothing of them is copied
here. Names that they take from older NumPy, SciPy and pandas are put back for them before they are imported. Where a
folder is not given, its rules are skipped.

Subjects: 240 x 240 x 155 voxels, the truth moved by (2, 1, 0) voxels and eight blobs of 64 voxels as prediction; one
made up, and with --data (or SYNTHKIT_TEST_DATA) the real ones of its folder ``brats-mini``. Time is of the processor,
the least of the trials, reading of files included on their side (a few per cent). WT, TC and ET by the rules of 2023,
six regions by those of 2024. Targets: 0.5 s a subject, and 20 times faster.

Equality: the generated pairs of the plugin's tests. ``--answers`` writes the file that those compare with.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import io
import json
import os
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import scipy.ndimage
from numpy.typing import NDArray
from synthkit_overlap.lesion_rules import RULES
from synthkit_overlap.lesions import lesion_scores, lesions_by_region

Labels = NDArray[np.uint8]

ROOT = Path(__file__).resolve().parents[1]
#: Rules -> year of the code, its module, the challenge's name in it.
OFFICIAL = {
    "gli2023": (2023, "metrics", "BraTS-GLI"),
    "met2023": (2023, "metrics", "BraTS-MET"),
    "gli2024-as-run": (2024, "metrics_GLI", "BraTS-GLI"),
    "ped2024-as-run": (2024, "metrics_PED", "BraTS-PED"),
    "met2024-as-run": (2024, "metrics_MET", "BraTS-MET"),
    "men2024": (2024, "metrics_MEN", "BraTS-MEN"),
    "men-rt2024-as-run": (2024, "metrics_MEN_RT", "BraTS-MEN-RT"),
    "ssa2024-as-run": (2024, "metrics_SSA", "BraTS-SSA"),
}
COLUMNS = (
    *("Num_TP", "Num_FN", "Num_FP", "LesionWise_Score_Dice", "LesionWise_Score_HD95"),
    *("LesionWise_Score_NSD @ 1.0", "LesionWise_Score_NSD @ 0.5"),
)


def tests() -> Any:
    """The plugin's test module, for its pairs."""
    path = ROOT / "plugins/metrics/overlap/tests/test_official_lesions.py"
    spec = importlib.util.spec_from_file_location("official_lesions", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Official:
    """The published functions of one year, imported from a checkout."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._modules: dict[str, Any] = {}

    def scores(
        self, rules: str, reference: Labels, prediction: Labels, spacing_mm: tuple[float, ...]
    ) -> tuple[dict[str, list[float]], float]:
        """Region as they name it -> the numbers of :data:`COLUMNS`, and seconds of processor time."""
        _, name, challenge = OFFICIAL[rules]
        function = self._module(name).get_LesionWiseResults
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            for stem, labels in (("prediction", prediction), ("reference", reference)):
                nibabel.save(nibabel.Nifti1Image(labels, np.diag([*spacing_mm, 1.0])), f"{folder}/{stem}.nii.gz")
            start = time.process_time()
            with contextlib.redirect_stdout(io.StringIO()) as said:
                table = function(f"{folder}/prediction.nii.gz", f"{folder}/reference.nii.gz", challenge)
            seconds = time.process_time() - start
        if "Error" in said.getvalue():
            sys.exit(f"the published code failed: {said.getvalue()}")
        rows = (table if isinstance(table, tuple) else (table,))[0]
        columns = [column for column in COLUMNS if column in rows]
        return {str(row["Labels"]): [float(row[column]) for column in columns] for _, row in rows.iterrows()}, seconds

    def _module(self, name: str) -> Any:
        if name not in self._modules:
            for loaded in [key for key in sys.modules if key.split(".")[0] in ("surface_distance", "metrics")]:
                del sys.modules[loaded]
            sys.path.insert(0, str(self._folder))
            self._modules[name] = importlib.import_module(name)
            sys.path.remove(str(self._folder))
        return self._modules[name]


def put_back() -> None:
    """Names that the published code takes from NumPy 1, SciPy 1.9 and pandas 1."""
    import pandas

    for name, value in (("Inf", np.inf), ("NaN", np.nan)):
        if not hasattr(np, name):
            setattr(np, name, value)
    for name in ("filters", "morphology"):
        setattr(scipy.ndimage, name, types.SimpleNamespace(**vars(scipy.ndimage)))
    if not hasattr(pandas.DataFrame, "append"):
        pandas.DataFrame.append = lambda self, other: pandas.concat([self, other])
    replace = pandas.DataFrame.replace

    def replace_numbers(frame: Any, old: Any, new: Any, **options: Any) -> Any:
        """Without columns that hold arrays, which newer ones refuse to compare."""
        if options:
            return replace(frame, old, new, **options)
        plain = [column for column in frame if not frame[column].map(lambda x: isinstance(x, np.ndarray)).any()]
        return frame.assign(**{column: frame[column].replace(old, new) for column in plain})

    pandas.DataFrame.replace = replace_numbers


def subjects(data: Path | None) -> Iterator[tuple[str, Labels]]:
    """Labels 0 to 3 ``(240, 240, 155)``: a made-up one, then the real ones."""
    place = np.indices((240, 240, 155), dtype=np.float32)
    distance = np.sqrt(sum((place[i] - c) ** 2 for i, c in enumerate((90, 120, 80))))
    yield "made up", np.select([distance < 10, distance < 16, distance < 30], [1, 3, 2], 0).astype(np.uint8)
    for path in sorted((data / "brats-mini").glob("*/*_seg.nii.gz")) if data else ():
        labels = np.asarray(nibabel.load(path).dataobj).astype(np.uint8)
        labels[labels == 4] = 3
        room = [(0, max(n - side, 0)) for n, side in zip((240, 240, 155), labels.shape, strict=True)]
        yield path.parent.name, np.pad(labels, room)


def with_islands(reference: Labels) -> Labels:
    """The truth moved by (2, 1, 0) voxels, and eight blobs of 64 voxels far from it."""
    prediction = np.roll(reference, (2, 1, 0), (0, 1, 2))
    rng, n = np.random.default_rng(0), 0
    while n < 8:
        start = [int(rng.integers(20, side - 24)) for side in prediction.shape]
        if not prediction[tuple(slice(a - 10, a + 14) for a in start)].any():
            prediction[tuple(slice(a, a + 4) for a in start)] = 3
            n += 1
    return prediction


def timed(official: dict[int, Official], data: Path | None, trials: int) -> bool:
    """One line a subject and year: seconds, their ratio, the largest difference; whether the targets are met."""
    module, good = tests(), True
    print(f"{'subject':22} {'rules':15} {'ours s':>7} {'theirs s':>9} {'ratio':>6} {'difference':>11}   Dice WT")
    for name, reference in subjects(data):
        prediction = with_islands(reference)
        for rules in ("gli2023", "gli2024-as-run"):
            if OFFICIAL[rules][0] not in official:
                continue
            values = module.GLIOMA if "2024" in rules else module.CHALLENGES["gli2023"]
            seconds = []
            for _ in range(max(trials, 1)):
                start = time.process_time()
                found = lesions_by_region(
                    reference, prediction, (1.0, 1.0, 1.0), values, values, RULES[rules], module.WANTED
                )
                seconds.append(time.process_time() - start)
            theirs, their_seconds = official[OFFICIAL[rules][0]].scores(rules, reference, prediction, (1.0, 1.0, 1.0))
            worst, scores = 0.0, {}
            for region, numbers in theirs.items():
                own = lesion_scores(found[named(rules, region)], RULES[rules], module.WANTED)
                mine = [own.found, own.missed, own.false, own.dice, own.hd95_mm, *own.nsd]
                worst = max(worst, *(abs(a - b) for a, b in zip(mine, numbers, strict=False)))
                scores[region] = own.dice
            ratio = their_seconds / min(seconds)
            good &= ratio >= 20 and min(seconds) <= 0.5 and worst < 1e-6
            line = f"{name:22} {rules:15} {min(seconds):7.3f} {their_seconds:9.2f} {ratio:6.0f} {worst:11.1e}"
            print(f"{line}   {scores['WT']:.4f}", flush=True)
    return good


def named(rules: str, region: str) -> str:
    """Their name of a region -> ours."""
    if region == "NETC":
        return "NET" if rules.startswith("ped") else "NCR"
    return {"SNFH": "ED"}.get(region, region)


def compared(official: dict[int, Official], answers: Path | None) -> bool:
    """The generated pairs; whether all numbers are equal to 1e-6."""
    module, written, worst, n = tests(), {}, 0.0, 0
    for seed in range(module.N_PAIRS):
        rules = module.rules_of(seed)
        if OFFICIAL[rules][0] not in official:
            continue
        reference, prediction, spacing_mm = module.pair(seed)
        sides = (module.seen_by(rules, labels) for labels in (reference, prediction))
        theirs, _ = official[OFFICIAL[rules][0]].scores(rules, *sides, spacing_mm)
        mine = module.ours(seed, rules)
        for region, numbers in theirs.items():
            worst = max(worst, *(abs(a - b) for a, b in zip(mine[named(rules, region)], numbers, strict=False)))
            n += 1
        written[seed] = {
            "rules": rules,
            "sum": int(reference.sum()) + int(prediction.sum()),
            "regions": {named(rules, region): [short(x) for x in numbers] for region, numbers in theirs.items()},
        }
    print(f"{n} regions of {len(written)} generated pairs: largest difference {worst:.1e}")
    if answers is not None:
        lines = ",\n".join(f"{json.dumps(str(seed))}: {json.dumps(answer)}" for seed, answer in written.items())
        answers.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    return worst < 1e-6


def short(number: float) -> float | int:
    rounded = float(f"{number:.9g}")
    return int(rounded) if rounded.is_integer() else rounded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official-2023", type=Path)
    parser.add_argument("--official-2024", type=Path)
    parser.add_argument("--data", type=Path, default=os.environ.get("SYNTHKIT_TEST_DATA"))
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--answers", type=Path)
    given = parser.parse_args()
    folders = {2023: given.official_2023, 2024: given.official_2024}
    official = {year: Official(folder) for year, folder in folders.items() if folder is not None}
    if not official:
        sys.exit("give --official-2023 or --official-2024: checkouts of the challenges' code")
    put_back()
    warnings.filterwarnings("ignore")
    good = compared(official, given.answers)
    good &= timed(official, Path(given.data) if given.data else None, given.trials)
    print("targets met" if good else "TARGETS MISSED")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
