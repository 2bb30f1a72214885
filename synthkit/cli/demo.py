"""The whole job on a phantom, by the same commands that a user types, one after another.

Only the generator is not trained here: a useful one takes more than an hour on two CPU cores. A small one, trained on
exactly these phantom subjects, travels with synthkit (``docs/demo.md`` has the command that made it).
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from synthkit.cli.console import Console
from synthkit.errors import ExitCode, SynthkitError, UsageError

#: The shipped checkpoint of stylegan2, 64 x 64.
CHECKPOINT = Path(__file__).parent / "_demo" / "stylegan2"
N_SUBJECTS, N_HOLDOUT, SIZE, N_SYNTHETIC = 30, 6, 64, 600
_UNET = ("-p", "samples=6000", "-p", "filters=8", "-p", "depth=4", "-p", "batch_size=4", "-p", "learning_rate=0.02")
_SUMMARY = "demo.json"


def run_demo(out: Path, console: Console, *, overwrite: bool = False) -> dict[str, Any]:
    """Run the demo into ``out`` and return its numbers, ``demo.json``.

    Returns
    -------
    JSON-ready: ``dice`` (a row a region: both arms, their ratio, its interval, what was missed and false), ``warnings``
    about these, ``verdict`` and ``reasons`` of the audit, ``report``, ``seconds``, ``phantom``.
    """
    _check_installed()
    _clear(out, overwrite=overwrite)
    console.note(
        "This is a phantom: anatomy from the MNI152 template, planted tumours. Its numbers say nothing about patients."
    )
    start = time.monotonic()
    demo = _Demo(out, console)
    demo.step("phantom", "-o", demo.path("subjects"), "-n", str(N_SUBJECTS), "--seed", "0")
    subjects, real = demo.path("subjects"), demo.path("data/real")
    demo.step("prepare", subjects, "-o", real, "--size", str(SIZE), "--holdout", str(N_HOLDOUT))
    synthetic = demo.path("data/synthetic")
    demo.step("generate", str(CHECKPOINT), "--seeds", f"0-{N_SYNTHETIC - 1}", "-o", synthetic)
    scored = [demo.score_segmenter(arm, data) for arm, data in (("real", real), ("synthetic", synthetic))]
    audit = demo.step("audit-memorization", real, synthetic, "-o", demo.path("runs/audit"), *demo.lineage_option(real))
    report = demo.path("report.html")
    demo.step("report", str(out), "-o", report, "--title", "synthkit demo: a phantom")
    verdict, reasons = (audit["result"]["verdict"][key] for key in ("outcome", "reasons"))
    dice, warnings = compared_dice(*scored)
    summary = {
        "phantom": True,
        "seconds": round(time.monotonic() - start, 1),
        "dice": dice,
        "warnings": warnings,
        "verdict": verdict,
        "reasons": reasons,
        "report": report,
    }
    (out / _SUMMARY).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    _show(summary, console)
    return summary


def compared_dice(real: Path, synthetic: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of Dice, a region each, of two runs of ``evaluate`` on the same subjects; and what to beware of."""
    from synthkit.judging.arms import compared_arms, interval_warnings, read_overlap

    found = [item for item in compared_arms([read_overlap(real)], [read_overlap(synthetic)]) if item.score == "Dice"]
    return [item.to_dict() for item in found], interval_warnings(item.comparison for item in found)


def _check_installed() -> None:
    missing = [name for name in ("torch", "monai", "nilearn") if find_spec(name) is None]
    if missing:
        raise UsageError(
            "The demo runs without containers, so it needs the packages of the first-party plugins.",
            f"Missing: {', '.join(missing)}.",
            "Install synthkit-core with the extra [local].",
        )


def _clear(out: Path, *, overwrite: bool) -> None:
    """Make the folder of the demo, or empty that of an earlier one."""
    if out.exists() and any(out.iterdir()):
        if not overwrite or not (out / _SUMMARY).exists():
            raise UsageError(
                f"The output folder {out} is not empty.", fix="Choose another with -o, or give --overwrite."
            )
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / _SUMMARY).write_text("{}\n", encoding="utf-8")


def _show(summary: dict[str, Any], console: Console) -> None:
    rows = []
    for row in summary["dice"]:
        interval = "" if row["ratio_low"] is None else f"{row['ratio_low']:.3f} to {row['ratio_high']:.3f}"
        false = f"{row['n_false']:.0f} of {row['n_without']}"
        rows.append((row["region"], row["real"], row["synthetic"], row["ratio"], interval, row["n_subjects"], false))
    console.table(
        f"Dice on {N_HOLDOUT} held-out phantom subjects, by what the U-Net was trained on",
        ("region", "real", "synthetic", "synthetic / real", "95 % interval", "subjects", "false"),
        rows,
    )
    console.print("subjects: those that have the region. false: found by the synthetic arm in those that do not.")
    for text in summary["warnings"]:
        console.print(text)
    console.print(f"Memorization audit: {summary['verdict']}. {' '.join(summary['reasons'])}")
    console.print(f"The demo took {summary['seconds'] / 60:.1f} minutes. Open {summary['report']}")
    console.ending("synthkit prepare SUBJECTS -o data/real --holdout 0.2   (your own subjects, BraTS-style NIfTI)")


class _Demo:
    """Runs commands as subprocesses and shows each as a user would type it."""

    def __init__(self, out: Path, console: Console) -> None:
        self.out = out
        self.console = console

    def path(self, name: str) -> str:
        return str(self.out / name)

    def step(self, *arguments: str) -> dict[str, Any]:
        """Run ``synthkit ARGUMENTS``; its progress is seen live. A verdict that fails is a result here, no error."""
        self.console.note(f"\n$ synthkit {shlex.join(arguments)}")
        process = subprocess.Popen(
            [sys.executable, "-m", "synthkit", *arguments, "--json", *(["--quiet"] if self.console.quiet else [])],
            stdout=subprocess.PIPE,
            env={**os.environ, "SYNTHKIT_BACKEND": "local"},
            text=True,
        )
        try:
            text, _ = process.communicate()
        except KeyboardInterrupt:
            # The terminal has interrupted the command as well; it ends with grace and says so.
            process.wait()
            raise
        document: dict[str, Any] = json.loads(text) if text.strip() else {}
        if process.returncode not in (ExitCode.OK, ExitCode.GATE_FAILED):
            error = SynthkitError(
                f"The demo stopped at `synthkit {arguments[0]}`.",
                "Its error is above.",
                "See `synthkit doctor` for what may be missing.",
            )
            error.exit_code = ExitCode(process.returncode) if process.returncode in list(ExitCode) else ExitCode.BUG
            raise error
        return document

    def score_segmenter(self, arm: str, data: str) -> Path:
        """Train on a dataset, segment the subjects that it has not learned from, score; the run of ``evaluate``."""
        subjects = self.path("subjects")
        trained, predictions = self.path(f"runs/unet-{arm}"), self.path(f"runs/segment-{arm}")
        scores = self.path(f"runs/evaluate-{arm}")
        self.step("train", "unet", data, "-o", trained, *_UNET)
        self.step("segment", trained, subjects, "-o", predictions)
        self.step(
            "evaluate", "dice", "hausdorff", "surface-dice", "--reference", subjects, "--prediction", predictions,
            "-o", scores,
        )  # fmt: skip
        return Path(scores)

    def lineage_option(self, real: str) -> list[str]:
        """Empty where the phantom came out, to the byte, as on the machine that trained the shipped generator.

        Another processor or numpy may round a few voxels differently; the anatomy is the same, the digest is not.
        """
        from synthkit.data.dataset import Dataset
        from synthkit.running.checkpoints import read_checkpoint_metadata

        digests = [item["digest"] for item in read_checkpoint_metadata(CHECKPOINT)["training_datasets"]]
        return [] if Dataset(real).digest in digests else ["--accept-other-training-set"]
