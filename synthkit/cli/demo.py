"""The whole job on a phantom: what a user's commands do, one after another, each shown as it would be typed.

Only the generator is not trained here: a useful one takes more than an hour on two CPU cores. A small one, trained on
exactly these phantom subjects, travels with synthkit (``docs/demo.md`` has the command that made it).
"""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from synthkit import api
from synthkit.cli.console import Console
from synthkit.errors import InterruptedRunError, SynthkitError, UsageError
from synthkit.files import Replacement
from synthkit.running.backends import VARIABLE
from synthkit.running.commands import command_of

#: The shipped checkpoint of stylegan2, 64 x 64.
CHECKPOINT = Path(__file__).parent / "_demo" / "stylegan2"
N_SUBJECTS, N_HOLDOUT, SIZE, N_SYNTHETIC = 30, 6, 64, 600
_UNET = {"samples": 6000, "filters": 8, "depth": 4, "batch_size": 4, "learning_rate": 0.02}
_SUMMARY = "demo.json"


def run_demo(out: Path, console: Console, *, overwrite: bool = False) -> dict[str, Any]:
    """Run the demo into ``out`` and return its numbers, ``demo.json``.

    Returns
    -------
    JSON-ready: ``dice`` (a row a region: both arms, their ratio, its interval, what was missed and false), ``warnings``
    about these, ``verdict`` and ``reasons`` of the audit, ``report``, ``seconds``, ``phantom``.
    """
    _check_installed()
    replaced = _begin(out, overwrite=overwrite)
    try:
        summary = _whole_job(out, console)
    except BaseException:
        replaced.settle(succeeded=False)
        raise
    replaced.settle(succeeded=True)
    _show(summary, console)
    return summary


def _whole_job(out: Path, console: Console) -> dict[str, Any]:
    console.note(
        "This is a phantom: anatomy from the MNI152 template, planted tumours. Its numbers say nothing about patients."
    )
    start = time.monotonic()
    demo = _Demo(out, console)
    subjects, real, synthetic = (demo.path(name) for name in ("subjects", "data/real", "data/synthetic"))
    with _local_backend():
        demo.step("phantom", out=subjects, number=N_SUBJECTS, seed=0)
        demo.step("prepare", subjects=subjects, out=real, size=SIZE, holdout=str(N_HOLDOUT))
        demo.step("generate", model=str(CHECKPOINT), seeds=f"0-{N_SYNTHETIC - 1}", out=synthetic)
        scored = [demo.score_segmenter(arm, data) for arm, data in (("real", real), ("synthetic", synthetic))]
        audit = demo.step(
            "audit_memorization",
            real=real,
            synthetic=synthetic,
            accept_other_training_set=_is_another_phantom(real),
            out=demo.path("runs/audit"),
        )
    report = demo.path("report.html")
    demo.step("report", runs=[str(out)], out=report, title="synthkit demo: a phantom")
    verdict, reasons = (audit.result["verdict"][key] for key in ("outcome", "reasons"))
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
    return summary


def compared_dice(real: Path, synthetic: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of Dice, a region each, of two runs of ``evaluate`` on the same subjects; and what to beware of."""
    from synthkit.judging.arms import compared_arms, interval_warnings
    from synthkit.judging.overlap_tables import read_overlap

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


def _begin(out: Path, *, overwrite: bool) -> Replacement:
    """Make the folder of the demo; an earlier one is kept until this one has data."""
    replaced = Replacement(out, _SUMMARY, lambda folder: (folder / "data" / "real").exists())
    if out.is_dir():
        replaced.recover()
    if out.exists() and any(out.iterdir()):
        if not overwrite or not (out / _SUMMARY).exists():
            raise UsageError(
                f"The output folder {out} is not empty.", fix="Choose another with -o, or give --overwrite."
            )
        replaced.set_aside()
    out.mkdir(parents=True, exist_ok=True)
    (out / _SUMMARY).write_text("{}\n", encoding="utf-8")
    return replaced


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
    console.print(
        "subjects: for whom the region counts. false: found by the synthetic arm where the reference has none, Dice 0."
    )
    for text in summary["warnings"]:
        console.print(text)
    console.print(f"Memorization audit: {summary['verdict']}. {' '.join(summary['reasons'])}")
    console.print(f"The demo took {summary['seconds'] / 60:.1f} minutes. Open {summary['report']}")
    console.ending("synthkit prepare SUBJECTS -o data/real --holdout 0.2   (your own subjects, BraTS-style NIfTI)")


@contextmanager
def _local_backend() -> Iterator[None]:
    """Runs are made by this Python, as with ``export SYNTHKIT_BACKEND=local``."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "local"
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def _is_another_phantom(real: str) -> bool:
    """False where the phantom came out, to the byte, as on the machine that trained the shipped generator.

    Another processor or numpy may round a few voxels differently; the anatomy is the same, the digest is not.
    """
    from synthkit.data.dataset import Dataset
    from synthkit.running.checkpoints import read_checkpoint_metadata

    digests = [item["digest"] for item in read_checkpoint_metadata(CHECKPOINT)["training_datasets"]]
    return Dataset(real).digest not in digests


class _Demo:
    """Calls the library, and shows for each call the command that a user would type."""

    def __init__(self, out: Path, console: Console) -> None:
        self.out = out
        self.console = console

    def path(self, name: str) -> str:
        return str(self.out / name)

    def step(self, function: str, **arguments: Any) -> Any:
        """Call a function of the library; its progress is seen live. An audit's verdict is a result, no error."""
        command = command_of(function, arguments)
        self.console.note(f"\n$ {shlex.join(command)}")
        try:
            return getattr(api, function)(**arguments, listener=self.console)
        except InterruptedRunError as error:
            raise KeyboardInterrupt from error
        except SynthkitError as error:
            Console(quiet=self.console.quiet).error(error)
            stopped = SynthkitError(
                f"The demo stopped at `{' '.join(command[:2])}`.",
                "Its error is above.",
                "See `synthkit doctor` for what may be missing.",
            )
            stopped.exit_code = error.exit_code
            raise stopped from error

    def score_segmenter(self, arm: str, data: str) -> Path:
        """Train on a dataset, segment the subjects that it has not learned from, score; the run of ``evaluate``."""
        subjects, scores = self.path("subjects"), self.path(f"runs/evaluate-{arm}")
        trained, predictions = self.path(f"runs/unet-{arm}"), self.path(f"runs/segment-{arm}")
        self.step("train", plugin="unet", datasets=[data], params=_UNET, out=trained)
        self.step("segment", model=trained, subjects=subjects, out=predictions)
        metrics = ["dice", "hausdorff", "surface-dice"]
        self.step("evaluate", metrics=metrics, reference=subjects, prediction=predictions, out=scores)
        return Path(scores)
