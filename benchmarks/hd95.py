"""HD95 of one region in a 240 x 240 x 155 volume, beside MedPy, MONAI and surface-distance.

    python benchmarks/hd95.py [--data FOLDER] [--trials 5]

Real rater pairs; every trial times every tool once, in turn, so that a slow moment of the machine hits all of
them; the figure is the median over trials. Peers that are not installed are named and skipped
(``pip install --no-deps medpy SimpleITK surface-distance monai``). Targets: 40x MedPy, 2.5x MONAI and
surface-distance, values equal to 1e-6 to MedPy (pooled) and MONAI (larger directed).
surface-distance measures between surface elements at voxel corners, weighted by their area, instead of
between border voxels: its value is printed and not compared.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import nibabel
import numpy as np
from numpy.typing import NDArray
from synthkit_overlap.surfaces import hausdorff

Mask = NDArray[np.bool_]
Tool = Callable[[Mask, Mask, Sequence[float]], float]

TARGETS = {"MedPy": 40.0, "MONAI": 2.5, "surface-distance": 2.5}
SPACING_MM = (1.0, 1.0, 1.0)


def peers() -> dict[str, Tool]:
    """The peers that are installed; a line for each that is not."""
    found: dict[str, Tool] = {}
    try:
        from medpy.metric.binary import hd95 as medpy_hd95

        found["MedPy"] = lambda r, p, s: float(medpy_hd95(p, r, voxelspacing=s))
    except ImportError as error:
        print(f"MedPy skipped: {error}")
    try:
        import torch
        from monai.metrics import compute_hausdorff_distance

        def monai_hd95(reference: Mask, prediction: Mask, spacing_mm: Sequence[float]) -> float:
            # from_numpy shares the memory: no conversion is counted against the peer.
            masks = [torch.from_numpy(mask)[None, None] for mask in (prediction, reference)]
            return float(compute_hausdorff_distance(*masks, include_background=True, percentile=95, spacing=spacing_mm))

        found["MONAI"] = monai_hd95
    except ImportError as error:
        print(f"MONAI skipped: {error}")
    try:
        from surface_distance import metrics as surface_distance

        found["surface-distance"] = lambda r, p, s: float(
            surface_distance.compute_robust_hausdorff(surface_distance.compute_surface_distances(r, p, s), 95)
        )
    except ImportError as error:
        print(f"surface-distance skipped: {error}")
    return found


def cases(data: Path) -> dict[str, tuple[Mask, Mask]]:
    """Reference and prediction, bool (240, 240, 155), in C order."""

    def load(*parts: str) -> NDArray[np.uint8]:
        return np.ascontiguousarray(np.asarray(nibabel.load(data.joinpath(*parts)).dataobj), dtype=np.uint8)

    fused = load("brats-mini", "TCGA-FG-6692", "TCGA-FG-6692_seg.nii.gz")
    rater = load("brats-mini-raters", "TCGA-FG-6692", "TCGA-FG-6692_seg_scan-20.nii.gz")
    algorithm = load("brats-mini", "Brats18_CBICA_AAB_1", "Brats18_CBICA_AAB_1_seg.nii.gz")
    expert = load("brats-mini-raters", "Brats18_CBICA_AAB_1", "Brats18_CBICA_AAB_1_wt.nii.gz")
    core, rated_core = np.isin(fused, (1, 4)), np.isin(rater, (1, 4))
    far = rated_core.copy()
    far[200:206, 30:36, 20:26] = True
    return {
        "small ET": (fused == 4, rater == 4),
        "medium TC": (core, rated_core),
        "large WT": (expert > 0, algorithm > 0),
        "TC + far false positive": (core, far),
    }


def main() -> int:
    default = os.environ.get("SYNTHKIT_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(default), help="folder of brats-mini and brats-mini-raters")
    parser.add_argument("--trials", type=int, default=5)
    arguments = parser.parse_args()
    if not (arguments.data / "brats-mini-raters").is_dir():
        print(f"real subjects not found in {arguments.data}: give --data or set SYNTHKIT_TEST_DATA", file=sys.stderr)
        return 3
    warnings.simplefilter("ignore")
    others = peers()
    all_met = True
    for name, (reference, prediction) in cases(arguments.data).items():
        result = hausdorff(reference, prediction, SPACING_MM)
        values = {tool: run(reference, prediction, SPACING_MM) for tool, run in others.items()}
        seconds: dict[str, list[float]] = {tool: [] for tool in ("synthkit", *others)}
        tools: dict[str, Callable[..., object]] = {"synthkit": hausdorff, **others}
        for _ in range(arguments.trials):
            for tool, run in tools.items():
                start = time.perf_counter()
                run(reference, prediction, SPACING_MM)
                seconds[tool].append(time.perf_counter() - start)
        ours = median(seconds["synthkit"])
        print(f"\n{name}: {reference.sum()} and {prediction.sum()} voxels")
        both = f"{result.pooled_mm:.6f} pooled, {result.directed_mm:.6f} directed mm"
        print(f"  {'synthkit':18}{ours * 1e3:9.1f} ms           {both}")
        for tool, value in values.items():
            ratio = median(seconds[tool]) / ours
            expected = {"MedPy": result.pooled_mm, "MONAI": result.directed_mm}.get(tool)
            equal = expected is None or abs(value - expected) <= 1e-6 * max(1.0, expected)
            met = ratio >= TARGETS[tool] and equal
            all_met &= met
            difference = "other definition" if expected is None else f"differs by {abs(value - expected):.1e}"
            print(
                f"  {tool:18}{median(seconds[tool]) * 1e3:9.1f} ms {ratio:7.1f}x  {value:.6f} mm, {difference}; "
                f"target {TARGETS[tool]:g}x {'met' if met else 'MISSED'}"
            )
    if not others:
        print("\nno peer is installed: nothing was compared")
        return 0
    print("\nall targets met" if all_met else "\na target was MISSED")
    return 0 if all_met else 1


if __name__ == "__main__":
    sys.exit(main())
