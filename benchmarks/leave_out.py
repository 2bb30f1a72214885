"""Each real subject segmented by a U-Net that was trained on the others: a smoke test on real images.

    python benchmarks/leave_out.py FOLDER [--subjects DIR] [--samples 20000]

For each subject of DIR (default: brats-mini of the test data) the others are prepared at 64 x 64, a small U-Net is
trained on them, and the one left out is segmented and scored in its own grid. Four subjects are far too few to train
on, so the numbers say that the whole way works on real images, and nothing about how well a U-Net can do.
Everything is done by the commands that a user types; run again with the same FOLDER, it goes on.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from pathlib import Path

from synthkit.schemes import BRATS

UNET = ("-p", "filters=16", "-p", "depth=4", "-p", "batch_size=8", "-p", "learning_rate=0.02")
REGIONS = tuple(BRATS.region_values)


def synthkit(*arguments: str | Path) -> None:
    """Run a command; its output is shown if it fails."""
    command = [sys.executable, "-m", "synthkit", *map(str, arguments)]
    environment = {**os.environ, "SYNTHKIT_BACKEND": "local"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"$ synthkit {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--subjects", type=Path)
    parser.add_argument("--samples", type=int, default=20_000, help="images shown in each training")
    options = parser.parse_args()
    data = Path(os.environ.get("SYNTHKIT_TEST_DATA", "../shared/data"))
    subjects: Path = options.subjects or data / "brats-mini"
    names = sorted(path.name for path in subjects.iterdir() if path.is_dir())
    table: dict[str, dict[str, dict[str, str]]] = {}
    for name in names:
        here = options.folder / name
        if not (here / "evaluate" / "result.json").exists():
            synthkit("prepare", subjects, "-o", here / "data", "--size", "64", "--holdout", f"{name},", "--overwrite")
            budget = ("-p", f"samples={options.samples}", "-p", "validation_fraction=0")
            synthkit("train", "unet", here / "data", "-o", here / "train", "--resume", *UNET, *budget)
            synthkit("segment", here / "train", subjects, "-o", here / "segment", "--resume")
            scored = ("--reference", subjects, "--prediction", here / "segment", "-o", here / "evaluate", "--resume")
            synthkit("evaluate", "dice", "hausdorff", *scored)
        with (here / "evaluate" / "outputs" / "overlap.csv").open(newline="", encoding="utf-8") as file:
            table[name] = {row["region"]: row for row in csv.DictReader(file) if row["subject"] == name}
        print(f"{name} is done", file=sys.stderr, flush=True)
    print(f"Dice (HD95 in mm) of each subject, trained on the other {len(names) - 1}; {options.samples:,} images")
    print(f"{'':22}" + "".join(f"{region:>16}" for region in REGIONS))
    for name, rows in table.items():
        print(f"{name:22}" + "".join(f"{shown(rows.get(region)):>16}" for region in REGIONS))
    for region in REGIONS:
        values = [float(rows[region]["dice"]) for rows in table.values() if rows.get(region, {}).get("dice")]
        print(f"mean Dice {region}: {sum(values) / len(values):.3f} over {len(values)} subjects")


def shown(row: dict[str, str] | None) -> str:
    """Dice and HD95, or what there is instead."""
    if row is None or not row["dice"]:
        return "empty" if row is None else row["case"]
    distance = f" ({float(row['hd95_pooled_mm']):.0f})" if row["hd95_pooled_mm"] else ""
    return f"{float(row['dice']):.2f}{distance}" if row["case"] != "missed" else "missed"


if __name__ == "__main__":
    main()
