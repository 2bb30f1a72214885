"""The whole job on a phantom: what a user's commands do, one after another, each shown as it would be typed.

Only the generators are not trained here: a useful one takes more than an hour on two CPU cores. Two small ones travel
with synthkit (``docs/demo.md`` has the commands that made them): one that was trained as it should be, and one that was
trained on three people until it copies them, so that the audit is seen to pass and to fail.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from synthkit import api
from synthkit.cli.console import Console
from synthkit.errors import InterruptedRunError, SynthkitError, UsageError
from synthkit.files import Replacement
from synthkit.judging.audit_scores import AuditScores
from synthkit.report.story import Exhibit, compared_dice, write_story
from synthkit.running.backends import VARIABLE
from synthkit.running.commands import command_of

#: The shipped checkpoints, of whichever generator plugin: trained on all training people, and on a few of them.
FAITHFUL = Path(__file__).parent / "_demo" / "faithful"
MEMORIZED = Path(__file__).parent / "_demo" / "memorized"
#: Phantom subjects, and those that are held out; on how many of the others the second generator was trained.
N_SUBJECTS, N_HOLDOUT, N_MEMORIZED = 30, 6, 3
#: Side of a slice in pixels.
SIZE = 64
#: Samples of either generator.
N_SAMPLES = {"faithful": 600, "memorized": 60}
#: How samples are drawn where the defaults are not the best. The second training was short: what it leaves of noise in
#: single pixels would hide what it copies, and is less where the last step begins with more noise.
_DRAWN: dict[str, dict[str, float]] = {"faithful": {}, "memorized": {"sigma_min": 0.6}}
#: What either U-Net is trained with.
_UNET = {"samples": 6000, "filters": 8, "depth": 4, "batch_size": 4, "learning_rate": 0.02}
_SUMMARY = "demo.json"
#: How they were trained, in a sentence that says nothing of what the audit finds.
_TRAINED = {
    "faithful": "In the usual way, on everybody there is to learn from.",
    "memorized": "The wrong way, on purpose: on so few people, for so long, that it should know them by heart. "
    "Does the audit notice?",
}


def run_demo(out: Path, console: Console, *, overwrite: bool = False) -> dict[str, Any]:
    """Run the demo into ``out`` and return its numbers, ``demo.json``.

    Returns
    -------
    JSON-ready: ``dice`` (a row a region: both arms, their ratio, its interval, what was missed and false), ``warnings``
    about these, ``audits`` (of "faithful" and "memorized": ``verdict``, ``reasons``, ``n_copies``, ``n_samples``),
    ``report`` and ``details`` (pages), ``seconds``, ``phantom``. A verdict "fail" is a result, not an error.
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
    subjects, real, synthetic = (demo.path(name) for name in ("subjects", "data/real", "data/faithful"))
    with _local_backend():
        demo.step("phantom", out=subjects, number=N_SUBJECTS, seed=0)
        demo.step("prepare", subjects=subjects, out=real, size=SIZE, holdout=str(N_HOLDOUT))
        demo.draw("faithful", FAITHFUL)
        arms = {"real": real, "synthetic": synthetic}
        scored = {arm: demo.score_segmenter(arm, data) for arm, data in arms.items()}
        audits = {"faithful": demo.audit("faithful", FAITHFUL)}
        demo.draw("memorized", MEMORIZED)
        audits["memorized"] = demo.audit("memorized", MEMORIZED)
    report, details = demo.path("report.html"), demo.path("details.html")
    demo.step("report", runs=[str(out)], out=details, title="synthkit demo: a phantom")
    write_story(
        Path(report),
        real=Path(real),
        subjects=Path(subjects),
        predictions={arm: Path(demo.path(f"runs/segment-{arm}")) for arm in arms},
        scores=scored,
        exhibits=[
            Exhibit(name, _TRAINED[name], Path(demo.path(f"data/{name}")), Path(demo.path(f"runs/audit-{name}")))
            for name in audits
        ],
        details=Path(details),
    )
    dice, warnings = compared_dice(scored["real"], scored["synthetic"])
    summary = {
        "phantom": True,
        "seconds": round(time.monotonic() - start, 1),
        "dice": dice,
        "warnings": warnings,
        "audits": audits,
        "report": report,
        "details": details,
    }
    (out / _SUMMARY).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return summary


def _audited(result: Mapping[str, Any]) -> dict[str, Any]:
    """What ``demo.json`` has of the result of an audit; a number that it does not have is None."""
    scores, verdict = AuditScores(result["scores"]), result["verdict"]
    return {
        "verdict": verdict["outcome"],
        "reasons": verdict["reasons"],
        "n_copies": scores.count("n_copies"),
        "n_samples": scores.count("n_synthetic"),
    }


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
    for name, audit in summary["audits"].items():
        copies = "copies could not be counted" if audit["n_copies"] is None else f"copies: {audit['n_copies']:,}"
        of = "" if audit["n_samples"] is None else f" of {audit['n_samples']:,} samples"
        why = " ".join(audit["reasons"][:1])
        console.print(f"Memorization audit, {name} generator: {audit['verdict']}, {copies}{of}. {why}")
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


def _trained_on_another(checkpoint: Path, real: str) -> bool:
    """Whether the checkpoint was trained on another dataset than ``real``, by its digest.

    So it is with a generator that was trained on a part of these people. And so it may be with the other one: another
    processor or numpy may round a few voxels of the phantom differently; the anatomy is the same, the digest is not.
    """
    from synthkit.data.dataset import Dataset
    from synthkit.running.checkpoints import read_checkpoint_metadata

    digests = [item["digest"] for item in read_checkpoint_metadata(checkpoint)["training_datasets"]]
    return digests != [Dataset(real).digest]


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

    def draw(self, name: str, checkpoint: Path) -> None:
        """Samples of a shipped generator."""
        seeds = f"0-{N_SAMPLES[name] - 1}"
        out = self.path(f"data/{name}")
        self.step("generate", model=str(checkpoint), seeds=seeds, params=_DRAWN[name], out=out)

    def audit(self, name: str, checkpoint: Path) -> dict[str, Any]:
        """The audit of these samples against all training people, whichever of them the generator has seen."""
        real = self.path("data/real")
        done = self.step(
            "audit_memorization",
            real=real,
            synthetic=self.path(f"data/{name}"),
            accept_other_training_set=_trained_on_another(checkpoint, real),
            out=self.path(f"runs/audit-{name}"),
        )
        return _audited(done.result)

    def score_segmenter(self, arm: str, data: str) -> Path:
        """Train on a dataset, segment the subjects that it has not learned from, score; the run of ``evaluate``."""
        subjects, scores = self.path("subjects"), self.path(f"runs/evaluate-{arm}")
        trained, predictions = self.path(f"runs/unet-{arm}"), self.path(f"runs/segment-{arm}")
        self.step("train", plugin="unet", datasets=[data], params=_UNET, out=trained)
        self.step("segment", model=trained, subjects=subjects, out=predictions)
        metrics = ["dice", "hausdorff", "surface-dice"]
        self.step("evaluate", metrics=metrics, reference=subjects, prediction=predictions, out=scores)
        return Path(scores)
